/* lycoris.c - the formulas of adapters; see lycoris.h.
 *
 * Called by lora.c; knows no files. Names of the parts are those of the LyCORIS project (Yeh et al.
 * 2023, arXiv 2309.14859), which trained most files of these kinds. A formula that reads "left @
 * right" is a product of matrices, "*" of elements.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <float.h>
#include <math.h>
#include <string.h>

#include "lycoris.h"

/* ---- shapes and products ------------------------------------------------------------------ */

static int64_t columns(const AdDelta *d)
{
    return d->in * d->positions;
}

/* A part with this first axis and this many numbers behind it; the products cannot overflow. */
static bool is_matrix(const AdDeltaPart *p, int64_t rows, int64_t cols)
{
    return p->there && p->rank > 0 && rows > 0 && cols > 0 && p->dim[0] == rows &&
           p->count % rows == 0 && p->count / rows == cols;
}

/* [r, r, positions] */
static bool is_core(const AdDeltaPart *p, int64_t r, int64_t positions)
{
    return p->there && p->rank > 1 && p->dim[1] == r && is_matrix(p, r, r * positions);
}

/* to[n, cols] = left[n, r] @ right[r, cols]. Tiles of a length that the compiler knows: it makes
 * vectors of those alone. */
static void product(float *to, const float *left, const float *right, int n, int64_t r,
                    int64_t cols)
{
    enum { TILE = 64 };
    float tile[TILE];

    for (int64_t c = 0; c < cols; c += TILE) {
        int64_t wide = AD_MIN(cols - c, TILE);

        for (int o = 0; o < n; o++) {
            memset(tile, 0, sizeof(tile));
            for (int64_t k = 0; k < r; k++) {
                const float *row = right + k * cols + c;
                float factor = left[o * r + k];

                if (wide == TILE)
                    for (int i = 0; i < TILE; i++)
                        tile[i] += factor * row[i];
                else
                    for (int64_t i = 0; i < wide; i++)
                        tile[i] += factor * row[i];
            }
            memcpy(to + o * cols + c, tile, (size_t)wide * sizeof(*to));
        }
    }
}

/* One row of a convolution's kernel, from its Tucker form:
 * to[i, x] = sum over p, q of core[p, q, x] * left[p] * right[q, i]; left's numbers are `step`
 * apart. scratch: r * positions. */
static void tucker_row(float *to, const float *core, const float *left, int64_t step,
                       const float *right, int64_t r, int64_t in, int64_t positions,
                       float *scratch)
{
    memset(scratch, 0, (size_t)(r * positions) * sizeof(*scratch));
    for (int64_t p = 0; p < r; p++)
        for (int64_t i = 0; i < r * positions; i++)
            scratch[i] += core[p * r * positions + i] * left[p * step];
    memset(to, 0, (size_t)(in * positions) * sizeof(*to));
    for (int64_t q = 0; q < r; q++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t x = 0; x < positions; x++)
                to[i * positions + x] += scratch[q * positions + x] * right[q * in + i];
}

/* ---- LoRA, LoCon --------------------------------------------------------------------------- */

enum { DOWN, UP, MID };

static bool lora_fits(AdDelta *d)
{
    const AdDeltaPart *down = &d->part[DOWN], *up = &d->part[UP], *mid = &d->part[MID];

    d->rank = down->rank > 0 ? down->dim[0] : 0;
    if (mid->there && !is_core(mid, d->rank, d->positions))
        return false;
    return is_matrix(down, d->rank, mid->there ? d->in : columns(d)) &&
           is_matrix(up, d->out, d->rank);
}

/* up @ down, or the Tucker form up, mid, down */
static void lora_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                      float *scratch)
{
    const float *up = d->part[UP].v + from * d->rank;

    (void)w;
    if (!d->part[MID].there)
        product(delta, up, d->part[DOWN].v, n, d->rank, columns(d));
    for (int o = 0; o < n && d->part[MID].there; o++)
        tucker_row(delta + o * columns(d), d->part[MID].v, up + o * d->rank, 1, d->part[DOWN].v,
                   d->rank, d->in, d->positions, scratch);
}

const AdDeltaKind ad_delta_lora = { "LoRA", lora_fits, lora_rows };

/* ---- LoHa: a product, element by element, of two LoRAs ------------------------------------- */

enum { W1_A, W1_B, W2_A, W2_B, T1, T2 };

/* One of the two factors. Tucker: a is [r, out], b [r, in]. */
static bool factor_fits(const AdDelta *d, const AdDeltaPart *a, const AdDeltaPart *b,
                        const AdDeltaPart *core)
{
    int64_t r = b->rank > 0 ? b->dim[0] : 0;

    if (core->there)
        return is_core(core, r, d->positions) && is_matrix(a, r, d->out) &&
               is_matrix(b, r, d->in);
    return is_matrix(a, d->out, r) && is_matrix(b, r, columns(d));
}

static bool loha_fits(AdDelta *d)
{
    const AdDeltaPart *p = d->part;

    d->rank = p[W1_B].rank > 0 ? p[W1_B].dim[0] : 0;
    return p[T1].there == p[T2].there && factor_fits(d, &p[W1_A], &p[W1_B], &p[T1]) &&
           factor_fits(d, &p[W2_A], &p[W2_B], &p[T2]);
}

static void factor_rows(const AdDelta *d, int64_t from, int n, const AdDeltaPart *a,
                        const AdDeltaPart *b, const AdDeltaPart *core, float *to, float *scratch)
{
    int64_t r = b->dim[0];

    if (!core->there)
        product(to, a->v + from * r, b->v, n, r, columns(d));
    for (int o = 0; o < n && core->there; o++)
        tucker_row(to + o * columns(d), core->v, a->v + from + o, d->out, b->v, r, d->in,
                   d->positions, scratch);
}

/* (w1_a @ w1_b) * (w2_a @ w2_b) */
static void loha_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                      float *scratch)
{
    const AdDeltaPart *p = d->part;
    float *other = scratch, *rest = scratch + n * columns(d);

    (void)w;
    factor_rows(d, from, n, &p[W1_A], &p[W1_B], &p[T1], delta, rest);
    factor_rows(d, from, n, &p[W2_A], &p[W2_B], &p[T2], other, rest);
    for (int64_t i = 0; i < n * columns(d); i++)
        delta[i] *= other[i];
}

const AdDeltaKind ad_delta_loha = { "LoHa", loha_fits, loha_rows };

/* ---- LoKr: a Kronecker product ------------------------------------------------------------- */

enum { K1, K1_A, K1_B, K2, K2_A, K2_B, K2_T };

/* w1 is [out1, in1]; w2 is what is left of the weight. */
static bool kronecker_shape(const AdDelta *d, int64_t *out1, int64_t *in1)
{
    const AdDeltaPart *p = d->part, *first = p[K1].there ? &p[K1] : &p[K1_A];
    const AdDeltaPart *second = p[K1].there ? &p[K1] : &p[K1_B];

    if (!first->there || !second->there || first->rank < 2 || second->rank < 2)
        return false;
    *out1 = first->dim[0];
    *in1  = second->dim[1];
    return *out1 > 0 && *in1 > 0 && d->out % *out1 == 0 && d->in % *in1 == 0;
}

static bool lokr_fits(AdDelta *d)
{
    const AdDeltaPart *p = d->part;
    int64_t out1, in1, out2, in2, r1 = p[K1_B].rank > 0 ? p[K1_B].dim[0] : 0;
    int64_t r2 = p[K2_B].rank > 0 ? p[K2_B].dim[0] : 0;

    if (!kronecker_shape(d, &out1, &in1))
        return false;
    out2 = d->out / out1;
    in2  = d->in / in1;
    /* Of two whole factors the alpha in the file has no meaning. */
    d->rank = !p[K2].there ? r2 : !p[K1].there ? r1 : 0;
    if (!(p[K1].there ? is_matrix(&p[K1], out1, in1)
                      : is_matrix(&p[K1_A], out1, r1) && is_matrix(&p[K1_B], r1, in1)))
        return false;
    if (p[K2].there)
        return is_matrix(&p[K2], out2, in2 * d->positions);
    if (p[K2_T].there)
        return is_core(&p[K2_T], r2, d->positions) && is_matrix(&p[K2_A], r2, out2) &&
               is_matrix(&p[K2_B], r2, in2);
    return is_matrix(&p[K2_A], out2, r2) && is_matrix(&p[K2_B], r2, in2 * d->positions);
}

/* Row `o2` of w2 [out2, in2 * positions]. */
static const float *second_row(const AdDelta *d, int64_t o2, int64_t out2, int64_t in2, float *to,
                               float *scratch)
{
    const AdDeltaPart *p = d->part;
    int64_t wide = in2 * d->positions, r = p[K2_B].there ? p[K2_B].dim[0] : 0;

    if (p[K2].there)
        return p[K2].v + o2 * wide;
    if (p[K2_T].there)
        tucker_row(to, p[K2_T].v, p[K2_A].v + o2, out2, p[K2_B].v, r, in2, d->positions, scratch);
    else
        product(to, p[K2_A].v + o2 * r, p[K2_B].v, 1, r, wide);
    return to;
}

/* w1 (x) w2: row o1 * out2 + o2 holds w1[o1, i1] * w2[o2, i2, x] at (i1 * in2 + i2, x) */
static void lokr_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                      float *scratch)
{
    const AdDeltaPart *p = d->part;
    int64_t out1 = 1, in1 = 1, out2, in2, wide;
    float *first = scratch, *second = scratch + d->in, *rest;

    (void)w;
    kronecker_shape(d, &out1, &in1);
    out2 = d->out / out1;
    in2  = d->in / in1;
    wide = in2 * d->positions;
    rest = second + wide;
    for (int o = 0; o < n; o++) {
        int64_t o1 = (from + o) / out2;
        const float *row1 = p[K1].there ? p[K1].v + o1 * in1 : first;
        const float *row2 = second_row(d, (from + o) % out2, out2, in2, second, rest);

        if (!p[K1].there)
            product(first, p[K1_A].v + o1 * p[K1_B].dim[0], p[K1_B].v, 1, p[K1_B].dim[0], in1);
        for (int64_t i1 = 0; i1 < in1; i1++)
            for (int64_t i = 0; i < wide; i++)
                delta[o * columns(d) + i1 * wide + i] = row1[i1] * row2[i];
    }
}

const AdDeltaKind ad_delta_lokr = { "LoKr", lokr_fits, lokr_rows };

/* ---- whole differences; IA3 ----------------------------------------------------------------- */

static bool full_fits(AdDelta *d)
{
    return is_matrix(&d->part[0], d->out, columns(d));
}

static void full_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                      float *scratch)
{
    (void)w, (void)scratch;
    memcpy(delta, d->part[0].v + from * columns(d), (size_t)(n * columns(d)) * sizeof(*delta));
}

const AdDeltaKind ad_delta_full = { "difference", full_fits, full_rows };

static bool ia3_fits(AdDelta *d)
{
    return d->part[0].there && d->part[0].count == (d->on_input ? d->in : d->out);
}

/* W * (factor - minus) */
static void scaled_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                        float minus)
{
    const float *factor = d->part[0].v;

    for (int o = 0; o < n; o++)
        for (int64_t i = 0; i < columns(d); i++)
            delta[o * columns(d) + i] = w[o * columns(d) + i] *
                (factor[d->on_input ? i / d->positions : from + o] - minus);
}

static void ia3_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                     float *scratch)
{
    (void)scratch;
    scaled_rows(d, from, n, w, delta, 0);
}

const AdDeltaKind ad_delta_ia3 = { "IA3", ia3_fits, ia3_rows };

/* [out, 1], or [1, in] where the layer's input is scaled; of a convolution [1, out, 1, 1] or
 * [1, in, 1, 1], which can be the same. */
static bool ia3_peft_fits(AdDelta *d)
{
    const AdDeltaPart *p = &d->part[0];

    d->on_input = p->rank == 2 ? p->dim[0] == 1 && p->dim[1] != 1 : p->count != d->out;
    return ia3_fits(d);
}

static void ia3_peft_rows(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                          float *scratch)
{
    (void)scratch;
    scaled_rows(d, from, n, w, delta, 1);
}

const AdDeltaKind ad_delta_ia3_peft = { "IA3", ia3_peft_fits, ia3_peft_rows };

/* ---- adding --------------------------------------------------------------------------------- */

typedef struct Adding {
    const AdDelta     *d;
    const AdMagnitude *magnitude;       /* NULL: none */
    double             strength;
    float             *delta, *scratch;
    double            *norms;           /* of the columns, [in]; squares at first */
} Adding;

/* w' = magnitude * v / |v|, v = w + scale * delta, |v| over a row or over what an input sees. */
static void magnitude_row(const Adding *a, float *w, const float *delta, int64_t o)
{
    const AdDelta *d = a->d;
    double norm = 0;

    for (int64_t i = 0; i < columns(d) && !a->norms; i++) {
        double v = w[i] + d->scale * delta[i];

        norm += v * v;
    }
    for (int64_t i = 0; i < columns(d); i++) {
        int64_t at = a->norms ? i / d->positions : o;
        double v = w[i] + d->scale * delta[i];
        double length = a->norms ? a->norms[at] : sqrt(norm);

        v *= a->magnitude->v[at] / (length + FLT_EPSILON);
        w[i] += (float)(a->strength * (v - w[i]));
    }
}

static void add_rows(const Adding *a, float *w, int64_t from, int n)
{
    int64_t cols = columns(a->d);
    float factor = (float)(a->strength * a->d->scale);

    a->d->kind->rows(a->d, from, n, w, a->delta, a->scratch);
    for (int64_t i = 0; i < n * cols && !a->magnitude; i++)
        w[i] += factor * a->delta[i];
    for (int o = 0; o < n && a->magnitude; o++)
        magnitude_row(a, w + o * cols, a->delta + o * cols, from + o);
}

static void add_squares(const Adding *a, float *w, int64_t from, int n)
{
    const AdDelta *d = a->d;

    d->kind->rows(d, from, n, w, a->delta, a->scratch);
    for (int64_t i = 0; i < n * columns(d); i++) {
        double v = w[i] + d->scale * a->delta[i];

        a->norms[i % columns(d) / d->positions] += v * v;
    }
}

static void each(const Adding *a, float *w, void (*work)(const Adding *, float *, int64_t, int))
{
    for (int64_t o = 0; o < a->d->out; o += AD_DELTA_ROWS)
        work(a, w + o * columns(a->d), o, (int)AD_MIN(a->d->out - o, AD_DELTA_ROWS));
}

/* What rows() may ask for: a factor of all rows, or a row of each factor, and a Tucker row. */
static size_t scratch_size(const AdDelta *d)
{
    int64_t r = d->rank;

    for (int i = 0; i < AD_DELTA_PARTS; i++)
        if (d->part[i].there && d->part[i].rank > 0)
            r = AD_MAX(r, d->part[i].count / AD_MAX(d->part[i].dim[0], 1));
    return (size_t)(AD_DELTA_ROWS * columns(d) + d->in + r);
}

AdStatus ad_delta_add(const AdDelta *d, double strength, const AdMagnitude *m, float *w)
{
    Adding a = { .d = d, .strength = strength, .magnitude = m && m->v ? m : NULL };
    AdStatus st = AD_ERR_NOMEM;

    a.delta   = ad_alloc_array((size_t)(AD_DELTA_ROWS * columns(d)), sizeof(*a.delta));
    a.scratch = ad_alloc_array(scratch_size(d), sizeof(*a.scratch));
    if (a.magnitude && m->on_input)
        a.norms = ad_alloc_array((size_t)d->in, sizeof(*a.norms));
    if (a.delta && a.scratch && (a.norms || !a.magnitude || !m->on_input)) {
        if (a.norms)
            each(&a, w, add_squares);
        for (int64_t i = 0; i < d->in && a.norms; i++)
            a.norms[i] = sqrt(a.norms[i]);
        each(&a, w, add_rows);
        st = AD_OK;
    }
    ad_free(a.delta);
    ad_free(a.scratch);
    ad_free(a.norms);
    return st;
}
