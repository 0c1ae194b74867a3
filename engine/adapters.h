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

/* A number as people write it (-1.5, .5, 2, 1e-3), whatever the locale; false: it is none. */
bool ad_parse_number(const char *s, size_t n, double *value);

#endif
