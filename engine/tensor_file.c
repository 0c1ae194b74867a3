/* tensor_file.c - opening a file of tensors and reading its numbers; see tensor_file.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "tensor_file.h"

static const struct { const char *name; size_t bytes; } dtypes[AD_DTYPES] = {
    [AD_DT_BOOL] = { "BOOL", 1 },       [AD_DT_U8] = { "U8", 1 },    [AD_DT_I8] = { "I8", 1 },
    [AD_DT_F8_E5M2] = { "F8_E5M2", 1 }, [AD_DT_F8_E4M3] = { "F8_E4M3", 1 },
    [AD_DT_I16] = { "I16", 2 },         [AD_DT_U16] = { "U16", 2 },  [AD_DT_F16] = { "F16", 2 },
    [AD_DT_BF16] = { "BF16", 2 },       [AD_DT_I32] = { "I32", 4 },  [AD_DT_U32] = { "U32", 4 },
    [AD_DT_F32] = { "F32", 4 },         [AD_DT_F64] = { "F64", 8 },  [AD_DT_I64] = { "I64", 8 },
    [AD_DT_U64] = { "U64", 8 },
};

size_t ad_dtype_bytes(AdDtype dtype)
{
    return dtypes[dtype].bytes;
}

const char *ad_dtype_name(AdDtype dtype)
{
    return dtypes[dtype].name;
}

int64_t ad_entry_count(const AdEntry *e)
{
    return (int64_t)(e->bytes / dtypes[e->dtype].bytes);
}

const char *ad_entry_shape(const AdEntry *e, char *out)
{
    size_t at = 1;

    strcpy(out, "[");
    for (int i = 0; i < e->rank; i++) {
        ad_format(out + at, AD_ENTRY_TEXT - at, "%s%" PRId64, i ? ", " : "", e->shape[i]);
        at += strlen(out + at);
    }
    ad_format(out + at, AD_ENTRY_TEXT - at, "]");
    return out;
}

/* ---- open, find, close -------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const AdEntry *)a)->name, ((const AdEntry *)b)->name);
}

/* What torch.save wrote before version 1.6: pickles one behind the other, first a number. Another
 * pickle begins like the header length of a safetensors file, which then is too large. */
static const char *other_pickle(const AdFile *file, const unsigned char *head, size_t n)
{
    static const unsigned char magic[] = { 0x80, 2, 0x8a, 10, 'l', 0xfc, 0x9c, 'F', 0xf9, ' ' };
    uint64_t length = 0;

    for (size_t i = AD_MIN(n, 8); i-- > 0; )
        length = length << 8 | head[i];
    if (n >= sizeof(magic) && !memcmp(head, magic, sizeof(magic)))
        return "written in the form of PyTorch before 1.6, which is not read; load and save it "
               "with a newer one, or convert it to safetensors";
    if (n >= 3 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] >= ' ' &&
        length > file->size)
        return "a bare pickle, which is not read; convert it to safetensors";
    return NULL;
}

static AdStatus read_entries(AdContext *ctx, AdTensorFile *f)
{
    unsigned char head[64];
    size_t n = (size_t)AD_MIN(f->file->size, sizeof(head));
    const char *special;
    AdStatus st = ad_file_read(ctx, f->file, 0, head, n);

    if (st < 0)
        return st;
    if ((special = ad_file_special(head, n)))
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %s", f->file->path, special);
    if ((special = other_pickle(f->file, head, n)))
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: %s", f->file->path, special);
    if (n >= 4 && !memcmp(head, "PK\3\4", 4))
        return ad_torch_file_read(ctx, f);
    return ad_safetensors_read(ctx, f);
}

AdStatus ad_tensor_file_open(AdContext *ctx, AdTensorFile **out, const char *path)
{
    AdTensorFile *f = ad_alloc(sizeof(*f));
    AdStatus st = f ? AD_OK : ad_fail_nomem(ctx, "a tensor file");

    *out = NULL;
    if (st >= 0)
        st = ad_file_open(ctx, &f->file, path);
    if (st >= 0)
        st = read_entries(ctx, f);
    if (st >= 0 && f->count) {                      /* qsort wants no NULL */
        qsort(f->entries, f->count, sizeof(*f->entries), by_name);
        for (size_t i = 1; i < f->count && st >= 0; i++)
            if (!strcmp(f->entries[i - 1].name, f->entries[i].name)) {
                char quoted[AD_QUOTE_TEXT];

                st = ad_fail(ctx, AD_ERR_FORMAT, "%.100s: tensor \"%s\" is there twice", path,
                             ad_quote(f->entries[i].name, strlen(f->entries[i].name), quoted));
            }
    }
    if (st < 0)
        ad_tensor_file_close(&f);
    *out = f;
    return st;
}

void ad_tensor_file_close(AdTensorFile **file)
{
    AdTensorFile *f = *file;

    *file = NULL;
    if (!f)
        return;
    ad_file_close(&f->file);
    ad_free(f->header);
    ad_free(f->entries);
    ad_free(f->strides);
    ad_free(f->metadata);
    ad_free(f);
}

AdStatus ad_tensor_file_finish(AdContext *ctx, AdTensorFile **file)
{
    AdStatus st = *file ? ad_file_unchanged(ctx, (*file)->file) : AD_OK;

    ad_tensor_file_close(file);
    return st;
}

const AdEntry *ad_tensor_file_find(const AdTensorFile *f, const char *name)
{
    AdEntry key = { .name = name };

    return f->count ? bsearch(&key, f->entries, f->count, sizeof(key), by_name) : NULL;
}

const char *ad_tensor_file_metadata(const AdTensorFile *f, const char *key)
{
    for (size_t i = 0; i < f->metadata_count; i++)
        if (!strcmp(f->metadata[i].key, key))
            return f->metadata[i].value;
    return NULL;
}

/* ---- numbers ------------------------------------------------------------------------------ */

/* Eight-bit floats (Micikevicius et al. 2022, arXiv 2209.05433). E4M3 has no infinity. */
static float small_float(uint8_t bits, int mantissa_bits)
{
    int exponent_bits = 7 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    int mantissa = bits & ((1 << mantissa_bits) - 1);
    int shift = 1 - bias - mantissa_bits;
    float scale = 1, value;

    if (mantissa_bits == 2)                         /* the upper half of an f16 */
        return ad_half_to_float((uint16_t)(bits << 8));
    if ((bits & 0x7f) == 0x7f)
        return ad_half_to_float(0x7e00);
    for (int e = exponent ? exponent - 1 + shift : shift; e != 0; e += e < 0 ? 1 : -1)
        scale *= e < 0 ? 0.5f : 2;
    value = scale * (float)(exponent ? mantissa + (1 << mantissa_bits) : mantissa);
    return bits & 0x80 ? -value : value;
}

/* n numbers of a dtype at p (any alignment) to floats. */
static void to_floats(float *out, AdDtype dtype, const unsigned char *p, size_t n)
{
    union { uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; float f; double d; int64_t i64;
            uint64_t u64; } v;
    size_t size = dtypes[dtype].bytes;

    if (dtype == AD_DT_F32) {
        memcpy(out, p, n * 4);
        return;
    }
    for (size_t i = 0; i < n; i++, p += size) {
        memcpy(&v, p, size);
        switch (dtype) {
        case AD_DT_F16:     out[i] = ad_half_to_float(v.u16); break;
        case AD_DT_BF16:    out[i] = ad_bf16_to_float(v.u16); break;
        case AD_DT_F64:     out[i] = (float)v.d; break;
        case AD_DT_F8_E5M2: out[i] = small_float(*p, 2); break;
        case AD_DT_F8_E4M3: out[i] = small_float(*p, 3); break;
        case AD_DT_I8:      out[i] = (float)(int8_t)*p; break;
        case AD_DT_I16:     out[i] = v.i16; break;
        case AD_DT_U16:     out[i] = v.u16; break;
        case AD_DT_I32:     out[i] = (float)v.i32; break;
        case AD_DT_U32:     out[i] = (float)v.u32; break;
        case AD_DT_I64:     out[i] = (float)v.i64; break;
        case AD_DT_U64:     out[i] = (float)v.u64; break;
        default:            out[i] = *p; break;             /* BOOL, U8 */
        }
    }
}

/* A tensor that is a view: spread, turned or repeated numbers of a storage. */
typedef struct Gather {
    const AdTensorFile *file;
    const AdEntry      *e;
    unsigned char      *span;           /* from its first number to its last; NULL: too far apart */
    unsigned char       one[8];
    int64_t             at[AD_CAP_RANK];        /* the current place */
} Gather;

/* The next place, the last axis first; its distance from the first number. */
static uint64_t advance(Gather *g)
{
    uint64_t offset = 0;
    int i = g->e->rank - 1;

    for (; i >= 0 && ++g->at[i] == g->e->shape[i]; i--)
        g->at[i] = 0;
    for (i = 0; i < g->e->rank; i++)
        offset += (uint64_t)(g->at[i] * g->e->stride[i]);
    return offset;
}

static AdStatus read_view(AdContext *ctx, const AdTensorFile *f, const AdEntry *e, float *out)
{
    enum { SPAN = 64 << 20 };
    Gather g = { .file = f, .e = e };
    size_t size = dtypes[e->dtype].bytes, n = (size_t)ad_entry_count(e);
    uint64_t reach = size, offset = 0;
    AdStatus st = AD_OK;

    for (int i = 0; i < e->rank; i++)               /* checked when the file was opened */
        reach += (uint64_t)((e->shape[i] - 1) * e->stride[i]) * size;
    if (reach <= SPAN) {
        g.span = ad_alloc_raw((size_t)reach);
        st = g.span ? ad_file_read(ctx, f->file, e->offset, g.span, (size_t)reach)
                    : ad_fail_nomem(ctx, "reading a tensor");
    }
    for (size_t i = 0; i < n && st >= 0; i++) {
        const unsigned char *from = g.span ? g.span + offset * size : g.one;

        if (!g.span)
            st = ad_file_read(ctx, f->file, e->offset + offset * size, g.one, size);
        to_floats(out + i, e->dtype, from, 1);
        offset = advance(&g);
    }
    ad_free(g.span);
    return st;
}

AdStatus ad_entry_read(AdContext *ctx, const AdTensorFile *f, const AdEntry *e, float *out)
{
    enum { PIECE = 1 << 20 };
    unsigned char *piece;
    AdStatus st = AD_OK;

    if (e->stride)
        return read_view(ctx, f, e, out);
    if (e->dtype == AD_DT_F32)
        return ad_file_read(ctx, f->file, e->offset, out, (size_t)e->bytes);
    piece = ad_alloc_raw(PIECE);
    if (!piece)
        return ad_fail_nomem(ctx, "reading a tensor");
    for (uint64_t at = 0; at < e->bytes && st >= 0; at += PIECE) {
        size_t n = (size_t)AD_MIN(e->bytes - at, (uint64_t)PIECE), size = dtypes[e->dtype].bytes;

        st = ad_file_read(ctx, f->file, e->offset + at, piece, n);
        if (st >= 0)
            to_floats(out + at / size, e->dtype, piece, n / size);
    }
    ad_free(piece);
    return st;
}
