/* config_tensors.h - the architecture of parts that come without a config.json: single files.
 *
 * The weights have our names already. Read off them is what names and shapes say; the rest (heads,
 * groups, activations, sizes) is what Stable Diffusion 1.5 has. Used by model.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CONFIG_TENSORS_H
#define AD_CONFIG_TENSORS_H

#include "config.h"
#include "weights.h"

/* Each: AD_ERR_FORMAT or AD_ERR_UNSUPPORTED with a sentence that names the file. */
AdStatus ad_text_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdTextConfig *c);
AdStatus ad_unet_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdUnetConfig *c);
AdStatus ad_vae_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdVaeConfig *c);

#endif
