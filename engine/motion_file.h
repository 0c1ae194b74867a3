/* motion_file.h - motion modules that come as one file without a config.
 *
 * The original repository's checkpoints and their likes: which version they are, how long their
 * clips may be, is read off the tensors, never off the file's name. Used by model.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_MOTION_FILE_H
#define AD_MOTION_FILE_H

#include "config.h"
#include "tensor_file.h"

/* AnimateLCM's file leaves its tables out; they are a formula, of which 64 rows are in use. */
#define AD_FRAMES_WITHOUT_TABLE 64

typedef struct AdMotionFile {
    const char *version;        /* "v1", "v2", "v3", ... for the log     */
    int         levels, table;  /* rows of the positional tables; 0: none */
    int         depth;          /* transformer blocks of one module      */
    bool        mid;
} AdMotionFile;

/* What the names and tables say. */
void ad_motion_file_look(const AdTensorFile *f, AdMotionFile *m);

/* Adds what the file says to the UNet's config; they must fit each other. AD_ERR_FORMAT or
 * AD_ERR_UNSUPPORTED with a sentence for all other files. */
AdStatus ad_motion_file_describe(AdContext *ctx, const AdTensorFile *f, AdUnetConfig *c,
                                 AdMotionFile *m);

#endif
