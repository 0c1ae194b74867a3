/* cuda_norm.cu - layer norm and group norm with what hangs on them.
 *
 * Layer norm: one warp per row, held in registers where it fits, so that it is read once. Group
 * norm: slices of rows give (mean, sum of squared distances) per group, deterministic and without
 * cancellation (Chan's rule for joining two sets); the second kernel joins the slices and applies.
 * Where slices are cut depends on the picture alone, so that a picture's result does not depend on
 * how many are computed together.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "cuda_backend.h"

#define BLOCK       256
#define ROW_VECTORS 5           /* per lane: 1280 channels of a 16-bit type are 32 * 5 * 8 */
#define SLICE_ROWS  32
#define SLICES_MOST 256
#define MOST_GROUPS 64
#define MOST_COLUMN 4096        /* channels of a group norm: their sums fit into shared memory */

typedef struct NormShape {      /* of one call, for the kernels */
    const float *gamma, *beta, *pos;
    const void  *x, *x2, *add;
    void        *out;
    int64_t      rows, positions;       /* all rows; rows of one picture */
    int          c, c1, groups, adds, frames, slices;
    float        eps;
    bool         silu;
} NormShape;

/* Mean as a sum of two floats: what a norm subtracts may be far larger than what is left. */
typedef struct Moments { float mean, rest, m2; } Moments;

/* ---- kernels ------------------------------------------------------------------------------ */

/* Element (row, j) of the input: x | x2, with add on x. */
template <typename T> static __device__ __forceinline__ float input(const NormShape &s, int64_t row,
                                                                    int j)
{
    if (j >= s.c1)
        return ad_float(((const T *)s.x2)[row * (s.c - s.c1) + j - s.c1]);
    float x = ad_float(((const T *)s.x)[row * s.c1 + j]);
    if (s.add)
        x += ad_float(((const T *)s.add)[row / s.positions % s.adds * s.c1 + j]);
    return x;
}

static __device__ __forceinline__ float finish(const NormShape &s, int64_t row, int j, float y)
{
    if (s.silu)
        y = ad_activate(AD_ACT_SILU, y);
    return s.pos ? y + s.pos[row / s.positions % s.frames * s.c + j] : y;
}

/* Layer norm, any sizes: three reads. */
template <typename T> __global__ void k_layer_norm_any(NormShape s)
{
    int64_t row = (int64_t)blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    float sum = 0, squares = 0;

    if (row >= s.rows)
        return;
    float first = input<T>(s, row, 0);          /* near the mean, if that is large */
    for (int j = lane; j < s.c; j += 32)
        sum += input<T>(s, row, j) - first;
    float mean = ad_warp_sum(sum) / s.c;
    for (int j = lane; j < s.c; j += 32) {
        float d = input<T>(s, row, j) - first - mean;
        squares += d * d;
    }
    float scale = 1 / sqrtf(ad_warp_sum(squares) / s.c + s.eps);
    for (int j = lane; j < s.c; j += 32) {
        float y = (input<T>(s, row, j) - first - mean) * scale * s.gamma[j] + s.beta[j];
        ad_set(((T *)s.out)[row * s.c + j], finish(s, row, j, y));
    }
}

/* Layer norm of x alone, rows of at most 32 * ROW_VECTORS vectors: one read, one write. */
template <typename T> __global__ void k_layer_norm(NormShape s)
{
    enum { V = AdWide<T>::n };
    typedef AdVec<T, V> Vec;
    int64_t row = (int64_t)blockIdx.x * (BLOCK / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32, vectors = s.c / V;
    Vec v[ROW_VECTORS];
    float sum = 0, squares = 0;

    if (row >= s.rows)
        return;
    float first = ad_float(((const T *)s.x)[row * s.c]);
#pragma unroll
    for (int i = 0; i < ROW_VECTORS; i++)
        if (i * 32 + lane < vectors) {
            v[i] = ((const Vec *)s.x)[row * vectors + i * 32 + lane];
            for (int j = 0; j < V; j++)
                sum += ad_float(v[i].v[j]) - first;
        }
    float mean = ad_warp_sum(sum) / s.c;
#pragma unroll
    for (int i = 0; i < ROW_VECTORS; i++)
        if (i * 32 + lane < vectors)
            for (int j = 0; j < V; j++) {
                float d = ad_float(v[i].v[j]) - first - mean;
                squares += d * d;
            }
    float scale = 1 / sqrtf(ad_warp_sum(squares) / s.c + s.eps);
#pragma unroll
    for (int i = 0; i < ROW_VECTORS; i++)
        if (i * 32 + lane < vectors) {
            int at = (i * 32 + lane) * V;

            for (int j = 0; j < V; j++) {
                float y = (ad_float(v[i].v[j]) - first - mean) * scale * s.gamma[at + j] +
                          s.beta[at + j];
                ad_set(v[i].v[j], finish(s, row, at + j, y));
            }
            ((Vec *)s.out)[row * vectors + i * 32 + lane] = v[i];
        }
}

/* m.mean + m.rest += x, nearly without error (Knuth's two-sum). */
static __device__ __forceinline__ void add_to_mean(Moments &m, float x)
{
    float sum = m.mean + x, part = sum - m.mean;

    m.rest += (m.mean - (sum - part)) + (x - part);
    m.mean  = sum;
}

/* (n, a) and (m, b) as one set of n + m numbers. */
static __device__ __forceinline__ Moments join(float n, Moments a, float m, Moments b)
{
    float all = n + m, d = (b.mean - a.mean) + (b.rest - a.rest);
    Moments both = a;

    if (all > 0) {
        add_to_mean(both, d * (m / all));
        both.m2 = a.m2 + b.m2 + d * d * (n * m / all);
    }
    return both;
}

static __device__ __forceinline__ int64_t slice_first(const NormShape &s, int slice)
{
    return s.positions * slice / s.slices;
}

/* V neighbouring inputs of a row; V > 1: none straddles x and x2. */
template <typename T, int V>
static __device__ __forceinline__ AdVec<T, V> input_vector(const NormShape &s, int64_t row, int j)
{
    if (j >= s.c1)
        return *(const AdVec<T, V> *)((const T *)s.x2 + row * (s.c - s.c1) + j - s.c1);
    return *(const AdVec<T, V> *)((const T *)s.x + row * s.c1 + j);
}

template <typename T> static __device__ __forceinline__ float added(const NormShape &s, int64_t n,
                                                                    int j)
{
    return s.add && j < s.c1 ? ad_float(((const T *)s.add)[n % s.adds * s.c1 + j]) : 0;
}

/* Moments of every group in slice blockIdx.x of picture blockIdx.y. A thread keeps to V channels;
 * `lanes` threads share a channel and take rows in turn. Sums are of distances to the first
 * value. */
template <typename T, int V>
__global__ void k_group_moments(NormShape s, Moments *out, int lanes)
{
    AD_DYN_SHARED(Moments, channel);            /* [lanes][c] */
    int64_t n = blockIdx.y, p0 = slice_first(s, blockIdx.x), p1 = slice_first(s, blockIdx.x + 1);
    int vectors = s.c / V, per = s.c / s.groups;

    for (int t = threadIdx.x; t < vectors * lanes; t += BLOCK) {
        int j = t % vectors * V, lane = t / vectors;
        float first[V], sum[V], squares[V], count = 0;

        for (int i = 0; i < V; i++)
            first[i] = sum[i] = squares[i] = 0;
        for (int64_t p = p0 + lane; p < p1; p += lanes, count++) {
            AdVec<T, V> v = input_vector<T, V>(s, n * s.positions + p, j);

            for (int i = 0; i < V; i++) {
                float x = ad_float(v.v[i]);
                if (count == 0)
                    first[i] = x;
                sum[i] += x - first[i];
                squares[i] += (x - first[i]) * (x - first[i]);
            }
        }
        for (int i = 0; i < V; i++) {
            Moments m = { first[i], 0, 0 };

            if (count > 0) {
                add_to_mean(m, sum[i] / count);
                add_to_mean(m, added<T>(s, n, j + i));
                m.m2 = fmaxf(squares[i] - sum[i] * (sum[i] / count), 0);
            }
            channel[lane * s.c + j + i] = m;
        }
    }
    __syncthreads();
    for (int g = threadIdx.x; g < s.groups; g += BLOCK) {
        Moments all = { 0, 0, 0 };
        float have = 0;

        for (int lane = 0; lane < lanes; lane++) {
            float count = (float)((p1 - p0 - lane + lanes - 1) / lanes);

            for (int j = g * per; count > 0 && j < (g + 1) * per; j++, have += count)
                all = join(have, all, count, channel[lane * s.c + j]);
        }
        out[(n * s.slices + blockIdx.x) * s.groups + g] = all;
    }
}

/* The slices of picture n joined, a warp per group: lanes take slices in turn, then pairs. */
static __device__ __forceinline__ void join_slices(const NormShape &s, const Moments *from,
                                                   int64_t n, Moments *to)
{
    int lane = threadIdx.x % 32, per = s.c / s.groups;

    for (int g = threadIdx.x / 32; g < s.groups; g += BLOCK / 32) {
        Moments all = { 0, 0, 0 };
        float have = 0;

        for (int i = lane; i < s.slices; i += 32) {
            float count = (float)((slice_first(s, i + 1) - slice_first(s, i)) * per);

            all = join(have, all, count, from[(n * s.slices + i) * s.groups + g]);
            have += count;
        }
        for (int m = 1; m < 32; m *= 2) {
            Moments other;
            float count = __shfl_xor_sync(AD_FULL_WARP, have, m);

            other.mean = __shfl_xor_sync(AD_FULL_WARP, all.mean, m);
            other.rest = __shfl_xor_sync(AD_FULL_WARP, all.rest, m);
            other.m2   = __shfl_xor_sync(AD_FULL_WARP, all.m2, m);
            all = lane & m ? join(count, other, have, all) : join(have, all, count, other);
            have += count;
        }
        if (lane == 0) {
            to[g] = all;
            to[g].m2 = 1 / sqrtf(all.m2 / have + s.eps);
        }
    }
    __syncthreads();
}

/* out = (x - mean) / deviation * gamma + beta, SiLU, of one slice. */
template <typename T, int V>
__global__ void k_group_apply(NormShape s, const Moments *moments, int lanes)
{
    AD_SHARED(Moments, group, MOST_GROUPS);
    int64_t n = blockIdx.y, p0 = slice_first(s, blockIdx.x), p1 = slice_first(s, blockIdx.x + 1);
    int vectors = s.c / V, per = s.c / s.groups;

    join_slices(s, moments, n, group);
    for (int t = threadIdx.x; t < vectors * lanes; t += BLOCK) {
        int j = t % vectors * V;
        float scale[V], shift[V], rest[V];

        for (int i = 0; i < V; i++) {
            Moments m = group[(j + i) / per];

            add_to_mean(m, -added<T>(s, n, j + i));
            scale[i] = m.m2 * s.gamma[j + i];
            shift[i] = m.mean;
            rest[i]  = m.rest;
        }
        for (int64_t p = p0 + t / vectors; p < p1; p += lanes) {
            int64_t row = n * s.positions + p;
            AdVec<T, V> v = input_vector<T, V>(s, row, j);

            for (int i = 0; i < V; i++) {
                float y = (ad_float(v.v[i]) - shift[i] - rest[i]) * scale[i] + s.beta[j + i];
                ad_set(v.v[i], finish(s, row, j + i, y));
            }
            *(AdVec<T, V> *)((T *)s.out + row * s.c + j) = v;
        }
    }
}

/* ---- launchers ---------------------------------------------------------------------------- */

static bool wide(const NormShape &s, int v)
{
    return s.c % v == 0 && s.c1 % v == 0 && ((uintptr_t)s.x | (uintptr_t)s.x2 |
                                             (uintptr_t)s.out) % 16 == 0;
}

template <typename T, int V>
static AdStatus group_launch(AdCuda *cu, const NormShape &s, void *work)
{
    int lanes = AD_MAX(BLOCK / (s.c / V), 1);
    dim3 grid((unsigned)s.slices, (unsigned)(s.rows / s.positions));
    AdStatus st;

    AD_LAUNCH((k_group_moments<T, V>), grid, dim3(BLOCK), (size_t)lanes * s.c * sizeof(Moments),
              cu->stream, s, (Moments *)work, lanes);
    if ((st = ad_cuda_launched(cu, "group norm")) < 0)
        return st;
    AD_LAUNCH((k_group_apply<T, V>), grid, dim3(BLOCK), 0, cu->stream, s, (const Moments *)work,
              lanes);
    return ad_cuda_launched(cu, "group norm");
}

template <typename T> static AdStatus norm_launch(AdCuda *cu, const NormShape &s, void *work)
{
    enum { V = AdWide<T>::n };
    dim3 grid((unsigned)((s.rows + BLOCK / 32 - 1) / (BLOCK / 32)));

    if (s.groups)
        return wide(s, V) ? group_launch<T, V>(cu, s, work) : group_launch<T, 1>(cu, s, work);
    if (wide(s, V) && s.c == s.c1 && !s.add && s.c <= 32 * ROW_VECTORS * V)
        AD_LAUNCH(k_layer_norm<T>, grid, dim3(BLOCK), 0, cu->stream, s);
    else
        AD_LAUNCH(k_layer_norm_any<T>, grid, dim3(BLOCK), 0, cu->stream, s);
    return ad_cuda_launched(cu, "layer norm");
}

/* ---- entry point -------------------------------------------------------------------------- */

static NormShape shape_of(const AdNormArgs *a)
{
    NormShape s;

    memset(&s, 0, sizeof(s));
    s.gamma     = (const float *)a->gamma.data;
    s.beta      = (const float *)a->beta.data;
    s.pos       = (const float *)a->pos.data;
    s.x         = a->x.data;
    s.x2        = a->x2.data;
    s.add       = a->add.data;
    s.out       = a->out.data;
    s.rows      = ad_rows(a->x);
    s.positions = a->x.dim[1] * a->x.dim[2];
    s.c         = (int)a->out.dim[3];
    s.c1        = (int)a->x.dim[3];
    s.groups    = a->groups;
    s.adds      = (int)a->add.dim[2];
    s.frames    = (int)a->pos.dim[2];
    s.slices    = (int)AD_MAX(AD_MIN(s.positions / SLICE_ROWS, (int64_t)SLICES_MOST), (int64_t)1);
    s.eps       = a->eps;
    s.silu      = a->silu;
    return s;
}

AdStatus ad_cuda_norm(AdBackend *be, const AdNormArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    NormShape s = shape_of(a);
    int64_t pictures = a->x.dim[0];
    AdStatus st;

    if (a->scratch.need) {
        *a->scratch.need = (size_t)pictures * s.slices * a->groups * sizeof(Moments);
        if (a->groups > MOST_GROUPS || (a->groups && s.c > MOST_COLUMN))
            return ad_cuda_fail(cu, AD_ERR_UNSUPPORTED, "group norm of %d channels in %d groups; "
                                "%d and %d are allowed", s.c, a->groups, MOST_COLUMN, MOST_GROUPS);
        return AD_OK;
    }
    if ((st = ad_cuda_enter(cu)) < 0)
        return st;
    AD_CUDA_BY_TYPE(a->x.type, st = norm_launch<T>(cu, s, a->scratch.data));
    return st;
}
