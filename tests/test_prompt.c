/* test_prompt.c - weighted prompts: pieces, rows of ids, text states and a clip.
 *
 * Against tests/golden/weighted.*, and what must be refused. Plain prompts are test_tokenizer.c's
 * and test_clips.c's; here only that they know nothing of the syntax.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "../engine/emphasis.h"
#include "../engine/internal.h"
#include "../engine/prompt.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static AdContext quiet;
static AdTokenizer *small;
static json_t *golden;
static size_t i_;               /* these outlive the longjmp of a failing case */
static json_t *entry;
static int half_;

/* ---- pieces ------------------------------------------------------------------------------- */

static void text_has_pieces(const json_t *c)
{
    json_t *wanted = golden_get(c, "pieces");
    AdEmphasis e;

    CHECK_STATUS(ad_emphasis_parse(&quiet, "prompt", golden_text(c, "text"), &e), AD_OK);
    CHECK_INT(e.count, json_array_size(wanted));
    for (size_t i = 0; i < e.count; i++) {
        json_t *piece = json_array_get(wanted, i), *weight = json_array_get(piece, 1);
        char found[256];

        CHECK_INT(e.pieces[i].ends_chunk, json_is_null(weight));
        if (e.pieces[i].ends_chunk)
            continue;
        snprintf(found, sizeof(found), "%.*s", (int)e.pieces[i].n, e.text + e.pieces[i].at);
        CHECK_TEXT(found, json_string_value(json_array_get(piece, 0)));
        CHECK_NEAR(e.pieces[i].weight, json_number_value(weight), 1e-12);
    }
    ad_emphasis_free(&e);
}

static void all_pieces(void)
{
    char quoted[AD_QUOTE_TEXT];

    json_array_foreach(golden_get(golden, "parsed"), i_, entry) {
        const char *text = golden_text(entry, "text");

        RUN_AS(text_has_pieces(entry), "pieces of \"%.60s\"", ad_quote(text, strlen(text), quoted));
    }
}

/* `n` times `inner`, with before and behind; free() it. */
static char *repeated(const char *before, const char *inner, size_t n, const char *behind)
{
    size_t m = strlen(inner);
    char *text = malloc(strlen(before) + n * m + strlen(behind) + 1), *at = text;

    at += sprintf(at, "%s", before);
    for (size_t i = 0; i < n; i++, at += m)
        memcpy(at, inner, m);
    sprintf(at, "%s", behind);
    return text;
}

static AdStatus weighted(const char *text, AdPrompt *p)
{
    return ad_prompt_encode_weighted(&quiet, small, "prompt", text, p);
}

static void refused(const char *text, const char *sentence)
{
    AdPrompt p;

    CHECK_STATUS(weighted(text, &p), AD_ERR_INVALID);
    CHECK_CONTAINS(quiet.error, sentence);
    ad_prompt_free(&p);
}

static void accepted(const char *text, int chunks)
{
    AdPrompt p;

    CHECK_STATUS(weighted(text, &p), AD_OK);
    CHECK_INT(p.chunks, chunks);
    ad_prompt_free(&p);
}

static void brackets_nest_at_most_64_deep(void)
{
    static const char *const brackets[] = { "(", "[" };

    for (size_t i = 0; i < AD_COUNT(brackets); i++) {
        char *fits = repeated("a", brackets[i], AD_CAP_BRACKETS, ":1)))))))))))))))))))))))))))");
        char *deep = repeated("a", brackets[i], AD_CAP_BRACKETS + 1, "");

        accepted(fits, 1);
        refused(deep, "prompt: more than 64 brackets are open at byte 65");
        free(fits);
        free(deep);
    }
}

static void weights_are_numbers_up_to_100(void)
{
    char *nines = repeated("(a:", "9", 4000, ")");

    accepted("(a:100) (b:-100) (c:0)", 1);
    refused("x (a:1.2.3)", "prompt: \"1.2.3\" at byte 5 is no weight");
    refused("(a:.)", "\".\" at byte 3 is no weight");
    refused("(a:100.1)", "a weight of 100.1; -100 to 100 are allowed");
    refused("((a:20):-20)", "a weight of -400");
    refused(nines, "is no weight");
    free(nines);
    accepted("a:1.2.3)", 1);                        /* no bracket is open: text */
}

static void chunks_are_at_most_64(void)
{
    char *fits = repeated("a", " BREAK a", AD_CAP_CHUNKS - 1, "");
    char *many = repeated("a", " BREAK a", AD_CAP_CHUNKS, "");
    char *longest = repeated("", "a ", 75 * AD_CAP_CHUNKS, "");
    char *longer  = repeated("", "a ", 75 * AD_CAP_CHUNKS + 1, "");

    accepted(fits, AD_CAP_CHUNKS);
    refused(many, "prompt: more than 64 chunks of 75 tokens");
    accepted(longest, AD_CAP_CHUNKS);
    refused(longer, "prompt: more than 64 chunks");
    free(fits);
    free(many);
    free(longest);
    free(longer);
}

static void texts_are_checked_as_plain_ones_are(void)
{
    char *large = repeated("", " ", AD_CAP_PROMPT, ""), *larger = repeated(large, " ", 1, "");

    refused("ab\xff", "prompt: not valid UTF-8 at byte 2");
    accepted(large, 1);
    refused(larger, "prompt: 65537 bytes; at most 65536");
    free(large);
    free(larger);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether refused or not: quadratic work would take minutes. */
static void sixty_four_kib_take_no_time(const char *inner)
{
    char *text = repeated("", inner, AD_CAP_PROMPT / strlen(inner), "");
    double start = seconds();
    AdPrompt p;

    weighted(text, &p);
    CHECK(seconds() - start < 2);
    ad_prompt_free(&p);
    free(text);
}

/* ---- ids and states ----------------------------------------------------------------------- */

static void text_has_ids(const json_t *c)
{
    AdPrompt p;

    CHECK_STATUS(weighted(golden_text(c, "text"), &p), AD_OK);
    CHECK_INT(p.chunks * AD_TOKENS, golden_count(c, "ids"));
    for (size_t i = 0; i < golden_count(c, "ids"); i++)
        if (p.ids[i] != (int32_t)golden_at(c, "ids", i))
            FAIL("id %zu is %d, not %d", i, (int)p.ids[i], (int)golden_at(c, "ids", i));
    ad_prompt_free(&p);
}

static AdContext *ctx;
static RenderCase the_case;
static AdTensorFile *truth;

/* The negative prompt is the one under test and the positive one long, and the reverse: padding to
 * equal chunks, and both halves. Differences relative to the largest value. */
static void states_are_right(AdSession *s, const json_t *c, int half)
{
    const AdEntry *e = ad_tensor_file_find(truth, golden_text(c, "name"));
    const char *text = golden_text(c, "text"), *longest = "a BREAK b BREAK c BREAK d";
    AdBackend *be = ctx->backend;
    float *wanted, *found;
    double top = 0, worst = 0;
    int64_t n;

    if (!e)
        die("golden data: no %s", golden_text(c, "name"));
    n = ad_entry_count(e);
    the_case.clip.prompt          = half ? text : longest;
    the_case.clip.negative_prompt = half ? longest : text;
    CHECK_STATUS(ad_session_begin(s, &the_case.clip), AD_OK);
    CHECK_INT(s->work.states.dim[2], 4 * AD_TOKENS);
    wanted = malloc((size_t)n * sizeof(float));
    found  = malloc((size_t)n * sizeof(float));
    CHECK_STATUS(ad_entry_read(&quiet, truth, e, wanted), AD_OK);
    CHECK_INT(be->cls->download(be, found, ad_slice(s->work.states, half, 1).data,
                                (size_t)n * sizeof(float)), AD_OK);
    for (int64_t i = 0; i < n; i++) {
        top   = fmax(top, fabs(wanted[i]));
        worst = fmax(worst, fabs(found[i] - wanted[i]));
    }
    free(wanted);
    free(found);
    if (!(worst <= 1e-5 * top))             /* f32 against double, as in test_clips.c */
        FAIL("%.2g of the largest value off", worst / top);
}

static void all_states(void)
{
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdSessionParams p;

    render_options(golden_get(golden_get(golden, "clip"), "options"), &the_case);
    if (ad_model_load(ctx, &model, &the_case.model) < 0)
        die("%s", ad_context_error(ctx));
    p = render_params(model, &the_case);
    if (ad_session_create(model, &s, &p) < 0 ||
        ad_tensor_file_open(&quiet, &truth, GOLDEN "weighted.safetensors") < 0)
        die("%s%s", ad_context_error(ctx), quiet.error);
    json_array_foreach(golden_get(golden, "encoded"), i_, entry)
        for (half_ = 0; half_ < 2; half_++)
            RUN_AS(states_are_right(s, entry, half_), "states of %s: %s", half_ ? "prompt" :
                   "negative prompt", golden_text(entry, "name"));
    ad_tensor_file_close(&truth);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
}

/* ---- clips -------------------------------------------------------------------------------- */

static uint8_t *frames(const char *prompt, const char *negative, AdPromptSyntax syntax, size_t *n)
{
    uint8_t *out;

    the_case.clip.prompt           = prompt;
    the_case.clip.negative_prompt  = negative;
    the_case.session.prompt_syntax = syntax;
    out = render(ctx, &the_case, n);
    if (!out)
        FAIL("%s", ad_context_error(ctx));
    return out;
}

/* As in test_clips.c: the sum of a clip's roundings moves single bytes by one level. */
static void the_clip_is_the_reference(void)
{
    const json_t *c = golden_get(golden, "clip");
    size_t n, bytes, differ = 0;
    char *wanted = slurp(GOLDEN "weighted.rgb", &bytes);
    uint8_t *found;
    int most = 0;

    render_options(golden_get(c, "options"), &the_case);
    found = frames(the_case.clip.prompt, the_case.clip.negative_prompt, AD_PROMPT_WEIGHTED, &n);
    CHECK_INT(n, bytes);
    for (size_t i = 0; i < n; i++) {
        int off = abs(found[i] - (uint8_t)wanted[i]);

        differ += off > 0;
        most = AD_MAX(most, off);
    }
    free(found);
    free(wanted);
    if (differ > 10 || most > 1)
        FAIL("%zu of %zu bytes differ, by up to %d", differ, n, most);
}

static bool equal(const char *prompt, AdPromptSyntax syntax, const char *prompt2,
                  AdPromptSyntax syntax2)
{
    size_t n, n2;
    uint8_t *a, *b;
    bool same;

    render_small(&the_case);
    a = frames(prompt, "blurry", syntax, &n);
    b = frames(prompt2, "blurry", syntax2, &n2);
    same = n == n2 && !memcmp(a, b, n);
    free(a);
    free(b);
    return same;
}

static void text_without_weights_gives_the_same_clip_in_both_syntaxes(void)
{
    CHECK(equal("a red ball", AD_PROMPT_PLAIN, "a red ball", AD_PROMPT_WEIGHTED));
    CHECK(equal("a (red) ball", AD_PROMPT_PLAIN, "a \\(red\\) ball", AD_PROMPT_WEIGHTED));
    CHECK(equal("", AD_PROMPT_PLAIN, "()", AD_PROMPT_WEIGHTED));
}

static void weights_order_and_breaks_change_the_clip(void)
{
    CHECK(!equal("a red ball", AD_PROMPT_PLAIN, "a (red) ball", AD_PROMPT_WEIGHTED));
    CHECK(!equal("a [red] ball", AD_PROMPT_WEIGHTED, "a (red) ball", AD_PROMPT_WEIGHTED));
    CHECK(!equal("a (red:1.2) ball", AD_PROMPT_WEIGHTED, "a (red:1.3) ball", AD_PROMPT_WEIGHTED));
    CHECK(!equal("a red BREAK ball", AD_PROMPT_WEIGHTED, "a red ball", AD_PROMPT_WEIGHTED));
    CHECK(!equal("a red BREAK ball", AD_PROMPT_WEIGHTED, "a ball BREAK red", AD_PROMPT_WEIGHTED));
}

/* Brackets, weights and BREAK are tokens like others; beyond 75 of them nothing counts. */
static void plain_prompts_know_no_syntax(void)
{
    static const char text[] = "a (red:1.4) [ball] \\(x\\) BREAK b";
    char *longest = repeated("", "a ", 75, ""), *longer = repeated(longest, "(b:2) ", 9, "");
    AdIds ids = { 0 };
    AdPrompt p;

    CHECK_STATUS(ad_prompt_encode(&quiet, small, "prompt", text, &p), AD_OK);
    CHECK_STATUS(ad_tokenizer_encode(&quiet, small, text, sizeof(text) - 1, &ids), AD_OK);
    CHECK_INT(p.chunks, 1);
    CHECK(p.weights == NULL);
    CHECK(!memcmp(p.ids + 1, ids.ids, ids.count * sizeof(*ids.ids)));
    ad_free(ids.ids);
    ad_prompt_free(&p);
    CHECK(equal(longest, AD_PROMPT_PLAIN, longer, AD_PROMPT_PLAIN));
    CHECK(!equal(longest, AD_PROMPT_WEIGHTED, longer, AD_PROMPT_WEIGHTED));
    free(longest);
    free(longer);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    static const char *const longest[] = { "(", "()", "[a](b)", "(a:1.2", ":", ": ", ":1", "a:1.2)",
                                           "\\", "BREAK ", " BREAK", "BREAK", "((((((((a))))))))",
                                           ")", "\xe3\x80\x80", "a,", "(((((((([a]b]c" };

    golden = golden_json("weighted.json");
    ctx    = render_context("cpu", 0);
    if (ad_tokenizer_load(&quiet, &small, GOLDEN "tokenizer") < 0)
        die("%s", quiet.error);
    all_pieces();
    RUN(brackets_nest_at_most_64_deep);
    RUN(weights_are_numbers_up_to_100);
    RUN(chunks_are_at_most_64);
    RUN(texts_are_checked_as_plain_ones_are);
    for (i_ = 0; i_ < AD_COUNT(longest); i_++)
        RUN_AS(sixty_four_kib_take_no_time(longest[i_]), "64 KiB of \"%s\" take no time",
               longest[i_]);
    json_array_foreach(golden_get(golden, "encoded"), i_, entry)
        RUN_AS(text_has_ids(entry), "ids: %s", golden_text(entry, "name"));
    all_states();
    RUN(the_clip_is_the_reference);
    RUN(text_without_weights_gives_the_same_clip_in_both_syntaxes);
    RUN(weights_order_and_breaks_change_the_clip);
    RUN(plain_prompts_know_no_syntax);
    ad_tokenizer_free(&small);
    ad_context_destroy(&ctx);
    json_decref(golden);
    return check_result();
}
