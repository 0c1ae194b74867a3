/* test_memory.c - host memory, element types, and the backend that computes nothing.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../kernels/host_memory.h"
#include "check.h"
#include "scratch.h"

/* ---- host memory -------------------------------------------------------------------------- */

static void memory_is_aligned_and_zero(void)
{
    for (size_t n = 0; n < 300; n += 13) {
        unsigned char *p = ad_alloc(n);

        CHECK(p && (uintptr_t)p % AD_ALIGN == 0);
        for (size_t i = 0; i < n; i++)
            CHECK(p[i] == 0);
        memset(p, 1, n);
        ad_free(p);
    }
    ad_free(NULL);
}

static void products_that_overflow_give_no_memory(void)
{
    void *p = ad_alloc_array(3, 5);

    CHECK(p != NULL);
    ad_free(p);
    CHECK(ad_alloc_array(SIZE_MAX / 2, 3) == NULL);
    CHECK(ad_alloc_array(SIZE_MAX, SIZE_MAX) == NULL);
    CHECK(ad_alloc_raw(SIZE_MAX) == NULL);
    CHECK(ad_alloc_raw(SIZE_MAX - 1) == NULL);
}

static void checked_sums_and_products_notice(void)
{
    uint64_t out;

    CHECK(ad_mul(1ull << 32, (1ull << 32) - 1, &out) && out == UINT64_MAX - (1ull << 32) + 1);
    CHECK(!ad_mul(1ull << 32, 1ull << 32, &out));
    CHECK(ad_add(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    CHECK(!ad_add(UINT64_MAX, 1, &out));
}

static void arrays_grow_and_keep_what_they_hold(void)
{
    void *items = NULL;
    size_t room = 0, before;

    for (int i = 0; i < 1000; i++) {
        before = room;
        CHECK(ad_grow(&items, &room, (size_t)i + 1, sizeof(int)));
        CHECK(room > (size_t)i);
        for (size_t k = before; k < room; k++)
            CHECK_INT(((int *)items)[k], 0);
        ((int *)items)[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        CHECK_INT(((int *)items)[i], i);
    before = room;
    CHECK(!ad_grow(&items, &room, SIZE_MAX / 2, sizeof(int)));
    CHECK(room == before && ((int *)items)[999] == 999);
    ad_free(items);
}

static void strings_are_copied_and_messages_cut(void)
{
    char *copy = ad_strdup("text"), *part = ad_strndup("text", 2), small[8];

    CHECK_TEXT(copy, "text");
    CHECK_TEXT(part, "te");
    ad_free(copy);
    ad_free(part);
    ad_format(small, sizeof(small), "%s-%d", "abcdef", 12345);
    CHECK_TEXT(small, "abcdef-");
}

/* ---- element types ------------------------------------------------------------------------ */

static void halves_survive_the_way_to_float_and_back(void)
{
    for (uint32_t i = 0; i < 65536; i++) {
        float f = ad_half_to_float((uint16_t)i);

        if (isnan(f))
            CHECK(isnan(ad_half_to_float(ad_float_to_half(f))));
        else
            CHECK_INT(ad_float_to_half(f), i);
        f = ad_bf16_to_float((uint16_t)i);
        if (isnan(f))
            CHECK(isnan(ad_bf16_to_float(ad_float_to_bf16(f))));
        else
            CHECK_INT(ad_float_to_bf16(f), i);
    }
}

/* Between two neighbours of the type: below the middle down, above it up, on it to the even one. */
static void numbers_between_round_to_nearest_even(void)
{
    for (uint32_t i = 0; i < 0x7bff; i++) {         /* finite halves */
        float a = ad_half_to_float((uint16_t)i), b = ad_half_to_float((uint16_t)(i + 1));
        float middle = (a + b) / 2;

        CHECK_INT(ad_float_to_half(middle), i + (i & 1));
        CHECK_INT(ad_float_to_half(nextafterf(middle, 0)), i);
        CHECK_INT(ad_float_to_half(-nextafterf(middle, INFINITY)), 0x8000 | (i + 1));
    }
    for (uint32_t i = 0x100; i < 0x7f7f; i++) {
        float a = ad_bf16_to_float((uint16_t)i), b = ad_bf16_to_float((uint16_t)(i + 1));
        float middle = a + (b - a) / 2;

        CHECK_INT(ad_float_to_bf16(middle), i + (i & 1));
        CHECK_INT(ad_float_to_bf16(nextafterf(middle, 0)), i);
        CHECK_INT(ad_float_to_bf16(-nextafterf(middle, INFINITY)), 0x8000 | (i + 1));
    }
    CHECK_INT(ad_float_to_half(65519.996f), 0x7bff);
    CHECK_INT(ad_float_to_half(65520), 0x7c00);
    CHECK_INT(ad_float_to_half(1e30f), 0x7c00);
    CHECK_INT(ad_float_to_half(-INFINITY), 0xfc00);
    CHECK_INT(ad_float_to_half(1e-30f), 0);
    CHECK_INT(ad_float_to_bf16(3.4e38f), 0x7f80);
}

static void conversion_works_in_place_when_it_shrinks(void)
{
    float numbers[64], copy[64];
    AdType types[] = { AD_BF16, AD_F16, AD_F32 };

    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < 64; i++)
            numbers[i] = copy[i] = (float)(i - 32) / 7;
        ad_convert(numbers, types[t], numbers, AD_F32, 64);
        for (int i = 0; i < 64; i++) {
            float stored;

            ad_store(&stored, types[t], 0, copy[i]);
            CHECK(ad_load(numbers, types[t], i) == ad_load(&stored, types[t], 0));
        }
    }
}

static void views_and_slices_share_the_numbers(void)
{
    float numbers[24];
    AdTensor t = { numbers, { 4, 1, 2, 3 }, AD_F32, 0 }, part = ad_slice(t, 1, 2);
    AdTensor view = ad_view(t, 1, 1, 4, 6);
    char text[AD_SHAPE_TEXT];

    CHECK(part.data == numbers + 6 && part.dim[0] == 2 && ad_count(part) == 12);
    CHECK(view.data == numbers && ad_rows(view) == 4 && ad_bytes(view) == sizeof(numbers));
    CHECK(ad_slice((AdTensor){ NULL, { 4, 1, 1, 1 }, AD_F32, 0 }, 1, 1).data == NULL);
    CHECK_TEXT(ad_shape_text(t, text), "[4, 1, 2, 3] f32");
}

/* ---- slabs -------------------------------------------------------------------------------- */

static AdBackend *opened(const AdBackendClass *cls, AdBackend *measured)
{
    AdDeviceParams params = { .measured = measured };
    AdBackend *be = NULL;

    if (cls->open(&be, &params) < 0)
        die("%s does not open", cls->name);
    return be;
}

static void slabs_are_counted(void)
{
    AdBackend *be = opened(&ad_ref_backend, NULL);
    AdMemory m;
    void *a, *b;

    CHECK_INT(be->cls->alloc(be, 1000, &a), AD_OK);
    CHECK_INT(be->cls->alloc(be, 500, &b), AD_OK);
    CHECK((uintptr_t)a % AD_ARENA_ALIGN == 0 && (uintptr_t)b % AD_ARENA_ALIGN == 0);
    CHECK_INT(be->cls->memory(be, &m), AD_OK);
    CHECK(m.ours == 1500 && m.peak == 1500 && m.total >= m.free);
    be->cls->free(be, a);
    be->cls->free(be, NULL);
    CHECK_INT(be->cls->memory(be, &m), AD_OK);
    CHECK(m.ours == 500 && m.peak == 1500);
    be->cls->free(be, b);
    be->cls->close(&be);
    CHECK(be == NULL);
    ad_ref_backend.close(&be);                      /* NULL-safe */
}

static void a_slab_that_is_not_to_be_had_is_a_sentence(void)
{
    AdBackend *be = opened(&ad_ref_backend, NULL);
    AdMemory m;
    void *p = be;

    CHECK_INT(be->cls->alloc(be, SIZE_MAX - 100, &p), AD_ERR_NOMEM);
    CHECK(p == NULL);
    CHECK_INT(be->cls->alloc(be, SIZE_MAX / 4, &p), AD_ERR_NOMEM);
    CHECK(p == NULL);
    CHECK_CONTAINS(be->message, "MiB of memory are not to be had");
    CHECK_INT(be->cls->memory(be, &m), AD_OK);
    CHECK_INT(m.ours, 0);
    be->cls->close(&be);
}

/* ---- null --------------------------------------------------------------------------------- */

static void null_moves_nothing(void)
{
    AdBackend *be = opened(&ad_null_backend, NULL);
    char here[4] = "abc";

    CHECK_INT(be->cls->upload(be, (void *)1, here, 1 << 20), AD_OK);
    CHECK_INT(be->cls->download(be, here, (void *)1, 4), AD_OK);
    CHECK_TEXT(here, "abc");
    CHECK(be->cls->supports(be, AD_F32) && be->cls->supports(be, AD_F16));
    CHECK(be->cls->supports(be, AD_BF16) && !be->cls->supports(be, AD_I32));
    be->cls->close(&be);
}

static AdStatus probing;        /* what the measured backend answers */
static int asked;

static AdStatus probe(AdBackend *be, const AdLinearArgs *a)
{
    asked++;
    if (a->scratch.need)
        *a->scratch.need = 12345;
    return probing < 0 ? ad_backend_fail(be, probing, "no such plan") : AD_OK;
}

/* Null hands the question on, and a failure's sentence; computing it never does. */
static void null_asks_the_backend_it_stands_for(void)
{
    AdBackend *ref = opened(&ad_ref_backend, NULL), *be = opened(&ad_null_backend, ref);
    AdOps ops = *ref->cls->ops;
    AdBackendClass cls = *ref->cls;
    AdLinearArgs args = { 0 };
    size_t need = 0;

    ops.linear = probe;
    cls.ops    = &ops;
    ref->cls   = &cls;
    probing = AD_OK;
    asked   = 0;
    args.scratch.need = &need;
    CHECK_INT(be->cls->ops->linear(be, &args), AD_OK);
    CHECK_INT(need, 12345);
    CHECK_INT(asked, 1);
    probing = AD_ERR_UNSUPPORTED;
    CHECK_INT(be->cls->ops->linear(be, &args), AD_ERR_UNSUPPORTED);
    CHECK_TEXT(be->message, "no such plan");
    args.scratch.need = NULL;
    CHECK_INT(be->cls->ops->linear(be, &args), AD_OK);
    CHECK_INT(asked, 2);
    ref->cls = &ad_ref_backend;
    be->cls->close(&be);
    ref->cls->close(&ref);
}

static void null_alone_needs_no_scratch(void)
{
    AdBackend *be = opened(&ad_null_backend, NULL);
    size_t need = 7, packed = 0;
    AdConvArgs args = { .scratch.need = &need };
    AdPackArgs pack = { .kind = AD_PACK_VECTOR, .w = { .dim = { 1, 1, 1, 10 }, .type = AD_BF16 },
                        .need = &packed };

    CHECK_INT(be->cls->ops->conv2d(be, &args), AD_OK);
    CHECK_INT(need, 0);
    CHECK_INT(be->cls->pack(be, &pack), AD_OK);
    CHECK_INT(packed, 20);
    be->cls->close(&be);
}

/* ---- the list of devices ------------------------------------------------------------------ */

static void devices_are_opened_by_name(void)
{
    static const struct Try {
        const char *name;
        int threads;
        AdStatus status;
        const char *part;
    } tries[] = {
        { "ref", 0, AD_OK, "" }, { "auto", 1, AD_OK, "" },
        { "null", 0, AD_ERR_INVALID, "is unknown" },
        { "tpu", 0, AD_ERR_INVALID, "device \"tpu\" is unknown; allowed are auto, cpu, cuda" },
        { "", 0, AD_ERR_INVALID, "is unknown" }, { "cpu:1", 0, AD_ERR_INVALID, "is unknown" },
        { "cuda:", 0, AD_ERR_INVALID, "is unknown" }, { "cuda:x", 0, AD_ERR_INVALID, "is unknown" },
        { "cuda:-1", 0, AD_ERR_INVALID, "is unknown" },
        { "ref:0", 0, AD_ERR_INVALID, "is unknown" },
        { "cuda:99999", 0, AD_ERR_INVALID, "is unknown" },
        { "CPU", 0, AD_ERR_INVALID, "is unknown" },
        { "ref", -1, AD_ERR_INVALID, "threads=-1" },
    };

    for (size_t i = 0; i < AD_COUNT(tries); i++) {
        char why[256], message[256];
        AdBackend *be = NULL;
        AdStatus st = ad_backend_open(&be, tries[i].name, tries[i].threads, why, message,
                                      sizeof(why));

        if (st != tries[i].status)
            FAIL("device \"%s\" gives %d: %s", tries[i].name, st, message);
        CHECK_CONTAINS(message, tries[i].part);
        if (be)
            be->cls->close(&be);
    }
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    RUN(memory_is_aligned_and_zero);
    RUN(products_that_overflow_give_no_memory);
    RUN(checked_sums_and_products_notice);
    RUN(arrays_grow_and_keep_what_they_hold);
    RUN(strings_are_copied_and_messages_cut);
    RUN(halves_survive_the_way_to_float_and_back);
    RUN(numbers_between_round_to_nearest_even);
    RUN(conversion_works_in_place_when_it_shrinks);
    RUN(views_and_slices_share_the_numbers);
    RUN(slabs_are_counted);
    RUN(a_slab_that_is_not_to_be_had_is_a_sentence);
    RUN(null_moves_nothing);
    RUN(null_asks_the_backend_it_stands_for);
    RUN(null_alone_needs_no_scratch);
    RUN(devices_are_opened_by_name);
    return check_result();
}
