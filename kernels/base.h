/* base.h - what every C file here may use: counting, checked sizes, memory.
 *
 * Layer 0: libc only. All host memory of the project comes from ad_alloc_raw and leaves by
 * ad_free (memory.c), so that tests can make each allocation fail in turn.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_BASE_H
#define AD_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ad_status.h"

#define AD_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define AD_ALIGN        64              /* bytes: a cache line, an AVX-512 register */
#define AD_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define AD_MAX(a, b)    ((a) > (b) ? (a) : (b))

#if defined(__GNUC__)
#define AD_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define AD_PRINTF(text, first)
#endif

/* Products and sums of numbers that come from files: false on overflow, *out then undefined. */
static inline bool ad_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool ad_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline size_t ad_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Zeroed memory aligned to AD_ALIGN, or NULL. Zero bytes give a valid pointer. */
void *ad_alloc(size_t bytes);

/* The same without the zeros: for slabs, whose pages are better not touched. */
void *ad_alloc_raw(size_t bytes);

/* n items of `size` bytes each; NULL also when the product overflows. */
void *ad_alloc_array(size_t n, size_t size);

/* Grow an array of `size`-byte items to at least `need` items; *capacity is updated. The new part
 * is zero. False: out of memory, the old array is untouched. */
bool ad_grow(void **items, size_t *capacity, size_t need, size_t size);

/* Copy of a string (ad_strndup: of its first n bytes), or NULL. */
char *ad_strdup(const char *s);
char *ad_strndup(const char *s, size_t n);

/* NULL is fine. */
void ad_free(void *p);

/* printf into a buffer of `size` bytes, always ended by NUL; for messages. */
void ad_format(char *out, size_t size, const char *format, ...) AD_PRINTF(3, 4);
void ad_vformat(char *out, size_t size, const char *format, va_list args);

#endif
