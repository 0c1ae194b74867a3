/* resnet.c - the residual block; see resnet.h.
 *
 * Called by unet.c and vae.c. The concatenation of features and skip is never written: the norm
 * reads both, and the shortcut is two products that add up.
 * Paper: He et al. 2015, arXiv 1512.03385; in this form Rombach et al. 2022, arXiv 2112.10752.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resnet.h"

void ad_resnet_bind(AdBinder *b, const AdResnetShape *s, AdResnet *w)
{
    int in = s->ci + s->ci2;

    w->ci  = s->ci;
    w->ci2 = s->ci2;
    w->co  = s->co;
    ad_bind_norm(b, "norm1", in, s->groups, s->eps, &w->norm1);
    ad_bind_conv2d(b, "conv1", in, s->co, 3, &w->conv1);
    if (s->time)
        ad_bind_linear(b, "time_emb_proj", s->time, s->co, true, &w->time);
    ad_bind_norm(b, "norm2", s->co, s->groups, s->eps, &w->norm2);
    ad_bind_conv2d(b, "conv2", s->co, s->co, 3, &w->conv2);
    if (s->ci2)
        ad_bind_linear_split(b, "conv_shortcut", s->ci, s->ci2, s->co, &w->skip, &w->skip2);
    else if (in != s->co)
        ad_bind_linear(b, "conv_shortcut", in, s->co, true, &w->skip);
}

AdTensor ad_resnet_forward(AdExec *x, const AdResnet *w, AdTensor h, AdTensor h2, AdTensor time,
                           bool consume)
{
    bool     shortcut = w->skip.w.data != NULL;
    AdTensor none = { 0 };
    AdTensor out  = ad_empty_like(x, h, w->co);                         /* [n, h, w, co] */
    AdMark   m    = ad_mark(x);
    AdTensor n    = ad_norm_with(x, &w->norm1, h, &(AdNormOptions){ .x2 = h2, .silu = true });
    AdTensor r, t = none;

    if (shortcut)
        ad_linear_to(x, out, &w->skip, h, AD_ACT_NONE, none);
    if (h2.data)
        ad_linear_to(x, out, &w->skip2, h2, AD_ACT_NONE, out);
    if (consume && shortcut)
        ad_drop(x, h);
    if (consume && h2.data)
        ad_drop(x, h2);
    r = ad_conv2d(x, &w->conv1, n);
    ad_drop(x, n);
    if (w->time.w.data)
        t = ad_linear(x, &w->time, time);                               /* [1, 1, rows, co] */
    ad_norm_to(x, r, &w->norm2, r, &(AdNormOptions){ .add = t, .silu = true });
    ad_conv2d_to(x, out, &w->conv2, r, shortcut ? out : h);
    ad_release(x, m);
    if (consume && !shortcut)
        ad_drop(x, h);
    return out;
}
