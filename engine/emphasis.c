/* emphasis.c - weights in prompts; see emphasis.h.
 *
 * Called by prompt.c. One pass over the text; a closing bracket goes over the pieces inside it,
 * which stays linear because brackets nest at most AD_CAP_BRACKETS deep. Unlike the original, BREAK
 * is a BREAK inside brackets too.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "adapters.h"
#include "caps.h"
#include "emphasis.h"
#include "tokenizer.h"
#include "utf8.h"

typedef struct Brackets {               /* open ones: number of the first piece inside */
    size_t first[AD_CAP_BRACKETS];
    size_t count;
} Brackets;

typedef struct Parser {
    AdContext  *ctx;
    const char *which, *text;           /* the whole prompt          */
    size_t      n, at;
    AdEmphasis *out;
    size_t      bytes;                  /* of out->text              */
    Brackets    round, square;
} Parser;

void ad_emphasis_free(AdEmphasis *e)
{
    ad_free(e->text);
    ad_free(e->pieces);
    *e = (AdEmphasis){ 0 };
}

/* ---- pieces ------------------------------------------------------------------------------- */

static AdStatus add_piece(Parser *p, const char *text, size_t n, bool ends_chunk)
{
    AdEmphasis *e = p->out;
    void *pieces = e->pieces;

    if (!ad_grow(&pieces, &e->room, e->count + 1, sizeof(*e->pieces)))
        return ad_fail_nomem(p->ctx, "a prompt");
    e->pieces = pieces;
    e->pieces[e->count++] = (AdEmphasisPiece){ p->bytes, n, 1, ends_chunk };
    if (n)
        memcpy(e->text + p->bytes, text, n);
    p->bytes += n;
    return AD_OK;
}

/* Number of the character that ends before text[at]; 0 at the beginning. */
static uint32_t before(const char *text, size_t at)
{
    uint32_t c = 0;
    size_t i = at;

    while (i > 0 && ((unsigned char)text[--i] & 0xc0) == 0x80)
        ;
    return at && ad_utf8_decode(text + i, at - i, &c) ? c : 0;
}

static uint32_t behind(const char *text, size_t at, size_t n)
{
    uint32_t c = 0;

    return ad_utf8_decode(text + at, n - at, &c) ? c : 0;
}

/* Bytes of white space at the end of text[first ... end). */
static size_t space_before(const char *text, size_t first, size_t end)
{
    size_t at = end;

    while (at > first && ad_is_space(before(text, at)))
        for (at--; ((unsigned char)text[at] & 0xc0) == 0x80; at--)
            ;
    return end - at;
}

static size_t space_behind(const char *text, size_t n)
{
    size_t at = 0, bytes;
    uint32_t c;

    while (at < n && (bytes = ad_utf8_decode(text + at, n - at, &c)) && ad_is_space(c))
        at += bytes;
    return at;
}

/* Text without brackets: one piece, or several with BREAK between them. */
static AdStatus add_text(Parser *p, const char *text, size_t n)
{
    size_t first = 0;
    AdStatus st = AD_OK;

    for (size_t i = 0; i + 5 <= n && st >= 0; i++) {
        size_t end = i + 5;

        if (memcmp(text + i, "BREAK", 5) || ad_is_word(before(text, i)) ||
            ad_is_word(behind(text, end, n)))
            continue;
        st = add_piece(p, text + first, i - first - space_before(text, first, i), false);
        if (st >= 0) st = add_piece(p, NULL, 0, true);
        first = end + space_behind(text + end, n - end);
        i = first - 1;
    }
    return st < 0 ? st : add_piece(p, text + first, n - first, false);
}

/* ---- brackets ----------------------------------------------------------------------------- */

static AdStatus open_bracket(Parser *p, Brackets *b)
{
    if (b->count == AD_CAP_BRACKETS)
        return ad_fail(p->ctx, AD_ERR_INVALID, "%s: more than %d brackets are open at byte %zu",
                       p->which, AD_CAP_BRACKETS, p->at - 1);
    b->first[b->count++] = p->out->count;
    return AD_OK;
}

static void close_bracket(Parser *p, Brackets *b, double factor)
{
    for (size_t i = b->first[--b->count]; i < p->out->count; i++)
        p->out->pieces[i].weight *= factor;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Bytes of ":1.2)" at text, or 0; *number, *digits: where the number stands. */
static size_t weight_at(const char *text, size_t n, const char **number, size_t *digits)
{
    size_t i = 1, first;

    while (i < n && is_blank(text[i]))
        i++;
    first = i;
    i += i < n && (text[i] == '+' || text[i] == '-');
    *number = text + first;
    for (first = i; i < n && (text[i] == '.' || (text[i] >= '0' && text[i] <= '9')); i++)
        ;
    if (i == first)
        return 0;
    *digits = (size_t)(text + i - *number);
    while (i < n && is_blank(text[i]))
        i++;
    return i < n && text[i] == ')' ? i + 1 : 0;
}

static AdStatus weight_is_wrong(Parser *p, const char *number, size_t digits)
{
    char quoted[AD_QUOTE_TEXT];

    return ad_fail(p->ctx, AD_ERR_INVALID, "%s: \"%s\" at byte %zu is no weight; (word:1.2) is the "
                   "form", p->which, ad_quote(number, digits, quoted), (size_t)(number - p->text));
}

/* A colon: the weight of the round bracket that is open, or text. */
static AdStatus colon(Parser *p)
{
    const char *s = p->text + p->at, *number = s;
    size_t digits = 0, n = weight_at(s, p->n - p->at, &number, &digits);
    double weight = 1;

    p->at += AD_MAX(n, 1);
    if (!n || !p->round.count)
        return add_text(p, s, AD_MAX(n, 1));
    if (!ad_parse_number(number, digits, &weight))
        return weight_is_wrong(p, number, digits);
    close_bracket(p, &p->round, weight);
    return AD_OK;
}

/* ---- the whole text ----------------------------------------------------------------------- */

/* What begins at p->at: an escape, a bracket, a colon, or text up to the next of these. */
static AdStatus next(Parser *p)
{
    const char *s = p->text + p->at;
    bool escape = *s == '\\' && s[1] && strchr("()[]\\", s[1]);
    size_t n = strcspn(s, "\\()[]:");

    if (*s == ':')
        return colon(p);
    p->at += escape ? 2 : AD_MAX(n, 1);
    if (escape)
        return add_piece(p, s + 1, 1, false);
    if (*s == '\\')                                         /* the original drops it too */
        return add_piece(p, s, 0, false);
    if (*s == '(' || *s == '[')
        return open_bracket(p, *s == '(' ? &p->round : &p->square);
    if (*s == ')' && p->round.count)
        return close_bracket(p, &p->round, 1.1), AD_OK;
    if (*s == ']' && p->square.count)
        return close_bracket(p, &p->square, 1 / 1.1), AD_OK;
    return add_text(p, s, AD_MAX(n, 1));
}

/* Neighbours of equal weight are one piece: tokens may reach across a bracket that was text. */
static void merge(AdEmphasis *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < e->count; i++) {
        AdEmphasisPiece *last = kept ? &e->pieces[kept - 1] : NULL, piece = e->pieces[i];

        if (last && !last->ends_chunk && !piece.ends_chunk && last->weight == piece.weight)
            last->n += piece.n;
        else
            e->pieces[kept++] = piece;
    }
    e->count = kept;
}

static AdStatus check_weights(const Parser *p)
{
    for (size_t i = 0; i < p->out->count; i++)
        if (!(fabs(p->out->pieces[i].weight) <= 100))
            return ad_fail(p->ctx, AD_ERR_INVALID, "%s: a weight of %g; -100 to 100 are allowed",
                           p->which, p->out->pieces[i].weight);
    return AD_OK;
}

AdStatus ad_emphasis_parse(AdContext *ctx, const char *which, const char *text, AdEmphasis *out)
{
    Parser p = { .ctx = ctx, .which = which, .text = text, .n = strlen(text), .out = out };
    AdStatus st = AD_OK;

    *out = (AdEmphasis){ .text = ad_alloc(p.n + 1) };
    if (!out->text)
        return ad_fail_nomem(ctx, "a prompt");
    while (p.at < p.n && st >= 0)
        st = next(&p);
    while (p.round.count)
        close_bracket(&p, &p.round, 1.1);
    while (p.square.count)
        close_bracket(&p, &p.square, 1 / 1.1);
    if (st >= 0 && !out->count)
        st = add_piece(&p, NULL, 0, false);
    if (st >= 0) {
        merge(out);
        st = check_weights(&p);
    }
    if (st < 0)
        ad_emphasis_free(out);
    return st;
}
