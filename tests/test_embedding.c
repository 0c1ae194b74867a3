/* test_embedding.c - textual inversion: files, tokens, ids, text states and a clip.
 *
 * Against tests/golden/embeddings.*, made by diffusers' load_textual_inversion, and what must be
 * refused.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "../engine/prompt.h"
#include "check.h"
#include "render.h"
#include "scratch.h"
#include "tensors.h"

#define WIDTH 32                /* of models/plain */
#define FIRST 1344              /* its vocabulary  */

static AdContext *ctx;
static AdContext quiet;
static RenderCase the_case;
static json_t *golden;
static size_t i_;               /* these outlive the longjmp of a failing case */
static json_t *entry;

/* ---- loading ------------------------------------------------------------------------------ */

/* The small model with a list of embeddings; NULL: refused, the sentence is the context's. */
static AdModel *model_with(const char *list, AdStatus *st)
{
    AdModel *m = NULL;

    render_small(&the_case);
    the_case.model.embedding = list;
    *st = ad_model_load(ctx, &m, &the_case.model);
    return m;
}

static void refused(const char *list, AdStatus status, const char *sentence)
{
    AdStatus st;
    AdModel *m = model_with(list, &st);

    ad_model_destroy(&m);
    CHECK_STATUS(st, status);
    CHECK_CONTAINS(ad_context_error(ctx), sentence);
}

/* Ids of a prompt, without marks and padding, are first ... first + count - 1. */
static void ids_are(AdModel *m, const char *prompt, int first, int count)
{
    int32_t ids[AD_TOKENS];
    int n;

    CHECK_STATUS(ad_model_tokenize(m, prompt, ids, AD_TOKENS, &n), AD_OK);
    for (int i = 0; i < count; i++)
        CHECK_INT(ids[1 + i], first + i);
    CHECK_INT(ids[1 + count], ad_tokenizer_end(m->tokenizer));
}

static void accepted(const char *list, const char *prompt, int first, int count)
{
    AdStatus st;
    AdModel *m = model_with(list, &st);

    if (!m)
        FAIL("%s", ad_context_error(ctx));
    ids_are(m, prompt, first, count);
    ad_model_destroy(&m);
}

static void add_vectors(TensorWriter *w, const char *name, int rank, int64_t rows, int64_t width)
{
    tensors_add_formula(w, name, rank, rank == 1 ? &width : (int64_t[]){ rows, width, 1 });
}

/* "token@path" of a scratch file with one tensor. */
static const char *one(const char *token, const char *name, int rank, int64_t rows, int64_t width)
{
    static char list[32][300];
    static int next;
    char *room = list[next++ % 32];
    TensorWriter w = { 0 };
    char file[64];

    snprintf(file, sizeof(file), "e%d.safetensors", next);
    add_vectors(&w, name, rank, rows, width);
    snprintf(room, sizeof(list[0]), "%s@%s", token, tensors_write(&w, file));
    return room;
}

static const char *joined(const char *a, const char *b)
{
    static char list[700];

    snprintf(list, sizeof(list), "%s|%s", a, b);
    return list;
}

static void all_forms_of_files_are_read(void)
{
    TensorWriter w = { 0 };
    char list[300];

    accepted(one("<x>", "<other>", 1, 1, WIDTH), "<x>", FIRST, 1);
    accepted(one("<x>", "anything", 2, 1, WIDTH), "<x>", FIRST, 1);
    accepted(one("<x>", "emb_params", 2, 5, WIDTH), "<x>", FIRST, 5);
    accepted(one("<x>", "string_to_param.*", 2, 5, WIDTH), "<x>", FIRST, 5);
    add_vectors(&w, "clip_g", 2, 2, 40);
    add_vectors(&w, "emb_params", 2, 4, WIDTH);
    snprintf(list, sizeof(list), "<x>@%s", tensors_write(&w, "several.safetensors"));
    accepted(list, "<x>", FIRST, 4);
}

static void a_token_of_n_vectors_is_n_ids(void)
{
    AdStatus st;
    AdModel *m = model_with(joined(one("<x>", "v", 2, 3, WIDTH), one("<y>", "v", 2, 2, WIDTH)),
                            &st);

    if (!m)
        FAIL("%s", ad_context_error(ctx));
    ids_are(m, "<x>", FIRST, 3);
    ids_are(m, "<X><y>", FIRST, 5);
    ids_are(m, "<x>_2 <y>", FIRST + 2, 3);
    ids_are(m, "<y>_1", FIRST + 4, 1);
    CHECK_INT(m->text.extra.dim[2], 5);
    CHECK_TEXT(strstr(m->info.adapters, "embedding"), "embedding=<x>,<y>");
    ad_model_destroy(&m);
}

/* ---- what is refused ---------------------------------------------------------------------- */

static void lists_have_tokens_and_paths(void)
{
    static const char *const wrong[] = { "<x>", "@/path", "<x>@", "<x>@/a|", "|", "a|<x>@/b" };

    for (size_t i = 0; i < AD_COUNT(wrong); i++) {
        AdStatus st;
        AdModel *m = model_with(wrong[i], &st);

        ad_model_destroy(&m);
        if (st != AD_ERR_INVALID && st != AD_ERR_NOTFOUND)
            FAIL("%s is not refused", wrong[i]);
    }
    refused("<x>", AD_ERR_INVALID, "embedding=<x>: token@path is the form");
    refused("<x>@", AD_ERR_INVALID, "token@path is the form");
    refused("<x>@/no/such@file", AD_ERR_NOTFOUND, "/no/such@file");
}

static void vectors_must_fit_the_text_encoder(void)
{
    refused(one("<x>", "v", 2, 2, 31), AD_ERR_FORMAT,
            "vectors of 31 numbers; the text encoder has 32");
    refused(one("<x>", "v", 1, 1, 1024), AD_ERR_FORMAT, "1024 numbers (Stable Diffusion 2.x)");
    refused(one("<x>", "v", 2, 2, 1280), AD_ERR_FORMAT, "1280 numbers (SDXL)");
    refused(one("<x>", "v", 2, 0, WIDTH), AD_ERR_FORMAT, "[0, 32] are no vectors");
    refused(one("<x>", "v", 3, 2, WIDTH), AD_ERR_FORMAT, "[2, 32, 1] are no vectors");
    accepted(one("<x>", "v", 2, AD_CAP_VECTORS, WIDTH), "<x>", FIRST, AD_CAP_VECTORS);
    refused(one("<x>", "v", 2, AD_CAP_VECTORS + 1, WIDTH), AD_ERR_FORMAT, "76 vectors");
}

static void other_files_are_refused(void)
{
    char list[300];
    TensorWriter w = { 0 };

    refused("<x>@" GOLDEN "models/plain/text_encoder/model.safetensors", AD_ERR_FORMAT,
            "no textual inversion in it; this is a text encoder");
    refused("<x>@" GOLDEN "README.md", AD_ERR_FORMAT, "README.md");
    tensors_write(&w, "none.safetensors");
    snprintf(list, sizeof(list), "<x>@%s", scratch("none.safetensors"));
    refused(list, AD_ERR_FORMAT, "none.safetensors: no textual inversion in it");
}

static void tokens_must_be_new(void)
{
    const char *x = one("<x>", "v", 2, 3, WIDTH);

    refused(one("bla", "v", 1, 1, WIDTH), AD_ERR_INVALID, "\"bla\" is in the vocabulary already");
    refused(one("the</w>", "v", 1, 1, WIDTH), AD_ERR_INVALID, "is in the vocabulary already");
    refused(one("a", "v", 1, 1, WIDTH), AD_ERR_INVALID, "\"a\" is in the vocabulary already");
    refused(joined(x, x), AD_ERR_INVALID, "the token \"<x>\" is there already");
    refused(joined(x, one("<X>", "v", 1, 1, WIDTH)), AD_ERR_INVALID, "is there already");
    refused(joined(x, one("<x>_2", "v", 1, 1, WIDTH)), AD_ERR_INVALID,
            "\"<x>_2\" is there already");
    refused(joined(one("<x>_1", "v", 1, 1, WIDTH), one("<x>", "v", 2, 2, WIDTH)), AD_ERR_INVALID,
            "\"<x>\" is there already");
    accepted(joined(x, one("<x>_3", "v", 1, 1, WIDTH)), "<x><x>_3", FIRST, 4);
}

static void at_most_64_entries(void)
{
    static char list[AD_CAP_ADAPTERS * 80 + 400];
    const char *path = strchr(one("<x>", "v", 1, 1, WIDTH), '@');
    char *at = list;

    for (unsigned i = 0; i < AD_CAP_ADAPTERS; i++)
        at += sprintf(at, "%s<%u>%s", i ? "|" : "", i, path);
    accepted(list, "<63>", FIRST + 63, 1);
    sprintf(at, "|<more>%s", path);
    refused(list, AD_ERR_INVALID, "embedding: more than 64 entries");
}

/* ---- against diffusers -------------------------------------------------------------------- */

static AdTensorFile *truth;

static void ids_and_states_are_right(AdSession *s, const json_t *c)
{
    const AdEntry *e = ad_tensor_file_find(truth, golden_text(c, "name"));
    AdBackend *be = ctx->backend;
    int32_t ids[AD_TOKENS];
    float wanted[AD_TOKENS * WIDTH], found[AD_TOKENS * WIDTH];
    double top = 0, worst = 0;
    int n;

    CHECK_STATUS(ad_model_tokenize(s->model, golden_text(c, "text"), ids, AD_TOKENS, &n), AD_OK);
    for (size_t i = 0; i < AD_TOKENS; i++)
        if (ids[i] != (int32_t)golden_at(c, "ids", i))
            FAIL("id %zu is %d, not %d", i, (int)ids[i], (int)golden_at(c, "ids", i));
    the_case.clip.prompt = golden_text(c, "text");
    CHECK_STATUS(ad_session_begin(s, &the_case.clip), AD_OK);
    CHECK(e && ad_entry_count(e) == AD_TOKENS * WIDTH);
    CHECK_STATUS(ad_entry_read(&quiet, truth, e, wanted), AD_OK);
    CHECK_INT(be->cls->download(be, found, ad_slice(s->work.states, 1, 1).data, sizeof(found)),
              AD_OK);
    for (int i = 0; i < AD_TOKENS * WIDTH; i++) {
        top   = fmax(top, fabs(wanted[i]));
        worst = fmax(worst, fabs(found[i] - wanted[i]));
    }
    if (!(worst <= 1e-5 * top))             /* f32 against double, as in test_clips.c */
        FAIL("%.2g of the largest value off", worst / top);
}

static void all_prompts(void)
{
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdSessionParams p;

    render_options(golden_get(golden_get(golden, "clip"), "options"), &the_case);
    if (ad_model_load(ctx, &model, &the_case.model) < 0)
        die("%s", ad_context_error(ctx));
    p = render_params(model, &the_case);
    if (ad_session_create(model, &s, &p) < 0 ||
        ad_tensor_file_open(&quiet, &truth, GOLDEN "embeddings.safetensors") < 0)
        die("%s%s", ad_context_error(ctx), quiet.error);
    json_array_foreach(golden_get(golden, "prompts"), i_, entry)
        RUN_AS(ids_and_states_are_right(s, entry), "ids and states: %s",
               golden_text(entry, "name"));
    ad_tensor_file_close(&truth);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
}

/* As in test_clips.c: the sum of a clip's roundings moves single bytes by one level. */
static void clip_is_the_reference(const char *list)
{
    size_t n, bytes, differ = 0;
    char *wanted = slurp(GOLDEN "embeddings.rgb", &bytes);
    uint8_t *found;
    int most = 0;

    render_options(golden_get(golden_get(golden, "clip"), "options"), &the_case);
    if (list)
        the_case.model.embedding = list;
    found = render(ctx, &the_case, &n);
    if (!found)
        FAIL("%s", ad_context_error(ctx));
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

static void a_torch_file_gives_the_same_clip(void)
{
    clip_is_the_reference("<one>@" GOLDEN "embeddings/one.safetensors|"
                          "<three>@" GOLDEN "embeddings/three.safetensors|"
                          "two-vec@" GOLDEN "embeddings/two.pt");
}

static void vectors_that_no_prompt_names_change_nothing(void)
{
    size_t n, n2;
    uint8_t *a, *b;

    render_small(&the_case);
    a = render(ctx, &the_case, &n);
    the_case.model.embedding = "<three>@" GOLDEN "embeddings/three.safetensors";
    b = render(ctx, &the_case, &n2);
    CHECK(a && b && n == n2 && !memcmp(a, b, n));
    free(b);
    the_case.clip.prompt = "a red ball rolling left <three>";
    b = render(ctx, &the_case, &n2);
    CHECK(b && memcmp(a, b, n));
    free(a);
    free(b);
}

/* ---- weighted prompts --------------------------------------------------------------------- */

/* A word of several vectors is not spread over two chunks. */
static void a_word_that_does_not_fit_opens_a_chunk(void)
{
    AdStatus st;
    AdModel *m = model_with("<three>@" GOLDEN "embeddings/three.safetensors", &st);
    char text[200] = "";
    AdPrompt p;

    for (int i = 0; i < 72; i++)
        strcat(text, "a ");
    strcat(text, "(<three>:1.5)");
    CHECK_STATUS(ad_prompt_encode_weighted(&quiet, m->tokenizer, "prompt", text, &p), AD_OK);
    CHECK_INT(p.chunks, 1);
    CHECK_INT(p.ids[75], FIRST + 2);
    CHECK_NEAR(p.weights[75], 1.5, 0);
    ad_prompt_free(&p);
    memmove(text + 2, text, strlen(text) + 1);      /* one "a " more */
    CHECK_STATUS(ad_prompt_encode_weighted(&quiet, m->tokenizer, "prompt", text, &p), AD_OK);
    CHECK_INT(p.chunks, 2);
    CHECK_INT(p.ids[74], ad_tokenizer_end(m->tokenizer));
    CHECK_INT(p.ids[AD_TOKENS + 1], FIRST);
    CHECK_INT(p.ids[AD_TOKENS + 3], FIRST + 2);
    CHECK_NEAR(p.weights[AD_TOKENS + 3], 1.5, 0);
    ad_prompt_free(&p);
    ad_model_destroy(&m);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    golden = golden_json("embeddings.json");
    ctx    = render_context("cpu", 0);
    RUN(all_forms_of_files_are_read);
    RUN(a_token_of_n_vectors_is_n_ids);
    RUN(lists_have_tokens_and_paths);
    RUN(vectors_must_fit_the_text_encoder);
    RUN(other_files_are_refused);
    RUN(tokens_must_be_new);
    RUN(at_most_64_entries);
    all_prompts();
    RUN_AS(clip_is_the_reference(NULL), "the clip is the reference");
    RUN(a_torch_file_gives_the_same_clip);
    RUN(vectors_that_no_prompt_names_change_nothing);
    RUN(a_word_that_does_not_fit_opens_a_chunk);
    ad_context_destroy(&ctx);
    json_decref(golden);
    return check_result();
}
