/* memory.c - the two doors of host memory: ad_alloc_raw and ad_free.
 *
 * Called by everything; leaves device memory to the backends. A test build wraps ad_alloc_raw at
 * link time to make the n-th allocation fail; nothing else in the project calls malloc.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE             /* madvise */
#include <stdlib.h>
#include <sys/mman.h>

#include "base.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* Large blocks ask for huge pages: weights and activations are read from end to end many times,
 * and a matrix product over 4 KiB pages spends a fifth of its time looking addresses up. */
void *ad_alloc_raw(size_t bytes)
{
    size_t align = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : AD_ALIGN;
    void *p;

    if (bytes > SIZE_MAX - HUGE_PAGE)
        return NULL;
    bytes = ad_round_up(bytes ? bytes : 1, align);
    p = aligned_alloc(align, bytes);
    if (p && align == HUGE_PAGE)
        (void)madvise(p, bytes, MADV_HUGEPAGE);     /* only advice */
    return p;
}

void ad_free(void *p)
{
    free(p);
}
