/* cpu_kernels.h - the inner loops of the CPU backend, one table per instruction set.
 *
 * Single-threaded pieces on contiguous rows; cpu_norm.c and cpu_attention.c cut the work and run
 * the pieces on all threads. The tables are the same code (cpu_kernels_tmpl.h) compiled for
 * AVX-512, AVX2 and plain C, and for f32 and bf16 elements.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_KERNELS_H
#define AD_CPU_KERNELS_H

#include "../backend.h"

/* One head's keys and values, repacked for the attention loops: kt [d, keys'] in blocks of
 * AD_CPU_KEYS keys and v [keys, d'], where keys' and d' are rounded up to AD_CPU_PAD and the rest
 * is zero. Values are f32; a table may keep two bf16 values in one place instead. */
#define AD_CPU_PAD 16

typedef struct AdCpuHead {
    const void *q;              /* first query of this head; rows are q_row elements apart     */
    void       *out;
    int64_t     q_row, out_row; /* elements from one position to the next                      */
    const float *kt, *v;        /* as ad_cpu_pack_* made them                                  */
    int         keys, d;
    float       scale;
    bool        causal;
} AdCpuHead;

typedef struct AdCpuKernels {
    /* out[r, :] = norm(x[r, :]) * gamma + beta, then SiLU, then + pos[:] (NULL: none). row: room
     * for c floats. */
    void (*layer_norm)(void *out, const void *x, const float *gamma, const float *beta,
                       const float *pos, int64_t rows, int64_t c, float eps, bool silu,
                       float *row);
    /* sum[j] = sum over rows of x[r, j] - x[0, j] of `origin`, and of its square. */
    void (*column_sums)(float *sum, float *square, const void *x, const void *origin, int64_t rows,
                        int64_t c);
    /* out[r, 0..c) = x[r, :] * scale + shift, then SiLU; out rows are out_row elements apart. */
    void (*scale_rows)(void *out, int64_t out_row, const void *x, const float *scale,
                       const float *shift, int64_t rows, int64_t c, bool silu);
    void (*activate)(void *out, const void *x, int64_t n, AdAct act);
    void (*geglu)(void *out, const void *x, int64_t rows, int64_t n);
    void (*pack_keys)(float *kt, const void *k, int64_t k_row, int keys, int d);
    void (*pack_values)(float *v, const void *x, int64_t x_row, int keys, int d);
    /* Queries first ... first + count - 1 of a head; work: ad_cpu_attend_work(d) floats. */
    void (*attend)(const AdCpuHead *head, int first, int count, float *work);
} AdCpuKernels;

/* Most queries handled together, keys per block of the online softmax. */
#define AD_CPU_QUERIES 8
#define AD_CPU_KEYS    128

static inline size_t ad_cpu_padded(int n)
{
    return ad_round_up((size_t)n, AD_CPU_PAD);
}

static inline size_t ad_cpu_attend_work(int d)
{
    return AD_CPU_QUERIES * (AD_CPU_KEYS + 2 * ad_cpu_padded(d));
}

extern const AdCpuKernels ad_cpu_plain_f32,  ad_cpu_plain_bf16;
extern const AdCpuKernels ad_cpu_avx2_f32,   ad_cpu_avx2_bf16;
extern const AdCpuKernels ad_cpu_avx512_f32, ad_cpu_avx512_bf16, ad_cpu_avx512bf16_bf16;

#endif
