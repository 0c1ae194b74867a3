/* test_peft.c - a LoRA's settings as PEFT and diffusers write them: which layer gets which scale.
 *
 * tests/golden/loras/settings.safetensors was saved by diffusers; its clip is in test_clips.c.
 * Other settings are made of it here by other words in its header.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "../engine/internal.h"
#include "../engine/peft.h"
#include "check.h"
#include "render.h"
#include "scratch.h"
#include "tensors.h"

#define SETTINGS GOLDEN "loras/settings.safetensors"
#define BLOCK    "up_blocks.1.attentions.0.transformer_blocks.0."
#define LAYER    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"

enum { WIDTH = 16, RANK = 2 };

static AdContext *ctx;
static RenderCase the_case;
static size_t i_;               /* outlives the longjmp of a failing case */

/* ---- layers ------------------------------------------------------------------------------- */

static AdStatus settings_of(const char *path, AdPeft *out)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    if (st >= 0) st = ad_peft_read(ctx, f, out);
    ad_tensor_file_close(&f);
    return st;
}

static const char *with(const char *from, const char *to)
{
    return scratch_renamed("settings.safetensors", SETTINGS, from, to);
}

/* As PEFT's own layers said after diffusers had loaded the file. */
static const struct Layer { const char *name; int rank; double scale; } layers[] = {
    { "unet.down_blocks.0.attentions.0.proj_in", 3, 2 },
    { "unet." LAYER, 4, 2.25 },
    { "unet." BLOCK "attn1.to_out.0", 4, -0.75 },
    { "unet." BLOCK "attn1.to_out", 4, -0.75 },
    { "unet." BLOCK "attn1.processor.to_out", 4, -0.75 },
    { "unet." BLOCK "attn1.to_q", 4, 1.5 },
    { "unet." BLOCK "attn1.to_k", 2, 3 },
    { "unet." BLOCK "attn2.to_k", 4, 1.5 },
    { "unet." BLOCK "attn2.to_v", 4, 0.25 },
    { "unet." BLOCK "xattn2.to_v", 4, 1.5 },            /* not behind a point */
    { "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 1, 6 },
    { "unet.x.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 4, 1.5 },
    { "unet.mid_block.motion_modules.0.transformer_blocks.0.attn1.to_q", 4, 0.5 },
    { "text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 4, 1.5 },
    { BLOCK "attn1.to_k", 2, 3 },
};

static void layers_have_their_scales(void)
{
    AdPeft p;

    CHECK_STATUS(settings_of(SETTINGS, &p), AD_OK);
    for (i_ = 0; i_ < AD_COUNT(layers); i_++) {
        AdPeftLayer l = ad_peft_layer(&p, layers[i_].name);

        if (!l.known || l.rank != layers[i_].rank || fabs(l.scale - layers[i_].scale) > 1e-12)
            FAIL("%s: rank %d, scale %g", layers[i_].name, l.rank, l.scale);
        CHECK(!l.dora);
    }
    ad_peft_free(&p);
}

static void a_network_without_settings_is_as_before(void)
{
    AdPeft p;

    CHECK_STATUS(settings_of(with("\\\"unet.", "\\\"other."), &p), AD_OK);
    CHECK(!ad_peft_layer(&p, "unet." LAYER).known);
    CHECK(ad_peft_layer(&p, layers[13].name).known);
    ad_peft_free(&p);
    CHECK_STATUS(settings_of(GOLDEN "loras/peft.safetensors", &p), AD_OK);
    CHECK(!ad_peft_layer(&p, "unet." LAYER).known);
    CHECK(!ad_peft_layer(&p, layers[13].name).known);
    ad_peft_free(&p);
}

static void what_is_not_said_is_pefts_default(void)
{
    AdPeft p;
    AdPeftLayer l;

    CHECK_STATUS(settings_of(with("\\\"text_encoder.r\\\"", "\\\"text_encoder.q\\\""), &p), AD_OK);
    l = ad_peft_layer(&p, layers[13].name);
    CHECK_INT(l.rank, 8);
    CHECK_NEAR(l.scale, 3 / sqrt(8), 1e-12);
    ad_peft_free(&p);
    CHECK_STATUS(settings_of(with("\\\"unet.use_dora\\\": false", "\\\"unet.use_dora\\\": true"),
                             &p), AD_OK);
    CHECK(ad_peft_layer(&p, "unet." LAYER).dora);
    ad_peft_free(&p);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static const struct Wrong { const char *from, *to; AdStatus status; const char *part; } wrong[] = {
    { "\\\"unet.r\\\": 4", "\\\"unet.r\\\": 0", AD_ERR_FORMAT,
      "lora_adapter_metadata: unet.r must be a number from 1 to 65536" },
    { "\\\"unet.r\\\": 4", "\\\"unet.r\\\": \\\"4\\\"", AD_ERR_FORMAT, "unet.r must be a number" },
    { "\\\"unet.lora_alpha\\\": 6", "\\\"unet.lora_alpha\\\": 1e9", AD_ERR_FORMAT,
      "unet.lora_alpha must be a number from" },
    { "\\\"unet.use_rslora\\\": false", "\\\"unet.use_rslora\\\": 1", AD_ERR_FORMAT,
      "unet.use_rslora must be true or false" },
    { "\\\"unet.rank_pattern\\\": {", "\\\"unet.rank_pattern\\\": 3, \\\"x\\\": {", AD_ERR_FORMAT,
      "unet.rank_pattern must be an object" },
    { "\\\"attn1.to_k\\\": 2", "\\\"attn1.to_k\\\": 0", AD_ERR_FORMAT,
      "unet.rank_pattern: a rank of 0" },
    { "\\\"attn2.to_v\\\": 1", "\\\"attn2.to_v\\\": null", AD_ERR_FORMAT,
      "unet.alpha_pattern: \"attn2.to_v\" must have a number up to 1e6" },
    { "\\\"attn2.to_v\\\": 1", "\\\"attn2.to_[vq]\\\": 1", AD_ERR_UNSUPPORTED,
      "unet.alpha_pattern: \"attn2.to_[vq]\" is no layer's path" },
    { "\\\"attn2.to_v\\\": 1", "\\\".*attn2\\\": 1", AD_ERR_UNSUPPORTED, "is no layer's path" },
    { "\\\"unet.r\\\": 4", "\\\"unet.r\\\": 4, \\\"unet.r\\\": 4", AD_ERR_FORMAT, "duplicate" },
    { "\\\"unet.r\\\": 4", "\\\"unet.r\\\": ", AD_ERR_FORMAT, "lora_adapter_metadata: line" },
};

static void is_refused(const struct Wrong *w)
{
    AdPeft p;

    CHECK_STATUS(settings_of(with(w->from, w->to), &p), w->status);
    CHECK_CONTAINS(ad_context_error(ctx), w->part);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
    CHECK(!p.where && !p.networks[0].there);
}

static void the_tensors_must_agree(void)
{
    static const struct { const char *from, *to, *part; } cases[] = {
        { "\\\"attn1.to_k\\\": 2", "\\\"attn1.to_q\\\": 2",
          "lora_adapter_metadata: rank 4 for \"unet.down_blocks.0.attentions.0."
          "transformer_blocks.0.attn1.to_k\", which has 2" },
        { "\\\"unet.use_dora\\\": false", "\\\"unet.use_dora\\\": true", "has no magnitudes" },
    };

    for (i_ = 0; i_ < AD_COUNT(cases); i_++) {
        AdModel *m = NULL;

        render_small(&the_case);
        the_case.model.lora = with(cases[i_].from, cases[i_].to);
        CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), AD_ERR_FORMAT);
        CHECK_CONTAINS(ad_context_error(ctx), cases[i_].part);
    }
}

/* One layer's pair and what else is asked for; `settings` is the header's word, quotes escaped. */
static const char *pair(const char *file, const char *prefix, const char *settings,
                        const char *more, int64_t more_size)
{
    static const char plain[] = "{\"";
    static float down[RANK * WIDTH], up[WIDTH * RANK], extra[WIDTH];
    TensorWriter w = { 0 };
    char name[200], *to = malloc(strlen(settings) + 100);
    const char *path;

    formula_wave(down, RANK * WIDTH, 0.7, 0.3);
    formula_wave(up, WIDTH * RANK, 1.1, 0.9);
    formula_wave(extra, WIDTH, 0.4, 0.1);
    snprintf(name, sizeof(name), "%s" LAYER ".lora_A.weight", prefix);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ RANK, WIDTH }, down, sizeof(down));
    snprintf(name, sizeof(name), "%s" LAYER ".lora_B.weight", prefix);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ WIDTH, RANK }, up, sizeof(up));
    snprintf(name, sizeof(name), "%s" LAYER "%s", prefix, more ? more : "");
    if (more)
        tensors_add(&w, name, "F32", 1, &more_size, extra, (size_t)more_size * 4);
    path = tensors_write(&w, file);
    sprintf(to, "{\"__metadata__\":{\"lora_adapter_metadata\":\"%s\"},\"", settings);
    if (*settings)                      /* in front of the first tensor */
        path = scratch_renamed(file, path, plain, to);
    free(to);
    return path;
}

static void text_is_bounded(void)
{
    char *deep = malloc(3 << 20), *at = deep;
    AdPeft p;

    at += sprintf(at, "{\\\"unet.r\\\":2,\\\"x\\\":");
    for (int i = 0; i < 40; i++)
        *at++ = '[';
    for (int i = 0; i < 40; i++)
        *at++ = ']';
    strcpy(at, "}");
    CHECK_STATUS(settings_of(pair("d.safetensors", "unet.", deep, NULL, 0), &p), AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "nested more than 32 deep");
    at = deep + sprintf(deep, "{\\\"unet.r\\\":2,\\\"x\\\":\\\"");
    memset(at, 'a', 2 << 20);
    strcpy(at + (2 << 20), "\\\"}");
    CHECK_STATUS(settings_of(pair("d.safetensors", "unet.", deep, NULL, 0), &p), AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "at most 1048576 are accepted");
    free(deep);
}

/* As many patterns as fit, asked for as many layers as there may be tensors. */
static void many_patterns_cost_little(void)
{
    char *text = malloc(2 << 20), *at = text;
    clock_t start;
    AdPeft p;

    at += sprintf(at, "{\\\"unet.r\\\":2,\\\"unet.alpha_pattern\\\":{");
    for (int i = 0; i < 60000; i++)
        at += sprintf(at, "%s\\\"a.b%d\\\":%d", i ? "," : "", i, i);
    strcpy(at, "}}");
    start = clock();
    CHECK_STATUS(settings_of(pair("m.safetensors", "unet.", text, NULL, 0), &p), AD_OK);
    for (int i = 0; i < 60000; i++) {
        char name[64];

        sprintf(name, "unet.x.y.a.b%d", i);
        CHECK_NEAR(ad_peft_layer(&p, name).scale, i / 2.0, 0);
    }
    ad_peft_free(&p);
    free(text);
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 1);
}

/* ---- frames ------------------------------------------------------------------------------- */

/* free() it. */
static uint8_t *frames_with(const char *lora, double scale, size_t *n)
{
    char list[400];
    uint8_t *out;

    snprintf(list, sizeof(list), "%s@%g", lora, scale);
    render_small(&the_case);
    the_case.model.lora = list;
    out = render(ctx, &the_case, n);
    if (!out)
        FAIL("%s", ad_context_error(ctx));
    return out;
}

static void same_clip(const char *lora, double scale, const char *other, double other_scale)
{
    size_t n, m;
    uint8_t *a = frames_with(lora, scale, &n), *b = frames_with(other, other_scale, &m);

    CHECK_INT(n, m);
    for (size_t i = 0; i < n; i++)
        if (abs(a[i] - b[i]) > 1)
            FAIL("byte %zu: %d and %d", i, a[i], b[i]);
    free(a), free(b);
}

#define R2 "{\\\"unet.r\\\":2,\\\"unet.lora_alpha\\\":"

static void the_scale_is_used(void)
{
    char without[300];

    snprintf(without, sizeof(without), "%s", pair("plain.safetensors", "unet.", "", NULL, 0));
    same_clip(pair("a.safetensors", "unet.", R2 "6}", NULL, 0), 0.5, without, 1.5);
    same_clip(pair("a.safetensors", "unet.", R2 "6,\\\"unet.use_rslora\\\":true}", NULL, 0), 0.5,
              without, 1.5 * sqrt(2));
    same_clip(pair("a.safetensors", "unet.",
                   R2 "6,\\\"unet.alpha_pattern\\\":{\\\"to_out.0\\\":1}}", NULL, 0), 1, without,
              0.5);
}

/* Magnitudes of a file that says it has none are left alone, as by PEFT. */
static void dora_must_be_said(void)
{
    char without[300], dora[300];
    size_t n, m;
    uint8_t *a, *b;

    snprintf(without, sizeof(without), "%s", pair("plain.safetensors", "unet.", "", NULL, 0));
    same_clip(pair("a.safetensors", "unet.", R2 "2}", ".lora_magnitude_vector", WIDTH), 1, without,
              1);
    snprintf(dora, sizeof(dora), "%s", pair("b.safetensors", "unet.", "", ".lora_magnitude_vector",
                                            WIDTH));
    same_clip(pair("a.safetensors", "unet.", R2 "2,\\\"unet.use_dora\\\":true}",
                   ".lora_magnitude_vector", WIDTH), 1, dora, 1);
    a = frames_with(dora, 1, &n);
    b = frames_with(without, 1, &m);
    CHECK(memcmp(a, b, n));
    free(a), free(b);
}

/* PEFT's lora_bias: what is added to the output is scaled like the rest. */
static void biases_are_scaled_too(void)
{
    char once[300], whole[300];
    size_t n, m;
    uint8_t *a, *b;

    snprintf(once, sizeof(once), "%s", pair("b.safetensors", "unet.", "", ".lora_B.bias", WIDTH));
    same_clip(pair("a.safetensors", "unet.", R2 "6}", ".lora_B.bias", WIDTH), 0.5, once, 1.5);
    snprintf(whole, sizeof(whole), "%s", pair("p.safetensors", "unet.", "", NULL, 0));
    a = frames_with(once, 1, &n);
    b = frames_with(whole, 1, &m);
    CHECK(memcmp(a, b, n));
    free(a), free(b);
}

/* PEFT's own folder: adapter_model.safetensors and adapter_config.json. */
static void pefts_own_folder_is_read(void)
{
    char without[300];

    snprintf(without, sizeof(without), "%s", pair("plain.safetensors", "unet.", "", NULL, 0));
    pair("own/adapter_model.safetensors", "base_model.model.", "", NULL, 0);
    same_clip(scratch("own"), 1, without, 1);
    scratch_text("own/adapter_config.json", "{\"r\": 2, \"lora_alpha\": 5}");
    same_clip(scratch("own"), 1, without, 2.5);
    same_clip(scratch("own/adapter_model.safetensors"), 1, without, 2.5);
    scratch_text("own/adapter_config.json", "{\"r\": 2, \"lora_alpha\": \"5\"}");
    render_small(&the_case);
    the_case.model.lora = scratch("own");
    CHECK(render(ctx, &the_case, &(size_t){ 0 }) == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), "own/adapter_config.json: lora_alpha must be a number");
}

int main(void)
{
    ctx = render_context("cpu", 2);
    RUN(layers_have_their_scales);
    RUN(a_network_without_settings_is_as_before);
    RUN(what_is_not_said_is_pefts_default);
    for (i_ = 0; i_ < AD_COUNT(wrong); i_++)
        RUN_AS(is_refused(&wrong[i_]), "refused: %s", wrong[i_].part);
    RUN(the_tensors_must_agree);
    RUN(text_is_bounded);
    RUN(many_patterns_cost_little);
    RUN(the_scale_is_used);
    RUN(dora_must_be_said);
    RUN(biases_are_scaled_too);
    RUN(pefts_own_folder_is_read);
    ad_context_destroy(&ctx);
    return check_result();
}
