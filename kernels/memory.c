/* memory.c - the two doors of host memory: ad_alloc and ad_free.
 *
 * Called by everything; leaves device memory to the backends. A test build wraps ad_alloc at link
 * time to make the n-th allocation fail; nothing else in the project calls malloc.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

void *ad_alloc(size_t bytes)
{
    size_t size = bytes ? bytes : 1;
    void *p;

    if (size > SIZE_MAX - AD_ALIGN)
        return NULL;
    size = ad_round_up(size, AD_ALIGN);             /* aligned_alloc wants a multiple */
    p = aligned_alloc(AD_ALIGN, size);
    if (p)
        memset(p, 0, size);
    return p;
}

void ad_free(void *p)
{
    free(p);
}
