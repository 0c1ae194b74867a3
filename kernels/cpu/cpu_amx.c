/* cpu_amx.c - attention in bf16 on 16x16 tiles; see cpu_amx.h.
 *
 * Called by cpu_attention.c. 32 queries at a time go over up to 1024 keys: scores (tiles, f32),
 * weights (vectors: row maximum, e^x, rounded to bf16), then weights times values (tiles). Longer
 * rows are done in blocks with a running maximum. e^x is a cubic good to 1e-4, a fortieth of what
 * the rounding to bf16 costs.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#define _GNU_SOURCE             /* syscall */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu_amx.h"

#define QUERIES 32              /* two tiles of rows */
#define BLOCK   256            /* keys whose scores are held at once */
#define TILE    512             /* bf16 numbers in a tile: 16 rows of 32 */
#define SKEW    32              /* numbers added to a row of scores or weights: rows a multiple of
                                 * 4 KiB apart would share a cache set, at twice the time */

/* Linux hands out the tile state only on request (arch_prctl; ARCH_REQ_XCOMP_PERM, XTILEDATA). */
bool ad_cpu_amx_allowed(void)
{
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

/* All eight tiles: 16 rows of 64 bytes. Static, because GCC takes _tile_loadconfig to read eight
 * bytes only and drops stores to the rest of a local struct. */
static const struct {
    uint8_t  palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t  rows[16];
} tiles = {
    .palette = 1,
    .bytes   = { 64, 64, 64, 64, 64, 64, 64, 64 },
    .rows    = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

void ad_cpu_amx_start(void)
{
    _tile_loadconfig(&tiles);
}

void ad_cpu_amx_stop(void)
{
    _tile_release();
}

/* ---- sizes -------------------------------------------------------------------------------- */

static int up(int n, int to)
{
    return (n + to - 1) / to * to;
}

/* Tiles of 16 keys in a block, tiles of 32 channels, tiles of 16 channels. */
static int key_tiles(int keys)
{
    return (keys + 15) / 16;
}

AdAmxSizes ad_cpu_amx_sizes(int keys, int d)
{
    size_t block = (size_t)up(AD_MIN(keys, BLOCK), 32) + SKEW, wide = (size_t)up(d, 32);

    return (AdAmxSizes){
        .keys   = (size_t)up(keys, 16) * wide * 2,
        .values = (size_t)up(keys, 32) * (size_t)up(d, 16) * 2,
        .work   = QUERIES * (wide * 2 + block * 4 + block * 2 + (size_t)up(d, 16) * 4),
    };
}

/* ---- packing ------------------------------------------------------------------------------ */

static __mmask32 first32(int n)
{
    return n >= 32 ? 0xffffffffu : n <= 0 ? 0 : (1u << n) - 1;
}

/* out[j][i] = in[i][j], 16 x 16 double words. */
static void transpose16(__m512i r[16])
{
    __m512i t[16];

    for (int i = 0; i < 8; i++) {                   /* pairs of rows */
        t[2 * i]     = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {                   /* fours */
        r[4 * i]     = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {                   /* quarters of a register: eights */
        t[i]      = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i]  = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i]  = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i]      = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[4 + i]  = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[8 + i]  = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

/* Keys as the second factor of q kT: tile (j, c) has channel pairs of 32c ... in its rows, keys
 * 16j ... in its columns. */
static void pack_keys(uint16_t *out, const uint16_t *k, int64_t row, int count, int d)
{
    for (int j = 0; j < count; j += 16)
        for (int c = 0; c < d; c += 32, out += TILE) {
            __m512i r[16];

            for (int i = 0; i < 16; i++)
                r[i] = j + i < count ? _mm512_maskz_loadu_epi16(first32(d - c),
                                                                k + (j + i) * row + c)
                                     : _mm512_setzero_si512();
            transpose16(r);
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(out + 32 * i, r[i]);
        }
}

/* Values as the second factor of p v: tile (j, c) has pairs of keys of 32j ... in its rows,
 * channels 16c ... in its columns. */
static void pack_values(uint16_t *out, const uint16_t *v, int64_t row, int count, int d)
{
    for (int j = 0; j < count; j += 32)
        for (int c = 0; c < d; c += 16, out += TILE) {
            __mmask16 some = (__mmask16)first32(AD_MIN(d - c, 16));

            for (int i = 0; i < 16; i++) {
                const uint16_t *a = v + (j + 2 * i) * row + c, *b = a + row;
                __m512i low  = j + 2 * i < count
                             ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, a))
                             : _mm512_setzero_si512();
                __m512i high = j + 2 * i + 1 < count
                             ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, b))
                             : _mm512_setzero_si512();

                _mm512_storeu_si512(out + 32 * i,
                                    _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
        }
}

void ad_cpu_amx_pack(uint16_t *keys, uint16_t *values, const uint16_t *k, int64_t k_row,
                     const uint16_t *v, int64_t v_row, int count, int d)
{
    pack_keys(keys, k, k_row, count, d);
    pack_values(values, v, v_row, count, d);
}

/* ---- attention ---------------------------------------------------------------------------- */

/* What one thread works with: 32 queries against one block of keys. */
typedef struct Work {
    uint16_t *q;                /* [32, wide]     */
    float    *scores;           /* [32, block]    */
    uint16_t *weights;          /* [32, block]    */
    float    *sums;             /* [32, narrow]   */
    int       wide, narrow, block;
    float     top[QUERIES], total[QUERIES];
} Work;

static Work work_of(const AdAmxHead *h, void *memory)
{
    Work w = { .wide = up(h->d, 32), .narrow = up(h->d, 16),
               .block = up(AD_MIN(h->count, BLOCK), 32) + SKEW };

    w.scores  = memory;
    w.sums    = w.scores + (size_t)QUERIES * (size_t)w.block;
    w.q       = (uint16_t *)(w.sums + (size_t)QUERIES * (size_t)w.narrow);
    w.weights = w.q + (size_t)QUERIES * (size_t)w.wide;
    return w;
}

static void load_queries(const AdAmxHead *h, int first, int count, Work *w)
{
    for (int r = 0; r < up(count, 16); r++)
        for (int c = 0; c < h->d; c += 32)
            _mm512_storeu_si512(w->q + r * w->wide + c,
                                r < count ? _mm512_maskz_loadu_epi16(
                                                first32(h->d - c),
                                                h->q + (first + r) * h->q_row + c)
                                          : _mm512_setzero_si512());
}

/* scores = q kT for the keys of `tiles` tiles from tile `from` on. */
static void score(const AdAmxHead *h, const Work *w, int from, int tiles, bool two)
{
    int chunks = w->wide / 32;
    size_t q_row = (size_t)w->wide * 2, s_row = (size_t)w->block * 4;
    const uint16_t *q1 = w->q + 16 * w->wide;

    for (int j = 0; j < tiles; j += 2) {
        const uint16_t *k0 = h->keys + (size_t)(from + j) * (size_t)chunks * TILE;
        const uint16_t *k1 = j + 1 < tiles ? k0 + (size_t)chunks * TILE : k0;
        float *s = w->scores + 16 * j;

        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int c = 0; c < chunks; c++) {
            _tile_loadd(4, w->q + 32 * c, q_row);
            _tile_loadd(6, k0 + (size_t)c * TILE, 64);
            _tile_loadd(7, k1 + (size_t)c * TILE, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (two) {
                _tile_loadd(5, q1 + 32 * c, q_row);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, s, s_row);
        if (j + 1 < tiles)
            _tile_stored(1, s + 16, s_row);
        if (two) {
            _tile_stored(2, s + 16 * w->block, s_row);
            if (j + 1 < tiles)
                _tile_stored(3, s + 16 * w->block + 16, s_row);
        }
    }
}

/* 2^x for x <= 0, relative error 1e-4; far below: 0. */
static __m512 power2(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, 8), f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_fmadd_ps(f, _mm512_set1_ps(0.0551716691f), _mm512_set1_ps(0.2426203504f));

    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.6932677022f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.9999280536f));
    return _mm512_scalef_ps(y, whole);
}

/* A row of scores becomes weights 2^(s * scale2 - top); beyond n they are 0. Returns their sum. */
static float weigh(const float *s, uint16_t *p, int n, int padded, float scale2, float top)
{
    __m512 sum = _mm512_setzero_ps(), scale = _mm512_set1_ps(scale2), high = _mm512_set1_ps(top);
    int j = 0;

    for (; j + 32 <= n; j += 32) {
        __m512 a = power2(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), scale, high));
        __m512 b = power2(_mm512_fmsub_ps(_mm512_loadu_ps(s + j + 16), scale, high));

        sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
        _mm512_storeu_si512(p + j, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    for (; j < padded; j += 16) {
        __mmask16 some = (__mmask16)first32(AD_MIN(n - j, 16));
        __m512 a = _mm512_maskz_mov_ps(some, power2(_mm512_fmsub_ps(
                       _mm512_maskz_loadu_ps(some, s + j), scale, high)));

        sum = _mm512_add_ps(sum, a);
        _mm256_storeu_si256((void *)(p + j), (__m256i)_mm512_cvtneps_pbh(a));
    }
    return _mm512_reduce_add_ps(sum);
}

static float largest(const float *s, int n)
{
    __m512 a = _mm512_set1_ps(-INFINITY), b = a, c = a, d = a;
    int j = 0;

    for (; j + 64 <= n; j += 64) {
        a = _mm512_max_ps(a, _mm512_loadu_ps(s + j));
        b = _mm512_max_ps(b, _mm512_loadu_ps(s + j + 16));
        c = _mm512_max_ps(c, _mm512_loadu_ps(s + j + 32));
        d = _mm512_max_ps(d, _mm512_loadu_ps(s + j + 48));
    }
    for (; j < n; j += 16) {
        __mmask16 some = (__mmask16)first32(AD_MIN(n - j, 16));

        a = _mm512_mask_max_ps(a, some, a, _mm512_maskz_loadu_ps(some, s + j));
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
}

/* Scores of keys first_key ... to weights, row by row; earlier sums are scaled to a new maximum. */
static void softmax(const AdAmxHead *h, Work *w, int first, int count, int first_key, int keys)
{
    float scale2 = h->scale * 1.44269504088896341f;

    for (int r = 0; r < count; r++) {
        int seen = h->causal ? AD_MAX(AD_MIN(first + r + 1 - first_key, keys), 0) : keys;
        float *s = w->scores + (size_t)r * (size_t)w->block, *sums = w->sums + r * w->narrow;
        float before = w->top[r], keep;

        if (seen)
            w->top[r] = fmaxf(before, largest(s, seen) * scale2);
        keep = before == w->top[r] ? 1 : exp2f(before - w->top[r]);
        w->total[r] = w->total[r] * keep + weigh(s, w->weights + (size_t)r * (size_t)w->block,
                                                 seen, up(keys, 32), scale2, w->top[r]);
        for (int c = 0; first_key && c < w->narrow; c += 16)
            _mm512_storeu_ps(sums + c, _mm512_mul_ps(_mm512_loadu_ps(sums + c),
                                                     _mm512_set1_ps(keep)));
    }
}

/* sums (+)= weights v, channels 16c and, with `pair`, 16(c+1). */
static void mix_tiles(const AdAmxHead *h, const Work *w, int first_key, int keys, int c, bool pair,
                      bool two)
{
    size_t p_row = (size_t)w->block * 2, y_row = (size_t)w->narrow * 4;
    size_t tiles = (size_t)w->narrow / 16;
    float *y = w->sums + 16 * c, *y1 = y + 16 * w->narrow;
    const uint16_t *v = h->values + ((size_t)first_key / 32 * tiles + (size_t)c) * TILE;

    if (first_key) {
        _tile_loadd(0, y, y_row);
        if (pair)
            _tile_loadd(1, y + 16, y_row);
        if (two)
            _tile_loadd(2, y1, y_row);
        if (two && pair)
            _tile_loadd(3, y1 + 16, y_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int j = 0; j < keys; j += 32, v += tiles * TILE) {
        _tile_loadd(4, w->weights + j, p_row);
        _tile_loadd(6, v, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (pair) {
            _tile_loadd(7, v + TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two) {
            _tile_loadd(5, w->weights + (size_t)16 * (size_t)w->block + j, p_row);
            _tile_dpbf16ps(2, 5, 6);
            if (pair)
                _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, y, y_row);
    if (pair)
        _tile_stored(1, y + 16, y_row);
    if (two)
        _tile_stored(2, y1, y_row);
    if (two && pair)
        _tile_stored(3, y1 + 16, y_row);
}

static void store_rows(const AdAmxHead *h, const Work *w, int first, int count)
{
    for (int r = 0; r < count; r++) {
        __m512 scale = _mm512_set1_ps(1 / w->total[r]);
        const float *y = w->sums + r * w->narrow;
        uint16_t *out = h->out + (first + r) * h->out_row;

        for (int c = 0; c < h->d; c += 16)
            _mm256_mask_storeu_epi16(out + c, (__mmask16)first32(AD_MIN(h->d - c, 16)),
                                     (__m256i)_mm512_cvtneps_pbh(
                                         _mm512_mul_ps(_mm512_loadu_ps(y + c), scale)));
    }
}

void ad_cpu_amx_attend(const AdAmxHead *h, int first, int count, void *memory)
{
    Work w = work_of(h, memory);

    for (int i = first; i < first + count; i += QUERIES) {
        int n = AD_MIN(first + count - i, QUERIES);
        int last = h->causal ? AD_MIN(i + n, h->count) : h->count;
        bool two = n > 16;

        load_queries(h, i, n, &w);
        for (int r = 0; r < QUERIES; r++) {
            w.top[r]   = -INFINITY;
            w.total[r] = 0;
        }
        for (int j = 0; j < last; j += BLOCK) {
            int keys = AD_MIN(last - j, BLOCK);

            score(h, &w, j / 16, key_tiles(keys), two);
            softmax(h, &w, i, n, j, keys);
            for (int c = 0; c < w.narrow / 16; c += 2)
                mix_tiles(h, &w, j, keys, c, c + 1 < w.narrow / 16, two);
        }
        store_rows(h, &w, i, n);
    }
}
