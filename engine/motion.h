/* motion.h - the motion module: attention along time, between the UNet's spatial blocks.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_MOTION_H
#define AD_MOTION_H

#include "transformer.h"

typedef struct AdMotion {
    AdNorm        norm;
    AdLinear      proj_in, proj_out;
    int           depth, heads;         /* depth 0: no module here */
    AdTransformer blocks[AD_DEPTH];
} AdMotion;

/* "motion_modules.i" of c channels. groups: of the UNet's norms. */
void ad_motion_bind(AdBinder *b, int i, int c, int depth, int heads, int groups, int max_frames,
                    AdMotion *w);

/* In place on h [halves*frames, h, w, c]. per_frame: statistics of the group norm per frame (the
 * original repository) instead of over the whole clip (diffusers). */
void ad_motion_forward(AdExec *x, const AdMotion *w, AdTensor h, int frames, bool per_frame);

#endif
