/* pickle_cells.h - stack, memo and pool of the pickle machine; for pickle.c alone.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PICKLE_CELLS_H
#define AD_PICKLE_CELLS_H

#include "pickle.h"

/* One cell more on the stack, or in the pool. */
AdStatus ad_pickle_push(AdPickle *p, AdCell cell);
AdStatus ad_pickle_pool_add(AdPickle *p, const AdCell *cell);

/* Make room for one cell more in one of the three. */
AdStatus ad_pickle_grow(AdPickle *p, AdCell **cells, size_t *room, size_t used);

/* A new empty container; a tuple of cells, for which `taken` leave the stack. */
AdStatus ad_pickle_push_container(AdPickle *p, AdCellKind kind);
AdStatus ad_pickle_push_tuple(AdPickle *p, const AdCell *cells, size_t n, size_t taken);

/* n cells more in a list or dict; they are not in the pool. */
AdStatus ad_pickle_extend(AdPickle *p, const AdCell *container, const AdCell *cells, size_t n);

bool ad_pickle_is_text(const AdCell *cell, const char *text);

#endif
