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
 * two words between the ffmpeg program and the source animatediff
 *
 * A clip is computed inside one call of libavfilter, which has no way to ask
 * the program whether the user wants to stop, and a source that fails behind
 * "-f lavfi -i" is an ordinary end of input to the program. Included by
 * fftools/ffmpeg.c (patch_ffmpeg.sh) and by vf_animatediff.c.
 */

#ifndef AVFILTER_ANIMATEDIFF_STOP_H
#define AVFILTER_ANIMATEDIFF_STOP_H

#include "config_components.h"

#if CONFIG_ANIMATEDIFF_FILTER
/**
 * All animatediff sources of this process end at the next denoising step or
 * decoded frame. For signal handlers; there is no way back.
 */
void av_animatediff_stop(void);

/**
 * @return the AVERROR of the last animatediff source that failed, 0 if none did
 */
int av_animatediff_failed(void);
#else
#define av_animatediff_stop()
#define av_animatediff_failed() 0
#endif

#endif /* AVFILTER_ANIMATEDIFF_STOP_H */
