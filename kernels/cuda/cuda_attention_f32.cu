/* cuda_attention_f32.cu - attention in f32, with exact f32 products.
 *
 * A warp per query. Keys come in tiles of 32, a lane for each: scores over pieces of 32 channels
 * through shared memory, online softmax across the lanes, then lanes turn from keys to channels.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cuda_backend.h"

#define WARPS 8
#define LINE  33                /* of shared memory: columns then lie in different banks */

/* ---- kernel ------------------------------------------------------------------------------- */

static __device__ __forceinline__ int64_t entry(const AdStride &t, int64_t sequence, int heads,
                                                int64_t batch1)
{
    int64_t head = sequence % heads, b = sequence / heads;

    return b / batch1 * t.batch0 + b % batch1 * t.batch1 + head * t.head;
}

/* [32 keys from `key`][32 channels from c], zeros outside. */
static __device__ __forceinline__ void fetch(float *to, const float *from, int64_t step, int key,
                                             int keys, int c, int d)
{
    for (int i = threadIdx.x; i < 32 * 32; i += 32 * WARPS) {
        int row = i / 32, column = i % 32;
        bool there = key + row < keys && c + column < d;

        to[row * LINE + column] = there ? from[(int64_t)(key + row) * step + c + column] : 0;
    }
}

/* PIECES: 32 channels each, of the result and of q. */
template <int PIECES> __global__ void __launch_bounds__(32 * WARPS)
k_attention_f32(AdAttentionArgs s, int tiles)
{
    AD_SHARED(float, tile, 32 * LINE);
    AD_SHARED(float, weights, WARPS * 32);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int query = (int)(blockIdx.x % tiles) * WARPS + warp, last = s.causal ? query : s.keys - 1;
    int64_t sequence = blockIdx.x / tiles;
    const float *k = (const float *)s.k + entry(s.k_stride, sequence, s.heads, s.batch1);
    const float *v = (const float *)s.v + entry(s.v_stride, sequence, s.heads, s.batch1);
    const float *q = (const float *)s.q + entry(s.q_stride, sequence, s.heads, s.batch1) +
                     query * s.q_stride.position;
    float out[PIECES] = { 0 }, mine[PIECES], top = -INFINITY, sum = 0;

    for (int p = 0; p < PIECES; p++)
        mine[p] = query < s.queries && p * 32 + lane < s.head_width ? q[p * 32 + lane] : 0;
    for (int key = 0; key < s.keys; key += 32) {
        float score = 0;

#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            fetch(tile, k, s.k_stride.position, key, s.keys, p * 32, s.head_width);
            weights[warp * 32 + lane] = mine[p];        /* here still: 32 channels of the query */
            __syncthreads();
            for (int c = 0; c < 32; c++)
                score += weights[warp * 32 + c] * tile[lane * LINE + c];
            __syncthreads();
        }
        score = key + lane <= last && key + lane < s.keys ? score * s.scale : -INFINITY;
        float next = fmaxf(top, ad_warp_max(score)), fade = expf(top - next);
        score = expf(score - next);
        sum = sum * fade + ad_warp_sum(score);
        top = next;
        weights[warp * 32 + lane] = score;
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            fetch(tile, v, s.v_stride.position, key, s.keys, p * 32, s.head_width);
            __syncthreads();
            out[p] *= fade;
            for (int j = 0; j < 32; j++)
                out[p] += weights[warp * 32 + j] * tile[j * LINE + lane];
            __syncthreads();
        }
    }
    float *to = (float *)s.out + entry(s.out_stride, sequence, s.heads, s.batch1) +
                query * s.out_stride.position;
    for (int p = 0; p < PIECES; p++)
        if (query < s.queries && p * 32 + lane < s.head_width)
            to[p * 32 + lane] = out[p] / sum;
}

/* ---- entry point -------------------------------------------------------------------------- */

AdStatus ad_cuda_attention_f32(AdCuda *cu, const AdAttentionArgs *a)
{
    int tiles = (a->queries + WARPS - 1) / WARPS;
    dim3 grid((unsigned)(a->batch0 * a->batch1 * a->heads * tiles)), block(32 * WARPS);

    if (a->head_width <= 32)
        AD_LAUNCH(k_attention_f32<1>, grid, block, 0, cu->stream, *a, tiles);
    else if (a->head_width <= 64)
        AD_LAUNCH(k_attention_f32<2>, grid, block, 0, cu->stream, *a, tiles);
    else if (a->head_width <= 160)
        AD_LAUNCH(k_attention_f32<5>, grid, block, 0, cu->stream, *a, tiles);
    else if (a->head_width <= 512)
        AD_LAUNCH(k_attention_f32<16>, grid, block, 0, cu->stream, *a, tiles);
    else
        AD_LAUNCH(k_attention_f32<32>, grid, block, 0, cu->stream, *a, tiles);
    return ad_cuda_launched(cu, "attention");
}
