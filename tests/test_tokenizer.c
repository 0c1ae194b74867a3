/* test_tokenizer.c - prompts become ids.
 *
 * 342 hard texts with a small vocabulary, and with the published one where a folder has it
 * (CLIP_VOCAB, else build/clip-vocab; tests/get_clip_vocab.py makes one).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "../engine/file.h"
#include "../engine/internal.h"
#include "../engine/prompt.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

static AdContext ctx;
static size_t i_;               /* these outlive the longjmp of a failing case */
static json_t *entry;

/* ---- texts -------------------------------------------------------------------------------- */

static void text_becomes(const AdTokenizer *t, const json_t *c)
{
    AdPrompt p;

    CHECK_STATUS(ad_prompt_encode(&ctx, t, "prompt", golden_text(c, "text"), &p), AD_OK);
    CHECK_INT(p.chunks, 1);
    CHECK_INT(golden_count(c, "ids"), AD_TOKENS);
    for (size_t i = 0; i < AD_TOKENS; i++)
        if (p.ids[i] != (int32_t)golden_at(c, "ids", i))
            FAIL("id %zu is %d, not %d", i, (int)p.ids[i], (int)golden_at(c, "ids", i));
    ad_prompt_free(&p);
}

static void all_texts(const AdTokenizer *t, const char *file, const char *vocabulary)
{
    json_t *cases = golden_json(file);
    char quoted[AD_QUOTE_TEXT];

    json_array_foreach(cases, i_, entry) {
        const char *text = golden_text(entry, "text");

        RUN_AS(text_becomes(t, entry), "%s: %zu \"%.60s\"", vocabulary, i_,
               ad_quote(text, AD_MIN(strlen(text), 20), quoted));
    }
    json_decref(cases);
}

static void clip_texts(void)
{
    const char *folder = getenv("CLIP_VOCAB");
    AdTokenizer *t = NULL;

    folder = folder ? folder : "build/clip-vocab";
    if (!ad_is_folder(folder)) {
        printf("skip - texts with CLIP's own vocabulary: no folder %s (tests/get_clip_vocab.py)\n",
               folder);
        return;
    }
    if (ad_tokenizer_load(&ctx, &t, folder) < 0)
        die("%s", ctx.error);
    all_texts(t, "tokenizer/prompts_clip.json", "clip");
    ad_tokenizer_free(&t);
}

/* ---- taught words ------------------------------------------------------------------------- */

static void a_taught_word_becomes_its_ids(void)
{
    AdTokenizer *t = NULL;
    AdIds ids = { 0 }, plain = { 0 };

    CHECK_STATUS(ad_tokenizer_load(&ctx, &t, GOLDEN "tokenizer"), AD_OK);
    CHECK_STATUS(ad_tokenizer_encode(&ctx, t, "a  b", 4, &plain), AD_OK);
    CHECK_STATUS(ad_tokenizer_add(&ctx, t, "<Cat>", 5000, 3), AD_OK);
    CHECK_STATUS(ad_tokenizer_add(&ctx, t, "<cat>s", 6000, 1), AD_OK); /* the longer one wins */
    CHECK_STATUS(ad_tokenizer_encode(&ctx, t, "a <CAT> b<cat>s", 15, &ids), AD_OK);
    CHECK_INT(ids.count, 6);
    CHECK_INT(ids.ids[0], plain.ids[0]);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ids.ids[1 + i], 5000 + i);
    CHECK_INT(ids.ids[5], 6000);
    CHECK_STATUS(ad_tokenizer_add(&ctx, t, "<CAT>", 7000, 1), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, "\"<cat>\" is there already");
    CHECK_STATUS(ad_tokenizer_add(&ctx, t, "", 7000, 1), AD_ERR_INVALID);
    CHECK_STATUS(ad_tokenizer_add(&ctx, t, "\xff", 7000, 1), AD_ERR_INVALID);
    ad_free(ids.ids);
    ad_free(plain.ids);
    ad_tokenizer_free(&t);
}

static void equal_pairs_merge_from_the_left(void)
{
    AdTokenizer *t = NULL;
    AdIds ids = { 0 };

    scratch_text("left/merges.txt", "#version: 0.2\na a\n");
    CHECK_STATUS(ad_tokenizer_load(&ctx, &t, scratch("left")), AD_OK);
    CHECK_STATUS(ad_tokenizer_encode(&ctx, t, "aaaa", 4, &ids), AD_OK);
    CHECK_INT(ids.count, 3);
    CHECK_INT(ids.ids[0], 512);                     /* "aa", the first merge */
    CHECK_INT(ids.ids[1], 'a' - '!');               /* plain bytes come first, "!" is 0 */
    CHECK_INT(ids.ids[2], 256 + 'a' - '!');
    ad_free(ids.ids);
    ad_tokenizer_free(&t);
}

/* ---- prompts ------------------------------------------------------------------------------ */

static AdTokenizer *small;

static void prompts_must_be_utf8(void)
{
    static const struct { const char *text; int at;
    } bad[] = {
        { "ab\xff", 2 },
        { "\xc3", 0 },
        { "x\xc0\xaf", 1 },
        { "\xed\xa0\x80", 0 },
        { "abc\xf4\x90\x80\x80", 3 },
        { "a\xe2\x82", 1 },
        { "\x80", 0 },
        { "\xf8\x88\x80\x80\x80", 0 },
        { "\xe0\x80\xaf", 0 },
        { "\xf0\x80\x80\xaf", 0 },
    };
    AdPrompt p;

    for (size_t i = 0; i < AD_COUNT(bad); i++) {
        char part[64];

        CHECK_STATUS(ad_prompt_encode(&ctx, small, "negative_prompt", bad[i].text, &p),
                     AD_ERR_INVALID);
        snprintf(part, sizeof(part), "negative_prompt: not valid UTF-8 at byte %d", bad[i].at);
        CHECK_CONTAINS(ctx.error, part);
        CHECK(p.ids == NULL);
    }
}

static void a_nul_inside_is_refused(void)
{
    AdIds ids = { 0 };

    CHECK_STATUS(ad_tokenizer_encode(&ctx, small, "a\0b", 3, &ids), AD_ERR_INVALID);
    CHECK_INT(ids.count, 0);
}

static void prompts_have_at_most_64_kib(void)
{
    char *text = calloc(AD_CAP_PROMPT + 2, 1);
    AdPrompt p;

    memset(text, ' ', AD_CAP_PROMPT);
    CHECK_STATUS(ad_prompt_encode(&ctx, small, "prompt", text, &p), AD_OK);
    ad_prompt_free(&p);
    text[AD_CAP_PROMPT] = ' ';
    CHECK_STATUS(ad_prompt_encode(&ctx, small, "prompt", text, &p), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, "prompt: 65537 bytes; at most 65536");
    free(text);
}

static int warnings;

static void count_warnings(void *opaque, AdLogLevel level, const char *line)
{
    (void)opaque;
    warnings += level == AD_LOG_WARNING && strstr(line, "only the first 75 count");
}

static void cut_text_gives_one_warning(void)
{
    char text[2 * 76 + 1] = "";
    AdPrompt p;

    for (int i = 0; i < 75; i++)
        strcat(text, "7 ");
    ctx.log = count_warnings;
    warnings = 0;
    CHECK_STATUS(ad_prompt_encode(&ctx, small, "prompt", text, &p), AD_OK);
    ad_prompt_free(&p);
    CHECK_INT(warnings, 0);
    strcat(text, "7");
    CHECK_STATUS(ad_prompt_encode(&ctx, small, "prompt", text, &p), AD_OK);
    ctx.log = NULL;
    CHECK_INT(warnings, 1);
    CHECK_INT(p.ids[76], ad_tokenizer_end(small));
    CHECK(p.ids[75] != ad_tokenizer_end(small));
    ad_prompt_free(&p);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Quadratic work would take minutes; n log n takes milliseconds, sanitizers included. */
static void the_longest_word_takes_no_time(const char *letters)
{
    size_t n = strlen(letters);
    char *text = calloc(AD_CAP_PROMPT + 1, 1);
    double start = seconds();
    AdPrompt p;

    for (size_t i = 0; i < AD_CAP_PROMPT / n * n; i++)
        text[i] = letters[i % n];
    CHECK_STATUS(ad_prompt_encode(&ctx, small, "prompt", text, &p), AD_OK);
    CHECK(seconds() - start < 2);
    ad_prompt_free(&p);
    free(text);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    static const char *const longest[] = { "a",         "in", "the", "<|endoftext|>",
                                           "e\xcc\x81", "'s", "9",   "\xe4\xb8\x80" };

    if (ad_tokenizer_load(&ctx, &small, GOLDEN "tokenizer") < 0)
        die("%s", ctx.error);
    all_texts(small, "tokenizer/prompts.json", "small");
    clip_texts();
    RUN(equal_pairs_merge_from_the_left);
    RUN(a_taught_word_becomes_its_ids);
    RUN(prompts_must_be_utf8);
    RUN(a_nul_inside_is_refused);
    RUN(prompts_have_at_most_64_kib);
    RUN(cut_text_gives_one_warning);
    for (i_ = 0; i_ < AD_COUNT(longest); i_++)
        RUN_AS(the_longest_word_takes_no_time(longest[i_]), "64 KiB of \"%s\" take no time",
               longest[i_]);
    ad_tokenizer_free(&small);
    return check_result();
}
