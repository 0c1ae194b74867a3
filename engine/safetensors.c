/* safetensors.c - the header of a safetensors file, read strictly.
 *
 * Called by tensor_file.c. A streaming reader that knows what must come next: no tree, memory only
 * for names and entries. Refused is what two readers could understand differently: duplicate keys,
 * numbers in another spelling, holes or overlaps in the data.
 * Format: https://github.com/huggingface/safetensors, 8-byte length, JSON, data.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tensor_file.h"
#include "utf8.h"

typedef struct Text { char *s; size_t n; } Text;

typedef struct Reader {
    AdContext    *ctx;
    AdTensorFile *file;
    char         *p, *end;
    Text         *keys;         /* of the objects open now, to find duplicates */
    size_t        key_count, key_room;
} Reader;

/* Sentence with the file's name and the place in the header. */
static AdStatus wrong(const Reader *r, const char *what)
{
    return ad_fail(r->ctx, AD_ERR_FORMAT, "%.160s: safetensors header, byte %zu: %s",
                   r->file->file->path, (size_t)(r->p - r->file->header), what);
}

/* ---- JSON words --------------------------------------------------------------------------- */

static void space(Reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool next_is(Reader *r, char c)
{
    space(r);
    if (r->p >= r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static AdStatus expect(Reader *r, char c, const char *what)
{
    return next_is(r, c) ? AD_OK : wrong(r, what);
}

/* Four hex digits at s. */
static bool hex4(const char *s, const char *end, uint32_t *value)
{
    *value = 0;
    if (end - s < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = s[i], low = (char)(c | 0x20);

        if (c >= '0' && c <= '9')
            *value = *value << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *value = *value << 4 | (uint32_t)(low - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* What stands behind a backslash; *out grows by the bytes it means. */
static AdStatus escape(Reader *r, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known = r->p < r->end && *r->p ? strchr(from, *r->p) : NULL;
    uint32_t code, low;

    if (known) {
        *(*out)++ = to[known - from];
        r->p++;
        return AD_OK;
    }
    if (r->p >= r->end || *r->p != 'u' || !hex4(r->p + 1, r->end, &code))
        return wrong(r, "an unknown escape in a string");
    r->p += 5;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u' ||
            !hex4(r->p + 2, r->end, &low) || low < 0xdc00 || low > 0xdfff)
            return wrong(r, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        r->p += 6;
    } else if (code >= 0xdc00 && code <= 0xdfff)
        return wrong(r, "half of a surrogate pair");
    *out += ad_utf8_encode(code, *out);             /* never longer than the escape */
    return AD_OK;
}

/* A string, unescaped where it stands; NUL is written behind it. */
static AdStatus string(Reader *r, Text *text, const char *what)
{
    char *out;
    AdStatus st = expect(r, '"', what);

    if (st < 0)
        return st;
    text->s = out = r->p;
    while (r->p < r->end && *r->p != '"') {
        unsigned char c = (unsigned char)*r->p;
        uint32_t code;
        size_t bytes;

        if (c == '\\') {
            r->p++;
            st = escape(r, &out);
            if (st < 0)
                return st;
            continue;
        }
        bytes = ad_utf8_decode(r->p, (size_t)(r->end - r->p), &code);
        if (c < 0x20 || !bytes)
            return wrong(r, c < 0x20 ? "a control byte in a string" : "not valid UTF-8");
        memmove(out, r->p, bytes);
        out  += bytes;
        r->p += bytes;
    }
    if (r->p >= r->end)
        return wrong(r, "a string without an end");
    r->p++;
    text->n = (size_t)(out - text->s);
    *out = 0;
    return AD_OK;
}

/* A whole number in its plain spelling, below 2^63. */
static AdStatus whole(Reader *r, uint64_t *value)
{
    char *first;

    space(r);
    first  = r->p;
    *value = 0;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9') {
        uint64_t digit = (uint64_t)(*r->p - '0');

        if (*value > (INT64_MAX - digit) / 10)
            return wrong(r, "a number of 2^63 or more");
        *value = *value * 10 + digit;
        r->p++;
    }
    if (r->p == first || (*first == '0' && r->p - first > 1) ||
        (r->p < r->end && (*r->p == '.' || *r->p == 'e' || *r->p == 'E')))
        return wrong(r, "a whole number without sign, point or exponent is needed");
    return AD_OK;
}

/* ---- keys --------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    const Text *x = a, *y = b;
    int order = memcmp(x->s, y->s, AD_MIN(x->n, y->n));

    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static AdStatus key_add(Reader *r, Text key)
{
    void *keys = r->keys;

    if (!ad_grow(&keys, &r->key_room, r->key_count + 1, sizeof(*r->keys)))
        return ad_fail_nomem(r->ctx, "a header's keys");
    r->keys = keys;
    r->keys[r->key_count++] = key;
    return AD_OK;
}

/* The object whose keys begin at `first` ends: none may be there twice. */
static AdStatus keys_close(Reader *r, size_t first)
{
    size_t n = r->key_count - first;

    r->key_count = first;
    if (n)
        qsort(r->keys + first, n, sizeof(*r->keys), by_text);
    for (size_t i = 1; i < n; i++)
        if (!by_text(&r->keys[first + i - 1], &r->keys[first + i]))
            return wrong(r, "the same key twice in one object");
    return AD_OK;
}

/* Members of an object: calls `member` with each key, its value comes next in the text. */
typedef AdStatus (*Member)(Reader *r, Text key, void *opaque);

static AdStatus object(Reader *r, Member member, void *opaque)
{
    size_t first = r->key_count;
    AdStatus st = expect(r, '{', "an object is needed");
    Text key = { 0 };

    if (st < 0 || next_is(r, '}'))
        return st;
    do {
        st = string(r, &key, "a key is needed");
        if (st >= 0) st = expect(r, ':', "a colon is needed");
        if (st >= 0) st = key_add(r, key);
        if (st >= 0 && r->key_count - first > AD_CAP_TENSORS + 1)       /* and __metadata__ */
            st = wrong(r, "more than 65536 keys in one object");
        if (st >= 0) st = member(r, key, opaque);
    } while (st >= 0 && next_is(r, ','));
    if (st >= 0) st = expect(r, '}', "a comma or the end of an object is needed");
    return st >= 0 ? keys_close(r, first) : st;
}

/* ---- values nobody asked for -------------------------------------------------------------- */

static AdStatus skip_value(Reader *r, int depth);

static AdStatus skip_member(Reader *r, Text key, void *depth)
{
    (void)key;
    return skip_value(r, *(int *)depth);
}

static bool digits(Reader *r)
{
    char *first = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > first;
}

static AdStatus skip_number(Reader *r)
{
    bool zero, good;

    if (r->p < r->end && *r->p == '-')
        r->p++;
    zero = r->p < r->end && *r->p == '0';
    if (zero)
        r->p++;
    good = zero || digits(r);
    if (good && r->p < r->end && *r->p == '.') {
        r->p++;
        good = digits(r);
    }
    if (good && r->p < r->end && (*r->p | 0x20) == 'e') {
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        good = digits(r);
    }
    return good ? AD_OK : wrong(r, "a value is needed");
}

static AdStatus skip_value(Reader *r, int depth)
{
    static const char *const words[] = { "true", "false", "null" };
    AdStatus st = AD_OK;
    Text text;

    space(r);
    if (depth >= AD_CAP_DEPTH)
        return wrong(r, "nested too deeply");
    if (r->p >= r->end)
        return wrong(r, "a value is needed");
    depth++;
    if (*r->p == '"')
        return string(r, &text, "");
    if (*r->p == '{')
        return object(r, skip_member, &depth);
    if (*r->p == '[') {
        r->p++;
        if (next_is(r, ']'))
            return AD_OK;
        do
            st = skip_value(r, depth);
        while (st >= 0 && next_is(r, ','));
        return st < 0 ? st : expect(r, ']', "a comma or the end of an array is needed");
    }
    for (size_t i = 0; i < AD_COUNT(words); i++) {
        size_t n = strlen(words[i]);

        if ((size_t)(r->end - r->p) >= n && !memcmp(r->p, words[i], n)) {
            r->p += n;
            return AD_OK;
        }
    }
    return skip_number(r);
}

/* ---- the header --------------------------------------------------------------------------- */

typedef struct Building {
    AdEntry  entry;
    uint64_t begin, end;
    bool     has_dtype, has_shape, has_offsets;
} Building;

static AdStatus read_dtype(Reader *r, Building *b)
{
    Text text = { 0 };
    AdStatus st = string(r, &text, "a dtype must be a string");

    for (int i = 0; i < AD_DTYPES && st >= 0; i++)
        if (text.n == strlen(ad_dtype_name((AdDtype)i)) &&
            !memcmp(text.s, ad_dtype_name((AdDtype)i), text.n)) {
            b->entry.dtype = (AdDtype)i;
            b->has_dtype   = true;
            return AD_OK;
        }
    if (st >= 0) {
        char quoted[AD_QUOTE_TEXT];

        st = ad_fail(r->ctx, AD_ERR_FORMAT, "%.100s: dtype \"%s\" is not supported; F32, F16, "
                     "BF16, F64, F8_E4M3, F8_E5M2 and the integer types are", r->file->file->path,
                     ad_quote(text.s, AD_MIN(text.n, 20), quoted));
    }
    return st;
}

static AdStatus read_shape(Reader *r, Building *b)
{
    AdStatus st = expect(r, '[', "a shape must be an array");
    uint64_t n;

    b->has_shape = true;
    if (st < 0 || next_is(r, ']'))
        return st;
    do {
        st = whole(r, &n);
        if (st >= 0 && b->entry.rank == AD_CAP_RANK)
            st = wrong(r, "a shape of more than 8 axes");
        if (st >= 0 && n > AD_CAP_AXIS)
            st = wrong(r, "an axis of 2^31 or more");
        if (st >= 0)
            b->entry.shape[b->entry.rank++] = (int64_t)n;
    } while (st >= 0 && next_is(r, ','));
    return st < 0 ? st : expect(r, ']', "a comma or the end of a shape is needed");
}

static AdStatus read_offsets(Reader *r, Building *b)
{
    AdStatus st = expect(r, '[', "data_offsets must be an array");

    b->has_offsets = true;
    if (st >= 0) st = whole(r, &b->begin);
    if (st >= 0) st = expect(r, ',', "data_offsets needs two numbers");
    if (st >= 0) st = whole(r, &b->end);
    if (st >= 0) st = expect(r, ']', "data_offsets has two numbers, no more");
    return st;
}

static AdStatus entry_member(Reader *r, Text key, void *opaque)
{
    Building *b = opaque;

    if (key.n == 5 && !memcmp(key.s, "dtype", 5))
        return read_dtype(r, b);
    if (key.n == 5 && !memcmp(key.s, "shape", 5))
        return read_shape(r, b);
    if (key.n == 12 && !memcmp(key.s, "data_offsets", 12))
        return read_offsets(r, b);
    ad_log(r->ctx, AD_LOG_DEBUG, "%.160s: unknown field in a header entry", r->file->file->path);
    return skip_value(r, 2);
}

/* The three sizes (shape, offsets, file) must agree. */
static AdStatus check_entry(Reader *r, Building *b)
{
    uint64_t data = r->file->file->size - 8 - r->file->header_bytes, product, nonzero;
    bool fits = true, empty = false;

    nonzero = ad_dtype_bytes(b->entry.dtype);
    for (int i = 0; i < b->entry.rank; i++) {
        empty = empty || b->entry.shape[i] == 0;
        if (b->entry.shape[i])
            fits = fits && ad_mul(nonzero, (uint64_t)b->entry.shape[i], &nonzero);
    }
    product = empty ? 0 : nonzero;
    if (!b->has_dtype || !b->has_shape || !b->has_offsets)
        return wrong(r, "an entry needs dtype, shape and data_offsets");
    if (!fits || nonzero > INT64_MAX)
        return wrong(r, "a shape whose size overflows");
    if (b->begin > b->end || b->end > data)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.100s: tensor data from byte %" PRIu64 " to %"
                       PRIu64 " of %" PRIu64 ": the file is cut off or its header is wrong",
                       r->file->file->path, b->begin, b->end, data);
    if (b->end - b->begin != product)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.100s: a tensor of %" PRIu64 " bytes by its shape "
                       "has %" PRIu64 " bytes of data", r->file->file->path, product,
                       b->end - b->begin);
    b->entry.offset = 8 + r->file->header_bytes + b->begin;
    b->entry.bytes  = product;
    return AD_OK;
}

static AdStatus metadata_member(Reader *r, Text key, void *opaque)
{
    AdTensorFile *f = r->file;
    void *metadata = f->metadata;
    Text value = { 0 };
    AdStatus st = string(r, &value, "metadata values must be strings");

    (void)opaque;
    if (st >= 0 && memchr(key.s, 0, key.n))
        st = wrong(r, "a metadata key that holds a NUL");
    if (st < 0)
        return st;
    if (!ad_grow(&metadata, &f->metadata_room, f->metadata_count + 1, sizeof(*f->metadata)))
        return ad_fail_nomem(r->ctx, "metadata");
    f->metadata = metadata;
    f->metadata[f->metadata_count++] = (AdMetadata){ key.s, value.s };
    return AD_OK;
}

static AdStatus top_member(Reader *r, Text key, void *opaque)
{
    AdTensorFile *f = r->file;
    Building b = { .entry.name = key.s };
    void *entries = f->entries;
    AdStatus st;

    (void)opaque;
    if (key.n == 12 && !memcmp(key.s, "__metadata__", 12)) {
        space(r);
        return r->p < r->end && *r->p == 'n' ? skip_value(r, 1) : object(r, metadata_member, NULL);
    }
    if (key.n == 0 || key.n > AD_CAP_NAME || memchr(key.s, 0, key.n))
        return wrong(r, "a tensor name that is empty, longer than 512 bytes or holds a NUL");
    if (f->count == AD_CAP_TENSORS)
        return wrong(r, "more than 65536 tensors");
    st = object(r, entry_member, &b);
    if (st >= 0) st = check_entry(r, &b);
    if (st >= 0 && !ad_grow(&entries, &f->room, f->count + 1, sizeof(*f->entries)))
        st = ad_fail_nomem(r->ctx, "a header");
    if (st < 0)
        return st;
    f->entries = entries;
    f->entries[f->count++] = b.entry;
    return AD_OK;
}

static int by_place(const void *a, const void *b)
{
    const AdEntry *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Sorted by place, the entries must cover the data without hole, overlap or rest. */
static AdStatus check_tiling(Reader *r)
{
    AdTensorFile *f = r->file;
    uint64_t at = 8 + f->header_bytes;

    if (f->count)
        qsort(f->entries, f->count, sizeof(*f->entries), by_place);
    for (size_t i = 0; i < f->count; i++) {
        if (f->entries[i].offset != at)
            return ad_fail(r->ctx, AD_ERR_FORMAT, "%.100s: tensor data %s at byte %" PRIu64,
                           f->file->path, f->entries[i].offset > at ? "has a hole" : "overlaps",
                           AD_MIN(at, f->entries[i].offset));
        at += f->entries[i].bytes;
    }
    if (at != f->file->size)
        return ad_fail(r->ctx, AD_ERR_FORMAT, "%.100s: %" PRIu64 " bytes behind the last tensor",
                       f->file->path, f->file->size - at);
    return AD_OK;
}

AdStatus ad_safetensors_read(AdContext *ctx, AdTensorFile *f)
{
    Reader r = { .ctx = ctx, .file = f };
    unsigned char length[8] = { 0 };
    uint64_t n = 0;
    AdStatus st;

    if (f->file->size < 8)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %" PRIu64 " bytes are too few for a "
                       "safetensors file", f->file->path, f->file->size);
    st = ad_file_read(ctx, f->file, 0, length, 8);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | length[i];
    if (st >= 0 && (n == 0 || n > AD_CAP_HEADER || n > f->file->size - 8))
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.160s: not a safetensors file, or cut off: header of %"
                     PRIu64 " bytes in a file of %" PRIu64 " (at most %u)", f->file->path, n,
                     f->file->size, AD_CAP_HEADER);
    if (st >= 0 && !(f->header = ad_alloc((size_t)n + 1)))
        st = ad_fail_nomem(ctx, "a header");
    f->header_bytes = (size_t)n;
    if (st >= 0)
        st = ad_file_read(ctx, f->file, 8, f->header, (size_t)n);
    r.p   = f->header;
    r.end = f->header ? f->header + n : NULL;
    if (st >= 0) st = object(&r, top_member, NULL);
    if (st >= 0) {
        space(&r);
        if (r.p != r.end)
            st = wrong(&r, "text behind the header's object");
    }
    if (st >= 0) st = check_tiling(&r);
    ad_free(r.keys);
    return st;
}
