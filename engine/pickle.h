/* pickle.h - the values in a pickle, built by a machine that calls, imports and opens nothing.
 *
 * Of Python's language it knows the part that torch.save writes. Names of functions and classes are
 * looked up in a list; what is not on it is refused. A value is a cell of 16 bytes, texts stay in
 * the pickle, containers are chains of runs of cells in one pool.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PICKLE_H
#define AD_PICKLE_H

#include "caps.h"
#include "fail.h"

typedef enum AdCellKind {
    AD_CELL_OPAQUE,             /* nobody looks at it: None, a float, bytes, an inert object */
    AD_CELL_MARK, AD_CELL_INT, AD_CELL_TEXT, AD_CELL_TUPLE, AD_CELL_LIST, AD_CELL_DICT,
    AD_CELL_GLOBAL,             /* a name from the list                  */
    AD_CELL_STORAGE,            /* numbers of a file: made by `storage`  */
    AD_CELL_TENSOR,             /* a view of a storage: passed `tensor`  */
} AdCellKind;

typedef struct AdCell {
    uint8_t  kind;
    uint8_t  type;              /* STORAGE: AdDtype; GLOBAL: which one; a head: checked */
    uint32_t n;                 /* TEXT: bytes; TUPLE, a run: cells; STORAGE: which file;
                                   GLOBAL of a storage: AdDtype; a head: states set */
    union {
        int64_t     integer;
        const char *text;       /* in the pickle; no NUL behind it */
        struct { uint32_t first, last; } at;        /* places in the pool */
    } u;
} AdCell;

typedef struct AdPickle AdPickle;

/* What a pickle of tensors refers to. Each checks and may refuse with its own sentence. */
typedef struct AdPickleHooks {
    /* A storage of n numbers, of the dtype in out->type, by its key; fills out->n. */
    AdStatus (*storage)(void *opaque, const AdCell *key, int64_t n, AdCell *out);
    /* A tensor's four cells, kinds checked: storage, offset, sizes, strides. */
    AdStatus (*tensor)(void *opaque, const AdPickle *p, const AdCell *cells);
} AdPickleHooks;

struct AdPickle {
    AdContext           *ctx;
    const char          *path;              /* of the file, for sentences; borrowed */
    const AdPickleHooks *hooks;
    void                *opaque;
    const char          *text;              /* the pickle; borrowed, lives as long as the cells */
    size_t               bytes, at;
    AdCell              *stack, *memo, *pool;
    size_t               depth, memos, used;            /* cells in them */
    size_t               stack_room, memo_room, pool_room;
    unsigned             marks;             /* open on the stack */
    AdCell               result;
};

/* Run it to its end; fields from `ctx` to `bytes` are given, the rest is zero. Whatever comes back,
 * ad_pickle_free() is due. */
AdStatus ad_pickle_run(AdPickle *p);
void     ad_pickle_free(AdPickle *p);

/* The cells of a list or tuple; of a dict key, value, key, value ... NULL: no more. */
typedef struct AdCellWalk { uint32_t at, left, next; } AdCellWalk;

AdCellWalk    ad_pickle_walk(const AdPickle *p, const AdCell *container);
const AdCell *ad_pickle_next(const AdPickle *p, AdCellWalk *w);

/* The value of a key of a dict, the last one as in Python; NULL: none. */
const AdCell *ad_pickle_get(const AdPickle *p, const AdCell *dict, const char *key);

/* AD_ERR_FORMAT with the file, the place in the pickle and what is wrong. */
AdStatus ad_pickle_wrong(const AdPickle *p, const char *what);

#endif
