/* adapters.h - lists of adapter files as the options give them: "path@0.8|other|third@1.2".
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_ADAPTERS_H
#define AD_ADAPTERS_H

#include "fail.h"

typedef struct AdAdapter {
    char  *path;
    double scale;               /* behind the last '@' of an entry; 1 if none */
} AdAdapter;

typedef struct AdAdapterList {
    AdAdapter *items;
    size_t     count, room;
} AdAdapterList;

/* `option` is for messages. NULL and "" give an empty list. */
AdStatus ad_adapters_parse(AdContext *ctx, const char *option, const char *text,
                           AdAdapterList *list);
void     ad_adapters_free(AdAdapterList *list);

/* The file of weights that `path` means, owned: itself, or of a folder the one that diffusers would
 * take: *pytorch_lora_weights, learned_embeds or diffusion_pytorch_model, else the only one.
 * AD_ERR_NOTFOUND: none; AD_ERR_INVALID: several, or a whole model's folder. */
AdStatus ad_adapter_file(AdContext *ctx, const char *path, char **file);

/* The name of that file into `best` ("": none); *several: there are others as good. */
void ad_folder_weights(const char *folder, char *best, size_t size, bool *several);

/* A number as people write it (-1.5, .5, 2, 1e-3), whatever the locale; false: it is none. */
bool ad_parse_number(const char *s, size_t n, double *value);

#endif
