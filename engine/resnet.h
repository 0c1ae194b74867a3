/* resnet.h - the residual block of UNet and VAE.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_RESNET_H
#define AD_RESNET_H

#include "binder.h"

typedef struct AdResnet {
    AdNorm   norm1, norm2;
    AdConv   conv1, conv2;
    AdLinear time;                      /* w absent: no time vector (VAE)              */
    AdLinear skip, skip2;               /* 1x1 shortcut, of the input and of the skip  */
    int      ci, ci2, co;
} AdResnet;

typedef struct AdResnetShape {
    int   ci, ci2, co;                 /* channels of input, of the skip beside it (0: none), out */
    int   time;                        /* width of the time vector; 0: none                       */
    int   groups;
    float eps;
} AdResnetShape;

/* Below the path entered: norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut. */
void ad_resnet_bind(AdBinder *b, const AdResnetShape *s, AdResnet *w);

/* out = skip(h | h2) + f(h | h2), f = conv2(silu(norm2(conv1(silu(norm1(.))) + time)))
 * h2 absent or [n, h, w, ci2]; time absent or [1, 1, rows, width] after SiLU, row n % rows for
 * picture n. consume: h (and h2) are dropped as soon as they are read. */
AdTensor ad_resnet_forward(AdExec *x, const AdResnet *w, AdTensor h, AdTensor h2, AdTensor time,
                           bool consume);

#endif
