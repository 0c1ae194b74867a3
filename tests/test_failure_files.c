/* test_failure_files.c - memory that ends and reads that fail, one reader of files at a time.
 *
 * As test_failure.c: the n-th call fails, for n = 1, 2, ... until a run gets through. Each run must
 * end with a status and leave nothing behind.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/adapters.h"
#include "../engine/embedding.h"
#include "../engine/internal.h"
#include "../engine/lora.h"
#include "../engine/peft.h"
#include "../engine/prompt.h"
#include "../engine/sources.h"
#include "../engine/vocabulary.h"
#include "../engine/weights.h"
#include "check.h"
#include "failing.h"
#include "scratch.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

/* ---- what is done ------------------------------------------------------------------------- */

/* Open the file and read its tensors. */
static AdStatus tensors(const char *path)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(&ctx, &f, path);
    static float numbers[1024];
    AdPeft peft = { 0 };

    for (size_t i = 0; st >= 0 && i < f->count; i++) {
        CHECK((size_t)ad_entry_count(&f->entries[i]) <= AD_COUNT(numbers));
        st = ad_entry_read(&ctx, f, &f->entries[i], numbers);
    }
    if (st >= 0) st = ad_peft_read(&ctx, f, &peft);
    ad_peft_free(&peft);
    ad_tensor_file_close(&f);
    return st;
}

static AdStatus lora(const char *path)
{
    AdAdapter a = { (char *)(uintptr_t)path, 1 };
    AdAdapterList list = { &a, 1, 1 };
    Failing now = failing.kind;
    AdPatches *p;
    AdStatus st;

    failing.kind = NOTHING;
    p = ad_alloc(sizeof(*p));
    failing.kind = now;
    st = ad_patches_add(&ctx, p, &list, false);
    ad_patches_free(&p);
    return st;
}

static AdStatus lists(const char *path)
{
    AdAdapterList list;
    AdStatus st = ad_adapters_parse(&ctx, "lora", path, &list);

    ad_adapters_free(&list);
    return st;
}

static AdStatus folder_of_weights(const char *path)
{
    AdWeights w = { 0 };
    AdStatus st = ad_weights_add_folder(&ctx, &w, path, "diffusion_pytorch_model", NULL);

    ad_weights_free(&w);
    return st;
}

static AdStatus model(const char *path)
{
    AdSources s = { 0 };
    AdStatus st = ad_sources_find(&ctx, &(AdSourceRequest){ .model = path }, &s);

    ad_sources_free(&s);
    return st;
}

static AdStatus parts_of_models(const char *path)
{
    AdSources s = { 0 };
    AdSourceRequest r = { .model = path, .adapter = path, .vae = path, .tokenizer = path };
    AdStatus st = ad_sources_find(&ctx, &r, &s);

    ad_sources_free(&s);
    return st;
}

static AdStatus tokenizer(const char *path)
{
    AdTokenizer *t = NULL;
    AdStatus st = ad_tokenizer_load(&ctx, &t, path);

    ad_tokenizer_free(&t);
    return st;
}

static AdStatus embedding(const char *path)
{
    AdTokenizer t = { 0 };                          /* without merges: any word is new */
    AdEmbeddings e = { .width = 32 };
    char list[100];
    AdStatus st;

    snprintf(list, sizeof(list), "<x>@%s", path);
    st = ad_embeddings_read(&ctx, &e, &t, list);
    while (t.word_count)
        ad_free(t.words[--t.word_count].text);
    ad_free(t.words);
    ad_free(e.rows);
    return st;
}

static AdStatus weighted_prompt(const char *text)
{
    static AdTokenizer *t;
    AdPrompt p = { 0 };
    AdStatus st;
    Failing now = failing.kind;
    long left = failing.blocks;

    failing.kind = NOTHING;
    if (!t)
        CHECK_STATUS(ad_tokenizer_load(&ctx, &t, "tests/golden/tokenizer"), AD_OK);
    failing.blocks = left;
    failing.kind   = now;
    st = ad_prompt_encode_weighted(&ctx, t, "prompt", text, &p);
    if (st >= 0)
        st = ad_prompt_extend(&ctx, t, 3, &p);
    ad_prompt_free(&p);
    return st;
}

/* ---- the loop ----------------------------------------------------------------------------- */

typedef struct Deed {
    const char *what, *path;
    AdStatus  (*run)(const char *path);
    bool        reads;
} Deed;

static void fails_everywhere(const Deed *d, Failing what, AdStatus wanted)
{
    long before;

    d->run(d->path);            /* what is kept is taken now */
    before = failing.blocks;
    for (long n = 1; ; n++) {
        AdStatus st;

        failing.kind      = what;
        failing.countdown = n;
        failing.fired     = false;
        st = d->run(d->path);
        failing.kind = NOTHING;
        CHECK_INT(failing.blocks, before);
        if (!failing.fired) {
            CHECK_STATUS(st, AD_OK);
            CHECK(n > 1);
            return;
        }
        CHECK_STATUS(st, wanted);
        CHECK_STATUS(d->run(d->path), AD_OK);
    }
}

#define GOLDEN "tests/golden/"

int main(void)
{
    static const Deed deeds[] = {
        { "a torch file", GOLDEN "torch/views.pt", tensors, true },
        { "a safetensors file", GOLDEN "loras/zoom.safetensors", tensors, true },
        { "one with settings", GOLDEN "loras/settings.safetensors", tensors, true },
        { "a LoRA", GOLDEN "loras/settings.safetensors", lora, true },
        { "a list of LoRAs", "a@0.5|b", lists, false },
        { "a folder of shards", "shards", folder_of_weights, true },
        { "a model's folder", GOLDEN "models/plain", model, true },
        { "a model's file", "model.safetensors", model, false },
        { "parts of models", GOLDEN "models/saved", parts_of_models, true },
        { "a tokenizer", GOLDEN "tokenizer", tokenizer, true },
        { "a tokenizer of merges alone", "merges", tokenizer, true },
        { "a textual inversion", GOLDEN "embeddings/two.pt", embedding, true },
        { "a weighted prompt", "(a:1.2) [b] BREAK c, \\( d", weighted_prompt, false },
    };

    scratch_copy("merges/merges.txt", GOLDEN "tokenizer/merges.txt");
    scratch_copy("shards/a.safetensors", GOLDEN "torch/views.safetensors");
    scratch_copy("shards/b.safetensors", GOLDEN "torch/bare.safetensors");
    scratch_text("shards/diffusion_pytorch_model.safetensors.index.json",
                 "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    scratch_copy("model.safetensors", GOLDEN "loras/zoom.safetensors");     /* any file */
    scratch_copy("tokenizer", GOLDEN "tokenizer");
    for (i_ = 0; i_ < AD_COUNT(deeds); i_++) {
        static Deed d;

        d = deeds[i_];
        if (!strchr(d.path, '/') && !strchr(d.path, ' ') && !strchr(d.path, '|'))
            d.path = scratch(d.path);
        RUN_AS(fails_everywhere(&d, ALLOCATION, AD_ERR_NOMEM), "%s, every allocation", d.what);
        if (!d.reads)
            continue;
        RUN_AS(fails_everywhere(&d, READ_ERROR, AD_ERR_IO), "%s, every read in error", d.what);
        RUN_AS(fails_everywhere(&d, READ_END, AD_ERR_IO), "%s, every read at the end of its file",
               d.what);
        RUN_AS(fails_everywhere(&d, READ_HALF, AD_OK), "%s, every read cut short: it is read on",
               d.what);
        RUN_AS(fails_everywhere(&d, READ_INTERRUPTED, AD_OK), "%s, every read interrupted: it is "
               "tried again", d.what);
    }
    return check_result();
}
