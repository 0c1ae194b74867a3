/* base.c - zeroed memory, arrays, strings and messages on top of ad_alloc_raw.
 *
 * Its own file, so that these go through the wrapped ad_alloc_raw in tests (see memory.c).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "base.h"

void *ad_alloc(size_t bytes)
{
    void *p = ad_alloc_raw(bytes);

    if (p)
        memset(p, 0, bytes);
    return p;
}

void *ad_alloc_array(size_t n, size_t size)
{
    uint64_t bytes;

    if (!ad_mul(n, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return ad_alloc((size_t)bytes);
}

bool ad_grow(void **items, size_t *capacity, size_t need, size_t size)
{
    size_t room = *capacity;
    void *bigger;

    if (need <= room)
        return true;
    room = AD_MAX(need, room + room / 2 + 8);
    bigger = ad_alloc_array(room, size);
    if (!bigger)
        return false;
    if (*items)
        memcpy(bigger, *items, *capacity * size);
    ad_free(*items);
    *items = bigger;
    *capacity = room;
    return true;
}

char *ad_strndup(const char *s, size_t n)
{
    char *copy = ad_alloc(n + 1);

    if (copy)
        memcpy(copy, s, n);
    return copy;
}

char *ad_strdup(const char *s)
{
    return ad_strndup(s, strlen(s));
}

void ad_vformat(char *out, size_t size, const char *format, va_list args)
{
    vsnprintf(out, size, format, args);
}

void ad_format(char *out, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ad_vformat(out, size, format, args);
    va_end(args);
}
