/* model.h - what model.c and adapt.c know of each other.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_MODEL_H
#define AD_MODEL_H

#include "internal.h"

/* The bind function of one part. */
typedef struct AdPartKind {
    const char *name;
    void      (*bind)(AdBinder *b, AdModel *m);
} AdPartKind;

extern const AdPartKind ad_text_kind, ad_unet_kind;

/* Open the files of the text encoder; of the UNet and its motion modules. */
AdStatus ad_model_open_text(AdModel *m, AdWeights *w);
AdStatus ad_model_open_unet(AdModel *m, AdWeights *w);

/* Open the files of two LoRA lists. On failure `a` is to be freed all the same. */
AdStatus ad_adaptation_open(AdContext *ctx, AdAdaptation *a, const char *lora,
                            const char *motion_lora);
void     ad_adaptation_free(AdAdaptation *a);

/* Before a clip: bring to the device what ad_model_adapt() has left for it. */
AdStatus ad_model_take_adaptation(AdModel *m);

#endif
