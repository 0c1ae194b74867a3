/* vocabulary.c - reading vocab.json, merges.txt and tokenizer.json.
 *
 * Called by tokenizer.c. After reading, only numbers are kept: what two ids merge to, and the ids
 * of the 256 bytes. A vocabulary can also be derived from merges.txt alone: bytes, bytes at a
 * word's end, merges in order, the two marks.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "file.h"
#include "json.h"
#include "utf8.h"
#include "vocabulary.h"

#define WORD_END "</w>"

typedef struct Reading {
    AdContext   *ctx;
    AdTokenizer *t;
    const char  *path;          /* file being read, for messages       */
    json_t      *vocabulary;    /* text -> id                          */
    size_t       merge_count;
} Reading;

/* ---- the byte alphabet -------------------------------------------------------------------- */

/* Bytes that stand for themselves; the other 68 become U+0100, U+0101, ... in order. */
static bool plain_byte(int b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

/* The character of a byte as UTF-8 text. */
static void byte_text(int byte, char *out)
{
    uint32_t code = (uint32_t)byte;
    size_t n;

    if (!plain_byte(byte)) {
        code = 0x100;
        for (int b = 0; b < byte; b++)
            code += !plain_byte(b);
    }
    n = ad_utf8_encode(code, out);
    out[n] = 0;
}

static bool find(const Reading *r, const char *text, int32_t *id)
{
    json_t *value = json_object_get(r->vocabulary, text);

    *id = value ? (int32_t)json_integer_value(value) : -1;
    return value != NULL;
}

static AdStatus find_bytes(Reading *r)
{
    for (int b = 0; b < 256; b++) {
        char text[16];

        byte_text(b, text);
        if (!find(r, text, &r->t->bytes[b]))
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: the byte 0x%02x has no entry", r->path,
                           b);
        strcat(text, WORD_END);
        if (!find(r, text, &r->t->last_bytes[b]))
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: the byte 0x%02x has no entry for a "
                           "word's end", r->path, b);
    }
    return AD_OK;
}

/* ---- the vocabulary ----------------------------------------------------------------------- */

/* Ids must be 0 ... size-1, each once. */
static AdStatus check_ids(Reading *r)
{
    size_t size = json_object_size(r->vocabulary);
    unsigned char *seen;
    const char *key;
    json_t *value;
    AdStatus st = AD_OK;

    if (size > AD_CAP_VOCABULARY)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: %zu entries; at most %u are accepted",
                       r->path, size, AD_CAP_VOCABULARY);
    seen = ad_alloc(size);
    if (!seen)
        return ad_fail_nomem(r->ctx, "a vocabulary");
    json_object_foreach(r->vocabulary, key, value) {
        json_int_t id = json_integer_value(value);
        char quoted[AD_QUOTE_TEXT];

        if (!json_is_integer(value) || id < 0 || id >= (json_int_t)size || seen[id])
            st = ad_fail(r->ctx, AD_ERR_FORMAT,
                         "%.120s: the id of \"%s\" is not a number from 0 to "
                         "%zu that no other entry has",
                         r->path, ad_quote(key, strlen(key), quoted), size - 1);
        else if (strlen(key) > AD_CAP_TOKEN)
            st = ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: an entry of more than %u bytes", r->path,
                         AD_CAP_TOKEN);
        else
            seen[id] = 1;
        if (st < 0)
            break;
    }
    ad_free(seen);
    r->t->size = (int)size;
    return st;
}

static AdStatus find_marks(Reading *r)
{
    static const char *const marks[] = { "<|startoftext|>", "<|endoftext|>" };
    int32_t *ids[] = { &r->t->begin, &r->t->end };

    for (int i = 0; i < 2; i++) {
        AdStatus st;

        if (!find(r, marks[i], ids[i]))
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: no entry %s", r->path, marks[i]);
        st = ad_tokenizer_add(r->ctx, r->t, marks[i], *ids[i], 1);
        if (st < 0)
            return st;
    }
    r->t->pad = r->t->end;
    return AD_OK;
}

static AdStatus use_vocabulary(Reading *r)
{
    AdStatus st = check_ids(r);

    if (st >= 0) st = find_bytes(r);
    if (st >= 0) st = find_marks(r);
    return st;
}

/* ---- merges ------------------------------------------------------------------------------- */

static size_t slot_of(const AdTokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;

    return (size_t)(h >> 32) & (t->merge_slots - 1);
}

const AdMerge *ad_vocabulary_merge(const AdTokenizer *t, int32_t left, int32_t right)
{
    for (size_t i = slot_of(t, left, right);; i = (i + 1) & (t->merge_slots - 1)) {
        if (t->merges[i].left < 0)
            return NULL;
        if (t->merges[i].left == left && t->merges[i].right == right)
            return &t->merges[i];
    }
}

/* Lines are no merges yet: more than the cap are never added, whatever a file claims. */
static AdStatus merges_init(Reading *r, size_t lines)
{
    size_t slots = 1024, most = AD_MIN(lines, (size_t)AD_CAP_VOCABULARY);

    while (slots < 2 * most)
        slots *= 2;
    r->t->merges = ad_alloc_array(slots, sizeof(*r->t->merges));
    if (!r->t->merges)
        return ad_fail_nomem(r->ctx, "merges");
    r->t->merge_slots = slots;
    for (size_t i = 0; i < slots; i++)
        r->t->merges[i].left = -1;
    return AD_OK;
}

/* One rule "left right" from line `line`. The first of two equal rules counts. */
static AdStatus merge_add(Reading *r, const char *left, const char *right, size_t line)
{
    char joined[2 * AD_CAP_TOKEN + 1];
    int32_t a, b, id;
    size_t i;

    if (r->merge_count >= AD_CAP_VOCABULARY)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: more than %u merges", r->path,
                       AD_CAP_VOCABULARY);
    if (strlen(left) > AD_CAP_TOKEN || strlen(right) > AD_CAP_TOKEN)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: line %zu: a piece of more than %u bytes",
                       r->path, line, AD_CAP_TOKEN);
    ad_format(joined, sizeof(joined), "%s%s", left, right);
    if (!find(r, left, &a) || !find(r, right, &b) || !find(r, joined, &id))
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: line %zu: a piece that the vocabulary lacks",
                       r->path, line);
    for (i = slot_of(r->t, a, b); r->t->merges[i].left >= 0; i = (i + 1) & (r->t->merge_slots - 1))
        if (r->t->merges[i].left == a && r->t->merges[i].right == b) {
            r->merge_count++;
            return AD_OK;
        }
    r->t->merges[i] = (AdMerge){ a, b, id, (uint32_t)r->merge_count++ };
    return AD_OK;
}

/* Calls `use` with both fields of every line; header, blank lines and CR are skipped. */
typedef AdStatus (*UseLine)(Reading *r, const char *left, const char *right, size_t line);

static AdStatus each_line(Reading *r, char *text, size_t bytes, UseLine use)
{
    char *end = text + bytes, *next;
    size_t line = 0;
    AdStatus st = AD_OK;

    if (bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        text += 3;
    if (memchr(text, 0, (size_t)(end - text)))
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: holds a NUL", r->path);
    for (; text < end && st >= 0; text = next) {
        char *stop = memchr(text, '\n', (size_t)(end - text)), *space;

        line++;
        stop = stop ? stop : end;
        next = stop + 1;
        if (stop - text > AD_CAP_LINE)
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: line %zu has more than %u bytes",
                           r->path, line, AD_CAP_LINE);
        if (stop > text && stop[-1] == '\r')
            stop--;
        *stop = 0;
        if (stop == text || (line == 1 && !strncmp(text, "#version", 8)))
            continue;
        space = strchr(text, ' ');
        if (!space || space == text || !space[1] || strchr(space + 1, ' ')) {
            if (line == 1)                          /* a title in another form */
                continue;
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: line %zu is not two pieces of text",
                           r->path, line);
        }
        *space = 0;
        st = use(r, text, space + 1, line);
    }
    return st;
}

static size_t count_lines(const char *text, size_t n)
{
    size_t lines = 1;

    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

/* ---- a vocabulary out of merges.txt alone ------------------------------------------------- */

static AdStatus derive_entry(Reading *r, const char *text)
{
    json_int_t id = (json_int_t)json_object_size(r->vocabulary);

    if (json_object_get(r->vocabulary, text))
        return AD_OK;
    if (json_object_set_new(r->vocabulary, text, json_integer(id)) < 0)
        return ad_fail_nomem(r->ctx, "a vocabulary");
    return AD_OK;
}

static AdStatus derive_merge(Reading *r, const char *left, const char *right, size_t line)
{
    char joined[AD_CAP_LINE + 1];

    (void)line;
    ad_format(joined, sizeof(joined), "%s%s", left, right);
    return derive_entry(r, joined);
}

static AdStatus derive(Reading *r, char *text, size_t bytes)
{
    AdStatus st = AD_OK;
    char *copy = ad_strndup(text, bytes), entry[16];

    r->vocabulary = json_object();
    if (!copy || !r->vocabulary)
        st = ad_fail_nomem(r->ctx, "a vocabulary");
    for (int round = 0; round < 4 && st >= 0; round++)      /* plain, others; the same at the end */
        for (int b = 0; b < 256 && st >= 0; b++)
            if (plain_byte(b) == (round % 2 == 0)) {
                byte_text(b, entry);
                if (round >= 2)
                    strcat(entry, WORD_END);
                st = derive_entry(r, entry);
            }
    if (st >= 0) st = each_line(r, copy, bytes, derive_merge);
    if (st >= 0) st = derive_entry(r, "<|startoftext|>");
    if (st >= 0) st = derive_entry(r, "<|endoftext|>");
    ad_free(copy);
    return st;
}

/* ---- files -------------------------------------------------------------------------------- */

static AdStatus read_merges(Reading *r, const char *path)
{
    char *text = NULL;
    const char *special;
    size_t bytes = 0, bad;
    AdStatus st = ad_file_slurp(r->ctx, path, AD_CAP_MERGES, &text, &bytes);

    if (st >= 0 && (special = ad_file_special(text, bytes)))
        st = ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: %s", path, special);
    if (st >= 0 && !ad_utf8_valid(text, bytes, &bad))
        st = ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: not valid UTF-8 at byte %zu", path, bad);
    if (st >= 0 && !r->vocabulary) {
        r->path = path;
        st = derive(r, text, bytes);
        if (st >= 0) st = use_vocabulary(r);
    }
    r->path = path;
    if (st >= 0) st = merges_init(r, count_lines(text, bytes));
    if (st >= 0) st = each_line(r, text, bytes, merge_add);
    ad_free(text);
    return st;
}

/* tokenizer.json: model.vocab, and model.merges as "a b" or ["a", "b"]. */
static AdStatus read_bundle(Reading *r, const char *path)
{
    json_t *root = NULL, *model, *merges, *rule;
    size_t i;
    AdStatus st = ad_json_load(r->ctx, path, AD_CAP_INDEX, &root);

    r->path = path;
    model  = json_object_get(root, "model");
    merges = json_object_get(model, "merges");
    if (st >= 0 && (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(merges)))
        st = ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: no byte-pair model with vocab and merges",
                     path);
    if (st >= 0) {
        r->vocabulary = json_incref(json_object_get(model, "vocab"));
        st = use_vocabulary(r);
    }
    if (st >= 0) st = merges_init(r, json_array_size(merges));
    if (st >= 0)
        json_array_foreach(merges, i, rule) {
            char text[AD_CAP_LINE + 1], *space = NULL;
            const char *left = NULL, *right = NULL;

            if (json_is_array(rule) && json_array_size(rule) == 2) {
                left  = json_string_value(json_array_get(rule, 0));
                right = json_string_value(json_array_get(rule, 1));
            } else if (json_is_string(rule) && json_string_length(rule) <= AD_CAP_LINE) {
                strcpy(text, json_string_value(rule));
                space = strchr(text, ' ');
                if (space) {
                    *space = 0;
                    left   = text;
                    right  = space + 1;
                }
            }
            st = left && right ? merge_add(r, left, right, i + 1)
                               : ad_fail(r->ctx, AD_ERR_FORMAT, "%.200s: merge %zu is not two "
                                         "pieces of text", path, i + 1);
            if (st < 0)
                break;
        }
    json_decref(root);
    return st;
}

/* The padding token of SD 1.x is the end mark; a config may name another. */
static AdStatus read_padding(Reading *r, const char *path)
{
    json_t *root = NULL, *pad;
    AdStatus st = ad_json_load(r->ctx, path, AD_CAP_INDEX, &root);
    const char *text;
    int32_t id;

    pad  = json_object_get(root, "pad_token");
    text = json_is_object(pad) ? json_string_value(json_object_get(pad, "content"))
                               : json_string_value(pad);
    if (text && find(r, text, &id))
        r->t->pad = id;
    json_decref(root);
    return st;
}

AdStatus ad_vocabulary_read(AdContext *ctx, AdTokenizer *t, const char *folder)
{
    Reading r = { .ctx = ctx, .t = t };
    char *vocab  = ad_path_join(folder, "vocab.json"), *merges = ad_path_join(folder, "merges.txt");
    char *bundle = ad_path_join(folder, "tokenizer.json");
    char *config = ad_path_join(folder, "tokenizer_config.json");
    AdStatus st = vocab && merges && bundle && config ? AD_OK : ad_fail_nomem(ctx, "paths");

    if (st >= 0 && !ad_is_file(merges) && ad_is_file(bundle))
        st = read_bundle(&r, bundle);
    else if (st >= 0) {
        if (ad_is_file(vocab)) {
            r.path = vocab;
            st = ad_json_load(ctx, vocab, AD_CAP_INDEX, &r.vocabulary);
            if (st >= 0) st = use_vocabulary(&r);
        }
        if (st >= 0) st = read_merges(&r, merges);
    }
    if (st >= 0 && ad_is_file(config))
        st = read_padding(&r, config);
    json_decref(r.vocabulary);
    ad_free(vocab);
    ad_free(merges);
    ad_free(bundle);
    ad_free(config);
    return st;
}
