/* recognize.h - what a file of tensors is, told by its names and shapes, never by its own name.
 *
 * So that a file given to the wrong option, or of another family, is refused by name. Used by
 * all that open files.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_RECOGNIZE_H
#define AD_RECOGNIZE_H

#include "tensor_file.h"

typedef enum AdFileKind {
    AD_FILE_OTHER,              /* known or not: nothing that is loaded             */
    AD_FILE_CHECKPOINT,         /* a whole Stable Diffusion 1.x in one file         */
    AD_FILE_SECOND,             /* a Stable Diffusion 2.x: its VAE is that of 1.x   */
    AD_FILE_UNET,               /* of a diffusers folder                            */
    AD_FILE_VAE, AD_FILE_MOTION, AD_FILE_LORA, AD_FILE_MOTION_LORA, AD_FILE_EMBEDDING
} AdFileKind;

typedef struct AdKind {
    AdFileKind  kind;
    const char *what;           /* "a motion module"; NULL: nothing known     */
    const char *option;         /* that takes it, "motion_adapter"; NULL: none */
} AdKind;

/* Never NULL. */
const AdKind *ad_recognize(const AdTensorFile *f);

/* What a checkpoint holds beside its UNet, and what in it is of no use. */
typedef struct AdCheckpoint {
    bool   text, vae;
    bool   v_prediction, zero_snr;      /* marked by empty tensors, or in the metadata */
    size_t ema, training, other;        /* tensors: averages, training's, unknown ones */
    char   example[64];                 /* one of `other` */
} AdCheckpoint;

/* Open `path`, refuse all but Stable Diffusion 1.x for text to video by name, and look around. */
AdStatus ad_checkpoint_look(AdContext *ctx, const char *path, AdCheckpoint *out);

/* Open `path` and say what is in the file; a VAE is in it, or it is refused. *prefixed: its names
 * begin as those of a whole checkpoint. */
AdStatus ad_vae_file_look(AdContext *ctx, const char *path, bool *prefixed);

/* AD_ERR_FORMAT "PATH: no NEEDED in it; this is WHAT; give it to OPTION=". */
AdStatus ad_not_in_it(AdContext *ctx, const AdTensorFile *f, const char *needed);

#endif
