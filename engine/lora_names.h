/* lora_names.h - what the names in LoRA files mean.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_LORA_NAMES_H
#define AD_LORA_NAMES_H

#include <stdbool.h>

#include "caps.h"

/* One pair of matrices, from the name of its first one. */
typedef struct AdLoraName {
    char up[AD_CAP_NAME + 1];           /* the other matrix's name              */
    char alpha[AD_CAP_NAME + 1];        /* and that of the number beside them   */
    char target[AD_CAP_NAME + 1];       /* the weight, as ad_lora_flat() has it */
    bool motion;                        /* it is a motion module's              */
    bool other_encoder;                 /* it is of SDXL's second text encoder  */
} AdLoraName;

/* false: not the first matrix of a pair. */
bool ad_lora_name(const char *name, AdLoraName *out);

/* A kind of adapter that is no plain low-rank one, by the end of a tensor's name; NULL: none. */
const char *ad_lora_other_kind(const char *name);

/* A weight's name with '_' for '.', as kohya's trainer writes names: dots and underscores cannot
 * be told apart there. The text encoder's begin with "text_model_", the UNet's do not.
 * "down_blocks.0.resnets.0.conv1.weight" is "down_blocks_0_resnets_0_conv1"; false: no weight. */
bool ad_lora_flat(const char *name, char *out);

/* Whether a flat name is the text encoder's. */
bool ad_lora_is_text(const char *flat);

#endif
