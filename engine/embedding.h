/* embedding.h - textual inversion: words of a prompt whose vectors come from files.
 *
 * Paper: Gal et al. 2022, arXiv 2208.01618. The vectors stand behind the text encoder's table and
 * are read like its rows; nothing else changes.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_EMBEDDING_H
#define AD_EMBEDDING_H

#include "nn.h"
#include "tensor_file.h"
#include "tokenizer.h"

typedef struct AdEmbeddings {
    float   *rows;              /* host, [count, width]; NULL: none */
    size_t   count, room;       /* in floats                        */
    int      width;             /* of the text encoder              */
    int      first;             /* its vocabulary: id of the first row */
    void    *slab;              /* device                           */
    char     names[160];        /* "<cat>,<style>", for people      */
} AdEmbeddings;

/* Read the list "token@path|token@path..." (NULL, "": none) and teach the tokenizer its tokens.
 * A file is diffusers' (one tensor of any name, [width] or [n, width]) or A1111's (`emb_params`, or
 * `*` in `string_to_param`). A token of n vectors becomes n ids; "token_1" ... "token_<n-1>" are
 * its single vectors. e->width and e->first are set before.
 * AD_ERR_INVALID: the list, or a token that is taken; AD_ERR_FORMAT: no such file, or not for this
 * text encoder; else as ad_tensor_file_open(). */
AdStatus ad_embeddings_read(AdContext *ctx, AdEmbeddings *e, AdTokenizer *t, const char *list);

/* The tensor of a file that holds the vectors; NULL: it has none. */
const AdEntry *ad_embedding_find(const AdTensorFile *f);

/* Bring the rows to the device; *out is absent where there are none. */
AdStatus ad_embeddings_pack(AdContext *ctx, AdEmbeddings *e, AdBackend *be, AdType type,
                            AdTensor *out);

void ad_embeddings_free(AdEmbeddings *e, AdBackend *be);

#endif
