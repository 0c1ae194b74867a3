/* test_rng.c - noise as torch draws it, on the CPU bit for bit and on CUDA within 2e-6.
 *
 * The CPU's numbers came from PyTorch on a machine with AVX2; long streams are compared by SHA-256
 * over their little-endian floats. The card's sine is an approximation, ours is libm's: hence the
 * tolerance.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/rng.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

/* ---- SHA-256 (FIPS 180-4) ----------------------------------------------------------------- */

/* The first 32 bits of the fraction of x's root: square root of a prime, or cube root. */
static uint32_t root_bits(int prime, bool cube)
{
    long double root = cube ? cbrtl(prime) : sqrtl(prime);

    return (uint32_t)((root - floorl(root)) * 4294967296.0L);
}

static int next_prime(int p)
{
    for (p++;; p++) {
        int d = 2;

        while (d * d <= p && p % d)
            d++;
        if (d * d > p)
            return p;
    }
}

static uint32_t turn(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t h[8], const uint32_t k[64], const unsigned char *p)
{
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) +
               w[i - 7] + (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, h, sizeof(v));
    for (int i = 0; i < 64; i++) {
        uint32_t a = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) +
                     ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        uint32_t b = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) +
                     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

        memmove(v + 1, v, 7 * sizeof(*v));
        v[4] += a;
        v[0]  = a + b;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

/* Hex digest of n bytes. */
static const char *sha256(const void *data, size_t n)
{
    static char text[65];
    unsigned char tail[128] = { 0 };
    size_t whole = n / 64 * 64, rest = n - whole, blocks = rest < 56 ? 1 : 2;
    uint32_t h[8], k[64];

    for (int i = 0, p = 2; i < 64; i++, p = next_prime(p)) {
        k[i] = root_bits(p, true);
        if (i < 8)
            h[i] = root_bits(p, false);
    }
    for (size_t i = 0; i < whole; i += 64)
        sha256_block(h, k, (const unsigned char *)data + i);
    memcpy(tail, (const char *)data + whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[64 * blocks - 1 - (size_t)i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i < blocks; i++)
        sha256_block(h, k, tail + 64 * i);
    for (int i = 0; i < 8; i++)
        snprintf(text + 8 * i, 9, "%08x", (unsigned)h[i]);
    return text;
}

static void the_checksum_of_abc_is_the_published_one(void)
{
    CHECK_TEXT(sha256("abc", 3),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_TEXT(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56),
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* ---- torch.Generator("cpu") --------------------------------------------------------------- */

static AdRngState rng;
static float *numbers;

static uint64_t seed_of(const char *text)
{
    return strtoull(text, NULL, 10);
}

static void seed_cpu(uint64_t seed)
{
    ad_rng_seed(&rng, seed, false, 1, 256);
}

static void floats_are(const float *found, const json_t *vectors, const char *key)
{
    for (size_t i = 0; i < golden_count(vectors, key); i++)
        if (found[i] != (float)golden_at(vectors, key, i))
            FAIL("%s: number %zu is %.9g, not %.9g", key, i, found[i], golden_at(vectors, key, i));
}

static void words_are(const char *seed, const json_t *vectors)
{
    seed_cpu(seed_of(seed));
    ad_rng_normal(&rng, numbers, 16);               /* fills the table of words */
    for (size_t i = 0; i < golden_count(vectors, "raw_u32_first8"); i++) {
        uint32_t y = rng.words[i];

        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c5680u;
        y ^= y << 15 & 0xefc60000u;
        y ^= y >> 18;
        CHECK_INT(y, golden_at(vectors, "raw_u32_first8", i));
    }
}

static void draw_is(const char *seed, const json_t *vectors, size_t n, const char *key)
{
    seed_cpu(seed_of(seed));
    ad_rng_normal(&rng, numbers, n);
    floats_are(numbers, vectors, key);
}

static void long_draws_are(const char *seed, const json_t *vectors)
{
    enum { N = 262144 };

    draw_is(seed, vectors, N, "randn_f32_n262144_first8");
    floats_are(numbers + N - 8, vectors, "randn_f32_n262144_last8");
    CHECK_TEXT(sha256(numbers, N * sizeof(float)),
               golden_text(vectors, "randn_f32_n262144_sha256_le_avx2"));
    ad_rng_normal(&rng, numbers, N);
    floats_are(numbers, vectors, "second_call_f32_n262144_first8");
}

static void the_longest_stream_has_the_published_checksum(const json_t *cpu)
{
    seed_cpu(0);
    ad_rng_normal(&rng, numbers, 1200000);
    CHECK_TEXT(sha256(numbers, 1200000 * sizeof(float)),
               golden_text(cpu, "sha256_seed0_f32_n1200000_le_avx2"));
}

static void seeds_count_by_their_low_32_bits(void)
{
    float other[32];

    seed_cpu(7);
    ad_rng_normal(&rng, numbers, 32);
    seed_cpu(7 + (5ull << 32));
    ad_rng_normal(&rng, other, 32);
    CHECK(!memcmp(numbers, other, sizeof(other)));
}

static void the_second_of_a_pair_waits_through_a_long_draw(void)
{
    float pair[2], block[16], apart[2];

    seed_cpu(3);
    ad_rng_normal(&rng, pair, 2);
    ad_rng_normal(&rng, block, 16);
    seed_cpu(3);
    ad_rng_normal(&rng, apart, 1);
    ad_rng_normal(&rng, numbers, 16);
    ad_rng_normal(&rng, apart + 1, 1);
    CHECK(!memcmp(pair, apart, sizeof(pair)));
    CHECK(!memcmp(block, numbers, sizeof(block)));
    seed_cpu(3);
    ad_rng_normal(&rng, apart, 1);
    seed_cpu(3);                                    /* a new seed forgets it */
    ad_rng_normal(&rng, apart + 1, 1);
    CHECK(apart[0] == apart[1]);
}

static void a_rest_redoes_the_last_sixteen(void)
{
    seed_cpu(11);
    ad_rng_normal(&rng, numbers, 48);
    seed_cpu(11);
    ad_rng_normal(&rng, numbers + 48, 36);          /* 32 as before, the last 16 new */
    CHECK(!memcmp(numbers, numbers + 48, 20 * sizeof(float)));
    CHECK(memcmp(numbers + 20, numbers + 68, 12 * sizeof(float)));
}

/* ---- torch.Generator("cuda") -------------------------------------------------------------- */

static void philox_words_are(const char *seed, const json_t *vectors)
{
    json_t *rows = golden_get(vectors, "raw_words_subsequence_0_to_3_counter0"), *row;
    uint32_t key[2] = { (uint32_t)seed_of(seed), (uint32_t)(seed_of(seed) >> 32) };
    size_t s;

    json_array_foreach(rows, s, row) {
        uint32_t counter[4] = { 0, 0, (uint32_t)s, 0 }, words[4];

        ad_philox(counter, key, words);
        for (size_t i = 0; i < 4; i++)
            CHECK_INT(words[i], json_integer_value(json_array_get(row, i)));
    }
}

static void small_calls_are(const char *seed, const json_t *vectors)
{
    json_t *calls = golden_get(vectors, "successive_calls_first8_small_tensor"), *call;
    size_t k;

    ad_rng_seed(&rng, seed_of(seed), true, 132, 2048);
    json_array_foreach(calls, k, call) {
        ad_rng_normal(&rng, numbers, 4096);
        for (size_t i = 0; i < 8; i++)
            CHECK_NEAR(numbers[i], json_number_value(json_array_get(call, i)), 2e-6);
        CHECK_INT(rng.offset, 4 * (k + 1));
    }
}

/* card: "A100_108x2048" */
static void large_tensor_is(const char *seed, const char *card, const json_t *v)
{
    static const char *const calls[] = { "first_call", "second_call" };
    static const char *const offsets[] = { "offset_after_first", "offset_after_second" };
    int sms = 0, per_sm = 0;

    if (sscanf(strrchr(card, '_') + 1, "%dx%d", &sms, &per_sm) != 2)
        die("%s: no card", card);
    ad_rng_seed(&rng, seed_of(seed), true, sms, per_sm);
    for (int k = 0; k < 2; k++) {
        ad_rng_normal(&rng, numbers, 4 * 16 * 64 * 64);
        for (size_t i = 0; i < golden_count(v, "index"); i++)
            CHECK_NEAR(numbers[(size_t)golden_at(v, "index", i)], golden_at(v, calls[k], i), 2e-6);
        CHECK_INT(rng.offset, golden_number(v, offsets[k]));
    }
}

static void threads_of_a_card_come_in_blocks_of_256(void)
{
    enum { N = 100000 };

    ad_rng_seed(&rng, 1, true, 10, 1023);           /* 3 blocks per SM fit, as with 768 */
    ad_rng_normal(&rng, numbers, N);
    ad_rng_seed(&rng, 1, true, 10, 768);
    ad_rng_normal(&rng, numbers + N, N);
    CHECK(!memcmp(numbers, numbers + N, N * sizeof(float)));
}

/* ---- main --------------------------------------------------------------------------------- */

static const char *seed_;       /* these outlive the longjmp of a failing case */
static json_t *vectors_, *value_;
static const char *card_;

int main(void)
{
    json_t *tables = golden_json("scheduler_tables.json");
    json_t *cpu = golden_get(golden_get(tables, "rng"), "cpu_mt19937");
    json_t *cuda = golden_get(golden_get(tables, "rng"), "cuda_philox");

    numbers = calloc(1200000, sizeof(*numbers));
    if (!numbers)
        die("no memory");
    RUN(the_checksum_of_abc_is_the_published_one);
    json_object_foreach(cpu, seed_, vectors_) {
        if (!json_is_object(vectors_))
            continue;
        RUN_AS(words_are(seed_, vectors_), "cpu, seed %s: words", seed_);
        RUN_AS(draw_is(seed_, vectors_, 8, "randn_f32_n8"), "cpu, seed %s: 8 numbers", seed_);
        RUN_AS(draw_is(seed_, vectors_, 16, "randn_f32_n16"), "cpu, seed %s: 16 numbers", seed_);
        RUN_AS(draw_is(seed_, vectors_, 20, "randn_f32_n20"), "cpu, seed %s: 20 numbers", seed_);
        RUN_AS(draw_is(seed_, vectors_, 32, "randn_f32_n32"), "cpu, seed %s: 32 numbers", seed_);
        RUN_AS(long_draws_are(seed_, vectors_), "cpu, seed %s: twice 262,144 numbers", seed_);
    }
    RUN_AS(the_longest_stream_has_the_published_checksum(cpu), "cpu: 1,200,000 numbers");
    RUN(seeds_count_by_their_low_32_bits);
    RUN(the_second_of_a_pair_waits_through_a_long_draw);
    RUN(a_rest_redoes_the_last_sixteen);
    json_object_foreach(cuda, seed_, vectors_) {
        if (!json_is_object(vectors_))
            continue;
        RUN_AS(philox_words_are(seed_, vectors_), "cuda, seed %s: words", seed_);
        RUN_AS(small_calls_are(seed_, vectors_), "cuda, seed %s: successive calls", seed_);
        json_object_foreach(golden_get(vectors_, "shape_1x4x16x64x64"), card_, value_)
            RUN_AS(large_tensor_is(seed_, card_, value_), "cuda, seed %s: a video on %s", seed_,
                   card_);
    }
    RUN(threads_of_a_card_come_in_blocks_of_256);
    free(numbers);
    json_decref(tables);
    return check_result();
}
