/* emphasis.h - "(word:1.2)", "[word]" and BREAK: a prompt becomes pieces of text with weights.
 *
 * The syntax of the AUTOMATIC1111 web interface (modules/prompt_parser.py).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_EMPHASIS_H
#define AD_EMPHASIS_H

#include "fail.h"

typedef struct AdEmphasisPiece {
    size_t at, n;               /* of AdEmphasis.text */
    double weight;
    bool   ends_chunk;          /* BREAK: no text     */
} AdEmphasisPiece;

typedef struct AdEmphasis {
    char            *text;      /* all pieces, one after the other, escapes resolved */
    AdEmphasisPiece *pieces;
    size_t           count, room;
} AdEmphasis;

/* Rules: "(" ... ")" multiplies by 1.1, "[" ... "]" divides by 1.1, "(" ... ":w)" multiplies by w;
 * factors of nested brackets multiply. A backslash makes the next bracket or backslash text. A
 * bracket that stays open acts to the end; one that closes nothing is text. BREAK, as a word of its
 * own, ends a chunk; white space around it goes. Neighbours of equal weight become one piece.
 *
 * `text` is valid UTF-8; `which` is for messages. AD_ERR_INVALID: brackets nested too deep, a
 * weight that is no number, or one outside of -100 ... 100. */
AdStatus ad_emphasis_parse(AdContext *ctx, const char *which, const char *text, AdEmphasis *out);
void     ad_emphasis_free(AdEmphasis *e);

#endif
