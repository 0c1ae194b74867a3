/* test_arena.c - first-fit memory against a model that keeps a list and searches it by force.
 *
 * Random takes, drops, marks and releases; then the property everything rests on: a pass on a
 * measuring arena tells to the byte what slab the same pass needs.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../kernels/arena.h"
#include "check.h"
#include "scratch.h"

enum { MOST = 64, SLAB = 64 << 10 };

static _Alignas(AD_ARENA_ALIGN) char slab[SLAB];

/* ---- the model ---------------------------------------------------------------------------- */

typedef struct Held { size_t offset, bytes; int age; void *p; } Held;

typedef struct Model {
    Held   held[MOST];          /* in order of taking */
    int    count, age;
    size_t peak;
} Model;

static bool free_at(const Model *m, size_t offset, size_t bytes)
{
    for (int i = 0; i < m->count; i++)
        if (offset < m->held[i].offset + m->held[i].bytes && m->held[i].offset < offset + bytes)
            return false;
    return true;
}

/* The lowest place for `bytes` (already rounded). */
static size_t lowest(const Model *m, size_t bytes)
{
    size_t offset = 0;

    while (!free_at(m, offset, bytes))
        offset += AD_ARENA_ALIGN;
    return offset;
}

static void model_take(Model *m, size_t bytes, void *p)
{
    size_t offset = lowest(m, bytes);

    m->held[m->count++] = (Held){ offset, bytes, ++m->age, p };
    m->peak = AD_MAX(m->peak, offset + bytes);
}

static void model_drop(Model *m, int i)
{
    m->count--;
    memmove(&m->held[i], &m->held[i + 1], (size_t)(m->count - i) * sizeof(Held));
}

static void model_release(Model *m, int age)
{
    while (m->count && m->held[m->count - 1].age > age)
        m->count--;
}

/* ---- random use --------------------------------------------------------------------------- */

static uint32_t next(uint64_t *random, uint32_t below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

static void take(AdArena *a, Model *m, size_t bytes)
{
    size_t rounded = ad_round_up(bytes ? bytes : 1, AD_ARENA_ALIGN), missing = 7;
    size_t offset = lowest(m, rounded);
    char *p = ad_arena_take(a, bytes, &missing);

    if (offset + rounded > a->size) {
        CHECK(p == NULL);
        CHECK_INT(missing, offset + rounded - a->size);
        return;
    }
    CHECK(p == a->base + offset);
    CHECK_INT(missing, 0);
    model_take(m, rounded, p);
}

/* 4,000 random calls with a seed; marks are released in the order of a stack. */
static void behaves_as_the_model(uint64_t seed)
{
    AdArena a;
    Model m = { 0 };
    AdMark marks[8];
    int ages[8], depth = 0;

    ad_arena_init(&a, slab, SLAB - 3 * AD_ARENA_ALIGN * (seed % 2));
    for (int i = 0; i < 4000; i++) {
        uint32_t what = next(&seed, 10);

        if (what < 5 && m.count < MOST)
            take(&a, &m, next(&seed, 3) ? next(&seed, 6000) : next(&seed, 2) * AD_ARENA_ALIGN);
        else if (what < 8 && m.count) {
            int k = (int)next(&seed, (uint32_t)m.count);

            ad_arena_drop(&a, m.held[k].p);
            model_drop(&m, k);
        } else if (what == 8 && depth < 8) {
            marks[depth]  = ad_arena_mark(&a);
            ages[depth++] = m.age;
        } else if (what == 9 && depth > 0) {
            ad_arena_release(&a, marks[--depth]);
            model_release(&m, ages[depth]);
        }
        CHECK_INT(a.count, m.count);
        CHECK_INT(a.peak, m.peak);
    }
    ad_arena_free(&a);
}

/* ---- measuring ---------------------------------------------------------------------------- */

/* A pass as a network makes it: results kept, temporaries released, skips dropped late. False when
 * the slab is too small; *missing then says by how much. */
static bool pass(AdArena *a, uint64_t seed, size_t *missing)
{
    void *skips[16];
    int n = 0;

    for (int i = 0; i < 32; i++) {
        AdMark m;

        if (i < 16 && !(skips[n++] = ad_arena_take(a, 1 + next(&seed, 3000), missing)))
            return false;
        m = ad_arena_mark(a);
        for (int k = 0; k < 4; k++) {
            void *p = ad_arena_take(a, 1 + next(&seed, 2000), missing);

            if (!p)
                return false;
            if (next(&seed, 2))
                ad_arena_drop(a, p);
        }
        ad_arena_release(a, m);
        if (i >= 16)
            ad_arena_drop(a, skips[--n]);
    }
    return true;
}

static void a_measured_peak_is_what_the_pass_needs(uint64_t seed)
{
    AdArena dry, real;
    size_t missing, need;

    ad_arena_measure(&dry);
    CHECK(pass(&dry, seed, &missing));
    need = dry.peak;
    CHECK_INT(dry.count, 0);
    CHECK(need > 0 && need <= SLAB && need % AD_ARENA_ALIGN == 0);
    ad_arena_init(&real, slab, need);
    for (int i = 0; i < 3; i++)                     /* every step takes the same places */
        CHECK(pass(&real, seed, &missing));
    CHECK_INT(real.peak, need);
    ad_arena_free(&real);
    ad_arena_init(&real, slab, need - AD_ARENA_ALIGN);
    CHECK(!pass(&real, seed, &missing));
    CHECK(missing > 0 && missing % AD_ARENA_ALIGN == 0);
    ad_arena_free(&real);
    ad_arena_free(&dry);
}

/* ---- single rules ------------------------------------------------------------------------- */

static void what_is_missing_is_what_helps(void)
{
    AdArena a;
    size_t missing;

    ad_arena_init(&a, slab, 1024);
    CHECK(ad_arena_take(&a, 700, &missing) != NULL);
    CHECK(ad_arena_take(&a, 300, &missing) == NULL);
    CHECK_INT(missing, 768 + 512 - 1024);
    CHECK(ad_arena_take(&a, 256, &missing) != NULL);
    CHECK(ad_arena_take(&a, 1, &missing) == NULL);
    CHECK_INT(missing, 256);
    ad_arena_free(&a);
}

static void a_huge_request_is_refused(void)
{
    AdArena a;
    size_t missing;

    ad_arena_init(&a, slab, 1024);
    CHECK(ad_arena_take(&a, SIZE_MAX / 4, &missing) == NULL);
    CHECK(missing > SIZE_MAX / 8);
    CHECK_INT(a.count, 0);
    ad_arena_free(&a);
}

static void a_dropped_place_is_used_again_at_once(void)
{
    AdArena a;
    size_t missing;
    void *p[4], *again;

    ad_arena_init(&a, slab, 4096);
    for (int i = 0; i < 4; i++)
        p[i] = ad_arena_take(&a, 1024, &missing);
    ad_arena_drop(&a, p[1]);
    again = ad_arena_take(&a, 600, &missing);
    CHECK(again == p[1]);
    CHECK(ad_arena_take(&a, 300, &missing) == NULL);        /* 256 are left behind it */
    CHECK((char *)ad_arena_take(&a, 200, &missing) == (char *)p[1] + 768);
    ad_arena_free(&a);
}

static void a_mark_keeps_what_was_taken_before_it(void)
{
    AdArena a;
    size_t missing;
    void *before, *kept;
    AdMark m;

    ad_arena_init(&a, slab, 4096);
    before = ad_arena_take(&a, 256, &missing);
    kept   = ad_arena_take(&a, 256, &missing);
    m = ad_arena_mark(&a);
    ad_arena_take(&a, 256, &missing);
    ad_arena_drop(&a, before);                      /* a place below is free and used again */
    CHECK(ad_arena_take(&a, 256, &missing) == before);
    ad_arena_release(&a, m);
    CHECK_INT(a.count, 1);
    CHECK(a.base + a.blocks[0].offset == kept);
    ad_arena_release(&a, m);                        /* nothing left to release */
    CHECK_INT(a.count, 1);
    ad_arena_drop(&a, NULL);
    CHECK_INT(a.count, 1);
    ad_arena_free(&a);
    CHECK(a.blocks == NULL && a.count == 0);
}

static void nothing_still_takes_a_place(void)
{
    AdArena a;
    size_t missing;
    void *p, *q;

    ad_arena_init(&a, slab, 1024);
    p = ad_arena_take(&a, 0, &missing);
    q = ad_arena_take(&a, 0, &missing);
    CHECK(p && q && p != q);
    ad_arena_free(&a);
}

/* ---- main --------------------------------------------------------------------------------- */

static uint64_t seed_;          /* outlives the longjmp of a failing case */

int main(void)
{
    for (seed_ = 1; seed_ <= 20; seed_++)
        RUN_AS(behaves_as_the_model(seed_), "random use %d behaves as the model", (int)seed_);
    for (seed_ = 1; seed_ <= 20; seed_++)
        RUN_AS(a_measured_peak_is_what_the_pass_needs(seed_), "pass %d needs what was measured",
               (int)seed_);
    RUN(what_is_missing_is_what_helps);
    RUN(a_huge_request_is_refused);
    RUN(a_dropped_place_is_used_again_at_once);
    RUN(a_mark_keeps_what_was_taken_before_it);
    RUN(nothing_still_takes_a_place);
    return check_result();
}
