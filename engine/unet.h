/* unet.h - the network that predicts the noise of all frames of a clip together.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_UNET_H
#define AD_UNET_H

#include "motion.h"
#include "resnet.h"

#define AD_TEXT_BLOCKS 256      /* transformer blocks with text attention in one UNet */

typedef struct AdSpatial {      /* "attentions.i": norm, projection, blocks, projection */
    AdNorm        norm;
    AdLinear      proj_in, proj_out;
    int           depth, heads;
    int           first_text;   /* number of its first block among all text attentions */
    AdTransformer blocks[AD_DEPTH];
} AdSpatial;

typedef struct AdUnetLayer {
    AdResnet   resnet;
    AdSpatial *spatial;         /* NULL: none */
    AdMotion  *motion;          /* NULL: none */
} AdUnetLayer;

typedef struct AdUnetBlock {
    AdUnetLayer layers[AD_LAYERS];
    int         count;
    AdConv      sampler;        /* down- or upsampling; w absent: none */
} AdUnetBlock;

typedef struct AdUnetWeights {
    AdUnetConfig config;
    AdConv       conv_in, conv_out;
    AdLinear     time1, time2;
    AdUnetBlock  down[AD_LEVELS], up[AD_LEVELS];
    AdUnetLayer  mid[AD_LAYERS + 1];            /* mid[0] is a resnet alone */
    AdNorm       norm_out;
    AdLinear    *text_kv[AD_TEXT_BLOCKS];       /* the text projections, in order of use */
    int          text_heads_width[AD_TEXT_BLOCKS];  /* channels of each */
    int          text_count;
} AdUnetWeights;

/* Allocates its blocks at the first call; ad_unet_free gives them back. */
void ad_unet_bind(AdBinder *b, const AdUnetConfig *config, AdUnetWeights *w);
void ad_unet_free(AdUnetWeights *w);

/* Sinusoids [1, 1, rows, c0] of timesteps -> time vectors, out [1, 1, rows, 4*c0], after SiLU,
 * which is what every resnet wants. */
void ad_unet_time(AdExec *x, const AdUnetWeights *w, AdTensor sinusoids, AdTensor out);

/* cos and sin of t times falling frequencies: c numbers, c even. */
void ad_time_sinusoid(double t, int c, float *out);

/* Text states [halves, 1, tokens, context] -> keys and values of every text attention, each
 * kv[i] [halves, 1, tokens, 2c]. The same at every step, so computed once per clip. */
void ad_unet_text(AdExec *x, const AdUnetWeights *w, AdTensor states, const AdTensor *kv);

typedef struct AdUnetInput {
    AdTensor        latents;    /* [halves*frames, h, w, 4]: for each half all frames          */
    AdTensor        time;       /* [1, 1, rows, width]: row n % rows belongs to picture n      */
    const AdTensor *kv;         /* of ad_unet_text                                             */
    int             frames;
    bool            norm_per_frame;     /* of the motion modules: the original repository's way */
} AdUnetInput;

/* [halves*frames, h, w, 4]: the noise, or v, or x0, as the model was trained to predict. */
AdTensor ad_unet_forward(AdExec *x, const AdUnetWeights *w, const AdUnetInput *in);

#endif
