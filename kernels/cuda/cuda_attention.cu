/* cuda_attention.cu - attention on the matrix units, for the 16-bit types.
 *
 * Online softmax (Milakov, Gimelshein 2018; FlashAttention, Dao et al. 2022): keys come in tiles,
 * scores never leave the registers. A warp owns 16 queries; four warps share the keys in shared
 * memory, except in time attention, where every warp has a short sequence of its own. Head widths
 * are padded to a multiple of 16 with zeros in shared memory. Widths above 160 (the VAE's 512)
 * compute the scores in pieces of 128 channels, once per 128 channels of the result.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "cuda_backend.h"

#define SHARED_MOST (48 << 10)
#define SHORT       32          /* queries and keys of a sequence that one warp takes alone */

typedef struct AttentionShape {
    const void *q, *k, *v;
    void       *out;
    AdStride    qs, ks, vs, os;
    int64_t     batch1, sequences;      /* all of batch0 x batch1 x heads */
    int         queries, keys, heads, d, tiles;
    float       scale;                  /* times log2(e): powers of two are what the unit makes */
    bool        causal, vectors;        /* vectors: 16 bytes at a time */
} AttentionShape;

/* ---- kernels ------------------------------------------------------------------------------ */

static __device__ __forceinline__ int64_t entry(const AttentionShape &s, const AdStride &t,
                                                int64_t sequence)
{
    int64_t head = sequence % s.heads, b = sequence / s.heads;

    return b / s.batch1 * t.batch0 + b % s.batch1 * t.batch1 + head * t.head;
}

/* Rows [first, first + count) of a head, channels [c0, c0 + WIDTH), into lines of PITCH numbers;
 * zeros beyond `rows` and d. By `threads` threads, of which this is number t. */
template <typename T, int WIDTH, int PITCH>
static __device__ __forceinline__ void fetch(T *to, const T *from, int64_t step, int first,
                                             int count, int rows, int c0, const AttentionShape &s,
                                             int t, int threads)
{
    for (int i = t; i < count * (WIDTH / 8); i += threads) {
        int row = i / (WIDTH / 8), c = i % (WIDTH / 8) * 8;
        const T *line = from + (int64_t)(first + row) * step + c0 + c;
        bool there = first + row < rows;

        if (s.vectors) {
            there = there && c0 + c < s.d;
            ad_copy_async16(to + row * PITCH + c, there ? line : from, there);
        } else
            for (int j = 0; j < 8; j++)
                if (there && c0 + c + j < s.d)
                    to[row * PITCH + c + j] = line[j];
                else
                    ad_set(to[row * PITCH + c + j], 0);
    }
}

/* What a warp knows of its 16 queries: row L/4 in [0], row L/4 + 8 in [1]. */
template <int DV> struct Rows {
    float top[2], sum[2], out[DV / 8][4];
};

template <int DV> static __device__ __forceinline__ void clear(Rows<DV> &r)
{
    for (int h = 0; h < 2; h++) {
        r.top[h] = -INFINITY;
        r.sum[h] = 0;
    }
    for (int j = 0; j < DV / 8; j++)
        for (int e = 0; e < 4; e++)
            r.out[j][e] = 0;
}

/* score += q kT over DQ channels. */
template <typename T, int DQ, int PITCH, int KEYS>
static __device__ __forceinline__ void add_scores(float (&score)[KEYS / 8][4], const T *q,
                                                  const T *k)
{
    int lane = threadIdx.x % 32;

#pragma unroll
    for (int c = 0; c < DQ; c += 16) {
        uint32_t a[4];

        ad_load_tiles(a, q + lane % 16 * PITCH + c + lane / 16 * 8, false);
#pragma unroll
        for (int j = 0; j < KEYS / 8; j += 2) {
            uint32_t both[4];

            ad_load_tiles(both, k + (j * 8 + lane / 16 * 8 + lane % 8) * PITCH + c +
                          lane / 8 % 2 * 8, false);
            uint32_t b0[2] = { both[0], both[1] }, b1[2] = { both[2], both[3] };
            ad_mma_16816<T>(score[j], a, b0);
            ad_mma_16816<T>(score[j + 1], a, b1);
        }
    }
}

/* Scores of keys from `key` on for queries from `query` on become weights; what was summed so far
 * is scaled to the new maximum. The first key is visible to every query, hence no row is empty. */
template <int DV, int KEYS>
static __device__ __forceinline__ void soften(float (&score)[KEYS / 8][4], Rows<DV> &r,
                                              const AttentionShape &s, int query, int key)
{
    int lane = threadIdx.x % 32;

    for (int h = 0; h < 2; h++) {
        int last = s.causal ? query + lane / 4 + h * 8 : s.keys;
        float top = r.top[h], sum = 0, fade;

        last = last < s.keys - 1 ? last : s.keys - 1;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            for (int e = 0; e < 2; e++) {
                float &x = score[j][h * 2 + e];

                x = key + j * 8 + lane % 4 * 2 + e <= last ? x * s.scale : -INFINITY;
                top = fmaxf(top, x);
            }
        top = fmaxf(top, __shfl_xor_sync(AD_FULL_WARP, top, 1));
        top = fmaxf(top, __shfl_xor_sync(AD_FULL_WARP, top, 2));
        fade = ad_exp2(r.top[h] - top);
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            for (int e = 0; e < 2; e++) {
                score[j][h * 2 + e] = ad_exp2(score[j][h * 2 + e] - top);
                sum += score[j][h * 2 + e];
            }
        r.top[h] = top;
        r.sum[h] = r.sum[h] * fade + sum;
#pragma unroll
        for (int j = 0; j < DV / 8; j++) {
            r.out[j][h * 2]     *= fade;
            r.out[j][h * 2 + 1] *= fade;
        }
    }
}

/* out += weights v; the weights are rounded to T, as every fused attention does. */
template <typename T, int DV, int PITCH, int KEYS>
static __device__ __forceinline__ void add_values(Rows<DV> &r, const float (&weight)[KEYS / 8][4],
                                                  const T *v)
{
    int lane = threadIdx.x % 32;

#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        const float (&lo)[4] = weight[2 * k], (&hi)[4] = weight[2 * k + 1];
        uint32_t a[4] = { ad_pack2<T>(lo[0], lo[1]), ad_pack2<T>(lo[2], lo[3]),
                          ad_pack2<T>(hi[0], hi[1]), ad_pack2<T>(hi[2], hi[3]) };

#pragma unroll
        for (int j = 0; j < DV / 8; j += 2) {
            uint32_t both[4];

            ad_load_tiles(both, v + (k * 16 + lane % 16) * PITCH + j * 8 + lane / 16 * 8, true);
            uint32_t b0[2] = { both[0], both[1] }, b1[2] = { both[2], both[3] };
            ad_mma_16816<T>(r.out[j], a, b0);
            if (j + 1 < DV / 8)
                ad_mma_16816<T>(r.out[j + 1 < DV / 8 ? j + 1 : j], a, b1);
        }
    }
}

template <typename T, int DV>
static __device__ __forceinline__ void finish(Rows<DV> &r, T *out, const AttentionShape &s,
                                              int query, int c0)
{
    int lane = threadIdx.x % 32;

    for (int h = 0; h < 2; h++) {
        int row = query + lane / 4 + h * 8;
        float sum = r.sum[h];

        sum += __shfl_xor_sync(AD_FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(AD_FULL_WARP, sum, 2);
        for (int j = 0; j < DV / 8; j++)
            for (int e = 0; e < 2; e++) {
                int c = c0 + j * 8 + lane % 4 * 2 + e;

                if (row < s.queries && c < s.d)
                    ad_set(out[(int64_t)row * s.os.position + c], r.out[j][h * 2 + e] / sum);
            }
    }
}

/* 64 queries of one head per block of four warps. WIDE: blockIdx.y is a piece of DV channels of
 * the result, and scores are summed over pieces of DQ channels. */
template <typename T, int DQ, int DV, int KEYS, bool WIDE>
__global__ void __launch_bounds__(128) k_attention(AttentionShape s)
{
    enum { P = DQ + 8 };
    AD_DYN_SHARED(T, q);
    T *k = q + 64 * P, *v = k + KEYS * P;
    int t = threadIdx.x, first = (int)(blockIdx.x % s.tiles) * 64, query = first + t / 32 * 16;
    int64_t sequence = blockIdx.x / s.tiles;
    const T *qs = (const T *)s.q + entry(s, s.qs, sequence);
    const T *ks = (const T *)s.k + entry(s, s.ks, sequence);
    const T *vs = (const T *)s.v + entry(s, s.vs, sequence);
    int seen = s.causal && first + 64 < s.keys ? first + 64 : s.keys, c0 = (int)blockIdx.y * DV;
    Rows<DV> r;

    clear(r);
    if (!WIDE) {
        fetch<T, DQ, P>(q, qs, s.qs.position, first, 64, s.queries, 0, s, t, 128);
        fetch<T, DQ, P>(k, ks, s.ks.position, 0, KEYS, s.keys, 0, s, t, 128);
    }
    ad_copy_commit();
    for (int key = 0; key < seen; key += KEYS) {
        float score[KEYS / 8][4] = { { 0 } };

        fetch<T, DQ, P>(v, vs, s.vs.position, key, KEYS, s.keys, c0, s, t, 128);
        ad_copy_commit();
        if (WIDE)
            for (int c = 0; c < s.d; c += DQ) {
                fetch<T, DQ, P>(q, qs, s.qs.position, first, 64, s.queries, c, s, t, 128);
                fetch<T, DQ, P>(k, ks, s.ks.position, key, KEYS, s.keys, c, s, t, 128);
                ad_copy_commit();
                ad_copy_wait<0>();
                __syncthreads();
                add_scores<T, DQ, P, KEYS>(score, q + t / 32 * 16 * P, k);
                __syncthreads();
            }
        else {
            ad_copy_wait<1>();                  /* the keys are there, the values may follow */
            __syncthreads();
            add_scores<T, DQ, P, KEYS>(score, q + t / 32 * 16 * P, k);
        }
        soften<DV, KEYS>(score, r, s, query, key);
        ad_copy_wait<0>();
        __syncthreads();
        if (!WIDE && key + KEYS < seen)         /* the next keys travel while values are summed */
            fetch<T, DQ, P>(k, ks, s.ks.position, key + KEYS, KEYS, s.keys, 0, s, t, 128);
        ad_copy_commit();
        add_values<T, DV, P, KEYS>(r, score, v);
        __syncthreads();
    }
    finish<T, DV>(r, (T *)s.out + entry(s, s.os, sequence), s, query, c0);
}

/* Sequences of at most LONG positions, a warp for each (pixel and head): 4 * LONG * d operations
 * on 8 * d bytes per position, so memory bound. Neighbouring warps take neighbouring heads. */
template <typename T, int DQ, int DV, int LONG>
__global__ void __launch_bounds__(128) k_attention_short(AttentionShape s)
{
    enum { P = DQ + 8 };
    AD_DYN_SHARED(T, shared);
    int lane = threadIdx.x % 32;
    int64_t sequence = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    T *q = shared + threadIdx.x / 32 * 3 * LONG * P, *k = q + LONG * P, *v = k + LONG * P;

    if (sequence >= s.sequences)
        return;
    fetch<T, DQ, P>(q, (const T *)s.q + entry(s, s.qs, sequence), s.qs.position, 0, LONG, s.queries,
                    0, s, lane, 32);
    fetch<T, DQ, P>(k, (const T *)s.k + entry(s, s.ks, sequence), s.ks.position, 0, LONG, s.keys, 0,
                    s, lane, 32);
    fetch<T, DQ, P>(v, (const T *)s.v + entry(s, s.vs, sequence), s.vs.position, 0, LONG, s.keys, 0,
                    s, lane, 32);
    ad_copy_commit();
    ad_copy_wait<0>();
    __syncwarp();
    for (int query = 0; query < s.queries; query += 16) {
        float score[LONG / 8][4] = { { 0 } };
        Rows<DV> r;

        clear(r);
        add_scores<T, DQ, P, LONG>(score, q + query * P, k);
        soften<DV, LONG>(score, r, s, query, 0);
        add_values<T, DV, P, LONG>(r, score, v);
        finish<T, DV>(r, (T *)s.out + entry(s, s.os, sequence), s, query, 0);
    }
}

/* ---- launchers ---------------------------------------------------------------------------- */

template <typename T, int DQ, int DV, int LONG>
static void short_launch(AdCuda *cu, const AttentionShape &s)
{
    size_t each = 3 * LONG * (DQ + 8) * sizeof(T);
    unsigned warps = (unsigned)AD_MIN(SHARED_MOST / each, (size_t)4);

    AD_LAUNCH((k_attention_short<T, DQ, DV, LONG>),
              dim3((unsigned)((s.sequences + warps - 1) / warps)), dim3(32 * warps), warps * each,
              cu->stream, s);
}

template <typename T, int DQ, int DV, int KEYS, bool WIDE>
static void long_launch(AdCuda *cu, const AttentionShape &s)
{
    size_t bytes = (64 + 2 * KEYS) * (DQ + 8) * sizeof(T);
    unsigned pieces = WIDE ? (unsigned)((s.d + DV - 1) / DV) : 1;

    AD_LAUNCH((k_attention<T, DQ, DV, KEYS, WIDE>),
              dim3((unsigned)(s.sequences * s.tiles), pieces), dim3(128), bytes, cu->stream, s);
}

template <typename T, int DQ, int DV, int KEYS>
static void width_launch(AdCuda *cu, const AttentionShape &s)
{
    if (s.queries > SHORT || s.keys > SHORT)
        long_launch<T, DQ, DV, KEYS, false>(cu, s);
    else if (s.queries > 16 || s.keys > 16)
        short_launch<T, DQ, DV, 32>(cu, s);
    else
        short_launch<T, DQ, DV, 16>(cu, s);
}

template <typename T> static void launch(AdCuda *cu, const AttentionShape &s)
{
    if (s.d <= 16)
        width_launch<T, 16, 16, 64>(cu, s);
    else if (s.d <= 32)
        width_launch<T, 32, 32, 64>(cu, s);
    else if (s.d <= 40)
        width_launch<T, 48, 40, 64>(cu, s);
    else if (s.d <= 64)
        width_launch<T, 64, 64, 64>(cu, s);
    else if (s.d <= 80)
        width_launch<T, 80, 80, 64>(cu, s);
    else if (s.d <= 160)
        width_launch<T, 160, 160, 32>(cu, s);
    else
        long_launch<T, 128, 128, 32, true>(cu, s);
}

/* ---- entry point -------------------------------------------------------------------------- */

static bool in_vectors(const AdAttentionArgs *a)
{
    const AdStride *all[] = { &a->q_stride, &a->k_stride, &a->v_stride };
    int64_t odd =
        a->head_width | (int64_t)(((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v) / 2);

    for (int i = 0; i < 3; i++)
        odd |= all[i]->batch0 | all[i]->batch1 | all[i]->position | all[i]->head;
    return odd % 8 == 0;
}

static AttentionShape shape_of(const AdAttentionArgs *a)
{
    AttentionShape s;

    memset(&s, 0, sizeof(s));
    s.q         = a->q;
    s.k         = a->k;
    s.v         = a->v;
    s.out       = a->out;
    s.qs        = a->q_stride;
    s.ks        = a->k_stride;
    s.vs        = a->v_stride;
    s.os        = a->out_stride;
    s.batch1    = a->batch1;
    s.sequences = a->batch0 * a->batch1 * a->heads;
    s.queries   = a->queries;
    s.keys      = a->keys;
    s.heads     = a->heads;
    s.d         = a->head_width;
    s.tiles     = (a->queries + 63) / 64;
    s.scale     = a->scale * 1.44269504f;
    s.causal    = a->causal;
    s.vectors   = in_vectors(a);
    return s;
}

AdStatus ad_cuda_attention(AdBackend *be, const AdAttentionArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st;

    if (a->scratch.need) {
        *a->scratch.need = 0;
        return AD_OK;
    }
    if ((st = ad_cuda_enter(cu)) < 0)
        return st;
    if (a->type == AD_F32)
        return ad_cuda_attention_f32(cu, a);
    if (a->type == AD_F16)
        launch<AdHalf>(cu, shape_of(a));
    else
        launch<AdBf16>(cu, shape_of(a));
    return ad_cuda_launched(cu, "attention");
}
