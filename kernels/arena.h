/* arena.h - activation memory inside one slab, on any device.
 *
 * A block of the network takes its result first, then a mark, then temporaries; releasing the mark
 * gives back everything taken since that is still held. What is consumed early (a skip, the
 * features an up block has read) is dropped by itself, and its place is used again at once: the
 * arena looks for the lowest gap that fits. The same forward pass takes and drops in the same
 * order, so it gets the same addresses at every step; a pass on an arena without memory
 * (ad_arena_measure) tells the size the slab must have.
 *
 * A plain stack would need 5.5 GB where this needs 4.0 (512x512, 16 frames, guidance).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_ARENA_H
#define AD_ARENA_H

#include "base.h"

#define AD_ARENA_ALIGN 256      /* what cuBLASLt's best kernels want; also a host page's friend */

typedef struct AdArenaBlock {
    size_t   offset, bytes;
    uint64_t serial;            /* order of taking; marks compare it */
} AdArenaBlock;

typedef struct AdArena {
    char         *base;         /* the slab, borrowed */
    size_t        size;
    size_t        peak;         /* highest end of any block so far */
    uint64_t      serial;
    AdArenaBlock *blocks;       /* held now, by offset */
    size_t        count, room;
} AdArena;

typedef uint64_t AdMark;

/* An arena over a slab of `size` bytes (borrowed, aligned to AD_ARENA_ALIGN). */
void ad_arena_init(AdArena *a, void *slab, size_t size);

/* An arena without memory: takes as much as asked and counts. Addresses must not be used. */
void ad_arena_measure(AdArena *a);

void ad_arena_free(AdArena *a);         /* the book-keeping; the slab is its owner's */

/* `bytes` of the slab, or NULL: `*missing` then says how many more the slab would need, 0 when the
 * book-keeping found no host memory. */
void *ad_arena_take(AdArena *a, size_t bytes, size_t *missing);

/* Give back one block by its address; NULL is fine. */
void ad_arena_drop(AdArena *a, const void *p);

AdMark ad_arena_mark(const AdArena *a);
void   ad_arena_release(AdArena *a, AdMark mark);       /* all taken since the mark */

#endif
