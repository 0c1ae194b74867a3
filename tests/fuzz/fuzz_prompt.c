/* fuzz_prompt.c - prompts: plain, weighted, with taught words; and lists of adapters.
 *
 * The first byte chooses; a taught word comes first then, up to a line end.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../engine/adapters.h"
#include "../../engine/prompt.h"
#include "../../engine/vocabulary.h"
#include "../golden.h"
#include "fuzz.h"

enum { TAUGHT = 3, WORDS = 4 };

static AdTokenizer *load(void)
{
    AdTokenizer *t = NULL;

    FUZZ_CHECK(ad_tokenizer_load(&fuzz_ctx, &t, GOLDEN "tokenizer") == AD_OK);
    return t;
}

static void check_rows(const AdTokenizer *t, AdStatus st, const AdPrompt *p)
{
    fuzz_status(st);
    if (st < 0)
        return;
    FUZZ_CHECK(p->chunks >= 1 && p->chunks <= AD_CAP_CHUNKS);
    for (int i = 0; i < p->chunks * AD_TOKENS; i++) {
        FUZZ_CHECK(p->ids[i] >= 0 && p->ids[i] < ad_tokenizer_size(t) + TAUGHT);
        FUZZ_CHECK(!p->weights || (p->weights[i] >= -100 && p->weights[i] <= 100));
        FUZZ_CHECK(i % AD_TOKENS || p->ids[i] == ad_tokenizer_begin(t));
    }
}

static void encode(const AdTokenizer *t, const char *text, bool weighted)
{
    AdPrompt p;
    AdStatus st = weighted ? ad_prompt_encode_weighted(&fuzz_ctx, t, "prompt", text, &p)
                           : ad_prompt_encode(&fuzz_ctx, t, "prompt", text, &p);

    check_rows(t, st, &p);
    ad_prompt_free(&p);
}

static void taught(AdTokenizer *t, char *text)
{
    char *end = strchr(text, '\n');
    size_t words = t->word_count;

    if (!end)
        return;
    *end = 0;
    fuzz_status(ad_tokenizer_add(&fuzz_ctx, t, text, ad_tokenizer_size(t), TAUGHT));
    encode(t, end + 1, false);
    encode(t, end + 1, true);
    while (t->word_count > words)               /* forget it: loading anew takes longer */
        ad_free(t->words[--t->word_count].text);
}

static void parse_list(const char *text)
{
    AdAdapterList list;
    AdStatus st = ad_adapters_parse(&fuzz_ctx, "lora", text, &list);

    fuzz_status(st);
    FUZZ_CHECK(list.count <= AD_CAP_ADAPTERS);
    for (size_t i = 0; i < list.count; i++)
        FUZZ_CHECK(list.items[i].path[0] && list.items[i].scale >= -100 &&
                   list.items[i].scale <= 100);
    ad_adapters_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static AdTokenizer *t;
    char *text;

    if (n < 1)
        return 0;
    if (!t)
        t = load();
    text = malloc(n);
    memcpy(text, data + 1, n - 1);
    text[n - 1] = 0;
    switch (data[0] % WORDS) {
    case 0:  encode(t, text, false); break;
    case 1:  encode(t, text, true); break;
    case 2:  parse_list(text); break;
    default: taught(t, text);
    }
    free(text);
    return 0;
}
