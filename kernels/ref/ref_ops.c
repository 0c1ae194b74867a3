/* ref_ops.c - the definition of every operation, in plain C.
 *
 * Slow on purpose: one loop nest per formula, sums in f64, one rounding at the end. Tests compare
 * every other backend with these. The arguments are described in backend.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>

#include "ref_ops.h"

/* ---- shared words ------------------------------------------------------------------------- */

static double act(AdAct kind, double x)
{
    switch (kind) {
    case AD_ACT_SILU:       return x / (1 + exp(-x));
    case AD_ACT_GELU:       return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case AD_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default:                return x;
    }
}

static double get(AdTensor t, int64_t i)
{
    return ad_load(t.data, t.type, i);
}

static void put(AdTensor t, int64_t i, double value)
{
    ad_store(t.data, t.type, i, (float)value);
}

/* No operation here wants scratch: true when only that was asked. */
static bool only_asked(const AdScratch *scratch)
{
    if (scratch->need)
        *scratch->need = 0;
    return scratch->need != NULL;
}

/* ---- matrix work -------------------------------------------------------------------------- */

AdStatus ad_ref_gather(AdBackend *be, const AdGatherArgs *a)
{
    int64_t c = a->out.dim[3], rows = a->out.dim[2], known = a->table.dim[2];

    (void)be;
    for (int64_t i = 0; i < rows; i++) {
        int64_t id = ((const int32_t *)a->ids.data)[i];
        AdTensor table = id < known ? a->table : a->extra;
        int64_t row = id < known ? id : id - known;

        for (int64_t j = 0; j < c; j++)
            put(a->out, i * c + j, get(table, row * c + j) +
                                   get(a->pos, i % a->pos.dim[2] * c + j));
    }
    return AD_OK;
}

static double dot(AdTensor x, int64_t x_first, AdTensor w, int64_t w_first, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += get(x, x_first + i) * get(w, w_first + i);
    return sum;
}

AdStatus ad_ref_linear(AdBackend *be, const AdLinearArgs *a)
{
    int64_t rows = ad_rows(a->x), in = a->x.dim[3], out = a->out.dim[3];

    (void)be;
    if (only_asked(&a->scratch))
        return AD_OK;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++) {
            double y = dot(a->x, r * in, a->w, o * in, in) + (a->b.data ? get(a->b, o) : 0);

            if (a->act == AD_ACT_GEGLU)
                y *= act(AD_ACT_GELU, dot(a->x, r * in, a->w, (out + o) * in, in) +
                                      (a->b.data ? get(a->b, out + o) : 0));
            else
                y = act(a->act, y);
            put(a->out, r * out + o, y + (a->residual.data ? get(a->residual, r * out + o) : 0));
        }
    return AD_OK;
}

/* Sum over the kernel window of one output element. */
static double window(const AdConvArgs *a, int64_t n, int64_t y, int64_t x, int64_t o)
{
    int64_t h = a->x.dim[1], w = a->x.dim[2], ci = a->x.dim[3];
    int64_t kh = a->w.dim[1], kw = a->w.dim[2], stride = a->stride ? a->stride : 1;
    double sum = 0;

    for (int64_t i = 0; i < kh; i++)
        for (int64_t j = 0; j < kw; j++) {
            int64_t sy = y * stride + i - a->pad[2], sx = x * stride + j - a->pad[0];

            if (sy >= 0 && sy < h && sx >= 0 && sx < w)
                sum += dot(a->x, ((n * h + sy) * w + sx) * ci, a->w, ((o * kh + i) * kw + j) * ci,
                           ci);
        }
    return sum;
}

AdStatus ad_ref_conv2d(AdBackend *be, const AdConvArgs *a)
{
    int64_t at = 0;

    (void)be;
    if (only_asked(&a->scratch))
        return AD_OK;
    for (int64_t n = 0; n < a->out.dim[0]; n++)
        for (int64_t y = 0; y < a->out.dim[1]; y++)
            for (int64_t x = 0; x < a->out.dim[2]; x++)
                for (int64_t o = 0; o < a->out.dim[3]; o++, at++)
                    put(a->out, at, window(a, n, y, x, o) + (a->b.data ? get(a->b, o) : 0) +
                                    (a->residual.data ? get(a->residual, at) : 0));
    return AD_OK;
}

static double score(const AdAttentionArgs *a, int64_t q, int64_t k)
{
    double sum = 0;

    for (int i = 0; i < a->head_width; i++)
        sum += (double)ad_load(a->q, a->type, q + i) * ad_load(a->k, a->type, k + i);
    return sum * a->scale;
}

/* Two passes over the keys: the largest score, then the weights relative to it. */
static void attend(const AdAttentionArgs *a, int64_t q, int64_t k, int64_t v, int64_t out, int keys)
{
    double top = -INFINITY, sum = 0, y[AD_MAX_HEAD_WIDTH] = { 0 };

    for (int j = 0; j < keys; j++)
        top = fmax(top, score(a, q, k + j * a->k_stride.position));
    for (int j = 0; j < keys; j++) {
        double weight = exp(score(a, q, k + j * a->k_stride.position) - top);

        sum += weight;
        for (int i = 0; i < a->head_width; i++)
            y[i] += weight * ad_load(a->v, a->type, v + j * a->v_stride.position + i);
    }
    for (int i = 0; i < a->head_width; i++)
        ad_store(a->out, a->type, out + i, (float)(y[i] / sum));
}

static int64_t at(const AdStride *s, int64_t b0, int64_t b1, int64_t position, int64_t head)
{
    return b0 * s->batch0 + b1 * s->batch1 + position * s->position + head * s->head;
}

AdStatus ad_ref_attention(AdBackend *be, const AdAttentionArgs *a)
{
    (void)be;
    if (only_asked(&a->scratch))
        return AD_OK;
    for (int64_t b0 = 0; b0 < a->batch0; b0++)
        for (int64_t b1 = 0; b1 < a->batch1; b1++)
            for (int head = 0; head < a->heads; head++)
                for (int i = 0; i < a->queries; i++)
                    attend(a, at(&a->q_stride, b0, b1, i, head), at(&a->k_stride, b0, b1, 0, head),
                           at(&a->v_stride, b0, b1, 0, head), at(&a->out_stride, b0, b1, i, head),
                           a->causal ? AD_MIN(i + 1, a->keys) : a->keys);
    return AD_OK;
}

/* ---- norms -------------------------------------------------------------------------------- */

/* Element (n, position p, channel j) of the normalised input: x or x2, with `add` on x. */
static double input(const AdNormArgs *a, int64_t n, int64_t p, int64_t j)
{
    int64_t positions = a->x.dim[1] * a->x.dim[2], c = a->x.dim[3];

    if (j >= c)
        return get(a->x2, (n * positions + p) * a->x2.dim[3] + j - c);
    return get(a->x, (n * positions + p) * c + j) +
           (a->add.data ? get(a->add, n % a->add.dim[2] * c + j) : 0);
}

/* Normalise channels [c0, c1) of positions [p0, p1) of entry n as one set. */
static void norm_set(const AdNormArgs *a, int64_t n, int64_t p0, int64_t p1, int64_t c0, int64_t c1)
{
    int64_t c = a->out.dim[3], positions = a->x.dim[1] * a->x.dim[2];
    double count = (double)((p1 - p0) * (c1 - c0)), mean = 0, variance = 0;

    for (int64_t p = p0; p < p1; p++)
        for (int64_t j = c0; j < c1; j++)
            mean += input(a, n, p, j) / count;
    for (int64_t p = p0; p < p1; p++)
        for (int64_t j = c0; j < c1; j++) {
            double d = input(a, n, p, j) - mean;
            variance += d * d / count;
        }
    for (int64_t p = p0; p < p1; p++)
        for (int64_t j = c0; j < c1; j++) {
            double y = (input(a, n, p, j) - mean) / sqrt(variance + a->eps);

            y = y * get(a->gamma, j) + get(a->beta, j);
            if (a->silu)
                y = act(AD_ACT_SILU, y);
            if (a->pos.data)
                y += get(a->pos, n % a->pos.dim[2] * c + j);
            put(a->out, (n * positions + p) * c + j, y);
        }
}

AdStatus ad_ref_norm(AdBackend *be, const AdNormArgs *a)
{
    int64_t positions = a->x.dim[1] * a->x.dim[2], c = a->out.dim[3];

    (void)be;
    if (only_asked(&a->scratch))
        return AD_OK;
    for (int64_t n = 0; n < a->x.dim[0]; n++)
        if (a->groups)
            for (int64_t g = 0; g < a->groups; g++)
                norm_set(a, n, 0, positions, g * c / a->groups, (g + 1) * c / a->groups);
        else
            for (int64_t p = 0; p < positions; p++)
                norm_set(a, n, p, p + 1, 0, c);
    return AD_OK;
}

/* ---- elementwise -------------------------------------------------------------------------- */

AdStatus ad_ref_activate(AdBackend *be, const AdActArgs *a)
{
    (void)be;
    for (int64_t i = 0; i < ad_count(a->x); i++)
        put(a->out, i, act(a->act, get(a->x, i)));
    return AD_OK;
}

AdStatus ad_ref_upsample(AdBackend *be, const AdUpsampleArgs *a)
{
    int64_t h = a->x.dim[1], w = a->x.dim[2], c = a->x.dim[3];
    int64_t oh = a->out.dim[1], ow = a->out.dim[2], at = 0;

    (void)be;
    for (int64_t n = 0; n < a->out.dim[0]; n++)
        for (int64_t y = 0; y < oh; y++)
            for (int64_t x = 0; x < ow; x++)
                for (int64_t j = 0; j < c; j++)
                    put(a->out, at++, get(a->x, ((n * h + y * h / oh) * w + x * w / ow) * c + j));
    return AD_OK;
}

AdStatus ad_ref_lincomb(AdBackend *be, const AdLincombArgs *a)
{
    (void)be;
    for (int64_t i = 0; i < ad_count(a->out); i++) {
        float sum = 0;

        for (int k = 0; k < a->count; k++)
            sum += a->coef[k] * (float)get(a->x[k], i % ad_count(a->x[k]));
        if (a->clamp > 0)
            sum = fminf(fmaxf(sum, -a->clamp), a->clamp);
        put(a->out, i, sum);
    }
    return AD_OK;
}

AdStatus ad_ref_to_rgb(AdBackend *be, const AdRgbArgs *a)
{
    (void)be;
    for (int64_t i = 0; i < ad_count(a->x); i++) {
        float v = (float)get(a->x, i) * 0.5f + 0.5f;

        v = fminf(fmaxf(v, 0), 1);                              /* f32 steps, as diffusers has */
        ((uint8_t *)a->out.data)[i] = (uint8_t)rintf(v * 255);  /* ties to even */
    }
    return AD_OK;
}

AdStatus ad_ref_nonfinite(AdBackend *be, const AdNonfiniteArgs *a)
{
    int64_t count = 0;

    (void)be;
    for (int64_t i = 0; i < ad_count(a->x); i++)
        count += !isfinite(get(a->x, i));
    *(int32_t *)a->out.data = (int32_t)AD_MIN(count, INT32_MAX);
    return AD_OK;
}

/* ---- weights ------------------------------------------------------------------------------ */

AdStatus ad_ref_pack(AdBackend *be, const AdPackArgs *a)
{
    AdTensor w = a->w;

    (void)be;
    if (a->kind == AD_PACK_VECTOR)
        w.type = AD_F32;
    w.layout = 0;
    if (a->need) {
        *a->need = ad_bytes(w);
        return AD_OK;
    }
    w.data = a->out->data;
    ad_convert(w.data, w.type, a->src, AD_F32, ad_count(w));
    *a->out = w;
    return AD_OK;
}

const AdOps ad_ref_ops = {
    .gather    = ad_ref_gather,
    .linear    = ad_ref_linear,
    .conv2d    = ad_ref_conv2d,
    .norm      = ad_ref_norm,
    .attention = ad_ref_attention,
    .activate  = ad_ref_activate,
    .upsample  = ad_ref_upsample,
    .lincomb   = ad_ref_lincomb,
    .to_rgb    = ad_ref_to_rgb,
    .nonfinite = ad_ref_nonfinite,
};
