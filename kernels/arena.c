/* arena.c - first-fit memory in one slab; see arena.h.
 *
 * Linear search over the blocks held: a UNet holds fewer than a hundred at a time.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <string.h>

#include "arena.h"

/* Where a measuring arena pretends to be: any aligned address that is not NULL. */
#define NOWHERE ((char *)(uintptr_t)(1 << 20))

void ad_arena_init(AdArena *a, void *slab, size_t size)
{
    *a = (AdArena){ .base = slab, .size = size };
    assert((uintptr_t)slab % AD_ARENA_ALIGN == 0);
}

void ad_arena_measure(AdArena *a)
{
    ad_arena_init(a, NOWHERE, SIZE_MAX / 2);
}

void ad_arena_free(AdArena *a)
{
    ad_free(a->blocks);
    *a = (AdArena){ 0 };
}

/* Index at which a block of `bytes` may be inserted, its offset in *offset. */
static size_t find_gap(const AdArena *a, size_t bytes, size_t *offset)
{
    size_t end = 0, i;

    for (i = 0; i < a->count; i++) {
        if (a->blocks[i].offset - end >= bytes)
            break;
        end = a->blocks[i].offset + a->blocks[i].bytes;
    }
    *offset = end;
    return i;
}

void *ad_arena_take(AdArena *a, size_t bytes, size_t *missing)
{
    void *blocks = a->blocks;
    size_t offset, i;

    *missing = 0;
    bytes = ad_round_up(bytes ? bytes : 1, AD_ARENA_ALIGN);
    i = find_gap(a, bytes, &offset);
    if (bytes > a->size - offset) {
        *missing = bytes - (a->size - offset);
        return NULL;
    }
    if (!ad_grow(&blocks, &a->room, a->count + 1, sizeof(*a->blocks)))
        return NULL;
    a->blocks = blocks;
    memmove(a->blocks + i + 1, a->blocks + i, (a->count - i) * sizeof(*a->blocks));
    a->blocks[i] = (AdArenaBlock){ offset, bytes, ++a->serial };
    a->count++;
    a->peak = AD_MAX(a->peak, offset + bytes);
    return a->base + offset;
}

void ad_arena_drop(AdArena *a, const void *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < a->count; i++)
        if (a->base + a->blocks[i].offset == (const char *)p) {
            a->count--;
            memmove(a->blocks + i, a->blocks + i + 1, (a->count - i) * sizeof(*a->blocks));
            return;
        }
    assert(!"dropped what was not taken");
}

AdMark ad_arena_mark(const AdArena *a)
{
    return a->serial;
}

void ad_arena_release(AdArena *a, AdMark mark)
{
    size_t kept = 0;

    for (size_t i = 0; i < a->count; i++)
        if (a->blocks[i].serial <= mark)
            a->blocks[kept++] = a->blocks[i];
    a->count = kept;
}
