/* rng.h - reproducible normal noise: torch's CPU generator and torch's CUDA generator.
 *
 * Bit for bit the first (on any machine: the AVX2 polynomials of torch are written out), within
 * 2e-6 the second (its sine is the card's approximation). Pure C on floats.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_RNG_H
#define AD_RNG_H

#include "../kernels/base.h"

typedef struct AdRngState {
    bool     cuda;
    /* CPU: Mersenne Twister (Matsumoto, Nishimura 1998). */
    uint32_t words[624];
    int      used;
    double   kept;              /* second value of a pair, for fewer than 16 numbers */
    bool     has_kept;
    /* CUDA: Philox4x32-10 (Salmon et al. 2011). */
    uint64_t seed, offset;
    uint64_t threads;           /* of the whole card: SMs * threads per SM */
} AdRngState;

/* sms, per_sm: the card whose noise is wanted; for CUDA only. */
void ad_rng_seed(AdRngState *r, uint64_t seed, bool cuda, int sms, int per_sm);

/* n numbers as torch.randn of that many elements would fill a contiguous f32 tensor. */
void ad_rng_normal(AdRngState *r, float *out, size_t n);

/* One block of Philox: counter and key to four words; for tests and devices. */
void ad_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
