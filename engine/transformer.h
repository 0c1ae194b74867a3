/* transformer.h - one block of attention, attention, feed-forward: the brick of the UNet's text
 * attention (along the picture) and of the motion modules (along time).
 *
 * x += attn1(norm1(x)); x += attn2(norm2(x)); x += ff(norm3(x)). What the attentions look at is the
 * only difference between the two uses.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_TRANSFORMER_H
#define AD_TRANSFORMER_H

#include "binder.h"
#include "config.h"

typedef struct AdTransformer {
    AdNorm   norm1, norm2, norm3;
    AdLinear qkv1, out1;
    AdLinear qkv2, out2;        /* motion: a second self attention               */
    AdLinear q2, kv2;           /* text: queries here, keys and values from text */
    AdLinear geglu, ff;
    AdTensor positions;         /* motion: sinusoidal rows [max_frames, c]       */
} AdTransformer;

/* context > 0: attn2 looks at text states of that width. frames > 0: a motion block whose
 * positional table has that many rows. */
void ad_transformer_bind(AdBinder *b, int i, int c, int context, int frames, AdTransformer *t);

/* In place on h [n, h, w, c]. kv: [halves, 1, tokens, 2c], of this block. */
void ad_transformer_text(AdExec *x, const AdTransformer *t, AdTensor h, AdTensor kv, int heads);

/* In place on h [halves*frames, h, w, c]. */
void ad_transformer_motion(AdExec *x, const AdTransformer *t, AdTensor h, int heads, int frames);

#endif
