/* test_pickle_caps.c - how much a pickle may hold, and what a hostile one may cost.
 *
 * Caps are tried just below and just above.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "hostile.h"
#include "pickles.h"
#include "zips.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

typedef struct Text { char *s; size_t n, room; } Text;

static void add_times(Text *t, size_t times, const void *s, size_t n)
{
    if (t->n + n * times + 1 > t->room)
        t->s = realloc(t->s, t->room = 2 * (t->n + n * times + 1));
    for (size_t i = 0; i < times; i++, t->n += n)
        memcpy(t->s + t->n, s, n);
}

#define ADD(t, s)           add_times(t, 1, s, sizeof(s) - 1)
#define TIMES(t, times, s)  add_times(t, times, s, sizeof(s) - 1)

static void add_number(Text *t, size_t number)
{
    add_times(t, 1, &(uint32_t){ (uint32_t)number }, 4);
}

static const char *written(Text *t)
{
    ZipWriter w = { 0 };

    zip_torch(&w, t->s, t->n, 24);
    free(t->s);
    *t = (Text){ 0 };
    return zip_write(&w, "caps.pt");
}

/* Accepted (part NULL) or refused with that sentence. */
static void opens(Text *t, const char *part)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(&ctx, &f, written(t));

    ad_tensor_file_close(&f);
    if (!part && st < 0)
        FAIL("%s", ctx.error);
    if (part) {
        CHECK_STATUS(st, AD_ERR_FORMAT);
        CHECK_CONTAINS(ctx.error, part);
    }
}

/* ---- caps --------------------------------------------------------------------------------- */

static void of_bytes(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}NB");
    add_number(&t, n - t.n - 6);
    add_times(&t, n - t.n - 2, "x", 1);
    ADD(&t, "s.");
    opens(&t, part);
}

static void a_pickle_has_at_most_16_mib(void)
{
    of_bytes(AD_CAP_PICKLE, NULL);
    of_bytes(AD_CAP_PICKLE + 1, "data.pkl of 16777217 bytes; at most 16777216 are accepted");
}

static void of_opcodes(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}");
    TIMES(&t, n - 2, "q\0");
    ADD(&t, ".");
    opens(&t, part);
}

static void a_pickle_has_at_most_8000000_opcodes(void)
{
    of_opcodes(AD_CAP_OPCODES, NULL);
    of_opcodes(AD_CAP_OPCODES + 1, "more than 8000000 opcodes");
}

/* One of the 2,000,000 is the machine's own. */
static void at_most_2000000_values_are_kept(void)
{
    Text t = { 0 };

    ADD(&t, P);
    TIMES(&t, AD_CAP_CELLS - 1, "N");
    ADD(&t, ".");
    opens(&t, "ends with more or less than one value");
    ADD(&t, P);
    TIMES(&t, AD_CAP_CELLS, "N");
    ADD(&t, ".");
    opens(&t, "more than 2000000 values");
    ADD(&t, P);
    TIMES(&t, AD_CAP_CELLS / 3 + 1, "}\224");       /* in memo, pool and stack */
    ADD(&t, ".");
    opens(&t, "more than 2000000 values");
}

/* Dicts in each other, n of them, the innermost with a tensor. */
static void of_dicts(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}");
    TIMES(&t, n - 1, TEXT("\1", "a") "}");
    ADD(&t, TEXT("\1", "a") TENSOR);
    TIMES(&t, n, "s");
    ADD(&t, ".");
    opens(&t, part);
}

static void of_marks(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}N");
    TIMES(&t, n, "(");
    TIMES(&t, n, "t");
    ADD(&t, "s.");
    opens(&t, part);
}

static void nesting_ends_at_64(void)
{
    of_dicts(64, NULL);
    of_dicts(65, "nested more than 64 deep");
    of_marks(64, NULL);
    of_marks(65, "nested more than 64 deep");
}

static void of_name(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}" TEXT("\1", "a") "}X");
    add_number(&t, n - 2);
    add_times(&t, n - 2, "n", 1);
    ADD(&t, TENSOR "ss.");
    opens(&t, part);
}

static void a_name_has_at_most_512_bytes(void)
{
    of_name(512, NULL);
    of_name(513, "longer than 512 bytes");
}

static void of_tensors(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "](" TENSOR "q\0");
    TIMES(&t, n - 1, "h\0");
    ADD(&t, "e.");
    opens(&t, part);
}

static void a_file_has_at_most_65536_tensors(void)
{
    of_tensors(65536, NULL);
    of_tensors(65537, "more than 65536 tensors");
}

static void of_values(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}(");
    TIMES(&t, n, "NN");
    ADD(&t, "u.");
    opens(&t, part);
}

static void a_dict_has_at_most_65536_values(void)
{
    of_values(65536, NULL);
    of_values(65537, "a dict of more than 65536 values");
}

/* Names of 506 bytes, a point and a number from 1000 on. */
static void of_names(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P "}X");
    add_number(&t, 506);
    add_times(&t, 506, "n", 1);
    ADD(&t, "}(");
    for (size_t i = 0; i < n; i++) {
        ADD(&t, "J");
        add_number(&t, 1000 + i);
        if (i == 0)
            ADD(&t, TENSOR "q\0");
        else
            ADD(&t, "h\0");
    }
    ADD(&t, "us.");
    opens(&t, part);
}

/* 511 bytes and a NUL where the number has four digits, then one more. */
static void names_have_at_most_8_mib(void)
{
    size_t n = 9000 + (AD_CAP_NAMES - 9000 * 512) / 513;

    of_names(n, NULL);
    of_names(n + 1, "names of more than 8 MiB");
}

static void of_state(size_t n, const char *part)
{
    Text t = { 0 };

    ADD(&t, P ORDERED ")R}(");
    TIMES(&t, n, "NN");
    ADD(&t, "ub.");
    opens(&t, part);
}

static void a_state_has_at_most_64_values(void)
{
    of_state(64, NULL);
    of_state(65, "a state of more than 64 values");
}

/* ---- work that a hostile pickle may cause ------------------------------------------------- */

/* start, then `unit` as often as fits into 16 MiB, then end. */
static const struct Hostile {
    const char *what, *start; size_t n; const char *unit; size_t m; const char *end; size_t k;
} hostile[] = {
    { "values", BYTES(""), BYTES("N"), BYTES(".") },
    { "dicts", BYTES(""), BYTES("}"), BYTES(".") },
    { "values in the memo", BYTES(""), BYTES("N\224"), BYTES(".") },
    { "puts", BYTES("}"), BYTES("q\0"), BYTES(".") },
    { "gets", BYTES("}q\0"), BYTES("h\0"), BYTES(".") },
    { "marks", BYTES(""), BYTES("("), BYTES(".") },
    { "tuples in tuples", BYTES("N"), BYTES("\205"), BYTES(".") },
    { "empty tuples", BYTES(""), BYTES("(t"), BYTES(".") },
    { "items", BYTES("}"), BYTES("NNs"), BYTES(".") },
    { "items of one key", BYTES("}"), BYTES("\214\1aNs"), BYTES(".") },
    { "items of one dict", BYTES("}("), BYTES("NN"), BYTES("u.") },
    { "items of two dicts in turn", BYTES("}q\0}q\1"), BYTES("NNsh\0NNsh\1"), BYTES(".") },
    { "appended values", BYTES("]"), BYTES("Na"), BYTES(".") },
    { "calls", BYTES(""), BYTES(INERT ")R"), BYTES(".") },
    { "states of one dict", BYTES("}q\0"), BYTES("h\0}b"), BYTES(".") },
    { "states of many dicts", BYTES("}(NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNuq\0"),
      BYTES("}h\0b"), BYTES(".") },
    { "states of an inert object", BYTES("}(NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNuq\0N"),
      BYTES("h\0b"), BYTES(".") },
    { "names", BYTES(""), BYTES(ORDERED), BYTES(".") },
    { "one name", BYTES("c"), BYTES("x"), BYTES(".") },
    { "storages", BYTES(""), BYTES(STORAGE), BYTES(".") },
    { "tensors", BYTES("}("), BYTES("N" TENSOR), BYTES("N.") },
    { "tensors from the memo", BYTES(TENSOR "q\0("), BYTES("h\0"), BYTES("t\206.") },
    { "one list in many places", BYTES("](NNNNNNNNNNNNNNNNeq\0("), BYTES("h\0"), BYTES("t\206.") },
    { "a dict inside itself", BYTES("}q\0("), BYTES("K\1h\0"), BYTES("u.") },
    { "frames", BYTES(""), BYTES("\225\0\0\0\0\0\0\0\0"), BYTES("N.") },
};

static AdStatus open_file(const char *path)
{
    AdTensorFile *f = NULL;

    return ad_tensor_file_open(&ctx, &f, path);
}

static void refused_cheaply(Text *t)
{
    const char *why = hostile_open(open_file, written(t));

    if (why)
        FAIL("%s", why);
}

static void costs_little(const struct Hostile *h)
{
    Text t = { 0 };

    ADD(&t, P);
    add_times(&t, 1, h->start, h->n);
    add_times(&t, (AD_CAP_PICKLE - t.n - h->k) / h->m, h->unit, h->m);
    add_times(&t, 1, h->end, h->k);
    refused_cheaply(&t);
}

/* Each dict holds the one before twice: 2^60 ways to the innermost, in 700 bytes. */
static void doubled_dicts_cost_little(void)
{
    Text t = { 0 };

    ADD(&t, P "}\224" TEXT("\1", "t") "Ns");
    for (unsigned char i = 0; i < 60; i++) {
        ADD(&t, "}\224" TEXT("\1", "a") "h");
        add_times(&t, 1, &i, 1);
        ADD(&t, "s" TEXT("\1", "b") "h");
        add_times(&t, 1, &i, 1);
        ADD(&t, "s");
    }
    TIMES(&t, 60, "\206");
    ADD(&t, ".");
    refused_cheaply(&t);
}

/* 32,000 keys of 500 bytes in a dict that is met 100,000 times. */
static void a_dict_with_long_keys_in_many_places_costs_little(void)
{
    Text t = { 0 };

    ADD(&t, P "}\224(");
    for (unsigned i = 0; i < 32000; i++) {
        char key[512];

        memset(key, 'k', sizeof(key));
        snprintf(key + 490, sizeof(key) - 490, "%010u", i);
        ADD(&t, "X\364\1\0\0");
        add_times(&t, 1, key, 500);
        ADD(&t, "N");
    }
    ADD(&t, "u](");
    TIMES(&t, 100000, "h\0");
    ADD(&t, "e\206.");
    refused_cheaply(&t);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    RUN(a_pickle_has_at_most_16_mib);
    RUN(a_pickle_has_at_most_8000000_opcodes);
    RUN(at_most_2000000_values_are_kept);
    RUN(nesting_ends_at_64);
    RUN(a_name_has_at_most_512_bytes);
    RUN(a_file_has_at_most_65536_tensors);
    RUN(a_dict_has_at_most_65536_values);
    RUN(names_have_at_most_8_mib);
    RUN(a_state_has_at_most_64_values);
    for (i_ = 0; i_ < AD_COUNT(hostile); i_++)
        RUN_AS(costs_little(&hostile[i_]), "costs little: 16 MiB of %s", hostile[i_].what);
    RUN(doubled_dicts_cost_little);
    RUN(a_dict_with_long_keys_in_many_places_costs_little);
    return check_result();
}
