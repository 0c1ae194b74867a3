/* cpu_vec.h - a dozen vector words for the kinds of processor there are.
 *
 * Included by cpu_kernels_*.c after one of AD_VEC_AVX512 (with or without AD_VEC_BF16), AD_VEC_AVX2
 * or neither was defined, and by nothing else. V is LANES floats; a bf16 value is widened on load
 * and rounded on store.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_VEC_H
#define AD_CPU_VEC_H

#include <math.h>
#include <string.h>

#include "../tensor.h"

/* For functions whose short loops must be unrolled, so that what they add up stays in registers:
 * gcc's -O2 keeps such arrays in memory and attention then runs at half its speed. */
#if defined(__GNUC__)
#define AD_INLINE __attribute__((always_inline))
#define AD_UNROLL _Pragma("GCC unroll 8")
#else
#define AD_INLINE
#define AD_UNROLL
#endif

#if defined(AD_VEC_AVX512)

#include <immintrin.h>

#define LANES   16
#define QUERIES 8               /* accumulators of attention: QUERIES x WIDE vectors */
#define WIDE    3
typedef __m512 V;

static inline V v_set(float x)                  { return _mm512_set1_ps(x); }
static inline V v_load(const float *p)          { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, V x)       { _mm512_storeu_ps(p, x); }
static inline V v_add(V a, V b)                 { return _mm512_add_ps(a, b); }
static inline V v_sub(V a, V b)                 { return _mm512_sub_ps(a, b); }
static inline V v_mul(V a, V b)                 { return _mm512_mul_ps(a, b); }
static inline V v_div(V a, V b)                 { return _mm512_div_ps(a, b); }
static inline V v_max(V a, V b)                 { return _mm512_max_ps(a, b); }
static inline V v_min(V a, V b)                 { return _mm512_min_ps(a, b); }
static inline V v_fma(V a, V b, V c)            { return _mm512_fmadd_ps(a, b, c); }
static inline float v_sum(V x)                  { return _mm512_reduce_add_ps(x); }
static inline float v_top(V x)                  { return _mm512_reduce_max_ps(x); }
static inline V v_round(V x)                    { return _mm512_roundscale_ps(x, 8); }
static inline V v_ldexp(V x, V n)               { return _mm512_scalef_ps(x, n); }

static inline V v_inverse(V x)                  { return _mm512_rcp14_ps(x); }    /* 2^-14 */

static inline __mmask16 v_first(int n)          { return (__mmask16)((1u << n) - 1); }

static inline V v_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

static inline void v_store_n(float *p, V x, int n)
{
    _mm512_mask_storeu_ps(p, v_first(n), x);
}

static inline V v_widen(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

#if defined(AD_VEC_BF16)

static inline __m256i v_narrow(V x)             { return (__m256i)_mm512_cvtneps_pbh(x); }

/* sum + a * b of the lower and of the upper bf16 value of each lane */
static inline V v_dot(V a, V b, V sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

/* Lanes of (low[i], high[i]) for the first n, 0 beyond; high NULL: zeros. */
static inline V v_pairs(const uint16_t *low, const uint16_t *high, int n)
{
    __m512i x = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(v_first(n), low));

    if (high) {
        __m512i y = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(v_first(n), high));

        x = _mm512_or_si512(x, _mm512_slli_epi32(y, 16));
    }
    return _mm512_castsi512_ps(x);
}

#else

/* Nearest, ties to even; a NaN stays one. */
static inline __m256i v_narrow(V x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd  = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up   = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    up = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}

#endif

static inline V v_load_bf16(const uint16_t *p)
{
    return v_widen(_mm256_loadu_si256((const void *)p));
}

static inline void v_store_bf16(uint16_t *p, V x)
{
    _mm256_storeu_si256((void *)p, v_narrow(x));
}

#elif defined(AD_VEC_AVX2)

#include <immintrin.h>

#define LANES   8
#define QUERIES 4
#define WIDE    2
typedef __m256 V;

static inline V v_set(float x)                  { return _mm256_set1_ps(x); }
static inline V v_load(const float *p)          { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, V x)       { _mm256_storeu_ps(p, x); }
static inline V v_add(V a, V b)                 { return _mm256_add_ps(a, b); }
static inline V v_sub(V a, V b)                 { return _mm256_sub_ps(a, b); }
static inline V v_mul(V a, V b)                 { return _mm256_mul_ps(a, b); }
static inline V v_div(V a, V b)                 { return _mm256_div_ps(a, b); }
static inline V v_max(V a, V b)                 { return _mm256_max_ps(a, b); }
static inline V v_min(V a, V b)                 { return _mm256_min_ps(a, b); }
static inline V v_fma(V a, V b, V c)            { return _mm256_fmadd_ps(a, b, c); }
static inline V v_round(V x)                    { return _mm256_round_ps(x, 8); }
static inline V v_inverse(V x)                  { return _mm256_rcp_ps(x); }      /* 2^-11 */

static inline float v_sum(V x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float v_top(V x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* x * 2^n for whole n in -252 ... 254, in two factors so that neither overflows. */
static inline V v_ldexp(V x, V n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    V a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    V b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));

    return v_mul(v_mul(x, a), b);
}

static inline __m256i v_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline V v_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, v_first(n));
}

static inline void v_store_n(float *p, V x, int n)
{
    _mm256_maskstore_ps(p, v_first(n), x);
}

static inline V v_load_bf16(const uint16_t *p)
{
    __m128i half = _mm_loadu_si128((const void *)p);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline void v_store_bf16(uint16_t *p, V x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd  = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up   = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan  = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));

    up = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
    up = _mm256_permute4x64_epi64(_mm256_packus_epi32(up, up), 0xd8);
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(up));
}

#else

#define LANES   8
#define QUERIES 4
#define WIDE    2
typedef struct V { float v[LANES]; } V;

#define V_EACH(result, expression)                                                      \
    V result;                                                                           \
    for (int i = 0; i < LANES; i++)                                                     \
        result.v[i] = (expression);                                                     \
    return result

static inline V v_set(float x)                  { V_EACH(y, x); }
static inline V v_load(const float *p)          { V_EACH(y, p[i]); }
static inline V v_load_n(const float *p, int n) { V_EACH(y, i < n ? p[i] : 0); }
static inline V v_load_bf16(const uint16_t *p)  { V_EACH(y, ad_bf16_to_float(p[i])); }
static inline V v_add(V a, V b)                 { V_EACH(y, a.v[i] + b.v[i]); }
static inline V v_sub(V a, V b)                 { V_EACH(y, a.v[i] - b.v[i]); }
static inline V v_mul(V a, V b)                 { V_EACH(y, a.v[i] * b.v[i]); }
static inline V v_div(V a, V b)                 { V_EACH(y, a.v[i] / b.v[i]); }
static inline V v_max(V a, V b)                 { V_EACH(y, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
static inline V v_min(V a, V b)                 { V_EACH(y, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
static inline V v_fma(V a, V b, V c)            { V_EACH(y, a.v[i] * b.v[i] + c.v[i]); }
static inline V v_round(V x)                    { V_EACH(y, rintf(x.v[i])); }
static inline V v_ldexp(V x, V n)               { V_EACH(y, ldexpf(x.v[i], (int)n.v[i])); }
static inline V v_inverse(V x)                  { V_EACH(y, 1 / x.v[i]); }

static inline void v_store(float *p, V x)       { memcpy(p, x.v, sizeof(x.v)); }
static inline void v_store_n(float *p, V x, int n)
{
    memcpy(p, x.v, (size_t)n * sizeof(float));
}

static inline void v_store_bf16(uint16_t *p, V x)
{
    for (int i = 0; i < LANES; i++)
        p[i] = ad_float_to_bf16(x.v[i]);
}

static inline float v_sum(V x)
{
    return ((x.v[0] + x.v[4]) + (x.v[2] + x.v[6])) + ((x.v[1] + x.v[5]) + (x.v[3] + x.v[7]));
}

static inline float v_top(V x)
{
    float top = x.v[0];

    for (int i = 1; i < LANES; i++)
        top = x.v[i] > top ? x.v[i] : top;
    return top;
}

#endif

/* e^x to 1 ulp or so: x = n ln 2 + r, a polynomial of degree 6 in r (Cephes' expf), times 2^n.
 * Below -87 the result goes to 0 gently, above 88 to infinity. */
static inline V v_exp(V x)
{
    V n, r, y;

    x = v_min(v_max(x, v_set(-104)), v_set(89));
    n = v_round(v_mul(x, v_set(1.44269504088896341f)));
    r = v_fma(n, v_set(-0.693359375f), x);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    y = v_fma(r, v_set(1.9875691500e-4f), v_set(1.3981999507e-3f));
    y = v_fma(y, r, v_set(8.3334519073e-3f));
    y = v_fma(y, r, v_set(4.1665795894e-2f));
    y = v_fma(y, r, v_set(1.6666665459e-1f));
    y = v_fma(y, r, v_set(5.0000001201e-1f));
    y = v_add(v_fma(v_mul(y, r), r, r), v_set(1));
    return v_ldexp(y, n);
}

/* 2^x with an error of 1e-4, for results that are rounded to bf16 (4e-3). */
static inline V v_exp2_rough(V x)
{
    V n, f, y;

    x = v_min(v_max(x, v_set(-126)), v_set(126));   /* 1 + 2^126 still has an inverse */
    n = v_round(x);
    f = v_sub(x, n);
    y = v_fma(f, v_set(0.0551716691f), v_set(0.2426203504f));
    y = v_fma(y, f, v_set(0.6932677022f));
    y = v_fma(y, f, v_set(0.9999280536f));
    return v_ldexp(y, n);
}

static inline V v_silu(V x)
{
    return v_div(x, v_add(v_set(1), v_exp(v_sub(v_set(0), x))));
}

static inline V v_silu_rough(V x)
{
    V e = v_exp2_rough(v_mul(x, v_set(-1.44269504f)));

    return v_mul(x, v_inverse(v_add(v_set(1), e)));
}

/* x * (1 + erf(x / sqrt 2)) / 2; erf by Abramowitz and Stegun 7.1.26, error 1.5e-7. */
static inline V v_gelu(V x)
{
    V z = v_mul(v_max(x, v_sub(v_set(0), x)), v_set(0.70710678118654752f));
    V t = v_div(v_set(1), v_fma(z, v_set(0.3275911f), v_set(1))), y, tail;

    y = v_fma(t, v_set(1.061405429f), v_set(-1.453152027f));
    y = v_fma(y, t, v_set(1.421413741f));
    y = v_fma(y, t, v_set(-0.284496736f));
    y = v_fma(y, t, v_set(0.254829592f));
    tail = v_mul(v_mul(v_mul(y, t), v_exp(v_sub(v_set(0), v_mul(z, z)))), v_set(0.5f));
    /* 1 - tail right of 0, tail left of it: x Phi(x) = max(x, 0) - |x| tail */
    return v_sub(v_max(x, v_set(0)), v_mul(v_mul(z, v_set(1.41421356237309505f)), tail));
}

/* The same with an error of 3e-5: Phi as a logistic function of an odd polynomial, fitted; its
 * coefficients have the -log2(e) of the exponential in them. */
static inline V v_gelu_rough(V x)
{
    V square = v_min(v_mul(x, x), v_set(40)), y, e;

    y = v_fma(square, v_set(1.016496434e-3f), v_set(-1.067895443e-1f));
    y = v_fma(y, square, v_set(-2.301106028f));
    e = v_exp2_rough(v_mul(x, y));
    return v_mul(x, v_inverse(v_add(v_set(1), e)));
}

#endif
