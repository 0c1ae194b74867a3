/* utf8.h - strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_UTF8_H
#define AD_UTF8_H

#include "../kernels/base.h"

/* Bytes of the character at s (1 to 4) and its code point, or 0 when the n bytes there do not
 * begin with a whole, valid character. */
size_t ad_utf8_decode(const char *s, size_t n, uint32_t *code);

/* Write a code point; returns its bytes (1 to 4). */
size_t ad_utf8_encode(uint32_t code, char *out);

/* Whether all n bytes are valid; if not, *bad is the offset of the first that is not. */
bool ad_utf8_valid(const char *s, size_t n, size_t *bad);

#endif
