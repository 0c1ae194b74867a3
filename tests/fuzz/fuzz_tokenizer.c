/* fuzz_tokenizer.c - the files of a tokenizer.
 *
 * The first byte chooses which of them the rest is: merges.txt alone, or one of the others beside a
 * right merges.txt. What loads must encode.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../engine/prompt.h"
#include "../../engine/tokenizer.h"
#include "fuzz.h"

static void encode(const AdTokenizer *t)
{
    AdPrompt p;

    FUZZ_CHECK(ad_prompt_encode(&fuzz_ctx, t, "prompt", "in the <a> 17 \xe2\x98\x83 </w>", &p)
               == AD_OK);
    for (int i = 0; i < AD_TOKENS; i++)
        FUZZ_CHECK(p.ids[i] >= 0 && p.ids[i] < ad_tokenizer_size(t));
    ad_prompt_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char right[] = "#version: 0.2\ni n\nt h\nth e</w>\nin g</w>\n";
    static const char *const names[] = {
        "merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json",
    };
    AdTokenizer *t = NULL;
    const char *folder = NULL;
    size_t which;
    AdStatus st;

    if (n < 1)
        return 0;
    which = data[0] % AD_COUNT(names);
    fuzz_file(0, data + 1, n - 1);
    fuzz_file(1, right, sizeof(right) - 1);
    for (size_t i = 0; i < AD_COUNT(names); i++)
        folder = fuzz_folder(names[i], i == which ? 0 : i == 0 && which != 2 ? 1 : -1);
    st = ad_tokenizer_load(&fuzz_ctx, &t, folder);
    FUZZ_CHECK((st < 0) == !t);
    fuzz_status(st);
    if (t)
        encode(t);
    ad_tokenizer_free(&t);
    return 0;
}
