/* motion.c - the motion module; see motion.h.
 *
 * Called by unet.c after every resnet+attention pair; calls nn.c and transformer.c only. The
 * temporal view is made of strides, nothing is moved.
 * Paper: Guo et al. 2023, AnimateDiff, arXiv 2307.04725, sec. 4.2. v1, v2 and v3 differ only in
 * the length of the positional table and in having a module in the mid block.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "motion.h"

void ad_motion_bind(AdBinder *b, int i, int c, int depth, int heads, int groups, int max_frames,
                    AdMotion *w)
{
    w->depth = depth;
    w->heads = heads;
    ad_bind_enter_at(b, "motion_modules", i);
    ad_bind_norm(b, "norm", c, groups, 1e-6f, &w->norm);
    ad_bind_linear(b, "proj_in", c, c, true, &w->proj_in);
    for (int k = 0; k < depth; k++)
        ad_transformer_bind(b, k, c, 0, max_frames, &w->blocks[k]);
    ad_bind_linear(b, "proj_out", c, c, true, &w->proj_out);
    ad_bind_leave(b);
}

void ad_motion_forward(AdExec *x, const AdMotion *w, AdTensor h, int frames, bool per_frame)
{
    AdMark   m = ad_mark(x);
    AdTensor video = per_frame ? h : ad_view(h, h.dim[0] / frames, frames * h.dim[1], h.dim[2],
                                             h.dim[3]);
    AdTensor n = ad_norm(x, &w->norm, video);
    AdTensor t = ad_linear(x, &w->proj_in, n);

    ad_drop(x, n);
    t = ad_view(t, h.dim[0], h.dim[1], h.dim[2], h.dim[3]);     /* tokens f of every pixel */
    for (int k = 0; k < w->depth; k++)
        ad_transformer_motion(x, &w->blocks[k], t, w->heads, frames);
    ad_linear_to(x, h, &w->proj_out, t, AD_ACT_NONE, h);
    ad_release(x, m);
}
