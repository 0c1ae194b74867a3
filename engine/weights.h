/* weights.h - all tensors of one part of a model, under our own names, whatever files they are in.
 *
 * Names are diffusers' ("down_blocks.0.resnets.0.conv1.weight"); a rename function translates what
 * a file says. Later files win over earlier ones. Used by model.c and lora.c; read by binder.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_WEIGHTS_H
#define AD_WEIGHTS_H

#include "tensor_file.h"

/* Our name for a file's name, into `out` of AD_CAP_NAME + 1 bytes; false: not of this part. */
typedef bool (*AdRename)(const char *name, char *out);

typedef struct AdWeight {
    const AdTensorFile *file;
    const AdEntry      *entry;
    char               *name;           /* ours                          */
    bool                used;           /* bound to a layer, or known    */
} AdWeight;

typedef struct AdWeights {
    AdTensorFile **files;
    size_t         file_count, file_room;
    AdWeight      *weights;             /* sorted by name once complete  */
    size_t         count, room;
    uint64_t       hash;                /* over headers, sizes, a sample */
} AdWeights;

void ad_weights_free(AdWeights *w);

/* Add the tensors of one file. rename NULL: names stay. */
AdStatus ad_weights_add(AdContext *ctx, AdWeights *w, const char *path, AdRename rename);

/* Add a part stored in a folder by diffusers: config.json's neighbours. base is
 * "diffusion_pytorch_model" or "model". Tried in this order: sharded index, plain file, fp16
 * index, fp16 file, other variants; then PyTorch's files: base (or "pytorch_model" for "model")
 * with ".bin". Returns AD_ERR_NOTFOUND when there are no weights. */
AdStatus ad_weights_add_folder(AdContext *ctx, AdWeights *w, const char *folder, const char *base,
                               AdRename rename);

/* NULL: not there. */
AdWeight *ad_weights_find(AdWeights *w, const char *name);

/* How many are not used; *example is one of them. */
size_t ad_weights_unused(const AdWeights *w, const char **example);

/* Every file is as it was when it was opened. */
AdStatus ad_weights_unchanged(AdContext *ctx, const AdWeights *w);

/* Folds a file's header, size and a sample of its data into a hash (FNV-1a, 64 bits). */
AdStatus ad_hash_file(AdContext *ctx, const AdTensorFile *f, uint64_t *hash);
uint64_t ad_hash_bytes(uint64_t hash, const void *p, size_t n);
#define AD_HASH_START 14695981039346656037u

#endif
