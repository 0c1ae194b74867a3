/* vae.h - the decoder that turns latents into pictures.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_VAE_H
#define AD_VAE_H

#include "config.h"
#include "resnet.h"

typedef struct AdVaeWeights {
    AdVaeConfig config;
    AdLinear    post_quant;                     /* 1x1; w absent: none */
    AdConv      conv_in, conv_out;
    AdResnet    mid[2];
    AdNorm      attention_norm;
    AdLinear    attention_qkv, attention_out;   /* w absent: none */
    AdResnet    resnets[AD_LEVELS][AD_LAYERS];  /* in order of use */
    AdConv      upsamplers[AD_LEVELS];
    AdNorm      norm_out;
} AdVaeWeights;

void ad_vae_bind(AdBinder *b, const AdVaeConfig *config, AdVaeWeights *w);

/* Latents [n, h, w, 4], already divided by the scaling factor -> pictures [n, 8h, 8w, 3] (2 to the
 * power levels - 1 instead of 8), about -1 ... 1. */
AdTensor ad_vae_decode(AdExec *x, const AdVaeWeights *w, AdTensor latents);

#endif
