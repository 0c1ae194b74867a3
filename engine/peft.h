/* peft.h - what PEFT's settings say about the scale of a LoRA's layers.
 *
 * diffusers writes them into a safetensors header ("lora_adapter_metadata", with "unet." and
 * "text_encoder." before each field), PEFT itself into adapter_config.json beside the weights.
 * Where they are, nothing is guessed from tensors: alpha and rank are what they say. Used by
 * lora_file.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PEFT_H
#define AD_PEFT_H

#include "tensor_file.h"

/* Layers whose number is another one: a path, or the end of one. */
typedef struct AdPattern {
    char  *text;
    bool   whole;                   /* a whole path                     */
    size_t order;                   /* of several that fit, the first   */
    double value;
} AdPattern;

typedef struct AdPatterns {         /* sorted by text */
    AdPattern *items;
    size_t     count, room;
} AdPatterns;

typedef struct AdPeftNetwork {
    bool       there;               /* anything is said of it           */
    double     rank, alpha;
    bool       rooted;              /* alpha is divided by sqrt(rank)   */
    bool       dora;                /* it has magnitudes, which count   */
    AdPatterns ranks, alphas;
} AdPeftNetwork;

typedef struct AdPeft {             /* zero: no settings */
    char         *where;            /* for messages: "PATH: lora_adapter_metadata" */
    AdPeftNetwork networks[2];      /* UNet; text encoder                          */
} AdPeft;

/* What is said of one layer. */
typedef struct AdPeftLayer {
    bool   known;                   /* the rest counts               */
    int    rank;
    double scale;                   /* alpha / rank, or / sqrt(rank) */
    bool   dora;
} AdPeftLayer;

/* Look for settings in and beside a file. AD_ERR_FORMAT: they cannot be read; AD_ERR_UNSUPPORTED: a
 * pattern that is a real regular expression. */
AdStatus ad_peft_read(AdContext *ctx, const AdTensorFile *f, AdPeft *out);
void     ad_peft_free(AdPeft *p);

/* layer: its name as the file has it, without the matrix: "unet.mid_block.attentions.0.proj_in". */
AdPeftLayer ad_peft_layer(const AdPeft *p, const char *layer);

#endif
