/*
 * This file is part of FFmpeg.
 *
 * FFmpeg is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 2.1 of the License, or (at your option) any later version.
 *
 * FFmpeg is distributed in the hope that it will be useful,
 * but WITHOUT ANY WARRANTY; without even the implied warranty of
 * MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the GNU
 * Lesser General Public License for more details.
 *
 * You should have received a copy of the GNU Lesser General Public
 * License along with FFmpeg; if not, write to the Free Software
 * Foundation, Inc., 51 Franklin Street, Fifth Floor, Boston, MA 02110-1301 USA
 */

/**
 * @file
 * what a user of the source animatediff may write
 *
 * vf_animatediff.c holds the struct as the beginning of its private context.
 */

#ifndef AVFILTER_ANIMATEDIFF_OPTIONS_H
#define AVFILTER_ANIMATEDIFF_OPTIONS_H

#include <animatediff.h>
#include <stdint.h>

#include "libavutil/opt.h"
#include "libavutil/rational.h"

typedef struct AnimateDiffOptions {
    const AVClass *class;
    void *log;                  ///< the filter, once it is known
    char sentence[400];         ///< the last refusal

    char *prompt, *negative_prompt, *prompt_file, *negative_prompt_file;
    char *model, *motion_adapter, *vae, *tokenizer;
    char *lora, *motion_lora, *embedding;
    char *scheduler, *rng_gpu, *device;
    int clip_sample, use_karras_sigmas;
    int width, height;          ///< 0: the model's own
    AVRational rate;

    /* Numbers and names as they were written, and after reading; see readings.
     * They are strings to AVOption because its own parser rounds 12.7 to 13,
     * keeps 53 bits of a seed, lets nan through and does not say what is
     * allowed. */
    struct {
        char *seed, *steps, *guidance_scale, *beta_schedule, *timestep_spacing;
        char *prediction_type, *steps_offset, *eta, *clip_skip, *original_steps;
        char *prompt_syntax, *rng, *motion_norm, *frames, *clips, *precision;
        char *decode_chunk, *offload, *threads;
    } text;
    int64_t seed, steps, steps_offset, clip_skip, original_steps, prompt_syntax;
    int64_t rng, motion_norm, frames, clips, precision, decode_chunk, offload;
    int64_t threads;
    double guidance_scale, eta;
    int gpu[2];                 ///< rng_gpu: multiprocessors, threads of each
} AnimateDiffOptions;

/** Offsets are those of AnimateDiffOptions. */
extern const AVOption ff_animatediff_options[];

/**
 * Read and check all options, prompt files included; nothing else is opened.
 * A refusal is logged as one sentence: option, value, what is allowed.
 */
int ff_animatediff_read_options(AnimateDiffOptions *o);

/**
 * Read and check the value of a command that is a prompt or a number; other
 * commands are accepted unseen. A refusal changes nothing.
 */
int ff_animatediff_read_command(AnimateDiffOptions *o, const char *cmd, const char *arg);

/** Everything that the library wants to know before the first clip. */
void ff_animatediff_get_params(const AnimateDiffOptions *o, AdContextParams *device,
                               AdModelParams *model);
void ff_animatediff_get_session_params(const AnimateDiffOptions *o, AdSessionParams *p);

#endif /* AVFILTER_ANIMATEDIFF_OPTIONS_H */
