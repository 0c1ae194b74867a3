/* names.h - spellings of tensor names, translated into ours (diffusers').
 *
 * Each function is an AdRename (weights.h): false when the tensor belongs to something else.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_NAMES_H
#define AD_NAMES_H

#include <stdbool.h>

/* Motion modules: diffusers' names, or the original repository's ("temporal_transformer",
 * "attention_blocks", "norms", "ff_norm"; positional tables are left out). */
bool ad_rename_motion(const char *name, char *out);

/* Autoencoder: diffusers' names, those of its attention up to 0.16 (query, key, value, proj_attn),
 * or latent diffusion's ("decoder.up.3.block.0"). What decoding does not want is left out. */
bool ad_rename_vae(const char *name, char *out);

/* The parts of a Stable Diffusion 1.x checkpoint in one file, in latent diffusion's names: behind
 * "model.diffusion_model.", "first_stage_model." (or "vae."), "cond_stage_model.transformer.". The
 * text encoder's names get the "text_model." that some files lack. */
bool ad_rename_ldm_unet(const char *name, char *out);
bool ad_rename_ldm_vae(const char *name, char *out);
bool ad_rename_ldm_text(const char *name, char *out);

/* In place: every `from` becomes `to`. The buffer has AD_CAP_NAME + 1 bytes. */
void ad_replace(char *name, const char *from, const char *to);

#endif
