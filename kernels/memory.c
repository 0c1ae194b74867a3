/* memory.c - the two doors of host memory: ad_alloc_raw and ad_free.
 *
 * Called by everything; leaves device memory to the backends. A test build wraps ad_alloc_raw at
 * link time to make the n-th allocation fail; nothing else in the project calls malloc.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "base.h"

void *ad_alloc_raw(size_t bytes)
{
    if (bytes > SIZE_MAX - AD_ALIGN)
        return NULL;
    return aligned_alloc(AD_ALIGN, ad_round_up(bytes ? bytes : 1, AD_ALIGN));
}

void ad_free(void *p)
{
    free(p);
}
