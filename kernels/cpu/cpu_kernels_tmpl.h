/* cpu_kernels_tmpl.h - the inner loops, written once for every instruction set and element type.
 *
 * Not compiled by itself: cpu_kernels_avx512.c, _avx2.c and _plain.c include it twice each, with
 *   T            element type in memory (float or uint16_t)
 *   LOAD, STORE  V from T*, V to T*
 *   SILU, GELU   as exact as T deserves
 *   PAIRS        defined: attention multiplies bf16 values in pairs (v_dot)
 *   TABLE        name of the table this inclusion makes
 *   NAME(f)      f with a suffix of its own
 * SPDX-License-Identifier: LGPL-2.1-or-later */

/* ---- rows whose length is no multiple of LANES -------------------------------------------- */

static inline V NAME(load_n)(const T *p, int n)
{
    T whole[LANES] = { 0 };

    if (n >= LANES)
        return LOAD(p);
    memcpy(whole, p, (size_t)n * sizeof(T));
    return LOAD(whole);
}

static inline void NAME(store_n)(T *p, V x, int n)
{
    T whole[LANES];

    if (n >= LANES) {
        STORE(p, x);
        return;
    }
    STORE(whole, x);
    memcpy(p, whole, (size_t)n * sizeof(T));
}

/* ---- norms -------------------------------------------------------------------------------- */

/* One row after the other; it is widened once and then stays in the first-level cache. */
static void NAME(layer_norm)(void *out, const void *in, const float *gamma, const float *beta,
                             const float *pos, int64_t rows, int64_t c, float eps, bool silu,
                             float *row)
{
    int64_t whole = c / LANES * LANES;
    int rest = (int)(c - whole);

    for (int64_t r = 0; r < rows; r++) {
        const T *x = (const T *)in + r * c;
        T *y = (T *)out + r * c;
        V sum = v_set(0), square = v_set(0), mean, scale;

        for (int64_t j = 0; j < whole; j += LANES) {
            V v = LOAD(x + j);

            v_store(row + j, v);
            sum = v_add(sum, v);
        }
        if (rest) {
            V v = NAME(load_n)(x + whole, rest);

            v_store_n(row + whole, v, rest);
            sum = v_add(sum, v);
        }
        mean = v_set(v_sum(sum) / (float)c);
        for (int64_t j = 0; j < whole; j += LANES) {
            V d = v_sub(v_load(row + j), mean);

            square = v_fma(d, d, square);
        }
        if (rest) {
            float lanes[LANES];
            V d;

            v_store(lanes, v_sub(v_load_n(row + whole, rest), mean));
            d = v_load_n(lanes, rest);              /* 0 beyond the row's end */
            square = v_fma(d, d, square);
        }
        scale = v_set(1 / sqrtf(v_sum(square) / (float)c + eps));
        for (int64_t j = 0; j < c; j += LANES) {
            int n = j < whole ? LANES : rest;
            V g = n < LANES ? v_load_n(gamma + j, n) : v_load(gamma + j);
            V b = n < LANES ? v_load_n(beta + j, n) : v_load(beta + j);
            V d = v_sub(n < LANES ? v_load_n(row + j, n) : v_load(row + j), mean);

            d = v_fma(v_mul(d, scale), g, b);
            if (silu)
                d = SILU(d);
            if (pos)
                d = v_add(d, n < LANES ? v_load_n(pos + j, n) : v_load(pos + j));
            if (n < LANES)
                NAME(store_n)(y + j, d, n);
            else
                STORE(y + j, d);
        }
    }
}

/* Four vectors of columns [j, j + 4 * LANES) at a time: whole cache lines. */
static void NAME(four_sums)(float *sum, float *square, const T *x, const T *origin, int64_t rows,
                            int64_t c)
{
    V s0 = v_set(0), s1 = s0, s2 = s0, s3 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0;
    V o0 = LOAD(origin), o1 = LOAD(origin + LANES), o2 = LOAD(origin + 2 * LANES);
    V o3 = LOAD(origin + 3 * LANES);

    for (int64_t r = 0; r < rows; r++, x += c) {
        V d0 = v_sub(LOAD(x), o0), d1 = v_sub(LOAD(x + LANES), o1);
        V d2 = v_sub(LOAD(x + 2 * LANES), o2), d3 = v_sub(LOAD(x + 3 * LANES), o3);

        s0 = v_add(s0, d0);
        s1 = v_add(s1, d1);
        s2 = v_add(s2, d2);
        s3 = v_add(s3, d3);
        q0 = v_fma(d0, d0, q0);
        q1 = v_fma(d1, d1, q1);
        q2 = v_fma(d2, d2, q2);
        q3 = v_fma(d3, d3, q3);
    }
    v_store(sum, s0);
    v_store(sum + LANES, s1);
    v_store(sum + 2 * LANES, s2);
    v_store(sum + 3 * LANES, s3);
    v_store(square, q0);
    v_store(square + LANES, q1);
    v_store(square + 2 * LANES, q2);
    v_store(square + 3 * LANES, q3);
}

/* Sums are taken relative to the first row of the picture: the squares then do not drown in the
 * square of a large mean. */
static void NAME(column_sums)(float *sum, float *square, const void *in, const void *origin,
                              int64_t rows, int64_t c)
{
    int64_t j = 0;

    for (; j + 4 * LANES <= c; j += 4 * LANES)
        NAME(four_sums)(sum + j, square + j, (const T *)in + j, (const T *)origin + j, rows, c);
    for (; j < c; j += LANES) {
        int n = (int)AD_MIN(c - j, LANES);
        V first = NAME(load_n)((const T *)origin + j, n), s = v_set(0), q = v_set(0);
        const T *x = (const T *)in + j;

        for (int64_t r = 0; r < rows; r++, x += c) {
            V d = v_sub(NAME(load_n)(x, n), first);

            s = v_add(s, d);
            q = v_fma(d, d, q);
        }
        v_store_n(sum + j, s, n);
        v_store_n(square + j, q, n);
    }
}

static void NAME(scale_rows)(void *out, int64_t out_row, const void *in, const float *scale,
                             const float *shift, int64_t rows, int64_t c, bool silu)
{
    for (int64_t r = 0; r < rows; r++) {
        const T *x = (const T *)in + r * c;
        T *y = (T *)out + r * out_row;
        int64_t j = 0;

        for (; j + LANES <= c; j += LANES) {
            V v = v_fma(LOAD(x + j), v_load(scale + j), v_load(shift + j));

            STORE(y + j, silu ? SILU(v) : v);
        }
        if (j < c) {
            int n = (int)(c - j);
            V v = v_fma(NAME(load_n)(x + j, n), v_load_n(scale + j, n), v_load_n(shift + j, n));

            NAME(store_n)(y + j, silu ? SILU(v) : v, n);
        }
    }
}

static void NAME(activate)(void *out, const void *in, int64_t count, AdAct act)
{
    for (int64_t i = 0; i < count; i += LANES) {
        int n = (int)AD_MIN(count - i, LANES);
        V x = NAME(load_n)((const T *)in + i, n), y = x;

        if (act == AD_ACT_SILU)
            y = SILU(x);
        else if (act == AD_ACT_QUICK_GELU)
            y = v_div(x, v_add(v_set(1), v_exp(v_mul(x, v_set(-1.702f)))));
        else if (act == AD_ACT_GELU)
            y = GELU(x);
        NAME(store_n)((T *)out + i, y, n);
    }
}

/* out[r, 0..n) = x[r, 0..n) * gelu(x[r, n..2n)) */
static void NAME(geglu)(void *out, const void *in, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++) {
        const T *value = (const T *)in + 2 * r * n, *gate = value + n;
        T *y = (T *)out + r * n;
        int64_t j = 0;

        for (; j + LANES <= n; j += LANES)
            STORE(y + j, v_mul(LOAD(value + j), GELU(LOAD(gate + j))));
        if (j < n) {
            int m = (int)(n - j);

            NAME(store_n)(y + j, v_mul(NAME(load_n)(value + j, m), GELU(NAME(load_n)(gate + j, m))),
                          m);
        }
    }
}

/* ---- attention ---------------------------------------------------------------------------- */

/* Products run over slots of 32 bits: one float, or with PAIRS two neighbouring bf16 values, which
 * the processor multiplies and adds in one go. Keys lie in blocks of AD_CPU_KEYS, each [slots of d,
 * keys of the block]: with rows as long as all keys, 4096 bytes apart for 1024 of them, a column
 * would fall into one set of the first-level cache. */
#if defined(PAIRS)

#define SLOTS(n)        (((n) + 1) / 2)
#define DOT(a, b, sum)  v_dot(a, b, sum)

static void NAME(pack_keys)(float *kt, const void *k, int64_t k_row, int keys, int d)
{
    int padded = (int)ad_cpu_padded(keys);

    for (int first = 0; first < padded; first += AD_CPU_KEYS) {
        int row = AD_MIN(padded - first, AD_CPU_KEYS), count = AD_MIN(keys - first, row);
        float *block = kt + (int64_t)first * SLOTS(d);

        memset(block, 0, (size_t)(SLOTS(d) * row) * sizeof(float));
        for (int j = 0; j < count; j++) {
            const T *x = (const T *)k + (first + j) * k_row;

            for (int i = 0; i + 1 < d; i += 2)
                memcpy(block + i / 2 * row + j, x + i, sizeof(float));
            if (d % 2)
                memcpy(block + d / 2 * row + j, x + d - 1, sizeof(T));
        }
    }
}

static void NAME(pack_values)(float *v, const void *in, int64_t in_row, int keys, int d)
{
    int64_t row = (int64_t)ad_cpu_padded(d);

    for (int j = 0; j < keys; j += 2, v += row) {
        const T *x = (const T *)in + j * in_row;

        for (int i = 0; i < row; i += LANES)
            v_store(v + i, v_pairs(x + i, j + 1 < keys ? x + in_row + i : NULL,
                                   AD_MAX(AD_MIN(d - i, LANES), 0)));
    }
}

/* n elements as they lie in memory. */
static void NAME(slots_of)(float *to, const T *x, int n)
{
    to[SLOTS(n) - 1] = 0;
    memcpy(to, x, (size_t)n * sizeof(T));
}

/* n floats, in place; the n-th may be read, and is of no weight. */
static void NAME(to_slots)(float *x, int n)
{
    for (int i = 0; i < n; i += LANES)          /* writes half as far as it has read */
        STORE((T *)x + i, v_load(x + i));
}

#else

#define SLOTS(n)        (n)
#define DOT(a, b, sum)  v_fma(a, b, sum)

static void NAME(pack_keys)(float *kt, const void *k, int64_t k_row, int keys, int d)
{
    int padded = (int)ad_cpu_padded(keys);

    for (int first = 0; first < padded; first += AD_CPU_KEYS) {
        int row = AD_MIN(padded - first, AD_CPU_KEYS), count = AD_MIN(keys - first, row);
        float *block = kt + (int64_t)first * d;

        for (int j = 0; j < count; j++) {
            const T *x = (const T *)k + (first + j) * k_row;

            for (int i = 0; i < d; i += LANES) {
                int n = AD_MIN(d - i, LANES);
                float lanes[LANES];

                v_store(lanes, NAME(load_n)(x + i, n));
                for (int l = 0; l < n; l++)
                    block[(i + l) * row + j] = lanes[l];
            }
        }
        for (int i = 0; i < d && count < row; i++)
            memset(block + i * row + count, 0, (size_t)(row - count) * sizeof(float));
    }
}

static void NAME(pack_values)(float *v, const void *in, int64_t in_row, int keys, int d)
{
    int64_t row = (int64_t)ad_cpu_padded(d);

    for (int j = 0; j < keys; j++, v += row) {
        const T *x = (const T *)in + j * in_row;

        memset(v + d, 0, (size_t)(row - d) * sizeof(float));
        for (int i = 0; i < d; i += LANES)
            v_store_n(v + i, NAME(load_n)(x + i, AD_MIN(d - i, LANES)), AD_MIN(d - i, LANES));
    }
}

static void NAME(slots_of)(float *to, const T *x, int n)
{
    for (int i = 0; i < n; i += LANES)
        v_store_n(to + i, NAME(load_n)(x + i, AD_MIN(n - i, LANES)), AD_MIN(n - i, LANES));
}

static void NAME(to_slots)(float *x, int n)
{
    (void)x, (void)n;
}

#endif

/* s[QUERIES, wide vectors] = scale * q[QUERIES, n] k[n, wide vectors], n slots; `wide` is a
 * constant when called. */
static inline AD_INLINE void NAME(scores_part)(float *s, const float *q, size_t q_row,
                                               const float *k, int row, int n, float scale,
                                               int wide)
{
    V a[QUERIES][WIDE];

    AD_UNROLL
    for (int r = 0; r < QUERIES; r++)
        AD_UNROLL
        for (int w = 0; w < wide; w++)
            a[r][w] = v_set(0);
    for (int i = 0; i < n; i++, k += row) {
        V key[WIDE];

        AD_UNROLL
        for (int w = 0; w < wide; w++)
            key[w] = v_load(k + w * LANES);
        AD_UNROLL
        for (int r = 0; r < QUERIES; r++) {
            V x = v_set(q[(size_t)r * q_row + (size_t)i]);

            AD_UNROLL
            for (int w = 0; w < wide; w++)
                a[r][w] = DOT(x, key[w], a[r][w]);
        }
    }
    AD_UNROLL
    for (int r = 0; r < QUERIES; r++)
        AD_UNROLL
        for (int w = 0; w < wide; w++)
            v_store(s + r * AD_CPU_KEYS + w * LANES, v_mul(a[r][w], v_set(scale)));
}

/* s[QUERIES, AD_CPU_KEYS]: scaled scores of the keys of the block at `first`, all of them. */
static void NAME(scores)(float *s, const float *q, size_t q_row, const AdCpuHead *h, int first)
{
    int row = AD_MIN((int)ad_cpu_padded(h->keys) - first, AD_CPU_KEYS), j = 0;
    int n = SLOTS(h->d);
    const float *k = h->kt + (int64_t)first * n;

    for (; j + WIDE * LANES <= row; j += WIDE * LANES)
        NAME(scores_part)(s + j, q, q_row, k + j, row, n, h->scale, WIDE);
    if (WIDE > 2 && row - j == 2 * LANES)
        NAME(scores_part)(s + j, q, q_row, k + j, row, n, h->scale, 2);
    else if (row > j)
        NAME(scores_part)(s + j, q, q_row, k + j, row, n, h->scale, 1);
}

static float NAME(largest)(const float *s, int count, float top)
{
    int j = 0;

    if (count >= LANES) {
        V high = v_load(s);

        for (j = LANES; j + LANES <= count; j += LANES)
            high = v_max(high, v_load(s + j));
        top = AD_MAX(top, v_top(high));
    }
    for (; j < count; j++)
        top = AD_MAX(top, s[j]);
    return top;
}

/* One row of scores becomes weights e^(s - top); returns their sum. Beyond `count`: weight 0. */
static float NAME(weights)(float *s, int count, float top)
{
    V sum = v_set(0);

    for (int j = 0; j < count; j += LANES) {
        V w = v_exp(v_sub(v_load(s + j), v_set(top)));

        if (count - j < LANES) {
            float lanes[LANES];

            v_store(lanes, w);
            w = v_load_n(lanes, count - j);
        }
        v_store(s + j, w);
        sum = v_add(sum, w);
    }
    return v_sum(sum);
}

/* y[QUERIES, wide vectors] = y * keep[r] + s[QUERIES, n] v[n, wide vectors], n slots */
static inline AD_INLINE void NAME(mix_part)(float *y, const float *s, const float *keep,
                                            const float *v, int row, int n, int wide)
{
    V a[QUERIES][WIDE];

    AD_UNROLL
    for (int r = 0; r < QUERIES; r++)
        AD_UNROLL
        for (int w = 0; w < wide; w++)
            a[r][w] = v_mul(v_load(y + r * row + w * LANES), v_set(keep[r]));
    for (int j = 0; j < n; j++, v += row) {
        V value[WIDE];

        AD_UNROLL
        for (int w = 0; w < wide; w++)
            value[w] = v_load(v + w * LANES);
        AD_UNROLL
        for (int r = 0; r < QUERIES; r++) {
            V x = v_set(s[r * AD_CPU_KEYS + j]);

            AD_UNROLL
            for (int w = 0; w < wide; w++)
                a[r][w] = DOT(x, value[w], a[r][w]);
        }
    }
    AD_UNROLL
    for (int r = 0; r < QUERIES; r++)
        AD_UNROLL
        for (int w = 0; w < wide; w++)
            v_store(y + r * row + w * LANES, a[r][w]);
}

/* y[QUERIES, d'] = y * keep[r] + s[QUERIES, count] v[first ..., d'] */
static void NAME(mix)(float *y, const float *s, const float *keep, const AdCpuHead *h, int first,
                      int count)
{
    int row = (int)ad_cpu_padded(h->d), i = 0;
    const float *v = h->v + (int64_t)SLOTS(first) * row;
    int n = SLOTS(count);

    for (; i + WIDE * LANES <= row; i += WIDE * LANES)
        NAME(mix_part)(y + i, s, keep, v + i, row, n, WIDE);
    if (WIDE > 2 && row - i == 2 * LANES)
        NAME(mix_part)(y + i, s, keep, v + i, row, n, 2);
    else if (row > i)
        NAME(mix_part)(y + i, s, keep, v + i, row, n, 1);
}

/* QUERIES queries from `first` (the last one repeated when there are fewer). */
static void NAME(attend_block)(const AdCpuHead *h, int first, int count, float *work)
{
    size_t row = ad_cpu_padded(h->d);
    float *s = work, *q = s + QUERIES * AD_CPU_KEYS, *y = q + QUERIES * row;
    float top[QUERIES], sum[QUERIES] = { 0 }, keep[QUERIES];
    int keys = h->causal ? AD_MIN(first + count, h->keys) : h->keys;

    for (int r = 0; r < QUERIES; r++) {
        const T *x = (const T *)h->q + (first + AD_MIN(r, count - 1)) * h->q_row;

        top[r] = -INFINITY;
        NAME(slots_of)(q + r * row, x, h->d);
    }
    memset(y, 0, QUERIES * row * sizeof(float));
    for (int j = 0; j < keys; j += AD_CPU_KEYS) {
        int n = AD_MIN(keys - j, AD_CPU_KEYS);

        NAME(scores)(s, q, row, h, j);
        for (int r = 0; r < QUERIES; r++) {
            int seen = h->causal ? AD_MIN(n, first + AD_MIN(r, count - 1) + 1 - j) : n;
            float *line = s + r * AD_CPU_KEYS, high = NAME(largest)(line, seen, top[r]);

            keep[r] = top[r] == high ? 1 : expf(top[r] - high);
            top[r]  = high;
            if (seen < n)
                memset(line + AD_MAX(seen, 0), 0, (size_t)(n - AD_MAX(seen, 0)) * sizeof(float));
            sum[r] = sum[r] * keep[r] + (seen > 0 ? NAME(weights)(line, seen, high) : 0);
            NAME(to_slots)(line, n);
        }
        NAME(mix)(y, s, keep, h, j, n);
    }
    for (int r = 0; r < count; r++) {
        T *out = (T *)h->out + (first + r) * h->out_row;

        for (int i = 0; i < h->d; i += LANES)
            NAME(store_n)(out + i, v_div(v_load(y + r * row + i), v_set(sum[r])),
                          AD_MIN(h->d - i, LANES));
    }
}

static void NAME(attend)(const AdCpuHead *head, int first, int count, float *work)
{
    for (int i = 0; i < count; i += QUERIES)
        NAME(attend_block)(head, first + i, AD_MIN(count - i, QUERIES), work);
}

const AdCpuKernels TABLE = {
    .layer_norm  = NAME(layer_norm),
    .column_sums = NAME(column_sums),
    .scale_rows  = NAME(scale_rows),
    .activate    = NAME(activate),
    .geglu       = NAME(geglu),
    .pack_keys   = NAME(pack_keys),
    .pack_values = NAME(pack_values),
    .attend      = NAME(attend),
};

#undef T
#undef SLOTS
#undef DOT
#undef LOAD
#undef STORE
#undef SILU
#undef GELU
#undef TABLE
#undef NAME
