/* binder.c - weights by name and shape; see binder.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "binder.h"
#include "lora.h"

void ad_binder_init(AdBinder *b, AdContext *ctx, AdBackend *be, AdWeights *weights, AdType type)
{
    *b = (AdBinder){ .ctx = ctx, .backend = be, .weights = weights, .type = type };
}

void ad_binder_free(AdBinder *b)
{
    ad_free(b->host);
    b->host = NULL;
    b->host_count = 0;
    b->backend->cls->free(b->backend, b->buffer);
    b->buffer = NULL;
    b->buffer_bytes = 0;
}

AdStatus ad_binder_check(AdBinder *b, const char *part)
{
    if (b->status >= 0 && b->complaints)
        b->status = ad_fail(b->ctx, AD_ERR_FORMAT, "%s: %d tensor%s missing or misshapen: %s%s",
                            part, b->complaints, b->complaints == 1 ? "" : "s", b->first,
                            b->complaints > 3 ? ", ..." : "");
    return b->status;
}

AdStatus ad_binder_start_loading(AdBinder *b, void **slab)
{
    AdStatus st = b->backend->cls->alloc(b->backend, b->bytes, slab);

    if (st < 0)
        return b->status = ad_fail(b->ctx, st, "weights of %zu MiB: %s", b->bytes >> 20,
                                   b->backend->message);
    b->slab  = *slab;
    b->bytes = 0;
    b->load  = true;
    return AD_OK;
}

void ad_binder_start_changing(AdBinder *b, void *slab, const AdPatches *before,
                              AdChanges *changes)
{
    b->slab    = slab;
    b->bytes   = 0;
    b->load    = true;
    b->before  = before;
    b->changes = changes;
}

AdStatus ad_changes_write(AdContext *ctx, AdBackend *be, const AdChanges *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        const AdChange *c = &changes->items[i];
        AdStatus st = be->cls->upload(be, c->place, c->data, c->bytes);

        if (st < 0)
            return ad_fail(ctx, st, "changed weights: %s", be->message);
    }
    return AD_OK;
}

void ad_changes_free(AdChanges *changes)
{
    for (size_t i = 0; i < changes->count; i++)
        ad_free(changes->items[i].data);
    ad_free(changes->items);
    *changes = (AdChanges){ 0 };
}

/* ---- names -------------------------------------------------------------------------------- */

void ad_bind_enter(AdBinder *b, const char *name)
{
    size_t at = strlen(b->path);

    assert(b->depth < (int)AD_COUNT(b->ends));
    b->ends[b->depth++] = at;
    ad_format(b->path + at, sizeof(b->path) - at, "%s.", name);
}

void ad_bind_enter_at(AdBinder *b, const char *name, int i)
{
    char numbered[64];

    ad_format(numbered, sizeof(numbered), "%s.%d", name, i);
    ad_bind_enter(b, numbered);
}

void ad_bind_leave(AdBinder *b)
{
    b->path[b->ends[--b->depth]] = 0;
}

static void full_name(const AdBinder *b, const char *name, const char *leaf, char *out)
{
    ad_format(out, AD_CAP_NAME + 1, "%s%s%s", b->path, name, leaf);
}

bool ad_bind_has(AdBinder *b, const char *name)
{
    char full[AD_CAP_NAME + 1];

    full_name(b, name, "", full);
    return ad_weights_find(b->weights, full) != NULL;
}

void ad_bind_ignore(AdBinder *b, const char *name)
{
    char full[AD_CAP_NAME + 1];
    AdWeight *w;

    full_name(b, name, "", full);
    w = ad_weights_find(b->weights, full);
    if (w)
        w->used = true;
}

/* ---- one tensor of a file ----------------------------------------------------------------- */

typedef struct Shape { int rank; int64_t dim[4]; } Shape;

static void complain(AdBinder *b, const char *name, const AdEntry *found, Shape needed)
{
    AdEntry wanted = { .rank = needed.rank };
    char has[AD_ENTRY_TEXT] = "missing", needs[AD_ENTRY_TEXT];
    size_t at = strlen(b->first);

    memcpy(wanted.shape, needed.dim, sizeof(needed.dim));
    if (found)
        ad_entry_shape(found, has);
    if (b->complaints++ < 3)
        ad_format(b->first + at, sizeof(b->first) - at, "%s\"%s\" %s%s, %s needed", at ? ", " : "",
                  name, has, found ? " found" : "", ad_entry_shape(&wanted, needs));
}

/* Equal, where trailing axes of 1 do not count. */
static bool fits(const AdEntry *e, Shape s)
{
    for (int i = 0; i < AD_MAX(e->rank, s.rank); i++)
        if ((i < e->rank ? e->shape[i] : 1) != (i < s.rank ? s.dim[i] : 1))
            return false;
    return true;
}

static int64_t numbers(Shape s)
{
    int64_t n = 1;

    for (int i = 0; i < s.rank; i++)
        n *= s.dim[i];
    return n;
}

/* First run: check. Later: read as floats to `to` and apply patches. */
static void tensor(AdBinder *b, const char *name, const char *leaf, Shape shape, float *to)
{
    char full[AD_CAP_NAME + 1];
    AdWeight *w;

    if (b->status < 0)
        return;
    full_name(b, name, leaf, full);
    w = ad_weights_find(b->weights, full);
    if (!w || !fits(w->entry, shape)) {
        complain(b, full, w ? w->entry : NULL, shape);
        return;
    }
    w->used = true;
    if (b->skip)
        return;
    if (ad_stopping(b->ctx)) {
        b->status = ad_fail(b->ctx, AD_ERR_CANCELLED, "stopped while loading");
        return;
    }
    b->status = ad_entry_read(b->ctx, w->file, w->entry, to);
    for (int64_t i = 0; i < numbers(shape) && b->status >= 0; i++)
        b->nonfinite += !isfinite(to[i]);
    if (b->patches && b->status >= 0)
        b->status = ad_patches_apply(b->ctx, b->patches, full, shape.rank, shape.dim, to);
}

/* Whether the weight made of these tensors is only looked at in this run. */
static bool is_skipped(const AdBinder *b, const char *const *names, int count, const char *leaf)
{
    char full[AD_CAP_NAME + 1];

    if (!b->load || !b->changes)
        return !b->load;
    for (int i = 0; i < count; i++) {
        full_name(b, names[i], leaf, full);
        if ((b->patches && ad_patches_touch(b->patches, full)) ||
            (b->before && ad_patches_touch(b->before, full)))
            return false;
    }
    return true;
}

/* Begin a weight made of tensors names[i] + leaf: room for n floats; NULL when they are not to be
 * read, or out of memory. */
static float *host_of(AdBinder *b, const char *const *names, int count, const char *leaf,
                      int64_t n)
{
    b->skip = is_skipped(b, names, count, leaf);
    if (b->skip || b->status < 0)
        return NULL;
    if ((size_t)n > b->host_count) {
        ad_free(b->host);
        b->host = ad_alloc_array((size_t)n, sizeof(float));
        b->host_count = b->host ? (size_t)n : 0;
        if (!b->host)
            b->status = ad_fail_nomem(b->ctx, "loading a weight");
    }
    return b->host;
}

static float *host(AdBinder *b, const char *name, const char *leaf, int64_t n)
{
    return host_of(b, &name, 1, leaf, n);
}

/* ---- one weight on the device ------------------------------------------------------------- */

/* Pack once more, beside the slab, and keep the bytes. */
static AdStatus pack_change(AdBinder *b, AdPackArgs *a, size_t bytes)
{
    AdBackend *be = b->backend;
    AdTensor packed = { 0 };
    AdChange change = { .place = b->slab + b->bytes, .bytes = bytes };
    void *items = b->changes->items;
    AdStatus st = AD_OK;

    if (bytes > b->buffer_bytes) {
        be->cls->free(be, b->buffer);
        b->buffer = NULL;
        b->buffer_bytes = 0;
        if ((st = be->cls->alloc(be, bytes, &b->buffer)) < 0)
            return st;
        b->buffer_bytes = bytes;
    }
    packed.data = b->buffer;
    a->out = &packed;
    if ((st = be->cls->pack(be, a)) < 0)
        return st;
    if (ad_grow(&items, &b->changes->room, b->changes->count + 1, sizeof(change)))
        b->changes->items = items;
    else
        return ad_backend_fail(be, AD_ERR_NOMEM, "no memory for changed weights");
    if (!(change.data = ad_alloc(bytes)))
        return ad_backend_fail(be, AD_ERR_NOMEM, "no memory for changed weights");
    b->changes->items[b->changes->count++] = change;
    return be->cls->download(be, change.data, b->buffer, bytes);
}

static void pack(AdBinder *b, AdPackKind kind, int64_t n, int64_t h, int64_t w, int64_t c,
                 const float *src, AdTensor *out)
{
    size_t need = 0;
    AdPackArgs a = { .kind = kind, .w = { .dim = { n, h, w, c }, .type = b->type },
                     .side = b->side, .src = src, .need = &need };

    if (b->status < 0)
        return;
    b->status = b->backend->cls->pack(b->backend, &a);
    if (b->status >= 0 && !b->skip && b->changes) {
        assert(out->data == b->slab + b->bytes);    /* in any run a weight has the same place */
        a.need = NULL;
        b->status = pack_change(b, &a, need);
    } else if (b->status >= 0 && !b->skip) {
        a.need = NULL;
        a.out  = out;
        out->data = b->slab + b->bytes;
        b->status = b->backend->cls->pack(b->backend, &a);
    }
    if (b->status < 0)
        ad_fail(b->ctx, b->status, "%s", b->backend->message);
    b->bytes += ad_round_up(need, AD_ARENA_ALIGN);
}

static void bind_vector(AdBinder *b, const char *name, const char *leaf, int n, AdTensor *out)
{
    float *v = host(b, name, leaf, n);

    tensor(b, name, leaf, (Shape){ 1, { n } }, v);
    pack(b, AD_PACK_VECTOR, 1, 1, 1, n, v, out);
}

void ad_bind_linear_cat(AdBinder *b, const char *const *names, int count, int in, int out,
                        bool bias, AdLinear *l)
{
    int64_t rows = (int64_t)count * out;
    float *w = host_of(b, names, count, ".weight", rows * in);

    for (int i = 0; i < count; i++)
        tensor(b, names[i], ".weight", (Shape){ 2, { out, in } },
               w ? w + (int64_t)i * out * in : NULL);
    pack(b, AD_PACK_LINEAR, 1, 1, rows, in, w, &l->w);
    if (!bias)
        return;
    w = host_of(b, names, count, ".bias", rows);
    for (int i = 0; i < count; i++)
        tensor(b, names[i], ".bias", (Shape){ 1, { out } }, w ? w + (int64_t)i * out : NULL);
    pack(b, AD_PACK_VECTOR, 1, 1, 1, rows, w, &l->b);
}

void ad_bind_linear(AdBinder *b, const char *name, int in, int out, bool bias, AdLinear *l)
{
    ad_bind_linear_cat(b, &name, 1, in, out, bias, l);
}

void ad_bind_linear_split(AdBinder *b, const char *name, int in1, int in2, int out, AdLinear *l1,
                          AdLinear *l2)
{
    int in = in1 + in2;
    float *w = host(b, name, ".weight", 2 * (int64_t)out * in);
    float *halves = w ? w + (int64_t)out * in : NULL;

    tensor(b, name, ".weight", (Shape){ 2, { out, in } }, w);
    for (int64_t r = 0; r < out && w && b->status >= 0; r++) {
        memcpy(halves + r * in1, w + r * in, (size_t)in1 * sizeof(float));
        memcpy(halves + (int64_t)out * in1 + r * in2, w + r * in + in1,
               (size_t)in2 * sizeof(float));
    }
    pack(b, AD_PACK_LINEAR, 1, 1, out, in1, halves, &l1->w);
    pack(b, AD_PACK_LINEAR, 1, 1, out, in2, halves ? halves + (int64_t)out * in1 : NULL, &l2->w);
    bind_vector(b, name, ".bias", out, &l1->b);
}

void ad_bind_geglu(AdBinder *b, const char *name, int in, int out, AdLinear *l)
{
    float *w = host(b, name, ".weight", 2 * (int64_t)out * in);

    tensor(b, name, ".weight", (Shape){ 2, { 2 * out, in } }, w);
    pack(b, AD_PACK_GEGLU, 1, 1, 2 * out, in, w, &l->w);
    bind_vector(b, name, ".bias", 2 * out, &l->b);
}

void ad_bind_conv2d(AdBinder *b, const char *name, int in, int out, int k, AdConv *c)
{
    int64_t n = (int64_t)out * in * k * k;
    float *w = host(b, name, ".weight", 2 * n), *turned = w ? w + n : NULL;

    tensor(b, name, ".weight", (Shape){ 4, { out, in, k, k } }, w);
    for (int64_t o = 0; o < out && w && b->status >= 0; o++)        /* [o,i,y,x] to [o,y,x,i] */
        for (int64_t i = 0; i < in; i++)
            for (int64_t p = 0; p < k * k; p++)
                turned[(o * k * k + p) * in + i] = w[(o * in + i) * k * k + p];
    pack(b, AD_PACK_CONV, out, k, k, in, turned, &c->w);
    bind_vector(b, name, ".bias", out, &c->b);
}

void ad_bind_norm(AdBinder *b, const char *name, int c, int groups, float eps, AdNorm *n)
{
    n->groups = groups;
    n->eps    = eps;
    bind_vector(b, name, ".weight", c, &n->gamma);
    bind_vector(b, name, ".bias", c, &n->beta);
}

void ad_bind_table(AdBinder *b, const char *name, int rows, int c, AdTensor *t)
{
    float *w = host(b, name, "", (int64_t)rows * c);

    tensor(b, name, "", (Shape){ 2, { rows, c } }, w);
    pack(b, AD_PACK_TABLE, 1, 1, rows, c, w, t);
}

void ad_bind_positions(AdBinder *b, const char *name, int rows, int c, AdTensor *t)
{
    float *w = host(b, name, "", (int64_t)rows * c);

    if (ad_bind_has(b, name))
        tensor(b, name, "", (Shape){ 3, { 1, rows, c } }, w);
    else
        for (int64_t i = 0; i < (int64_t)rows * c && w; i++) {
            double angle = (double)(i / c) * exp(-(double)(i % c / 2 * 2) * log(10000.0) / c);

            w[i] = (float)(i % c % 2 ? cos(angle) : sin(angle));
        }
    pack(b, AD_PACK_VECTOR, 1, 1, rows, c, w, t);
}
