/* test_ops.c - every operation of every backend against the definition in kernels/ref.
 *
 * Fresh random inputs, rounded to the element type first, so that both sides read the same
 * numbers. The tolerance is relative to the largest value of the true result: f32 2e-5 (sums of up
 * to a few thousand products in another order), bf16 one rounding of the result, 1/128, except
 * where the device itself rounds in between.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../kernels/ref/ref_ops.h"
#include "check.h"

typedef struct Bench {
    AdBackend *be, *ref;
    AdType     type;
    uint64_t   random;
    void      *slabs[64];       /* of be, freed at the end of a case  */
    void      *copies[64];      /* of ref                             */
    int        count;
} Bench;

static const char *const devices[] = { "cpu", "cuda", NULL };

static void *slab(Bench *b, size_t bytes, bool on_device)
{
    void *p = NULL;
    AdBackend *be = on_device ? b->be : b->ref;

    CHECK_INT(be->cls->alloc(be, bytes, &p), AD_OK);
    if (on_device)
        b->slabs[b->count / 2] = p;
    else
        b->copies[b->count / 2] = p;
    b->count++;
    return p;
}

static void tidy(Bench *b)
{
    for (int i = 0; i < (b->count + 1) / 2; i++) {
        b->be->cls->free(b->be, b->slabs[i]);
        b->ref->cls->free(b->ref, b->copies[i]);
        b->slabs[i] = b->copies[i] = NULL;
    }
    b->count = 0;
}

/* A pair of equal tensors, one on each device. */
typedef struct Pair { AdTensor dev, ref; } Pair;

static Pair pair_typed(Bench *b, AdType type, int64_t n, int64_t h, int64_t w, int64_t c)
{
    Pair p = { .ref = { .dim = { n, h, w, c }, .type = type } };

    p.dev = p.ref;
    p.dev.data = slab(b, ad_bytes(p.ref), true);
    p.ref.data = slab(b, ad_bytes(p.ref), false);
    for (int64_t i = 0; i < ad_count(p.ref); i++)
        if (type == AD_F32 || type == AD_F16 || type == AD_BF16)
            ad_store(p.ref.data, type, i, check_random(&b->random));
    CHECK_INT(b->be->cls->upload(b->be, p.dev.data, p.ref.data, ad_bytes(p.ref)), AD_OK);
    return p;
}

static Pair pair(Bench *b, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return pair_typed(b, b->type, n, h, w, c);
}

/* A weight packed for each device from the same rounded floats. */
static Pair weight(Bench *b, AdPackKind kind, int64_t n, int64_t h, int64_t w, int64_t c)
{
    AdTensor t = { .dim = { n, h, w, c }, .type = b->type };
    float *src = malloc((size_t)ad_count(t) * sizeof(float));
    double gain = sqrt(1.0 / (double)(h * w * c));
    size_t need = 0;
    Pair p = { 0 };

    for (int64_t i = 0; i < ad_count(t); i++) {
        src[i] = check_random(&b->random);
        if (kind == AD_PACK_LINEAR || kind == AD_PACK_GEGLU || kind == AD_PACK_CONV)
            src[i] *= (float)(kind == AD_PACK_CONV ? gain : sqrt(1.0 / (double)c));
        ad_store(&src[i], b->type == AD_F32 ? AD_F32 : b->type, 0, src[i]);
        if (b->type != AD_F32)
            src[i] = ad_load(&src[i], b->type, 0);
    }
    for (int i = 0; i < 2; i++) {
        AdBackend *be = i ? b->ref : b->be;
        AdTensor *out = i ? &p.ref : &p.dev;
        AdPackArgs a = { .kind = kind, .w = t, .side = 8, .src = src, .need = &need };

        CHECK_INT(be->cls->pack(be, &a), AD_OK);
        a.need = NULL;
        a.out  = out;
        out->data = slab(b, need, !i);
        CHECK_INT(be->cls->pack(be, &a), AD_OK);
        CHECK(ad_same_shape(*out, t));
    }
    free(src);
    return p;
}

/* Largest difference of the two results, relative to the largest true value. */
static double difference(Bench *b, Pair p)
{
    void *found = malloc(ad_bytes(p.ref));
    double top = 1e-30, worst = 0;

    CHECK_INT(b->be->cls->sync(b->be), AD_OK);
    CHECK_INT(b->be->cls->download(b->be, found, p.dev.data, ad_bytes(p.ref)), AD_OK);
    for (int64_t i = 0; i < ad_count(p.ref); i++) {
        double want = ad_load(p.ref.data, p.ref.type, i), d;

        d = fabs(ad_load(found, p.ref.type, i) - want);
        top = fmax(top, fabs(want));
        worst = d > worst || isnan(d) ? d : worst;
    }
    free(found);
    return worst / top;
}

static double tolerance(const Bench *b)
{
    return b->type == AD_F32 ? 2e-5 : b->type == AD_F16 ? 2e-3 : 1.0 / 128;
}

#define CHECK_EQUAL_TO_REF(b, p)                                                        \
    do {                                                                                \
        double d_ = difference(b, p);                                                   \
        if (!(d_ <= tolerance(b)))                                                      \
            FAIL("differs from ref by %g", d_);                                         \
    } while (0)

/* Ask for scratch, give it, compute; then the same by definition. */
#define COMPUTE(b, op, dev_args, ref_args)                                              \
    do {                                                                                \
        size_t need_ = 0;                                                               \
        (dev_args).scratch.need = &need_;                                               \
        CHECK_INT((b)->be->cls->ops->op((b)->be, &(dev_args)), AD_OK);                  \
        (dev_args).scratch.need = NULL;                                                 \
        (dev_args).scratch.data = slab(b, need_ + 1, true);                             \
        slab(b, 1, false);                                                              \
        if ((b)->be->cls->ops->op((b)->be, &(dev_args)) != AD_OK)                       \
            FAIL("%s", (b)->be->message);                                               \
        CHECK_INT((b)->ref->cls->ops->op((b)->ref, &(ref_args)), AD_OK);                \
    } while (0)

/* ---- linear ------------------------------------------------------------------------------- */

typedef struct LinearCase { int rows, in, out; bool bias; int residual; AdAct act; } LinearCase;

static void linear(Bench *b, const LinearCase *c)
{
    bool geglu = c->act == AD_ACT_GEGLU;
    Pair x = pair(b, 1, 1, c->rows, c->in), out = pair(b, 1, 1, c->rows, c->out);
    Pair w = weight(b, geglu ? AD_PACK_GEGLU : AD_PACK_LINEAR, 1, 1, c->out * (geglu ? 2 : 1),
                    c->in);
    Pair bias = weight(b, AD_PACK_VECTOR, 1, 1, 1, c->out * (geglu ? 2 : 1));
    Pair apart = pair(b, 1, 1, c->rows, c->out);
    Pair residual = c->residual == 1 ? out : c->residual == 2 ? apart : (Pair){ 0 };
    AdLinearArgs dev = { .out = out.dev, .x = x.dev, .w = w.dev, .residual = residual.dev,
                         .act = c->act };
    AdLinearArgs ref = { .out = out.ref, .x = x.ref, .w = w.ref, .residual = residual.ref,
                         .act = c->act };

    if (c->bias) {
        dev.b = bias.dev;
        ref.b = bias.ref;
    }
    COMPUTE(b, linear, dev, ref);
    CHECK_EQUAL_TO_REF(b, out);
}

static const LinearCase linear_cases[] = {
    { 1, 320, 1280, true, 0, AD_ACT_NONE },  { 77, 48, 32, false, 0, AD_ACT_NONE },
    { 1024, 64, 64, true, 1, AD_ACT_NONE },  { 130, 320, 96, true, 2, AD_ACT_NONE },
    { 77, 32, 128, true, 0, AD_ACT_QUICK_GELU }, { 64, 24, 40, true, 0, AD_ACT_GELU },
    { 3, 32, 64, true, 0, AD_ACT_SILU },     { 200, 64, 256, true, 0, AD_ACT_GEGLU },
    { 33, 40, 160, false, 0, AD_ACT_GEGLU }, { 1, 7, 5, true, 2, AD_ACT_NONE },
};

/* ---- convolution -------------------------------------------------------------------------- */

typedef struct ConvCase { int n, h, w, ci, co, k, stride, pad[4], residual; } ConvCase;

static void convolution(Bench *b, const ConvCase *c)
{
    int stride = c->stride ? c->stride : 1;
    int oh = (c->h + c->pad[2] + c->pad[3] - c->k) / stride + 1;
    int ow = (c->w + c->pad[0] + c->pad[1] - c->k) / stride + 1;
    Pair x = pair(b, c->n, c->h, c->w, c->ci), out = pair(b, c->n, oh, ow, c->co);
    Pair w = weight(b, AD_PACK_CONV, c->co, c->k, c->k, c->ci);
    Pair bias = weight(b, AD_PACK_VECTOR, 1, 1, 1, c->co), apart = pair(b, c->n, oh, ow, c->co);
    Pair residual = c->residual == 1 ? out : c->residual == 2 ? apart : (Pair){ 0 };
    AdConvArgs dev = { .out = out.dev, .x = x.dev, .w = w.dev, .b = bias.dev,
                       .residual = residual.dev, .stride = c->stride };
    AdConvArgs ref = { .out = out.ref, .x = x.ref, .w = w.ref, .b = bias.ref,
                       .residual = residual.ref, .stride = c->stride };

    memcpy(dev.pad, c->pad, sizeof(dev.pad));
    memcpy(ref.pad, c->pad, sizeof(ref.pad));
    COMPUTE(b, conv2d, dev, ref);
    CHECK_EQUAL_TO_REF(b, out);
}

static const ConvCase conv_cases[] = {
    { 2, 8, 8, 32, 48, 3, 0, { 1, 1, 1, 1 }, 0 },   { 1, 9, 7, 16, 32, 3, 2, { 1, 1, 1, 1 }, 0 },
    { 2, 8, 8, 16, 16, 3, 2, { 0, 1, 0, 1 }, 0 },   { 3, 8, 8, 4, 32, 3, 0, { 1, 1, 1, 1 }, 0 },
    { 2, 8, 8, 32, 4, 3, 0, { 1, 1, 1, 1 }, 0 },    { 2, 5, 6, 32, 32, 3, 0, { 1, 1, 1, 1 }, 1 },
    { 2, 5, 6, 64, 32, 3, 0, { 1, 1, 1, 1 }, 2 },   { 4, 16, 16, 64, 64, 3, 0, { 1, 1, 1, 1 }, 0 },
    { 1, 16, 16, 24, 3, 3, 0, { 1, 1, 1, 1 }, 0 },  { 2, 1, 1, 32, 32, 3, 0, { 1, 1, 1, 1 }, 2 },
};

/* ---- norm --------------------------------------------------------------------------------- */

typedef struct NormCase {
    int n, h, w, c, c2, groups, add, pos;
    bool silu;
    float mean;                 /* added to x: a large mean must not cost digits */
} NormCase;

static void norm(Bench *b, const NormCase *c)
{
    Pair x = pair(b, c->n, c->h, c->w, c->c), x2 = { 0 }, add = { 0 }, pos = { 0 };
    Pair out = pair(b, c->n, c->h, c->w, c->c + c->c2);
    Pair gamma = weight(b, AD_PACK_VECTOR, 1, 1, 1, c->c + c->c2);
    Pair beta = weight(b, AD_PACK_VECTOR, 1, 1, 1, c->c + c->c2);
    AdNormArgs dev, ref;

    for (int64_t i = 0; c->mean != 0 && i < ad_count(x.ref); i++)
        ad_store(x.ref.data, b->type, i, ad_load(x.ref.data, b->type, i) + c->mean);
    CHECK_INT(b->be->cls->upload(b->be, x.dev.data, x.ref.data, ad_bytes(x.ref)), AD_OK);
    if (c->c2)
        x2 = pair(b, c->n, c->h, c->w, c->c2);
    if (c->add)
        add = pair(b, 1, 1, c->add, c->c);
    if (c->pos)
        pos = weight(b, AD_PACK_VECTOR, 1, 1, c->pos, c->c);
    dev = (AdNormArgs){ .out = out.dev, .x = x.dev, .x2 = x2.dev, .add = add.dev, .pos = pos.dev,
                        .gamma = gamma.dev, .beta = beta.dev, .groups = c->groups, .eps = 1e-5f,
                        .silu = c->silu };
    ref = (AdNormArgs){ .out = out.ref, .x = x.ref, .x2 = x2.ref, .add = add.ref, .pos = pos.ref,
                        .gamma = gamma.ref, .beta = beta.ref, .groups = c->groups, .eps = 1e-5f,
                        .silu = c->silu };
    COMPUTE(b, norm, dev, ref);
    CHECK_EQUAL_TO_REF(b, out);
}

static const NormCase norm_cases[] = {
    { 2, 8, 8, 32, 0, 8, 0, 0, true, 0 },      { 2, 5, 7, 40, 0, 4, 0, 0, false, 0 },
    { 2, 9, 31, 64, 32, 16, 0, 0, true, 0 },   { 3, 4, 4, 48, 16, 8, 3, 0, true, 0 },
    { 4, 4, 4, 32, 0, 8, 2, 0, true, 0 },      { 4, 4, 4, 32, 0, 8, 1, 0, true, 0 },
    { 2, 16, 16, 320, 0, 32, 0, 0, true, 3 },  { 1, 20, 20, 24, 0, 3, 0, 0, false, 0 },
    { 1, 1, 77, 768, 0, 0, 0, 0, false, 0 },   { 6, 2, 3, 16, 0, 0, 0, 3, false, 0 },
    { 32, 1, 64, 40, 0, 0, 0, 16, false, 0 },  { 1, 1, 3, 5, 0, 0, 0, 0, false, 8 },
};

/* ---- attention ---------------------------------------------------------------------------- */

typedef struct AttentionCase {
    int batch0, batch1, queries, keys, heads, d;
    bool temporal, packed, causal;
} AttentionCase;

static void attention(Bench *b, const AttentionCase *c)
{
    int64_t wide = c->heads * c->d, row = c->packed ? 3 * wide : wide;
    int64_t positions = c->temporal ? 1 : c->queries, in = c->temporal ? c->queries : 1;
    Pair q = pair(b, c->batch0 * c->batch1, c->queries, 1, row);
    Pair k =
        c->packed ? q : pair(b, c->temporal ? c->batch0 * c->batch1 : c->batch0, c->keys, 1, wide);
    Pair v =
        c->packed ? q : pair(b, c->temporal ? c->batch0 * c->batch1 : c->batch0, c->keys, 1, wide);
    Pair out = pair(b, c->batch0 * c->batch1, c->queries, 1, wide);
    AdAttentionArgs dev = {
        .out = out.dev.data, .q = q.dev.data, .k = k.dev.data, .v = v.dev.data, .type = b->type,
        .batch0 = c->batch0, .batch1 = c->batch1, .queries = c->queries, .keys = c->keys,
        .heads = c->heads, .head_width = c->d, .scale = 1 / sqrtf((float)c->d),
        .causal = c->causal,
    }, ref;

    (void)positions, (void)in;
    if (c->temporal) {          /* [batch0, frames, batch1, row]: frames are batch1 rows apart */
        dev.q_stride = dev.k_stride = dev.v_stride =
            (AdStride){ c->queries * c->batch1 * row, row, c->batch1 * row, c->d };
        dev.out_stride = (AdStride){ c->queries * c->batch1 * wide, wide, c->batch1 * wide, c->d };
    } else {
        dev.q_stride   = (AdStride){ c->batch1 * c->queries * row, c->queries * row, row, c->d };
        dev.out_stride = (AdStride){ c->batch1 * c->queries * wide, c->queries * wide, wide, c->d };
        dev.k_stride = dev.v_stride = c->packed ? dev.q_stride
                                                : (AdStride){ c->keys * wide, 0, wide, c->d };
    }
    ref = dev;
    ref.out = out.ref.data;
    ref.q = q.ref.data;
    ref.k = k.ref.data;
    ref.v = v.ref.data;
    if (c->packed) {
        size_t step = (size_t)wide * ad_type_bytes(b->type);

        dev.k = (const char *)dev.q + step;
        dev.v = (const char *)dev.q + 2 * step;
        ref.k = (const char *)ref.q + step;
        ref.v = (const char *)ref.q + 2 * step;
    }
    COMPUTE(b, attention, dev, ref);
    CHECK_EQUAL_TO_REF(b, out);
}

static const AttentionCase attention_cases[] = {
    { 2, 1, 64, 64, 2, 40, false, true, false },  { 3, 1, 37, 37, 3, 16, false, true, false },
    { 2, 3, 20, 77, 2, 40, false, false, false }, { 2, 2, 130, 77, 8, 4, false, false, false },
    { 2, 12, 16, 16, 2, 40, true, true, false },  { 1, 6, 1, 1, 2, 8, true, true, false },
    { 2, 5, 32, 32, 1, 80, true, true, false },   { 1, 4, 3, 3, 4, 160, true, true, false },
    { 1, 1, 77, 77, 4, 32, false, true, true },   { 1, 1, 300, 300, 1, 512, false, true, false },
    { 1, 1, 150, 150, 1, 24, false, true, false }, { 2, 1, 256, 256, 2, 64, false, true, false },
    { 1, 2, 33, 131, 2, 5, false, false, false },  { 1, 1, 131, 131, 3, 7, false, true, true },
};

/* ---- the rest ----------------------------------------------------------------------------- */

static void activation(Bench *b, AdAct act)
{
    Pair x = pair(b, 1, 3, 5, 21), out = pair(b, 1, 3, 5, 21);
    AdActArgs dev = { .out = out.dev, .x = x.dev, .act = act };
    AdActArgs ref = { .out = out.ref, .x = x.ref, .act = act };

    CHECK_INT(b->be->cls->ops->activate(b->be, &dev), AD_OK);
    CHECK_INT(b->ref->cls->ops->activate(b->ref, &ref), AD_OK);
    CHECK_EQUAL_TO_REF(b, out);
}

static void upsampling(Bench *b, int h, int w, int oh, int ow)
{
    Pair x = pair(b, 2, h, w, 24), out = pair(b, 2, oh, ow, 24);
    AdUpsampleArgs dev = { .out = out.dev, .x = x.dev }, ref = { .out = out.ref, .x = x.ref };

    CHECK_INT(b->be->cls->ops->upsample(b->be, &dev), AD_OK);
    CHECK_INT(b->ref->cls->ops->upsample(b->ref, &ref), AD_OK);
    CHECK(difference(b, out) == 0);
}

static void combination(Bench *b, float clamp)
{
    Pair x = pair_typed(b, AD_F32, 2, 4, 4, 4), y = pair(b, 4, 4, 4, 4), z = pair(b, 4, 4, 4, 4);
    AdLincombArgs dev = { .out = z.dev, .x = { x.dev, y.dev, z.dev }, .coef = { 2, -0.5f, 0.25f },
                          .count = 3, .clamp = clamp };
    AdLincombArgs ref = dev;

    ref.out  = ref.x[2] = z.ref;
    ref.x[0] = x.ref;
    ref.x[1] = y.ref;
    CHECK_INT(b->be->cls->ops->lincomb(b->be, &dev), AD_OK);
    CHECK_INT(b->ref->cls->ops->lincomb(b->ref, &ref), AD_OK);
    CHECK_EQUAL_TO_REF(b, z);
}

static void gathering(Bench *b)
{
    static const int32_t ids[] = { 3, 0, 9, 11, 10, 9, 1 };
    Pair table = weight(b, AD_PACK_TABLE, 1, 1, 10, 12);
    Pair extra = weight(b, AD_PACK_TABLE, 1, 1, 2, 12);
    Pair pos = weight(b, AD_PACK_TABLE, 1, 1, 7, 12);
    Pair out = pair(b, 1, 1, 7, 12), id = pair_typed(b, AD_I32, 1, 1, 1, 7);
    AdGatherArgs dev = { .out = out.dev, .ids = id.dev, .table = table.dev, .extra = extra.dev,
                         .pos = pos.dev };
    AdGatherArgs ref = { .out = out.ref, .ids = id.ref, .table = table.ref, .extra = extra.ref,
                         .pos = pos.ref };

    memcpy(id.ref.data, ids, sizeof(ids));
    CHECK_INT(b->be->cls->upload(b->be, id.dev.data, ids, sizeof(ids)), AD_OK);
    CHECK_INT(b->be->cls->ops->gather(b->be, &dev), AD_OK);
    CHECK_INT(b->ref->cls->ops->gather(b->ref, &ref), AD_OK);
    CHECK_EQUAL_TO_REF(b, out);
}

static void pixels(Bench *b)
{
    Pair x = pair(b, 2, 3, 5, 3), out = pair_typed(b, AD_U8, 2, 3, 5, 3);
    AdRgbArgs dev = { .out = out.dev, .x = x.dev }, ref = { .out = out.ref, .x = x.ref };
    uint8_t found[90];
    float values[] = { -9, 9, 1, -1, 0, 1.0f / 255 };

    for (size_t i = 0; i < AD_COUNT(values); i++)
        ad_store(x.ref.data, b->type, (int64_t)i, values[i]);
    CHECK_INT(b->be->cls->upload(b->be, x.dev.data, x.ref.data, ad_bytes(x.ref)), AD_OK);
    CHECK_INT(b->be->cls->ops->to_rgb(b->be, &dev), AD_OK);
    CHECK_INT(b->ref->cls->ops->to_rgb(b->ref, &ref), AD_OK);
    CHECK_INT(b->be->cls->sync(b->be), AD_OK);
    CHECK_INT(b->be->cls->download(b->be, found, out.dev.data, sizeof(found)), AD_OK);
    CHECK(!memcmp(found, out.ref.data, sizeof(found)));
}

static void nonfinite(Bench *b)
{
    Pair x = pair(b, 2, 3, 5, 7), out = pair_typed(b, AD_I32, 1, 1, 1, 1);
    AdNonfiniteArgs dev = { .out = out.dev, .x = x.dev };
    float bad[] = { NAN, INFINITY, -INFINITY };
    int32_t found = -1;

    for (int i = 0; i < 3; i++)
        ad_store(x.ref.data, b->type, 70 * i + 3, bad[i]);
    CHECK_INT(b->be->cls->upload(b->be, x.dev.data, x.ref.data, ad_bytes(x.ref)), AD_OK);
    CHECK_INT(b->be->cls->ops->nonfinite(b->be, &dev), AD_OK);
    CHECK_INT(b->be->cls->sync(b->be), AD_OK);
    CHECK_INT(b->be->cls->download(b->be, &found, out.dev.data, sizeof(found)), AD_OK);
    CHECK_INT(found, 3);
}

/* ---- main --------------------------------------------------------------------------------- */

static size_t i_;               /* outlives the longjmp of a failing case */

#define EACH(b, array, function, text)                                                  \
    for (i_ = 0; i_ < sizeof(array) / sizeof((array)[0]); i_++) {                      \
        RUN_AS(function(b, &(array)[i_]), "%s %s equals ref, case %zu, %s", (b)->be->cls->name, \
               text, i_, ad_type_name((b)->type));                                      \
        tidy(b);                                                                        \
    }

#define ONE(b, call, text)                                                              \
    do {                                                                                \
        RUN_AS(call, "%s %s equals ref, %s", (b)->be->cls->name, text,                  \
               ad_type_name((b)->type));                                                \
        tidy(b);                                                                        \
    } while (0)

static void all_ops(Bench *b)
{
    EACH(b, linear_cases, linear, "linear")
    EACH(b, conv_cases, convolution, "conv2d")
    EACH(b, norm_cases, norm, "norm")
    EACH(b, attention_cases, attention, "attention")
    ONE(b, activation(b, AD_ACT_SILU), "silu");
    ONE(b, activation(b, AD_ACT_GELU), "gelu");
    ONE(b, activation(b, AD_ACT_QUICK_GELU), "quick gelu");
    ONE(b, upsampling(b, 3, 5, 6, 10), "upsample by two");
    ONE(b, upsampling(b, 3, 4, 5, 7), "upsample to odd sizes");
    ONE(b, combination(b, 0), "lincomb");
    ONE(b, combination(b, 0.5f), "lincomb with a clamp");
    ONE(b, gathering(b), "gather");
    ONE(b, pixels(b), "to rgb");
    ONE(b, nonfinite(b), "nonfinite");
}

static void every_entry_is_set(const AdBackendClass *cls)
{
    const void *const *entries = (const void *const *)(const void *)cls->ops;

    for (size_t i = 0; i < sizeof(*cls->ops) / sizeof(*entries); i++)
        CHECK(entries[i] != NULL);
}

/* test_ops [DEVICE]: all backends, or one */
int main(int argc, char **argv)
{
    static const AdType types[] = { AD_F32, AD_BF16, AD_F16 };
    char why[256], message[256];
    Bench b = { .random = 1 };

    if (ad_backend_open(&b.ref, "ref", 0, why, message, sizeof(why)) < 0)
        return 1;
    for (int i = 0; devices[i]; i++) {
        if (argc > 1 && strcmp(argv[1], devices[i]))
            continue;
        if (ad_backend_open(&b.be, devices[i], 0, why, message, sizeof(why)) < 0) {
            printf("skip - operations of %s: %s\n", devices[i], message);
            continue;
        }
        RUN_AS(every_entry_is_set(b.be->cls), "%s has every operation", devices[i]);
        for (size_t t = 0; t < AD_COUNT(types); t++)
            if (b.be->cls->supports(b.be, types[t])) {
                b.type = types[t];
                all_ops(&b);
            }
        b.be->cls->close(&b.be);
    }
    b.ref->cls->close(&b.ref);
    return check_result();
}
