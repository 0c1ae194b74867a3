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
 * options of the source animatediff: the table, and text into values
 *
 * Called by vf_animatediff.c; leaves files other than prompts to the library.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libavutil/avstring.h"
#include "libavutil/bprint.h"
#include "libavutil/common.h"
#include "libavutil/file.h"
#include "libavutil/mem.h"
#include "animatediff_options.h"

#define MAX_PROMPT 65536        ///< bytes
#define MAX_SIDE   8192         ///< pixels
#define SIDE_STEP  8            ///< pixels of one latent

#define OFFSET(x) offsetof(AnimateDiffOptions, x)
#define FLAGS  (AV_OPT_FLAG_VIDEO_PARAM | AV_OPT_FLAG_FILTERING_PARAM)
#define RFLAGS (FLAGS | AV_OPT_FLAG_RUNTIME_PARAM)
#define TEXT(name, value, flags, help) \
    { #name, help, OFFSET(name), AV_OPT_TYPE_STRING, { .str = value }, 0, 0, flags }
#define READ(name, value, flags, help) \
    { #name, help, OFFSET(text.name), AV_OPT_TYPE_STRING, { .str = value }, 0, 0, flags, .unit = #name }
#define WORD(option, name, value, help) \
    { name, help, 0, AV_OPT_TYPE_CONST, { .i64 = value }, 0, 0, FLAGS, .unit = #option }

const AVOption ff_animatediff_options[] = {
    /* what to make */
    TEXT(prompt,               NULL, RFLAGS, "text to make a clip of"),
    TEXT(negative_prompt,      NULL, RFLAGS, "text to stay away from"),
    TEXT(prompt_file,          NULL, FLAGS,  "UTF-8 file to read the prompt from"),
    TEXT(negative_prompt_file, NULL, FLAGS,  "UTF-8 file to read the negative prompt from"),
    TEXT(model,                NULL, FLAGS,  "diffusers folder or one checkpoint file (default: the demo model)"),
    TEXT(motion_adapter,       NULL, FLAGS,  "motion module, folder or file (default: the model's own)"),
    TEXT(vae,                  NULL, FLAGS,  "autoencoder, folder or file (default: the model's own)"),
    TEXT(tokenizer,            NULL, FLAGS,  "folder with vocab.json and merges.txt (default: the model's own)"),
    TEXT(lora,                 NULL, RFLAGS, "LoRA files, path[@scale]|path[@scale]..."),
    TEXT(motion_lora,          NULL, RFLAGS, "motion LoRA files, path[@scale]|path[@scale]..."),
    TEXT(embedding,            NULL, FLAGS,  "textual inversions, token@path|token@path..."),
    READ(seed,                 "-1", RFLAGS, "seed of the first clip, each further clip has one more"),
        WORD(seed, "-1", -1, "random"),

    /* how to sample */
    READ(steps,              "25",  RFLAGS, "denoising steps, 1 to 1000"),
    READ(guidance_scale,    "7.5",  RFLAGS, "weight of the prompt, 0 to 100; up to 1: no negative prompt"),
    TEXT(scheduler,         "auto", FLAGS,  "auto (the model's), euler_ancestral, euler, ddim, lcm, ..."),
    READ(beta_schedule,     "auto", FLAGS,  "noise schedule"),
        WORD(beta_schedule, "auto", 0, "what the motion module was trained with"),
        WORD(beta_schedule, "linear", 0, NULL),
        WORD(beta_schedule, "scaled_linear", 0, NULL),
        WORD(beta_schedule, "squaredcos_cap_v2", 0, NULL),
    READ(timestep_spacing,  "auto", FLAGS,  "which timesteps are visited"),
        WORD(timestep_spacing, "auto", 0, "as the model says"),
        WORD(timestep_spacing, "linspace", 0, NULL),
        WORD(timestep_spacing, "leading", 0, NULL),
        WORD(timestep_spacing, "trailing", 0, NULL),
    READ(steps_offset,      "auto", FLAGS,  "added to the timesteps, 0 to 999"),
        WORD(steps_offset, "auto", AD_AUTO, "as the model says"),
    { "clip_sample", "clip the predicted sample; auto: as the model says", OFFSET(clip_sample),
        AV_OPT_TYPE_BOOL, { .i64 = AD_AUTO }, AD_AUTO, 1, FLAGS },
    { "use_karras_sigmas", "noise levels of Karras et al.; auto: as the model says", OFFSET(use_karras_sigmas),
        AV_OPT_TYPE_BOOL, { .i64 = AD_AUTO }, AD_AUTO, 1, FLAGS },
    READ(prediction_type,   "auto", FLAGS,  "what the network predicts"),
        WORD(prediction_type, "auto", 0, "as the model says"),
        WORD(prediction_type, "epsilon", 0, "the noise"),
        WORD(prediction_type, "v_prediction", 0, "the velocity"),
        WORD(prediction_type, "sample", 0, "the picture"),
    READ(eta,               "auto", FLAGS,  "noise added by DDIM, 0 to 1"),
        WORD(eta, "auto", AD_AUTO, "none"),
    READ(clip_skip,         "auto", FLAGS,  "layers of the text encoder left out, 0 to 11"),
        WORD(clip_skip, "auto", AD_AUTO, "none"),
    READ(original_steps,    "50",   FLAGS,  "LCM: steps of the schedule it was distilled on, 1 to 1000"),
    READ(prompt_syntax,     "plain", FLAGS, "what the prompt may contain"),
        WORD(prompt_syntax, "plain", AD_PROMPT_PLAIN, "text only"),
        WORD(prompt_syntax, "weighted", AD_PROMPT_WEIGHTED, "(word:1.2), [word], BREAK, any length"),
    READ(rng,               "cpu",  FLAGS,  "whose noise"),
        WORD(rng, "cpu", AD_RNG_CPU, "of torch.Generator(\"cpu\")"),
        WORD(rng, "cuda", AD_RNG_CUDA, "of torch.Generator(\"cuda\")"),
    TEXT(rng_gpu,           "132x2048", FLAGS, "rng=cuda: multiprocessors x threads of the card whose noise is wanted"),
    READ(motion_norm,       "video", FLAGS, "what one group norm of the motion module covers"),
        WORD(motion_norm, "video", AD_MOTION_NORM_VIDEO, "the whole clip"),
        WORD(motion_norm, "frame", AD_MOTION_NORM_FRAME, "each frame"),

    /* frames */
    { "size", "frame size, multiples of 8 (default: the model's own)", OFFSET(width),
        AV_OPT_TYPE_IMAGE_SIZE, { .str = NULL }, 0, 0, FLAGS },
    { "s",    "frame size, multiples of 8 (default: the model's own)", OFFSET(width),
        AV_OPT_TYPE_IMAGE_SIZE, { .str = NULL }, 0, 0, FLAGS },
    { "rate", "frame rate", OFFSET(rate), AV_OPT_TYPE_VIDEO_RATE, { .str = "8" }, 0, INT_MAX, FLAGS },
    { "r",    "frame rate", OFFSET(rate), AV_OPT_TYPE_VIDEO_RATE, { .str = "8" }, 0, INT_MAX, FLAGS },
    READ(frames,            "16",   FLAGS,  "frames of one clip, 1 to 1024"),
    READ(clips,             "1",    FLAGS,  "clips one after the other"),
        WORD(clips, "-1", -1, "endless"),

    /* machine */
    TEXT(device,            "auto", FLAGS,  "auto, cpu, cuda or cuda:N"),
    READ(precision,         "auto", FLAGS,  "type of numbers in the network"),
        WORD(precision, "auto", AD_PRECISION_AUTO, "the fastest the device does well"),
        WORD(precision, "fp32", AD_PRECISION_FP32, NULL),
        WORD(precision, "fp16", AD_PRECISION_FP16, NULL),
        WORD(precision, "bf16", AD_PRECISION_BF16, NULL),
    READ(decode_chunk,      "1",    FLAGS,  "frames decoded at once, 1 to 1024"),
    READ(offload,           "none", FLAGS,  "where idle parts of the model wait"),
        WORD(offload, "none", 0, "on the device"),
        WORD(offload, "cpu", 1, "in host memory"),
    READ(threads,           "0",    FLAGS,  "threads of the CPU, 0: the processors this process may use"),
    { NULL }
};

/* How the text of an option is read: a word from the option table, else a
 * number from min to max if min < max. */
typedef struct Reading {
    const char *option;
    size_t text;                ///< offset of a char *
    size_t value;               ///< offset of an int64_t or double; 0: only the text is used
    int64_t min, max;
    int fraction;               ///< value is a double
    int runtime;
} Reading;

#define AT(name) #name, OFFSET(text.name), OFFSET(name)

static const Reading readings[] = {
    { AT(seed),           0, INT64_MAX, .runtime = 1 },
    { AT(steps),          1, 1000, .runtime = 1 },
    { AT(guidance_scale), 0, 100, .fraction = 1, .runtime = 1 },
    { "beta_schedule",    OFFSET(text.beta_schedule) },
    { "timestep_spacing", OFFSET(text.timestep_spacing) },
    { "prediction_type",  OFFSET(text.prediction_type) },
    { AT(steps_offset),   0, 999 },
    { AT(eta),            0, 1, .fraction = 1 },
    { AT(clip_skip),      0, 11 },
    { AT(original_steps), 1, 1000 },
    { AT(prompt_syntax) },
    { AT(rng) },
    { AT(motion_norm) },
    { AT(frames),         1, 1024 },
    { AT(clips),          1, INT_MAX },
    { AT(precision) },
    { AT(decode_chunk),   1, 1024 },
    { AT(offload) },
    { AT(threads),        0, 1024 },
};

static int av_printf_format(2, 3) refuse(AnimateDiffOptions *o, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(o->sentence, sizeof(o->sentence), format, args);
    va_end(args);
    av_log(o->log, AV_LOG_ERROR, "%s\n", o->sentence);
    return AVERROR(EINVAL);
}

static int refuse_value(AnimateDiffOptions *o, const Reading *r, const char *text)
{
    const AVOption *word = NULL;
    const char *comma = "";
    AVBPrint allowed;

    av_bprint_init(&allowed, 0, AV_BPRINT_SIZE_AUTOMATIC);
    if (r->min < r->max) {
        av_bprintf(&allowed, "a %snumber from %"PRId64" to %"PRId64, r->fraction ? "" : "whole ",
                   r->min, r->max);
        comma = " or ";
    }
    while ((word = av_opt_next(o, word))) {
        if (word->type == AV_OPT_TYPE_CONST && !strcmp(word->unit, r->option)) {
            av_bprintf(&allowed, "%s%s", comma, word->name);
            comma = ", ";
        }
    }
    return refuse(o, "%s=%.80s: allowed is %s", r->option, text, allowed.str);
}

/* On failure the old value stays. */
static int read_value(AnimateDiffOptions *o, const Reading *r, const char *text)
{
    const AVOption *word = av_opt_find(o, text, r->option, 0, 0);
    void *value    = (char *)o + r->value;
    char *end      = NULL;
    int64_t whole  = 0;
    double number;

    errno = 0;
    if (word)
        number = whole = word->default_val.i64;
    else if (r->fraction)
        number = strtod(text, &end);                /* nan is in no range */
    else
        number = whole = strtoll(text, &end, 10);
    if (!word && (r->min >= r->max || end == text || *end || errno ||
                  !(number >= r->min && number <= r->max)))
        return refuse_value(o, r, text);
    if (r->fraction)
        *(double *)value = number;
    else if (r->value)
        *(int64_t *)value = whole;
    return 0;
}

static int read_values(AnimateDiffOptions *o)
{
    for (int i = 0; i < FF_ARRAY_ELEMS(readings); i++) {
        char *text = *(char **)((char *)o + readings[i].text);
        int ret = read_value(o, &readings[i], text ? text : "");

        if (ret < 0)
            return ret;
    }
    return 0;
}

static int check_size(AnimateDiffOptions *o)
{
    const int mask = SIDE_STEP - 1;

    if (o->width <= MAX_SIDE && o->height <= MAX_SIDE && !((o->width | o->height) & mask))
        return 0;                                   /* 0x0: not given */
    return refuse(o, "size=%dx%d: both sides must be multiples of %d up to %d, "
                  "the nearest size is %dx%d", o->width, o->height, SIDE_STEP, MAX_SIDE,
                  av_clip(o->width,  SIDE_STEP, MAX_SIDE) + SIDE_STEP / 2 & ~mask,
                  av_clip(o->height, SIDE_STEP, MAX_SIDE) + SIDE_STEP / 2 & ~mask);
}

/* Is the option one of the library's names? */
static int check_name(AnimateDiffOptions *o, const char *option, const char *text,
                      const char *(*name_at)(int i), const char *more)
{
    const char *name;
    AVBPrint allowed;

    av_bprint_init(&allowed, 0, AV_BPRINT_SIZE_AUTOMATIC);
    for (int i = 0; (name = name_at(i)); i++) {
        if (text && !strcmp(text, name))
            return 0;
        av_bprintf(&allowed, "%s, ", name);
    }
    if (text && !strcmp(text, "auto"))
        return 0;
    return refuse(o, "%s=%.80s: allowed is %s%s", option, text ? text : "", allowed.str, more);
}

static int check_device(AnimateDiffOptions *o)
{
    const char *number;

    if (o->device && av_strstart(o->device, "cuda:", &number) &&
        strlen(number) - 1 < 3 && strspn(number, "0123456789") == strlen(number))
        return 0;
    return check_name(o, "device", o->device, ad_backend_name, "cuda:N or auto");
}

static int read_rng_gpu(AnimateDiffOptions *o)
{
    const char *text = o->rng_gpu ? o->rng_gpu : "";
    int length = 0;

    if (sscanf(text, "%5dx%5d%n", &o->gpu[0], &o->gpu[1], &length) == 2 &&
        !text[length] && o->gpu[0] > 0 && o->gpu[1] > 0)
        return 0;
    return refuse(o, "rng_gpu=%.80s: allowed is MULTIPROCESSORSxTHREADS, such as 132x2048", text);
}

static int check_prompt(AnimateDiffOptions *o, const char *option, const char *text, size_t size)
{
    const uint8_t *start = text, *p = start, *end = start + size;
    int32_t code;

    if (size > MAX_PROMPT)
        return refuse(o, "%s: %zu bytes; at most %d are allowed", option, size, MAX_PROMPT);
    while (p < end) {
        const uint8_t *here = p;

        if (av_utf8_decode(&code, &p, end, AV_UTF8_FLAG_ACCEPT_NON_CHARACTERS) < 0)
            return refuse(o, "%s: byte %d (0x%02X) is not UTF-8; text must be UTF-8",
                          option, (int)(here - start), *here);
        if (!code)
            return refuse(o, "%s: byte %d is zero; text must not contain zero bytes",
                          option, (int)(here - start));
    }
    return 0;
}

/* The text of a file without byte order mark and trailing newlines takes the
 * place of the option *prompt. */
static int read_prompt_file(AnimateDiffOptions *o, const char *option, const char *path, char **prompt)
{
    struct stat st;
    uint8_t *map, *text;
    size_t mapped, size;
    int ret;

    if (!path)
        return 0;
    if (*prompt)
        return refuse(o, "%s=%.200s: %.*s is given too; use one of them", option, path,
                      (int)(strlen(option) - strlen("_file")), option);
    if (stat(path, &st) < 0) {
        ret = AVERROR(errno);
        refuse(o, "%s=%.200s: %s", option, path, av_err2str(ret));
        return ret;
    }
    if (!S_ISREG(st.st_mode))               /* opening a FIFO would wait for ever */
        return refuse(o, "%s=%.200s: not a regular file", option, path);
    ret = av_file_map(path, &map, &mapped, 0, o->log);
    if (ret < 0)
        return ret;
    text = map;
    size = mapped;
    if (size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        text += 3;
        size -= 3;
    }
    while (size && (text[size - 1] == '\n' || text[size - 1] == '\r'))
        size--;
    ret = check_prompt(o, option, text, size);
    if (ret >= 0 && !(*prompt = av_strndup(size ? (char *)text : "", size)))
        ret = AVERROR(ENOMEM);
    if (map)
        av_file_unmap(map, mapped);
    return ret;
}

static int read_prompts(AnimateDiffOptions *o)
{
    int ret;

    if (o->prompt &&
        (ret = check_prompt(o, "prompt", o->prompt, strlen(o->prompt))) < 0)
        return ret;
    if (o->negative_prompt &&
        (ret = check_prompt(o, "negative_prompt", o->negative_prompt, strlen(o->negative_prompt))) < 0)
        return ret;
    if ((ret = read_prompt_file(o, "prompt_file", o->prompt_file, &o->prompt)) < 0)
        return ret;
    return read_prompt_file(o, "negative_prompt_file", o->negative_prompt_file, &o->negative_prompt);
}

int ff_animatediff_read_options(AnimateDiffOptions *o)
{
    int ret;

    if ((ret = read_values(o))  < 0 ||
        (ret = check_size(o))   < 0 ||
        (ret = check_device(o)) < 0 ||
        (ret = read_rng_gpu(o)) < 0 ||
        (ret = check_name(o, "scheduler", o->scheduler, ad_scheduler_name, "auto")) < 0)
        return ret;
    return read_prompts(o);
}

int ff_animatediff_read_command(AnimateDiffOptions *o, const char *cmd, const char *arg)
{
    if (!strcmp(cmd, "prompt") || !strcmp(cmd, "negative_prompt"))
        return check_prompt(o, cmd, arg, strlen(arg));
    for (int i = 0; i < FF_ARRAY_ELEMS(readings); i++)
        if (readings[i].runtime && !strcmp(cmd, readings[i].option))
            return read_value(o, &readings[i], arg);
    return 0;
}

static const char *unless_auto(const char *text)
{
    return strcmp(text, "auto") ? text : NULL;
}

void ff_animatediff_get_params(const AnimateDiffOptions *o, AdContextParams *device,
                               AdModelParams *model)
{
    device->device        = o->device;
    device->threads       = o->threads;

    model->model          = o->model;
    model->motion_adapter = o->motion_adapter;
    model->vae            = o->vae;
    model->tokenizer      = o->tokenizer;
    model->lora           = o->lora;
    model->motion_lora    = o->motion_lora;
    model->embedding      = o->embedding;
    model->precision      = o->precision;
    model->offload        = o->offload;
}

void ff_animatediff_get_session_params(const AnimateDiffOptions *o, AdSessionParams *p)
{
    if (o->width) {
        p->width  = o->width;
        p->height = o->height;
    }
    p->frames            = o->frames;
    p->scheduler         = unless_auto(o->scheduler);
    p->beta_schedule     = unless_auto(o->text.beta_schedule);
    p->timestep_spacing  = unless_auto(o->text.timestep_spacing);
    p->prediction_type   = unless_auto(o->text.prediction_type);
    p->steps_offset      = o->steps_offset;
    p->clip_sample       = o->clip_sample;
    p->use_karras_sigmas = o->use_karras_sigmas;
    p->eta               = o->eta;
    p->clip_skip         = o->clip_skip;
    p->original_steps    = o->original_steps;
    p->prompt_syntax     = o->prompt_syntax;
    p->rng               = o->rng;
    p->rng_gpu[0]        = o->gpu[0];
    p->rng_gpu[1]        = o->gpu[1];
    p->motion_norm       = o->motion_norm;
    p->decode_chunk      = o->decode_chunk;
}

