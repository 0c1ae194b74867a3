/* tokenizer.c - text to ids; see tokenizer.h.
 *
 * Called by prompt.c. utf8proc knows Unicode; the byte-pair merging is ours: a heap of
 * neighbouring pairs over a linked list of symbols, n log n for any text. Files are read by
 * vocabulary.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "caps.h"
#include "utf8.h"
#include "vocabulary.h"

/* ---- life --------------------------------------------------------------------------------- */

AdStatus ad_tokenizer_load(AdContext *ctx, AdTokenizer **out, const char *folder)
{
    AdTokenizer *t = ad_alloc(sizeof(*t));
    AdStatus st = t ? ad_vocabulary_read(ctx, t, folder) : ad_fail_nomem(ctx, "a tokenizer");

    if (st < 0)
        ad_tokenizer_free(&t);
    *out = t;
    return st;
}

void ad_tokenizer_free(AdTokenizer **tokenizer)
{
    AdTokenizer *t = *tokenizer;

    *tokenizer = NULL;
    if (!t)
        return;
    for (size_t i = 0; i < t->word_count; i++)
        ad_free(t->words[i].text);
    ad_free(t->words);
    ad_free(t->merges);
    ad_free(t);
}

int ad_tokenizer_size(const AdTokenizer *t)
{
    return t->size;
}

int32_t ad_tokenizer_begin(const AdTokenizer *t)
{
    return t->begin;
}

int32_t ad_tokenizer_end(const AdTokenizer *t)
{
    return t->end;
}

int32_t ad_tokenizer_pad(const AdTokenizer *t)
{
    return t->pad;
}

int ad_tokenizer_run(const AdTokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->word_count; i++)
        if (t->words[i].first == id)
            return t->words[i].count;
    return 1;
}

static AdStatus append(AdContext *ctx, AdIds *out, int32_t id)
{
    void *ids = out->ids;

    if (!ad_grow(&ids, &out->room, out->count + 1, sizeof(*out->ids)))
        return ad_fail_nomem(ctx, "token ids");
    out->ids = ids;
    out->ids[out->count++] = id;
    return AD_OK;
}

/* ---- byte pairs --------------------------------------------------------------------------- */

typedef struct Symbol { int32_t id, before, after; } Symbol;    /* linked by index; -1: none  */
typedef struct Pair { uint32_t rank; int32_t at, id, left, right; } Pair;

typedef struct Merging {
    const AdTokenizer *t;
    Symbol *symbols;
    Pair   *heap;               /* lowest rank first, then leftmost */
    size_t  count;
} Merging;

static bool sooner(const Pair *a, const Pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(Merging *m, Pair p)
{
    size_t i = m->count++;

    for (; i > 0 && sooner(&p, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = p;
}

static Pair heap_pop(Merging *m)
{
    Pair first = m->heap[0], last = m->heap[--m->count];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < m->count) {
        if (child + 1 < m->count && sooner(&m->heap[child + 1], &m->heap[child]))
            child++;
        if (!sooner(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return first;
}

/* Put the pair that begins with symbol `at` on the heap, if it may be merged. */
static void consider(Merging *m, int32_t at)
{
    const Symbol *s = &m->symbols[at];
    const AdMerge *merge;

    if (at < 0 || s->after < 0)
        return;
    merge = ad_vocabulary_merge(m->t, s->id, m->symbols[s->after].id);
    if (merge)
        heap_push(m, (Pair){ merge->rank, at, merge->id, s->id, m->symbols[s->after].id });
}

static void merge_all(Merging *m)
{
    while (m->count) {
        Pair p = heap_pop(m);
        Symbol *s = &m->symbols[p.at], *next;

        if (s->id != p.left || s->after < 0 || m->symbols[s->after].id != p.right)
            continue;                               /* one of the two was merged meanwhile */
        next = &m->symbols[s->after];
        s->id    = p.id;
        next->id = -1;
        s->after = next->after;
        if (s->after >= 0)
            m->symbols[s->after].before = p.at;
        if (s->before >= 0)
            consider(m, s->before);
        consider(m, p.at);
    }
}

/* One piece of text: its bytes, merged as far as they go. `last`: ids of the bytes that may come
 * last, t->last_bytes where a word ends there. */
static AdStatus encode_piece(AdContext *ctx, const AdTokenizer *t, const char *s, size_t n,
                             const int32_t *last, AdIds *out)
{
    Merging m = { .t = t };
    AdStatus st = AD_OK;

    m.symbols = ad_alloc_array(n, sizeof(*m.symbols));
    m.heap    = ad_alloc_array(3 * n, sizeof(*m.heap));     /* n pairs, two more for each merge */
    if (!m.symbols || !m.heap)
        st = ad_fail_nomem(ctx, "a prompt");
    for (size_t i = 0; i < n && st >= 0; i++)
        m.symbols[i] = (Symbol){
            (i + 1 < n ? t->bytes : last)[(unsigned char)s[i]],
            (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1,
        };
    for (size_t i = 0; i < n && st >= 0; i++)
        consider(&m, (int32_t)i);
    if (st >= 0)
        merge_all(&m);
    for (int32_t i = 0; st >= 0 && i >= 0; i = m.symbols[i].after)
        st = append(ctx, out, m.symbols[i].id);
    ad_free(m.symbols);
    ad_free(m.heap);
    return st;
}

/* ---- pieces ------------------------------------------------------------------------------- */

typedef enum Kind { SPACE, LETTER, DIGIT, OTHER } Kind;

/* White_Space of the Unicode standard. */
bool ad_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static Kind kind_of(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    if (ad_is_space(c))
        return SPACE;
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
        return LETTER;
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)
        return DIGIT;
    return OTHER;
}

bool ad_is_word(uint32_t c)
{
    Kind kind = kind_of(c);

    return kind == LETTER || kind == DIGIT || c == '_';
}

/* Bytes of a contraction ('s 't 're 've 'm 'll 'd) at s, or 0. */
static size_t contraction(const char *s, size_t n)
{
    static const char *const known[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };

    for (size_t i = 0; i < AD_COUNT(known); i++) {
        size_t m = strlen(known[i]);

        if (n >= m && !memcmp(s, known[i], m))
            return m;
    }
    return 0;
}

/* Bytes of the piece at s: a contraction, a run of letters, one digit, or a run of the rest. */
static size_t piece_length(const char *s, size_t n, Kind *kind)
{
    uint32_t c;
    size_t bytes = ad_utf8_decode(s, n, &c), at;

    *kind = kind_of(c);
    if (*kind == SPACE || *kind == DIGIT)
        return bytes;
    if ((at = contraction(s, n)))
        return at;
    for (at = bytes; at < n; at += bytes) {
        bytes = ad_utf8_decode(s + at, n - at, &c);
        if (kind_of(c) != *kind)
            break;
    }
    return at;
}

static AdStatus encode_text(AdContext *ctx, const AdTokenizer *t, const char *s, size_t n,
                            AdIds *out)
{
    AdStatus st = AD_OK;

    for (size_t i = 0, bytes; i < n && st >= 0; i += bytes) {
        Kind kind;

        bytes = piece_length(s + i, n - i, &kind);
        if (kind != SPACE)
            st = encode_piece(ctx, t, s + i, bytes, t->last_bytes, out);
    }
    return st;
}

/* ---- whole text --------------------------------------------------------------------------- */

/* NFC, runs of white space to one space, lower case by character; owned. */
static AdStatus normalize(AdContext *ctx, const char *text, size_t n, char **out, size_t *bytes)
{
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t m = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &nfc,
                                      UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    char *lower = m >= 0 ? ad_alloc(3 * (size_t)m + 1) : NULL;
    bool after_space = false;
    size_t end = 0;

    *out   = lower;
    *bytes = 0;
    for (size_t i = 0, k; lower && i < (size_t)m; i += k) {
        uint32_t c;

        k = ad_utf8_decode((const char *)nfc + i, (size_t)m - i, &c);
        if (!k)
            break;
        if (ad_is_space(c)) {
            if (!after_space)
                lower[end++] = ' ';
        } else if (c == 0x130) {                    /* the one letter that becomes two */
            end += ad_utf8_encode('i', lower + end);
            end += ad_utf8_encode(0x307, lower + end);
        } else
            end += ad_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), lower + end);
        after_space = ad_is_space(c);
    }
    free(nfc);
    *bytes = end;
    return lower ? AD_OK : ad_fail_nomem(ctx, "a prompt");
}

/* ---- taught words ------------------------------------------------------------------------- */

/* The number i of "_i" at s, 1 ... count - 1, as long as it can be; 0: there is none. */
static int index_at(const char *s, size_t n, int count, size_t *bytes)
{
    int index = 0;
    size_t i = 1;

    if (n < 2 || s[0] != '_' || s[1] == '0')
        return 0;
    for (; i < n && s[i] >= '0' && s[i] <= '9' && 10 * index + s[i] - '0' < count; i++)
        index = 10 * index + s[i] - '0';
    *bytes = i;
    return index;
}

/* Whether `text` is the word "w_i". */
static bool is_indexed(const AdWord *w, const char *text, size_t n)
{
    size_t bytes = 0;

    return n > w->n && !memcmp(text, w->text, w->n) &&
           index_at(text + w->n, n - w->n, w->count, &bytes) && w->n + bytes == n;
}

/* Whether the vocabulary has such an entry. Its entries spell bytes with characters; those that can
 * be printed stand for themselves. */
static AdStatus check_vocabulary(AdContext *ctx, const AdTokenizer *t, const char *word, size_t n)
{
    bool ends = n > 4 && !memcmp(word + n - 4, "</w>", 4);
    char quoted[AD_QUOTE_TEXT];
    AdIds ids = { 0 };
    AdStatus st;

    if (!t->merges)                     /* the marks, while the vocabulary is being read */
        return AD_OK;
    for (size_t i = 0; i < n; i++)
        if (word[i] <= ' ' || word[i] > '~')
            return AD_OK;
    st = encode_piece(ctx, t, word, ends ? n - 4 : n, ends ? t->last_bytes : t->bytes, &ids);
    if (st >= 0 && ids.count == 1)
        st = ad_fail(ctx, AD_ERR_INVALID, "the token \"%s\" is in the vocabulary already; another "
                     "name, such as <%s>, is not", ad_quote(word, n, quoted), quoted);
    ad_free(ids.ids);
    return st;
}

/* Whether the new word is one of the taught ones, or both have some "word_i" in common. */
static AdStatus check_words(AdContext *ctx, const AdTokenizer *t, const AdWord *new_word)
{
    char quoted[AD_QUOTE_TEXT];

    for (size_t i = 0; i < t->word_count; i++) {
        const AdWord *w = &t->words[i];

        if ((w->n == new_word->n && !memcmp(w->text, new_word->text, w->n)) ||
            is_indexed(w, new_word->text, new_word->n) || is_indexed(new_word, w->text, w->n))
            return ad_fail(ctx, AD_ERR_INVALID, "the token \"%s\" is there already",
                           ad_quote(new_word->text, new_word->n, quoted));
    }
    return AD_OK;
}

AdStatus ad_tokenizer_add(AdContext *ctx, AdTokenizer *t, const char *word, int32_t first,
                          int count)
{
    AdWord w = { .first = first, .count = count };
    void *words = t->words;
    size_t n = strlen(word), bad;
    AdStatus st = AD_OK;

    if (n == 0 || n > AD_CAP_TOKEN || !ad_utf8_valid(word, n, &bad))
        return ad_fail(ctx, AD_ERR_INVALID, "a token must be UTF-8 text of 1 to %u bytes",
                       AD_CAP_TOKEN);
    st = check_vocabulary(ctx, t, word, n);
    if (st >= 0) st = normalize(ctx, word, n, &w.text, &w.n);
    if (st >= 0) st = check_words(ctx, t, &w);
    if (st >= 0 && !ad_grow(&words, &t->word_room, t->word_count + 1, sizeof(*t->words)))
        st = ad_fail_nomem(ctx, "a token");
    if (st < 0) {
        ad_free(w.text);
        return st;
    }
    t->words = words;
    t->words[t->word_count++] = w;
    return AD_OK;
}

/* The longest taught word that begins at s, without an index; NULL: none. */
static const AdWord *word_at(const AdTokenizer *t, const char *s, size_t n)
{
    const AdWord *best = NULL;

    for (size_t i = 0; i < t->word_count; i++) {
        const AdWord *w = &t->words[i];

        if (w->n <= n && (!best || w->n > best->n) && !memcmp(s, w->text, w->n))
            best = w;
    }
    return best;
}

/* The ids of a word that stands at s, and of "word_i"; *bytes: how much of s that was. */
static AdStatus append_word(AdContext *ctx, const AdWord *w, const char *s, size_t n, AdIds *out,
                            size_t *bytes)
{
    size_t index_bytes = 0;
    int index = index_at(s + w->n, n - w->n, w->count, &index_bytes);
    AdStatus st = AD_OK;

    *bytes = w->n + (index ? index_bytes : 0);
    if (index)
        return append(ctx, out, w->first + index);
    for (int k = 0; k < w->count && st >= 0; k++)
        st = append(ctx, out, w->first + k);
    return st;
}

/* ---- encoding ----------------------------------------------------------------------------- */

AdStatus ad_tokenizer_encode(AdContext *ctx, const AdTokenizer *t, const char *text, size_t n,
                             AdIds *out)
{
    char *s = NULL;
    size_t bad = 0, bytes = 0, first = 0, word_bytes = 0;
    AdStatus st = AD_OK;

    if (!ad_utf8_valid(text, n, &bad) || memchr(text, 0, n))
        return ad_fail(ctx, AD_ERR_INVALID, "the prompt is not valid UTF-8 at byte %zu", bad);
    st = normalize(ctx, text, n, &s, &bytes);
    for (size_t i = 0; i < bytes && st >= 0;) {
        const AdWord *w = word_at(t, s + i, bytes - i);

        if (!w) {
            i++;
            continue;
        }
        st = encode_text(ctx, t, s + first, i - first, out);
        if (st >= 0)
            st = append_word(ctx, w, s + i, bytes - i, out, &word_bytes);
        i += word_bytes;
        first = i;
    }
    if (st >= 0)
        st = encode_text(ctx, t, s + first, bytes - first, out);
    ad_free(s);
    return st;
}
