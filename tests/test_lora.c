/* test_lora.c - LoRAs through the public API: spellings, scales, wrong files, changes on the way.
 *
 * A file for one layer is written by the test; an adapter whose weight already holds the sum says
 * what must come out. Clips with the golden LoRAs are in test_clips.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>

#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"
#include "tensors.h"

#define LAYER  "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q"
#define SPATIAL "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
#define ADAPTER "/diffusion_pytorch_model.safetensors"

enum { WIDTH = 16, RANK = 2 };  /* of that layer in the small model; of our files */

static AdContext *ctx;
static RenderCase small;
static uint8_t *plain;          /* frames without any LoRA */
static size_t bytes;
static float down[RANK * WIDTH], up[WIDTH * RANK];

/* ---- files -------------------------------------------------------------------------------- */

/* A file with one pair under two names. Returns its path. */
static const char *pair(const char *file, const char *down_name, const char *up_name)
{
    TensorWriter w = { 0 };

    tensors_add(&w, down_name, "F32", 2, (int64_t[]){ RANK, WIDTH }, down, sizeof(down));
    tensors_add(&w, up_name, "F32", 2, (int64_t[]){ WIDTH, RANK }, up, sizeof(up));
    return tensors_write(&w, file);
}

static const char *peft_pair(void)
{
    return pair("peft.safetensors", LAYER ".lora_A.weight", LAYER ".lora_B.weight");
}

/* A copy of the adapter with n numbers added to one of its tensors. */
static const char *with_sum(const char *name, const float *delta, size_t n)
{
    AdContext quiet = { 0 };
    AdTensorFile *f = NULL;
    const AdEntry *e = NULL;
    float weight[WIDTH * WIDTH];
    size_t size;
    char *all;

    scratch_copy("merged", GOLDEN "models/plain-motion");
    all = slurp(scratch("merged" ADAPTER), &size);
    if (ad_tensor_file_open(&quiet, &f, scratch("merged" ADAPTER)) < 0 ||
        !(e = ad_tensor_file_find(f, name)) || e->bytes != n * sizeof(*weight) ||
        n > AD_COUNT(weight) || ad_entry_read(&quiet, f, e, weight) < 0)
        die(name);
    for (size_t i = 0; i < n; i++)
        weight[i] += delta[i];
    memcpy(all + e->offset, weight, n * sizeof(*weight));
    ad_tensor_file_close(&f);
    scratch_write("merged" ADAPTER, all, size);
    free(all);
    return scratch("merged");
}

/* The same whose weight is W + scale * up * down. */
static const char *merged(double scale)
{
    float delta[WIDTH * WIDTH] = { 0 };

    for (int o = 0; o < WIDTH; o++)
        for (int i = 0; i < WIDTH; i++)
            for (int r = 0; r < RANK; r++)
                delta[o * WIDTH + i] += (float)scale * up[o * RANK + r] * down[r * WIDTH + i];
    return with_sum(LAYER ".weight", delta, AD_COUNT(delta));
}

/* ---- rendering ---------------------------------------------------------------------------- */

/* free() it. */
static uint8_t *with(const char *motion_lora)
{
    uint8_t *out;

    render_small(&small);
    small.model.motion_lora = motion_lora;
    out = render(ctx, &small, &bytes);
    if (!out)
        FAIL("%s", ad_context_error(ctx));
    return out;
}

/* Equal but for roundings: one level on one byte in a hundred. */
static void nearly(uint8_t *a, const uint8_t *b, const char *what)
{
    size_t differ = 0;

    for (size_t i = 0; i < bytes; i++) {
        if (abs(a[i] - b[i]) > 1)
            FAIL("%s: byte %zu is %d, not %d", what, i, a[i], b[i]);
        differ += a[i] != b[i];
    }
    free(a);
    if (differ > bytes / 100)
        FAIL("%s: %zu of %zu bytes differ", what, differ, bytes);
}

static void exactly(uint8_t *a, const uint8_t *b, const char *what)
{
    bool same = !memcmp(a, b, bytes);

    free(a);
    if (!same)
        FAIL("%s: other frames", what);
}

static const char *list(const char *format, ...)
{
    static char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return text;
}

/* ---- sums --------------------------------------------------------------------------------- */

static void the_sum_is_what_a_merged_weight_gives(double scale)
{
    const char *path = peft_pair();
    uint8_t *found, *wanted;

    render_small(&small);
    small.model.motion_adapter = merged(scale);
    wanted = render(ctx, &small, &bytes);
    CHECK(wanted != NULL);
    CHECK(memcmp(wanted, plain, bytes));
    found = with(list("%s@%g", path, scale));
    nearly(found, wanted, "the sum");
    free(wanted);
}

static void no_scale_means_one(void)
{
    const char *path = peft_pair();
    uint8_t *one = with(list("%s@1", path));

    nearly(with(path), one, "without a scale");
    free(one);
}

static void a_scale_of_0_changes_nothing(void)
{
    nearly(with(list("%s@0", peft_pair())), plain, "scale 0");
}

static void files_add_up(void)
{
    const char *path = peft_pair();
    uint8_t *one = with(list("%s@0.75", path));

    nearly(with(list("%s@0.5|%s@0.25", path, path)), one, "a half and a quarter");
    free(one);
    nearly(with(list("%s@1|%s@-1", path, path)), plain, "one and minus one");
}

#define NORM "down_blocks.0.motion_modules.0.transformer_blocks.0.norm1"
#define OUT  "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_out.0"

/* Norms, biases and whole differences. */
static const struct { const char *suffix, *name; size_t n; } differences[] = {
    { NORM ".w_norm", NORM ".weight", WIDTH }, { NORM ".b_norm", NORM ".bias", WIDTH },
    { OUT ".diff_b", OUT ".bias", WIDTH }, { OUT ".diff", OUT ".weight", WIDTH * WIDTH },
};

static void is_a_difference(size_t i)
{
    static float delta[WIDTH * WIDTH];
    TensorWriter w = { 0 };
    uint8_t *wanted;

    for (size_t k = 0; k < AD_COUNT(delta); k++)
        delta[k] = 2 * down[k % AD_COUNT(down)] + (float)k / AD_COUNT(delta);
    tensors_add(&w, differences[i].suffix, "F32", differences[i].n > WIDTH ? 2 : 1,
                (int64_t[]){ WIDTH, WIDTH }, delta, differences[i].n * sizeof(*delta));
    render_small(&small);
    small.model.motion_adapter = with_sum(differences[i].name, delta, differences[i].n);
    wanted = render(ctx, &small, &bytes);
    CHECK(wanted && memcmp(wanted, plain, bytes));
    exactly(with(tensors_write(&w, "difference.safetensors")), wanted, differences[i].name);
    free(wanted);
}

static const struct { const char *down, *up; } spellings[] = {
    { "unet." LAYER ".lora_A.weight", "unet." LAYER ".lora_B.weight" },
    { LAYER ".lora.down.weight", LAYER ".lora.up.weight" },
    { LAYER ".lora_down.weight", LAYER ".lora_up.weight" },
    { "unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.processor.to_q_lora.down."
      "weight",
      "unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.processor.to_q_lora.up."
      "weight" },
    { "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0."
      "processor.to_q_lora.down.weight",
      "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0."
      "processor.to_q_lora.up.weight" },
    { "module.down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
      "attention_blocks.0.processor.to_q_lora.down.weight",
      "module.down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
      "attention_blocks.0.processor.to_q_lora.up.weight" },
};

static void is_the_same_layer(size_t i)
{
    uint8_t *peft = with(peft_pair());

    CHECK(memcmp(peft, plain, bytes));
    nearly(with(pair("other.safetensors", spellings[i].down, spellings[i].up)), peft, "the other");
    free(peft);
}

/* The original repository's file, by torch.save, of the golden one's numbers. */
static void a_ckpt_is_the_same_lora(void)
{
    uint8_t *wanted = with(GOLDEN "loras/pan.safetensors@0.7");

    CHECK(memcmp(wanted, plain, bytes));
    exactly(with(GOLDEN "loras/pan-original.ckpt@0.7"), wanted, "the .ckpt");
    free(wanted);
}

static void matrices_may_be_halves(void)
{
    uint16_t halves[2][RANK * WIDTH];
    TensorWriter w = { 0 };
    uint8_t *found;

    for (int i = 0; i < RANK * WIDTH; i++) {        /* rounded on both sides */
        halves[0][i] = ad_float_to_half(down[i]);
        halves[1][i] = ad_float_to_half(up[i]);
        down[i] = ad_half_to_float(halves[0][i]);
        up[i]   = ad_half_to_float(halves[1][i]);
    }
    tensors_add(&w, LAYER ".lora_A.weight", "F16", 2, (int64_t[]){ RANK, WIDTH }, halves[0],
                sizeof(halves[0]));
    tensors_add(&w, LAYER ".lora_B.weight", "F16", 2, (int64_t[]){ WIDTH, RANK }, halves[1],
                sizeof(halves[1]));
    found = with(tensors_write(&w, "halves.safetensors"));
    nearly(with(peft_pair()), found, "in f32");
    free(found);
}

/* ---- wrong files -------------------------------------------------------------------------- */

static void is_refused(const char *motion_lora, AdStatus status, const char *part)
{
    AdModel *model = NULL;

    render_small(&small);
    small.model.motion_lora = motion_lora;
    CHECK_STATUS(ad_model_load(ctx, &model, &small.model), status);
    CHECK(model == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), part);
}

static void wrong_files_are_refused(void)
{
    is_refused(scratch("nowhere.safetensors"), AD_ERR_NOTFOUND, "nowhere.safetensors");
    is_refused(GOLDEN "models/plain/vae" ADAPTER, AD_ERR_FORMAT, "vae" ADAPTER);
    is_refused(scratch_text("page.safetensors", "<html>"), AD_ERR_FORMAT, "a web page");
    is_refused(pair("spatial.safetensors", "unet." SPATIAL ".lora_A.weight",
                    "unet." SPATIAL ".lora_B.weight"), AD_ERR_FORMAT, "spatial.safetensors");
    is_refused(pair("alone.safetensors", LAYER ".lora_A.weight", LAYER ".lora_C.weight"),
               AD_ERR_FORMAT, "alone.safetensors");
}

static void matrices_must_fit(void)
{
    static const struct { int64_t down[2], up[2]; } shapes[] = {
        { { 2, 16 }, { 16, 3 } },       /* ranks differ       */
        { { 2, 12 }, { 16, 2 } },       /* another input      */
        { { 2, 16 }, { 12, 2 } },       /* another output     */
        { { 0, 16 }, { 16, 0 } },       /* no rank at all     */
    };
    static float zeros[64];

    for (size_t i = 0; i < AD_COUNT(shapes); i++) {
        TensorWriter w = { 0 };

        tensors_add(&w, LAYER ".lora_A.weight", "F32", 2, shapes[i].down, zeros,
                    4 * (size_t)(shapes[i].down[0] * shapes[i].down[1]));
        tensors_add(&w, LAYER ".lora_B.weight", "F32", 2, shapes[i].up, zeros,
                    4 * (size_t)(shapes[i].up[0] * shapes[i].up[1]));
        is_refused(tensors_write(&w, "shapes.safetensors"), AD_ERR_FORMAT, "shapes.safetensors");
    }
}

static void a_file_for_other_layers_is_refused(void)
{
    is_refused(pair("others.safetensors", "up_blocks.7.motion_modules.0.transformer_blocks.0.attn1."
                    "to_q.lora_A.weight", "up_blocks.7.motion_modules.0.transformer_blocks.0.attn1."
                    "to_q.lora_B.weight"), AD_ERR_FORMAT, "others.safetensors");
}

static void a_file_that_fits_in_part_is_a_warning(void)
{
    static const char other[] = "up_blocks.7.motion_modules.0.transformer_blocks.0.attn1.to_q";
    TensorWriter w = { 0 };
    char name[160];

    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "%s.lora_A.weight", i ? other : LAYER);
        tensors_add(&w, name, "F32", 2, (int64_t[]){ RANK, WIDTH }, down, sizeof(down));
        snprintf(name, sizeof(name), "%s.lora_B.weight", i ? other : LAYER);
        tensors_add(&w, name, "F32", 2, (int64_t[]){ WIDTH, RANK }, up, sizeof(up));
    }
    render_log();
    free(with(tensors_write(&w, "part.safetensors")));
    CHECK_CONTAINS(render_log(), "1 of 2");
}

static void lists_are_checked(void)
{
    const char *path = peft_pair();

    is_refused(list("%s@x", path), AD_ERR_INVALID,
               "motion_lora: \"x\" is no scale; path@0.8 is the form, not /");
    is_refused(list("%s@1000", path), AD_ERR_INVALID, "-100 to 100");
    is_refused(list("%s|", path), AD_ERR_INVALID, "an entry without a path");
}

/* ---- LoRAs for pictures ------------------------------------------------------------------- */

#define KOHYA  GOLDEN "loras/kohya.safetensors"
#define PEFT   GOLDEN "loras/peft.safetensors"
#define ZOOM   GOLDEN "loras/zoom.safetensors"

/* free() it. */
static uint8_t *with_both(const char *lora, const char *motion_lora)
{
    uint8_t *out;

    render_small(&small);
    small.model.lora = lora;
    small.model.motion_lora = motion_lora;
    out = render(ctx, &small, &bytes);
    if (!out)
        FAIL("%s", ad_context_error(ctx));
    return out;
}

/* One pair for the spatial layer, with an alpha where it is not 0. */
static const char *picture_pair(const char *file, const char *layer, float alpha)
{
    TensorWriter w = { 0 };
    char name[200];

    snprintf(name, sizeof(name), "%s.lora_down.weight", layer);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ RANK, WIDTH }, down, sizeof(down));
    snprintf(name, sizeof(name), "%s.lora_up.weight", layer);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ WIDTH, RANK }, up, sizeof(up));
    snprintf(name, sizeof(name), "%s.alpha", layer);
    if (alpha != 0)
        tensors_add(&w, name, "F32", 0, NULL, &alpha, sizeof(alpha));
    return tensors_write(&w, file);
}

static void alpha_over_rank_is_a_scale(void)
{
    uint8_t *half = with_both(list("%s@0.5", picture_pair("a.safetensors", SPATIAL, 0)), NULL);

    CHECK(memcmp(half, plain, bytes));
    nearly(with_both(picture_pair("b.safetensors", SPATIAL, RANK / 2.f), NULL), half, "alpha 1");
    nearly(with_both(list("%s@0.25", picture_pair("c.safetensors", SPATIAL, RANK * 2)), NULL),
           half, "alpha 4");
    free(half);
}

static void dialects_mean_the_same_layer(void)
{
    static const char *const layers[] = {
        "unet." SPATIAL, "base_model.model." SPATIAL,
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
    };
    uint8_t *wanted = with_both(picture_pair("a.safetensors", SPATIAL, 0), NULL);

    for (size_t i = 0; i < AD_COUNT(layers); i++)
        exactly(with_both(picture_pair("b.safetensors", layers[i], 0), NULL), wanted, layers[i]);
    free(wanted);
}

static void lora_refused(const char *lora, AdStatus status, const char *part)
{
    AdModel *m = NULL;

    render_small(&small);
    small.model.lora = lora;
    CHECK_STATUS(ad_model_load(ctx, &m, &small.model), status);
    CHECK(m == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), part);
}

static void files_for_the_other_list_are_sent_there(void)
{
    lora_refused(ZOOM, AD_ERR_FORMAT, "this is a motion LoRA; give it to motion_lora=");
    lora_refused(GOLDEN "loras/pan-original.ckpt", AD_ERR_FORMAT,
                 "this is a motion LoRA; give it to motion_lora=");
    is_refused(GOLDEN "loras/domain.ckpt", AD_ERR_FORMAT, "this is a LoRA; give it to lora=");
    is_refused(KOHYA, AD_ERR_FORMAT, "no motion LoRA in it; this is a LoRA; give it to lora=");
}

static void wrong_pictures_loras_are_refused(void)
{
    static const float zeros[64];
    TensorWriter w = { 0 };

    lora_refused("/no/such/lora", AD_ERR_NOTFOUND, "/no/such/lora");
    lora_refused("a@b@c", AD_ERR_INVALID, "a@b@c");
    lora_refused(GOLDEN "models/plain/vae" ADAPTER, AD_ERR_FORMAT,
                 "no LoRA for pictures in it; this is a VAE; give it to vae=");
    lora_refused(picture_pair("te2.safetensors", "lora_te2_text_model_encoder_layers_0_mlp_fc1", 0),
                 AD_ERR_FORMAT, "Stable Diffusion XL");
    lora_refused(picture_pair("o.safetensors", "lora_unet_up_blocks_9_attentions_0_proj_in", 0),
                 AD_ERR_FORMAT, "fits no layer");
    lora_refused(picture_pair("nan.safetensors", SPATIAL, NAN), AD_ERR_FORMAT, "not finite");
    tensors_add(&w, "lora_unet_conv_in.oft_blocks", "F32", 3, (int64_t[]){ 4, 2, 2 }, zeros, 64);
    lora_refused(tensors_write(&w, "oft.safetensors"), AD_ERR_UNSUPPORTED, "an OFT file");
}

static void what_is_taken_is_counted(void)
{
    TensorWriter w = { 0 };
    const char *path = picture_pair("a.safetensors", SPATIAL, 1);

    render_log();
    free(with_both(path, NULL));
    CHECK_CONTAINS(render_log(), "a.safetensors: applied to 1 weights");
    tensors_add(&w, SPATIAL ".lora_A.weight", "F32", 2, (int64_t[]){ RANK, WIDTH }, down,
                sizeof(down));
    tensors_add(&w, SPATIAL ".lora_B.weight", "F32", 2, (int64_t[]){ WIDTH, RANK }, up,
                sizeof(up));
    tensors_add(&w, "something.else", "F32", 1, (int64_t[]){ 2 }, NULL, 8);
    render_log();
    free(with_both(tensors_write(&w, "more.safetensors"), NULL));
    CHECK_CONTAINS(render_log(), "1 of 3 tensors are not used");
}

/* ---- while running ------------------------------------------------------------------------ */

static AdModel *model;
static AdSession *session;

static void start_session(const char *motion_lora)
{
    AdSessionParams p;

    render_small(&small);
    small.model.motion_lora = motion_lora;
    CHECK_STATUS(ad_model_load(ctx, &model, &small.model), AD_OK);
    p = render_params(model, &small);
    CHECK_STATUS(ad_session_create(model, &session, &p), AD_OK);
}

static void end_session(void)
{
    ad_session_destroy(&session);
    ad_model_destroy(&model);
}

static uint8_t *next_clip(void)
{
    AdSessionParams p = render_params(model, &small);
    uint8_t *out = malloc(bytes);

    if (render_clip(session, &small.clip, &p, out) < 0)
        FAIL("%s", ad_context_error(ctx));
    return out;
}

static void adapts(const char *motion_lora, const uint8_t *wanted)
{
    if (ad_model_adapt(model, NULL, motion_lora) < 0)
        FAIL("%s", ad_context_error(ctx));
    exactly(next_clip(), wanted, motion_lora ? motion_lora : "without");
}

/* With a LoRA, another scale, none, a wrong one (nothing changes), and the first again. */
static void a_running_model_takes_other_lists(void)
{
    char whole[256], half[300];
    uint8_t *a, *b;

    snprintf(whole, sizeof(whole), "%s", peft_pair());
    snprintf(half, sizeof(half), "%s@0.5", whole);
    a = with(whole);
    b = with(half);
    CHECK(memcmp(a, b, bytes) && memcmp(a, plain, bytes));
    start_session(NULL);
    adapts(whole, a);
    adapts(half, b);
    adapts(NULL, plain);
    adapts(whole, a);
    CHECK_STATUS(ad_model_adapt(model, NULL, "nowhere.safetensors"), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ad_context_error(ctx), "nowhere.safetensors");
    exactly(next_clip(), a, "after a refusal");
    CHECK(ad_model_adapt(model, NULL, half) == AD_OK);
    CHECK(ad_model_adapt(model, NULL, "nowhere.safetensors") < 0);
    exactly(next_clip(), b, "a list that waits, after a refusal");
    CHECK(ad_model_adapt(model, NULL, whole) == AD_OK);
    adapts(half, b);                                /* the waiting one is forgotten */
    CHECK(ad_model_adapt(model, NULL, whole) == AD_OK);
    adapts("", plain);
    end_session();
    start_session(half);
    exactly(next_clip(), b, "loaded with a list");
    adapts("", plain);
    adapts(half, b);
    end_session();
    free(a), free(b);
}

/* The vectors too are written again when the list changes. */
static void norms_change_while_running(void)
{
    TensorWriter w = { 0 };
    char path[256];
    uint8_t *wanted;

    tensors_add(&w, NORM ".w_norm", "F32", 1, (int64_t[]){ WIDTH }, down, WIDTH * 4);
    tensors_add(&w, NORM ".b_norm", "F32", 1, (int64_t[]){ WIDTH }, up, WIDTH * 4);
    snprintf(path, sizeof(path), "%s", tensors_write(&w, "norm.safetensors"));
    wanted = with(path);
    start_session(NULL);
    adapts(path, wanted);
    adapts(NULL, plain);
    adapts(path, wanted);
    end_session();
    free(wanted);
}

/* In the two types with packed weights of other orders. */
static void the_golden_lora_is_taken(AdPrecision precision)
{
    static const char zoom[] = GOLDEN "loras/zoom.safetensors@0.5";
    uint8_t *loaded, *without;
    AdSessionParams p;

    if (precision == AD_PRECISION_BF16 && !render_has_bf16("cpu"))
        SKIP("this processor has no bf16");
    render_small(&small);
    small.model.precision = precision;
    without = render(ctx, &small, &bytes);
    small.model.motion_lora = zoom;
    loaded = render(ctx, &small, &bytes);
    CHECK(loaded && without && memcmp(loaded, without, bytes));
    small.model.motion_lora = NULL;
    CHECK_STATUS(ad_model_load(ctx, &model, &small.model), AD_OK);
    p = render_params(model, &small);
    CHECK_STATUS(ad_session_create(model, &session, &p), AD_OK);
    adapts(zoom, loaded);
    adapts(NULL, without);
    end_session();
    free(loaded), free(without);
}

static void a_clip_in_progress_keeps_its_weights(void)
{
    AdSessionParams p;
    uint8_t *out = malloc(bytes);
    size_t frame;
    AdStatus st;

    start_session(NULL);
    p = render_params(model, &small);
    frame = (size_t)p.width * (size_t)p.height * 3;
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_OK);
    CHECK_STATUS(ad_model_adapt(model, NULL, peft_pair()), AD_OK);
    while ((st = ad_session_step(session)) == AD_OK)
        ;
    CHECK_STATUS(st, AD_DONE);
    for (int i = 0; i < p.frames; i++)
        CHECK_STATUS(ad_session_decode(session, i, &(AdImage){ out + (size_t)i * frame,
                                       3 * p.width, p.width, p.height }), AD_OK);
    exactly(out, plain, "the clip");
    end_session();
}

static void adapts_both(const char *lora, const char *motion_lora)
{
    uint8_t *wanted = with_both(lora, motion_lora);

    CHECK_STATUS(ad_model_adapt(model, lora, motion_lora), AD_OK);
    exactly(next_clip(), wanted, lora ? lora : "without");
    free(wanted);
}

/* Text encoder, convolutions and motion modules, each with and without the others. */
static void both_lists_change_while_running(void)
{
    start_session(NULL);
    adapts_both(KOHYA "@0.7", NULL);
    adapts_both(KOHYA "@0.7", ZOOM);
    adapts_both(PEFT "@0.5|" KOHYA "@0.2", ZOOM);
    adapts_both(PEFT, "");
    adapts_both("", ZOOM "@0.5");
    adapts_both(NULL, NULL);
    CHECK_STATUS(ad_model_adapt(model, KOHYA "|/no/such/lora", NULL), AD_ERR_NOTFOUND);
    CHECK_STATUS(ad_model_adapt(model, ZOOM, NULL), AD_ERR_FORMAT);
    exactly(next_clip(), plain, "after refusals");
    end_session();
}

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void files_are_closed(void)
{
    int before = open_files();

    start_session(peft_pair());
    CHECK_INT(open_files(), before);
    CHECK_STATUS(ad_model_adapt(model, NULL, list("%s@2", peft_pair())), AD_OK);
    CHECK_INT(open_files(), before);
    end_session();
}

/* Not even the file is looked for. */
static void the_same_list_costs_nothing(void)
{
    char path[256];
    uint8_t *a;

    snprintf(path, sizeof(path), "%s", peft_pair());
    a = with(path);
    start_session(path);
    scratch_remove("peft.safetensors");
    adapts(path, a);
    end_session();
    free(a);
}

static void a_model_that_changed_on_disk_is_refused(void)
{
    const char *adapter = merged(1);
    char *all;
    size_t n;

    render_small(&small);
    small.model.motion_adapter = adapter;
    CHECK_STATUS(ad_model_load(ctx, &model, &small.model), AD_OK);
    all = slurp(scratch("merged" ADAPTER), &n);
    memset(all + n / 2, 1, n / 2);
    scratch_write("merged" ADAPTER, all, n);
    free(all);
    CHECK_STATUS(ad_model_adapt(model, NULL, peft_pair()), AD_ERR_IO);
    CHECK_CONTAINS(ad_context_error(ctx), "have changed");
    ad_model_destroy(&model);
}

/* ---- main --------------------------------------------------------------------------------- */

static size_t i_;               /* outlives the longjmp of a failing case */

int main(void)
{
    ctx = render_context("cpu", 2);
    formula_wave(down, RANK * WIDTH, 0.7, 0.3);
    formula_wave(up, WIDTH * RANK, 1.1, 0.9);
    plain = with(NULL);
    RUN_AS(the_sum_is_what_a_merged_weight_gives(1), "the sum is what a merged weight gives");
    RUN_AS(the_sum_is_what_a_merged_weight_gives(-0.4), "a scale of -0.4 likewise");
    RUN(no_scale_means_one);
    RUN(a_scale_of_0_changes_nothing);
    RUN(files_add_up);
    for (i_ = 0; i_ < AD_COUNT(differences); i_++)
        RUN_AS(is_a_difference(i_), "a difference: %s", differences[i_].suffix);
    for (i_ = 0; i_ < AD_COUNT(spellings); i_++)
        RUN_AS(is_the_same_layer(i_), "the same layer: %s", spellings[i_].down);
    RUN(a_ckpt_is_the_same_lora);
    RUN(matrices_may_be_halves);
    RUN(wrong_files_are_refused);
    RUN(matrices_must_fit);
    RUN(a_file_for_other_layers_is_refused);
    RUN(a_file_that_fits_in_part_is_a_warning);
    RUN(lists_are_checked);
    RUN(alpha_over_rank_is_a_scale);
    RUN(dialects_mean_the_same_layer);
    RUN(files_for_the_other_list_are_sent_there);
    RUN(wrong_pictures_loras_are_refused);
    RUN(what_is_taken_is_counted);
    RUN(a_running_model_takes_other_lists);
    RUN(norms_change_while_running);
    RUN(both_lists_change_while_running);
    RUN_AS(the_golden_lora_is_taken(AD_PRECISION_FP32), "a golden LoRA is taken, fp32");
    RUN_AS(the_golden_lora_is_taken(AD_PRECISION_BF16), "a golden LoRA is taken, bf16");
    RUN(a_clip_in_progress_keeps_its_weights);
    RUN(files_are_closed);
    RUN(the_same_list_costs_nothing);
    RUN(a_model_that_changed_on_disk_is_refused);
    free(plain);
    ad_context_destroy(&ctx);
    return check_result();
}
