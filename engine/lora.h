/* lora.h - changes to weights, found in adapter files and applied while a weight is loaded.
 *
 * Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685), W + scale * up * down, and its relatives
 * (lycoris.h). The sum is formed in f32 and rounded once, so nothing is left to do when the model
 * runs. Files are applied in the order of the lists: some changes depend on what is there already.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_LORA_H
#define AD_LORA_H

#include "adapters.h"
#include "lycoris.h"
#include "tensor_file.h"

typedef struct AdPatch {            /* one change of one weight or bias             */
    char               *target;     /* the layer: see ad_lora_flat()                */
    bool                bias;
    bool                optional;   /* many layers have no such weight              */
    const AdDeltaKind  *kind;
    const AdTensorFile *file;
    const AdEntry      *first;      /* the tensor that stands for it, for messages  */
    const AdEntry      *part[AD_DELTA_PARTS];
    const AdEntry      *magnitude;  /* DoRA's; NULL: none                           */
    bool                on_output;  /* and it is known to belong to the outputs     */
    bool                on_input;   /* IA3: inputs are scaled                       */
    double              strength;   /* the user's                                   */
    double              alpha;      /* to be divided by the rank; NAN: none         */
    double              scale;      /* in place of alpha / rank; NAN: none          */
    int                 tensors;    /* of the file, all that belong to it           */
    bool                used;
} AdPatch;

typedef struct AdPatches {
    AdTensorFile **files;
    size_t         file_count, file_room;
    AdPatch       *patches;
    size_t         count, room;
    char           about[512];      /* "lora=NAME HASH@SCALE motion_lora=...", for people */
    char           lcm[96];         /* name of the file that makes the model an LCM; "": none */
    bool           advised;         /* and it was said that a clip's settings do not suit it  */
} AdPatches;

/* NULL-safe; *p becomes NULL. */
void ad_patches_free(AdPatches **p);

/* Read a list of LoRA files and add their changes; motion: those of motion modules alone. A file
 * for the other list is refused. */
AdStatus ad_patches_add(AdContext *ctx, AdPatches *p, const AdAdapterList *list, bool motion);

/* Make the changes of the weight `name` (our spelling, with ".weight" or ".bias") to its floats. */
AdStatus ad_patches_apply(AdContext *ctx, AdPatches *p, const char *name, int rank,
                          const int64_t *shape, float *w);

/* Whether the weight `name` is one of those that change. */
bool ad_patches_touch(const AdPatches *p, const char *name);

/* Whether any is the text encoder's, or the UNet's. */
bool ad_patches_touch_part(const AdPatches *p, bool text);

/* Close the files; the names that change are kept. */
void ad_patches_close(AdPatches *p);

/* After loading: a warning for each file that was applied in part, AD_ERR_FORMAT for one that
 * changed nothing. */
AdStatus ad_patches_check(AdContext *ctx, const AdPatches *p);

#endif
