/* clip.h - the CLIP text encoder: 77 token ids become 77 text states.
 *
 * Paper: Radford et al. 2021, arXiv 2103.00020; a causal pre-norm transformer.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CLIP_H
#define AD_CLIP_H

#include "binder.h"
#include "config.h"

#define AD_TOKENS 77            /* of one prompt chunk, with its begin and end marks */

typedef struct AdClipLayer {
    AdNorm   norm1, norm2;
    AdLinear qkv, out, fc1, fc2;
} AdClipLayer;

typedef struct AdClipWeights {
    AdTextConfig config;
    AdTensor     tokens, positions;     /* [vocabulary, width], [77, width] */
    AdTensor     extra;                 /* textual inversion: rows behind the vocabulary */
    AdNorm       norm;
    AdClipLayer  layers[64];
} AdClipWeights;

/* Names as transformers writes them, with or without "text_model." in front. */
void ad_clip_bind(AdBinder *b, const AdTextConfig *config, AdClipWeights *w);

/* ids [1, 1, 1, chunks * 77] i32 -> out [1, 1, chunks * 77, width]; every chunk on its own.
 * skip: layers left out at the end (diffusers' clip_skip); the final norm is always applied. */
void ad_clip_forward(AdExec *x, const AdClipWeights *w, AdTensor ids, int skip, AdTensor out);

#endif
