/* utf8.c - strict UTF-8; see utf8.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "utf8.h"

size_t ad_utf8_decode(const char *s, size_t n, uint32_t *code)
{
    static const struct { unsigned char mask, lead; uint32_t least; } forms[] = {
        { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 },
    };

    for (size_t i = 0; n > 0 && i < AD_COUNT(forms); i++) {
        uint32_t c = (unsigned char)s[0];

        if ((c & forms[i].mask) != forms[i].lead)
            continue;
        if (i + 1 > n)
            return 0;
        c &= ~(uint32_t)forms[i].mask;
        for (size_t k = 1; k <= i; k++) {
            if (((unsigned char)s[k] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | ((unsigned char)s[k] & 0x3f);
        }
        if (c < forms[i].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return 0;
        *code = c;
        return i + 1;
    }
    return 0;
}

size_t ad_utf8_encode(uint32_t code, char *out)
{
    size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = { 0x00, 0xc0, 0xe0, 0xf0 };

    for (size_t i = more; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[more] | code);
    return more + 1;
}

bool ad_utf8_valid(const char *s, size_t n, size_t *bad)
{
    uint32_t code;

    for (size_t i = 0, bytes; i < n; i += bytes) {
        bytes = ad_utf8_decode(s + i, n - i, &code);
        if (!bytes) {
            *bad = i;
            return false;
        }
    }
    return true;
}
