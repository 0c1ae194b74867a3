/* rng.c - normal noise; see rng.h.
 *
 * Called by session.c. Torch's CPU generator fills 16 numbers at a time with AVX2 polynomials
 * (Cephes' logf, sinf, cosf with fused multiply-adds); fmaf here gives the same bits everywhere.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "rng.h"

/* ---- Mersenne Twister --------------------------------------------------------------------- */

static void twister_seed(AdRngState *r, uint32_t seed)
{
    r->words[0] = seed;
    for (uint32_t j = 1; j < 624; j++)
        r->words[j] = 1812433253u * (r->words[j - 1] ^ r->words[j - 1] >> 30) + j;
    r->used = 624;
}

static void twister_twist(AdRngState *r)
{
    for (int i = 0; i < 624; i++) {
        uint32_t y = (r->words[i] & 0x80000000u) | (r->words[(i + 1) % 624] & 0x7fffffffu);

        r->words[i] = r->words[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->used = 0;
}

static uint32_t twister_word(AdRngState *r)
{
    uint32_t y;

    if (r->used == 624)
        twister_twist(r);
    y = r->words[r->used++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* In [0, 1): the low bits are kept. */
static float uniform(AdRngState *r)
{
    return (float)(twister_word(r) & 0xffffff) * 0x1p-24f;
}

static double uniform_double(AdRngState *r)
{
    uint64_t high = twister_word(r), bits = high << 32 | twister_word(r);

    return (double)(bits & ((1ull << 53) - 1)) * 0x1p-53;
}

/* ---- torch's vector functions ------------------------------------------------------------- */

/* ln x for x >= 2^-126 */
static float log_cephes(float x)
{
    union { float f; uint32_t u; } v = { x };
    float e = (float)((int)(v.u >> 23) - 126), m, z, y;

    v.u = (v.u & 0x7fffff) | 0x3f000000;
    m = v.f;
    if (m < 0.707106781186547524f) {
        e -= 1;
        m = (m - 1) + m;
    } else
        m = m - 1;
    z = m * m;
    y = fmaf(m, 7.0376836292e-2f, -1.1514610310e-1f);
    y = fmaf(y, m, 1.1676998740e-1f);
    y = fmaf(y, m, -1.2420140846e-1f);
    y = fmaf(y, m, 1.4249322787e-1f);
    y = fmaf(y, m, -1.6668057665e-1f);
    y = fmaf(y, m, 2.0000714765e-1f);
    y = fmaf(y, m, -2.4999993993e-1f);
    y = fmaf(y, m, 3.3333331174e-1f);
    y = y * m;
    y = fmaf(z, y, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    return fmaf(e, 0.693359375f, m + y);
}

/* x >= 0 */
static void sincos_cephes(float x, float *sine, float *cosine)
{
    int j = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float y = (float)j, z, c, s;

    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    z = x * x;
    c = fmaf(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = c * z;
    c = fmaf(c, z, -(z * 0.5f));
    c = c + 1;
    s = fmaf(z, -1.9515295891e-4f, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = s * z;
    s = fmaf(s, x, x);
    *sine   = j & 2 ? c : s;
    *cosine = j & 2 ? s : c;
    if (j & 4)
        *sine = -*sine;
    if (!((j - 2) & 4))
        *cosine = -*cosine;
}

/* ---- torch.Generator("cpu") --------------------------------------------------------------- */

/* Box-Muller on 16 uniforms: the first eight are radii, the others angles. */
static void sixteen(AdRngState *r, float *d)
{
    for (int i = 0; i < 16; i++)
        d[i] = uniform(r);
    for (int j = 0; j < 8; j++) {
        float radius = sqrtf(-2 * log_cephes(1 - d[j])), sine, cosine;

        sincos_cephes(6.2831853f * d[j + 8], &sine, &cosine);
        d[j]     = radius * cosine;
        d[j + 8] = radius * sine;
    }
}

static float one(AdRngState *r)
{
    double u1, radius, phi;

    if (r->has_kept) {
        r->has_kept = false;
        return (float)r->kept;
    }
    u1     = uniform_double(r);
    radius = sqrt(-2 * log1p(-uniform_double(r)));
    phi    = 6.283185307179586 * u1;
    r->kept = radius * sin(phi);
    r->has_kept = true;
    return (float)(radius * cos(phi));
}

/* A rest of fewer than 16 is made by redoing the last 16 with fresh words. */
static void cpu_normal(AdRngState *r, float *out, size_t n)
{
    if (n < 16)
        for (size_t i = 0; i < n; i++)
            out[i] = one(r);
    else {
        float uniforms[16];

        /* All uniforms are drawn before the first is transformed, which changes nothing for whole
         * blocks; the rest's words are drawn and thrown away. */
        for (size_t i = 0; i + 16 <= n; i += 16)
            sixteen(r, out + i);
        if (n % 16) {
            for (size_t i = 0; i < n % 16; i++)
                (void)uniform(r);
            sixteen(r, uniforms);
            memcpy(out + n - 16, uniforms, sizeof(uniforms));
        }
    }
}

/* ---- torch.Generator("cuda") -------------------------------------------------------------- */

void ad_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4], k0 = key[0], k1 = key[1];

    memcpy(c, counter, sizeof(c));
    for (int round = 0; round < 10; round++) {
        uint64_t a = 0xd2511f53ull * c[0], b = 0xcd9e8d57ull * c[2];
        uint32_t next[4] = { (uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                             (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a };

        memcpy(c, next, sizeof(c));
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    memcpy(out, c, sizeof(c));
}

/* Element i belongs to thread i % threads; every fourth round of threads starts a new block. */
static void cuda_normal(AdRngState *r, float *out, size_t n)
{
    uint64_t blocks = (n + 255) / 256, most = r->threads / 256;
    uint64_t threads = 256 * AD_MIN(blocks, AD_MAX(most, 1)), step = 4 * threads;
    uint32_t key[2] = { (uint32_t)r->seed, (uint32_t)(r->seed >> 32) };

    for (size_t i = 0; i < n; i++) {
        uint64_t position = r->offset / 4 + i / step, thread = i % step % threads;
        uint64_t component = i % step / threads;
        uint32_t counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), (uint32_t)thread,
                                (uint32_t)(thread >> 32) };
        uint32_t w[4];
        float u, v, radius;

        ad_philox(counter, key, w);
        u = fmaf((float)w[component & 2], 0x1p-32f, 0x1p-33f);
        v = fmaf((float)w[(component & 2) + 1], 0x1.921fb6p-30f, 0x1.921fb6p-31f);
        radius = sqrtf(-2 * logf(u));
        out[i] = radius * (component % 2 ? cosf(v) : sinf(v));
    }
    r->offset += 4 * ((n + step - 1) / step);
}

/* ---- entry points ------------------------------------------------------------------------- */

void ad_rng_seed(AdRngState *r, uint64_t seed, bool cuda, int sms, int per_sm)
{
    *r = (AdRngState){ .cuda = cuda, .seed = seed };
    r->threads = (uint64_t)sms * (uint64_t)(per_sm / 256 * 256);
    twister_seed(r, (uint32_t)seed);
}

void ad_rng_normal(AdRngState *r, float *out, size_t n)
{
    if (r->cuda)
        cuda_normal(r, out, n);
    else
        cpu_normal(r, out, n);
}
