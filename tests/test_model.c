/* test_model.c - loading whole models: right ones, damaged ones, and what they say of themselves.
 *
 * A copy of a golden model is damaged in one place; loading must fail with the right class and
 * sentence, leave nothing behind, and the next load must work.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <unistd.h>

#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static AdContext *ctx;
static RenderCase small;
static AdModelParams params;    /* of the copy */

#define WEIGHTS "diffusion_pytorch_model.safetensors"

/* ---- damage ------------------------------------------------------------------------------- */

static const char *in_model(const char *file)
{
    static char path[256];

    snprintf(path, sizeof(path), "m/%s", file);
    return path;
}

/* A fresh copy of the small model, its adapter beside it. */
static void fresh(void)
{
    static char model[256], adapter[256];

    scratch_remove("m");
    snprintf(model, sizeof(model), "%s", scratch_copy("m", GOLDEN "models/plain"));
    snprintf(adapter, sizeof(adapter), "%s", scratch_copy("a", GOLDEN "models/plain-motion"));
    ad_model_defaults(&params);
    params.model          = model;
    params.motion_adapter = adapter;
    params.precision      = AD_PRECISION_FP32;
}

static void gone(const char *file)
{
    if (unlink(scratch(in_model(file))) < 0)
        die("%s cannot be removed", file);
}

/* Replace the first `from` in a file by as many bytes of `to`. */
static void edited(const char *file, const char *from, const char *to)
{
    size_t n, m = strlen(from), i = 0;
    char *all = slurp(scratch(in_model(file)), &n);

    while (i + m <= n && memcmp(all + i, from, m))
        i++;
    if (i + m > n || strlen(to) != m)
        die("%s has no %s", file, from);
    memcpy(all + i, to, m);
    scratch_write(in_model(file), all, n);
    free(all);
}

/* Set a field of a JSON file. */
static void field(const char *file, const char *key, const char *value)
{
    json_t *root = json_load_file(scratch(in_model(file)), 0, NULL);

    if (!root || json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL)) < 0 ||
        json_dump_file(root, scratch(in_model(file)), 0) < 0)
        die("%s: %s cannot be set", file, key);
    json_decref(root);
}

/* Overwrite the first number of a tensor. */
static void poked(const char *file, const char *tensor, float value)
{
    AdContext quiet = { 0 };
    AdTensorFile *f = NULL;
    const AdEntry *e;
    size_t n;
    char *all = slurp(scratch(in_model(file)), &n);

    if (ad_tensor_file_open(&quiet, &f, scratch(in_model(file))) < 0 ||
        !(e = ad_tensor_file_find(f, tensor)))
        die("%s: no %s", file, tensor);
    memcpy(all + e->offset, &value, sizeof(value));
    ad_tensor_file_close(&f);
    scratch_write(in_model(file), all, n);
    free(all);
}

/* ---- loading ------------------------------------------------------------------------------ */

static int open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void loads(const AdModelParams *p)
{
    AdModel *model = NULL;

    if (ad_model_load(ctx, &model, p) < 0)
        FAIL("%s", ad_context_error(ctx));
    ad_model_destroy(&model);
    CHECK(model == NULL);
}

static void is_refused(AdStatus status, const char *part)
{
    AdModel *model = (AdModel *)(uintptr_t)8;
    AdMemory before, after;
    int files = open_files();

    CHECK_STATUS(ad_context_memory(ctx, &before), AD_OK);
    CHECK_STATUS(ad_model_load(ctx, &model, &params), status);
    CHECK(model == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), part);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
    CHECK_INT(open_files(), files);
    CHECK_STATUS(ad_context_memory(ctx, &after), AD_OK);
    CHECK(before.ours == after.ours);
    render_small(&small);
    loads(&small.model);
}

/* ---- folders ------------------------------------------------------------------------------ */

static void a_copy_loads(void)
{
    fresh();
    loads(&params);
}

static void an_index_is_not_needed(void)
{
    fresh();
    gone("model_index.json");
    loads(&params);
}

static void missing_parts_are_named(void)
{
    static const char *const files[] = {
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/merges.txt",
        "unet/config.json", "unet/" WEIGHTS, "vae/config.json", "vae/" WEIGHTS,
    };

    for (size_t i = 0; i < AD_COUNT(files); i++) {
        char part[64];

        fresh();
        gone(files[i]);
        snprintf(part, sizeof(part), "%.*s", (int)strcspn(files[i], "/"), files[i]);
        is_refused(AD_ERR_NOTFOUND, part);
    }
}

static void paths_must_lead_somewhere(void)
{
    fresh();
    params.model = scratch("nowhere");
    is_refused(AD_ERR_NOTFOUND, "nowhere: no such file or folder");
    params.model = "";
    is_refused(AD_ERR_NOTFOUND, "no such file or folder");
    fresh();
    scratch_folder("hollow");
    params.model = scratch("hollow");
    is_refused(AD_ERR_NOTFOUND, "hollow: no model_index.json");
    fresh();
    params.motion_adapter = scratch("nowhere");
    is_refused(AD_ERR_NOTFOUND, "nowhere: no such file or folder");
    fresh();
    params.vae = scratch("nowhere");
    is_refused(AD_ERR_NOTFOUND, "nowhere: no such file or folder");
    fresh();
    params.tokenizer = scratch("nowhere");
    is_refused(AD_ERR_NOTFOUND, "nowhere: no such file or folder");
    params.tokenizer = scratch_text("vocab.json", "{}");
    is_refused(AD_ERR_INVALID, "a folder with vocab.json and merges.txt is needed");
}

static void other_families_are_named(void)
{
    static const struct { const char *class_name, *part; } others[] = {
        { "StableDiffusionXLPipeline", "a Stable Diffusion XL model (StableDiffusionXLPipeline)" },
        { "StableDiffusion3Pipeline", "a Stable Diffusion 3 model" },
        { "FluxPipeline", "a FLUX model" },
        { "StableDiffusionInpaintPipeline", "an inpainting model" },
        { "StableDiffusionInstructPix2PixPipeline", "an image-editing model" },
        { "StableVideoDiffusionPipeline", "a Stable Video Diffusion model" },
        { "AnimateDiffSDXLPipeline", "Stable Diffusion XL" },
        { "PIAPipeline", "an input image" },
        { "StableDiffusionUpscalePipeline", "an upscaling model" },
    };

    for (size_t i = 0; i < AD_COUNT(others); i++) {
        char value[96];

        fresh();
        snprintf(value, sizeof(value), "\"%s\"", others[i].class_name);
        field("model_index.json", "_class_name", value);
        is_refused(AD_ERR_FORMAT, others[i].part);
    }
    fresh();
    field("unet/config.json", "in_channels", "9");
    is_refused(AD_ERR_UNSUPPORTED, "an inpainting or PIA model");
    fresh();
    field("unet/config.json", "cross_attention_dim", "1024");
    is_refused(AD_ERR_FORMAT, "Stable Diffusion 2.x is not supported");
    fresh();
    field("unet/config.json", "cross_attention_dim", "2048");
    is_refused(AD_ERR_FORMAT, "SDXL is not supported");
}

static void parts_of_a_model_fit_each_other(void)
{
    fresh();
    field("text_encoder/config.json", "vocab_size", "1343");
    is_refused(AD_ERR_FORMAT, "the tokenizer has 1344 entries, the text encoder's table 1343");
    fresh();
    params.motion_adapter = NULL;
    is_refused(AD_ERR_INVALID, "has no motion modules; give some with the option motion_adapter");
    params.motion_adapter = GOLDEN "models/plain/vae/" WEIGHTS;
    is_refused(AD_ERR_FORMAT, "no motion modules in it");
    params.motion_adapter = GOLDEN "models/levels-motion";
    is_refused(AD_ERR_FORMAT, "");
    params.motion_adapter = GOLDEN "models/v1-motion.safetensors";
    is_refused(AD_ERR_FORMAT, "");
    fresh();
    params.vae = GOLDEN "models/plain/vae/" WEIGHTS; /* a file has Stable Diffusion's groups */
    is_refused(AD_ERR_FORMAT, "norm_num_groups 32 does not divide 8 channels");
    fresh();
    params.vae = GOLDEN "models/plain"; /* a whole pipeline: its part is meant */
    params.tokenizer = GOLDEN "models/plain";
    loads(&params);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static void a_missing_tensor_is_named_with_its_shape(void)
{
    fresh();
    edited("unet/" WEIGHTS, "\"conv_in.weight\"", "\"conv_in_weight\"");
    is_refused(AD_ERR_FORMAT, "UNet: 1 tensor missing or misshapen: \"conv_in.weight\" missing, "
               "[16, 4, 3, 3] needed");
}

static void a_misshapen_tensor_is_named_with_both_shapes(void)
{
    fresh();
    edited("unet/" WEIGHTS, "[16,4,3,3]", "[4,16,3,3]");
    is_refused(AD_ERR_FORMAT, "\"conv_in.weight\" [4, 16, 3, 3] found, [16, 4, 3, 3] needed");
}

static void many_complaints_make_one_sentence(void)
{
    fresh();
    edited("vae/" WEIGHTS, "\"decoder.conv_in.bias\"", "\"decoder_conv_in.bias\"");
    edited("vae/" WEIGHTS, "\"decoder.conv_in.weight\"", "\"decoder_conv_in.weight\"");
    edited("vae/" WEIGHTS, "\"decoder.conv_out.bias\"", "\"decoder_conv_out.bias\"");
    edited("vae/" WEIGHTS, "\"decoder.conv_out.weight\"", "\"decoder_conv_out.weight\"");
    is_refused(AD_ERR_FORMAT,
               "VAE: 4 tensors missing or misshapen: \"decoder.conv_in.weight\" missing");
    CHECK_CONTAINS(ad_context_error(ctx), ", ...");
}

static void damaged_files_are_refused(void)
{
    size_t n;
    char *all;

    fresh();
    all = slurp(scratch(in_model("unet/" WEIGHTS)), &n);
    scratch_write(in_model("unet/" WEIGHTS), all, n - 1);
    is_refused(AD_ERR_FORMAT, "cut off");
    scratch_write(in_model("unet/" WEIGHTS), all, 100);
    is_refused(AD_ERR_FORMAT, "cut off");
    scratch_write(in_model("unet/" WEIGHTS), "", 0);
    is_refused(AD_ERR_FORMAT, "an empty file");
    free(all);
    fresh();
    scratch_text(in_model("vae/" WEIGHTS), "version https://git-lfs.github.com/spec/v1\n");
    is_refused(AD_ERR_FORMAT, "git lfs pull");
    fresh();
    scratch_text(in_model("model_index.json"), "{");
    is_refused(AD_ERR_FORMAT, "model_index.json: line 1");
    fresh();
    scratch_text(in_model("scheduler/scheduler_config.json"), "[]");
    is_refused(AD_ERR_FORMAT, "scheduler_config.json: not a JSON object");
}

static void unexpected_tensors_are_one_warning(void)
{
    fresh();
    scratch_copy(in_model("unet/more.safetensors"), GOLDEN "models/plain/vae/" WEIGHTS);
    scratch_copy(in_model("unet/unet.safetensors"), GOLDEN "models/plain/unet/" WEIGHTS);
    scratch_text(in_model("unet/" WEIGHTS ".index.json"), "{\"weight_map\":{\"a\":"
                 "\"more.safetensors\",\"b\":\"unet.safetensors\"}}");
    gone("unet/" WEIGHTS);
    render_log();
    loads(&params);
    CHECK_CONTAINS(render_log(), "tensors are not used, e.g. \"");
    fresh();
    loads(&params);
    CHECK(!strstr(render_log(), "not used"));
}

/* ---- numbers that are none ---------------------------------------------------------------- */

/* Load the copy, which warns, and start its clip. */
static AdSession *with_nan(AdModel **model, AdSessionParams *p)
{
    AdSession *s = NULL;

    render_small(&small);
    render_log();
    CHECK_STATUS(ad_model_load(ctx, model, &params), AD_OK);
    CHECK_CONTAINS(render_log(), "1 weights are not finite numbers");
    *p = render_params(*model, &small);
    CHECK_STATUS(ad_session_create(*model, &s, p), AD_OK);
    return s;
}

static void not_finite_latents_fail_the_clip(float value)
{
    uint8_t frame[3072];
    AdImage image = { frame, 96, 32, 32 };
    AdModel *model = NULL;
    AdSessionParams p;
    AdSession *s;
    AdStatus st;

    fresh();
    poked("unet/" WEIGHTS, "conv_out.bias", value);
    s = with_nan(&model, &p);
    CHECK_STATUS(ad_session_begin(s, &small.clip), AD_OK);
    while ((st = ad_session_step(s)) == AD_OK)
        ;
    CHECK_STATUS(st, AD_ERR_NUMERIC);
    CHECK_CONTAINS(ad_context_error(ctx), "denoising step 3: ");
    CHECK_CONTAINS(ad_context_error(ctx), "numbers are not finite; precision=fp32");
    CHECK_STATUS(ad_session_decode(s, 0, &image), AD_ERR_INVALID);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
}

static void not_finite_pixels_are_never_given(void)
{
    uint8_t frame[3072];
    AdImage image = { frame, 96, 32, 32 };
    AdModel *model = NULL;
    AdSessionParams p;
    AdSession *s;

    fresh();
    poked("vae/" WEIGHTS, "decoder.conv_out.bias", NAN);
    s = with_nan(&model, &p);
    CHECK_STATUS(ad_session_begin(s, &small.clip), AD_OK);
    while (ad_session_step(s) == AD_OK)
        ;
    memset(frame, 9, sizeof(frame));
    for (int i = 3; i >= 0; i--) {
        CHECK_STATUS(ad_session_decode(s, i, &image), AD_ERR_NUMERIC);
        CHECK_CONTAINS(ad_context_error(ctx), "decoding frame ");
    }
    for (size_t i = 0; i < sizeof(frame); i++)
        CHECK_INT(frame[i], 9);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
}

/* ---- what a model says -------------------------------------------------------------------- */

static const struct Said {
    const char *model, *adapter;
    int         width, max_frames;
} said[] = {
    { "plain", "plain-motion", 64, 32 }, { "v1", "v1-motion.safetensors", 64, 24 },
    { "v1", "v1-motion-original.safetensors", 64, 24 }, { "saved", NULL, 32, 16 },
    { "old", "old-motion", 64, 32 }, { "levels", "levels-motion", 64, 20 },
};

static void says(const struct Said *w, char *hash)
{
    char model[128], adapter[128], part[96];
    AdModelParams p;
    AdModelInfo info;
    AdModel *m = NULL;

    ad_model_defaults(&p);
    snprintf(model, sizeof(model), GOLDEN "models/%s", w->model);
    snprintf(adapter, sizeof(adapter), GOLDEN "models/%s", w->adapter ? w->adapter : "");
    p.model          = model;
    p.motion_adapter = w->adapter ? adapter : NULL;
    if (ad_model_load(ctx, &m, &p) < 0)
        FAIL("%s", ad_context_error(ctx));
    ad_model_info(m, &info);
    ad_model_destroy(&m);
    snprintf(part, sizeof(part), "motion_adapter=%s", w->adapter ? w->adapter : "");
    CHECK_TEXT(info.name, w->model);
    CHECK_CONTAINS(info.adapters, w->adapter ? part : "");
    CHECK(w->adapter || !info.adapters[0]);
    CHECK_CONTAINS(info.device, "2 threads");
    CHECK_TEXT(info.precision, ctx->backend->fastest == AD_BF16 ? "bf16" : "fp32");
    CHECK(strlen(info.hash) == 16 && strspn(info.hash, "0123456789abcdef") == 16);
    CHECK(info.width == w->width && info.height == w->width);
    CHECK_INT(info.max_frames, w->max_frames);
    CHECK_INT(info.random_weights, 0);
    strcpy(hash, info.hash);
}

static void hashes_tell_models_apart(void)
{
    char hashes[AD_COUNT(said)][17], again[17];

    for (size_t i = 0; i < AD_COUNT(said); i++) {
        says(&said[i], hashes[i]);
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(hashes[i], hashes[k]));
    }
    says(&said[0], again);
    CHECK_TEXT(again, hashes[0]);
}

static void a_placeholder_says_so(void)
{
    AdModel *m = NULL;
    AdModelInfo info;

    fresh();
    field("model_index.json", "_placeholder", "true");
    render_log();
    CHECK_STATUS(ad_model_load(ctx, &m, &params), AD_OK);
    CHECK_CONTAINS(render_log(), "placeholder weights; the frames will be noise");
    ad_model_info(m, &info);
    CHECK_INT(info.random_weights, 1);
    ad_model_destroy(&m);
}

static void precisions_are_checked(void)
{
    const bool bf16 = render_has_bf16("cpu");

    fresh();
    params.precision = AD_PRECISION_FP16;
    is_refused(AD_ERR_INVALID, "precision=fp16: ");
    CHECK_CONTAINS(ad_context_error(ctx), bf16 ? "fp32 and bf16 are possible"
                                                 : "fp32 is possible");
    params.precision = (AdPrecision)9;
    is_refused(AD_ERR_INVALID, "precision: unknown value 9");
    params.precision = AD_PRECISION_BF16;
    if (bf16)
        loads(&params);
    else
        is_refused(AD_ERR_INVALID, "precision=bf16: ");
}

static void prompts_are_tokenized(void)
{
    json_t *cases = golden_json("tokenizer/prompts.json"), *c = json_array_get(cases, 1);
    int32_t ids[77];
    AdModel *m = NULL;
    int n = 0;

    render_small(&small);
    CHECK_STATUS(ad_model_load(ctx, &m, &small.model), AD_OK);
    CHECK_STATUS(ad_model_tokenize(m, golden_text(c, "text"), ids, 77, &n), AD_OK);
    CHECK_INT(n, 77);
    for (size_t i = 0; i < 77; i++)
        CHECK_INT(ids[i], golden_at(c, "ids", i));
    CHECK_STATUS(ad_model_tokenize(m, "a cat", ids, 76, &n), AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), "room for 76 ids; 77 are needed");
    CHECK_STATUS(ad_model_tokenize(m, "\xff", ids, 77, &n), AD_ERR_INVALID);
    ad_model_destroy(&m);
    json_decref(cases);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    ctx = render_context("cpu", 2);
    RUN(a_copy_loads);
    RUN(an_index_is_not_needed);
    RUN(missing_parts_are_named);
    RUN(paths_must_lead_somewhere);
    RUN(other_families_are_named);
    RUN(parts_of_a_model_fit_each_other);
    RUN(a_missing_tensor_is_named_with_its_shape);
    RUN(a_misshapen_tensor_is_named_with_both_shapes);
    RUN(many_complaints_make_one_sentence);
    RUN(damaged_files_are_refused);
    RUN(unexpected_tensors_are_one_warning);
    RUN_AS(not_finite_latents_fail_the_clip(NAN), "NaN in latents fails the clip");
    RUN_AS(not_finite_latents_fail_the_clip(-INFINITY), "infinity in latents fails the clip");
    RUN(not_finite_pixels_are_never_given);
    RUN(hashes_tell_models_apart);
    RUN(a_placeholder_says_so);
    RUN(precisions_are_checked);
    RUN(prompts_are_tokenized);
    ad_context_destroy(&ctx);
    return check_result();
}
