/* lora_names.h - what the names in LoRA files mean.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_LORA_NAMES_H
#define AD_LORA_NAMES_H

#include "lycoris.h"

/* How one trainer names the parts of one kind of change. */
typedef struct AdLoraDialect {
    const AdDeltaKind *kind;
    unsigned    required;               /* bit i: part i must be there              */
    bool        bias;                   /* the layer's bias changes, not its weight */
    bool        peft;                   /* PEFT's or diffusers': its settings count */
    const char *flag;                   /* a number that says: scale the input      */
    const char *suffix[AD_DELTA_PARTS]; /* behind the layer's name; NULL: no such   */
} AdLoraDialect;

/* One change of one layer, from the name of its first part. */
typedef struct AdLoraName {
    const AdLoraDialect *dialect;
    size_t stem;                        /* length of the layer's name in the file */
    char target[AD_CAP_NAME + 1];       /* the layer, as ad_lora_flat() has it    */
    bool motion;                        /* it is a motion module's                */
    bool other_encoder;                 /* it is of SDXL's second text encoder    */
} AdLoraName;

/* false: not the first part of a change. */
bool ad_lora_name(const char *name, AdLoraName *out);

/* The name of what stands beside it, into AD_CAP_NAME + 1 bytes: ".alpha", for one. */
void ad_lora_beside(const char *name, const AdLoraName *n, const char *suffix, char *out);

/* A kind of adapter that is not supported, by the end of a tensor's name; NULL: none. */
const char *ad_lora_other_kind(const char *name);

/* A weight's name with '_' for '.', as kohya's trainer writes names: dots and underscores cannot
 * be told apart there. The text encoder's begin with "text_model_", the UNet's do not.
 * "down_blocks.0.resnets.0.conv1.weight" is "down_blocks_0_resnets_0_conv1", as its bias is; false:
 * neither of them. */
bool ad_lora_flat(const char *name, char *out, bool *bias);

/* Whether a flat name is the text encoder's. */
bool ad_lora_is_text(const char *flat);

#endif
