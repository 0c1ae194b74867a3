/* test_single_file.c - a whole model, or a VAE, in one file.
 *
 * The golden file is a small model that diffusers itself reads from one file (golden_lib/ldm.py has
 * the proof); the same model lies beside it as a folder, which must give the same weights and the
 * same frames, bit for bit. Variants are made here by other names in the file's header.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/config_tensors.h"
#include "../engine/model.h"
#include "../engine/names.h"
#include "../engine/recognize.h"
#include "check.h"
#include "published.h"
#include "render.h"
#include "scratch.h"

#define SINGLE    GOLDEN "models/single.safetensors"
#define CKPT      GOLDEN "models/single-bare.ckpt"
#define VAE_FILE  GOLDEN "models/single-vae.safetensors"
#define FOLDER    GOLDEN "models/single"
#define LORA      GOLDEN "loras/single.safetensors"
#define MOTION    GOLDEN "models/single-motion.safetensors"

static AdContext *ctx;
static RenderCase the_case;

/* ---- clips -------------------------------------------------------------------------------- */

static void use(const char *model, const char *vae, const char *tokenizer)
{
    render_small(&the_case);
    the_case.model.model          = model;
    the_case.model.vae            = vae;
    the_case.model.tokenizer      = tokenizer;
    the_case.model.motion_adapter = MOTION;
    the_case.session.scheduler    = NULL;
    the_case.session.frames       = 2;
}

static uint8_t *rendered(size_t *n)
{
    uint8_t *frames = render(ctx, &the_case, n);

    if (!frames)
        FAIL("%s", ad_context_error(ctx));
    return frames;
}

/* The same frames as the folder gives. */
static void same_clip(const char *model, const char *vae, const char *tokenizer)
{
    size_t n, m;
    uint8_t *wanted, *found;

    use(FOLDER, NULL, NULL);
    wanted = rendered(&n);
    use(model, vae, tokenizer);
    found = rendered(&m);
    CHECK_INT(m, n);
    CHECK(!memcmp(found, wanted, n));
    free(wanted);
    free(found);
}

static void is_refused(AdStatus status, const char *model, const char *vae, const char *part)
{
    AdModel *m = NULL;

    use(model, vae, FOLDER "/tokenizer");
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), status);
    CHECK(m == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), part);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
}

/* ---- the layout --------------------------------------------------------------------------- */

/* Every tensor finds its place, none is left. */
static void fits(AdWeights *w, const AdPartKind *kind, AdModel *m, size_t tensors)
{
    const char *example = "";
    AdBinder b;

    CHECK_INT(w->count, tensors);
    ad_binder_init(&b, ctx, ctx->backend, w, AD_F32);
    kind->bind(&b, m);
    CHECK_STATUS(ad_binder_check(&b, kind->name), AD_OK);
    CHECK_INT(ad_weights_unused(w, &example), 0);
    ad_binder_free(&b);
    ad_weights_free(w);
}

static void bind_text(AdBinder *b, AdModel *m) { ad_clip_bind(b, &m->text_config, &m->text); }
static void bind_unet(AdBinder *b, AdModel *m) { ad_unet_bind(b, &m->unet_config, &m->unet); }
static void bind_vae(AdBinder *b, AdModel *m)  { ad_vae_bind(b, &m->vae_config, &m->vae); }

static void the_published_size_is_derived(void)
{
    static const AdPartKind text = { "text encoder", bind_text }, unet = { "UNet", bind_unet },
                            vae = { "VAE", bind_vae };
    const char *path = published_checkpoint("sd15.safetensors");
    AdModel *m = calloc(1, sizeof(*m)), *wanted = calloc(1, sizeof(*m));
    AdWeights w = { 0 };
    AdCheckpoint c;

    CHECK_STATUS(ad_checkpoint_look(ctx, path, &c), AD_OK);
    CHECK(c.text && c.vae && !c.v_prediction && !c.ema && !c.training && !c.other);
    ad_text_config_sd15(&wanted->text_config);
    ad_unet_config_sd15(&wanted->unet_config);
    ad_vae_config_sd15(&wanted->vae_config);
    CHECK_STATUS(ad_weights_add(ctx, &w, path, ad_rename_ldm_text), AD_OK);
    CHECK_STATUS(ad_text_config_derive(ctx, path, &w, &m->text_config), AD_OK);
    CHECK(!memcmp(&m->text_config, &wanted->text_config, sizeof(m->text_config)));
    fits(&w, &text, m, 197);
    CHECK_STATUS(ad_weights_add(ctx, &w, path, ad_rename_ldm_unet), AD_OK);
    CHECK_STATUS(ad_unet_config_derive(ctx, path, &w, &m->unet_config), AD_OK);
    CHECK(!memcmp(&m->unet_config, &wanted->unet_config, sizeof(m->unet_config)));
    fits(&w, &unet, m, 686);
    CHECK_STATUS(ad_weights_add(ctx, &w, path, ad_rename_ldm_vae), AD_OK);
    CHECK_STATUS(ad_vae_config_derive(ctx, path, &w, &m->vae_config), AD_OK);
    CHECK(!memcmp(&m->vae_config, &wanted->vae_config, sizeof(m->vae_config)));
    fits(&w, &vae, m, 140);
    ad_unet_free(&m->unet);
    free(m);
    free(wanted);
    scratch_remove("sd15.safetensors");
}

/* The weights of a folder's part, each found with the same numbers in the file. */
static void same_tensors(const char *folder, const char *base, AdRename rename, AdRename folders)
{
    AdWeights one = { 0 }, other = { 0 };
    size_t compared = 0;

    CHECK_STATUS(ad_weights_add(ctx, &one, SINGLE, rename), AD_OK);
    CHECK_STATUS(ad_weights_add_folder(ctx, &other, folder, base, folders), AD_OK);
    for (size_t i = 0; i < other.count; i++) {
        const AdWeight *b = &other.weights[i], *a = ad_weights_find(&one, b->name);
        int64_t n = ad_entry_count(b->entry);
        float *x, *y;

        if (!a || ad_entry_count(a->entry) != n)
            FAIL("%s is not in the file", b->name);
        x = malloc((size_t)n * sizeof(float));
        y = malloc((size_t)n * sizeof(float));
        CHECK_STATUS(ad_entry_read(ctx, a->file, a->entry, x), AD_OK);
        CHECK_STATUS(ad_entry_read(ctx, b->file, b->entry, y), AD_OK);
        if (memcmp(x, y, (size_t)n * sizeof(float)))
            FAIL("%s has other numbers in the file", b->name);
        free(x);
        free(y);
        compared++;
    }
    CHECK(compared > 15);
    ad_weights_free(&one);
    ad_weights_free(&other);
}

static void tensors_are_the_folders(void)
{
    same_tensors(FOLDER "/unet", "diffusion_pytorch_model", ad_rename_ldm_unet, NULL);
    same_tensors(FOLDER "/vae", "diffusion_pytorch_model", ad_rename_ldm_vae, ad_rename_vae);
    same_tensors(FOLDER "/text_encoder", "model", ad_rename_ldm_text, NULL);
}

/* ---- the model ---------------------------------------------------------------------------- */

static void the_clip_is_the_folders(void)
{
    render_log();
    same_clip(SINGLE, NULL, FOLDER "/tokenizer");
    CHECK_CONTAINS(render_log(), "Stable Diffusion 1.x in one file; left out: 3 tensors of "
                                 "averages (EMA), 4 of training");
    CHECK(!strstr(render_log(), "not used"));
}

/* The same weights as pytorch_lightning saves them, but for the VAE. */
static void a_ckpt_is_the_same_model(void)
{
    is_refused(AD_ERR_INVALID, CKPT, NULL, "single-bare.ckpt: a checkpoint without a VAE; give one "
               "with the option vae");
    render_log();
    same_clip(CKPT, VAE_FILE, FOLDER "/tokenizer");
    CHECK_CONTAINS(render_log(), "single-bare.ckpt: Stable Diffusion 1.x in one file; left out: 3 "
                                 "tensors of averages (EMA), 3 of training");
    CHECK(!strstr(render_log(), "not used"));
    scratch_copy("ckpt/m.ckpt", CKPT);
    scratch_copy("ckpt/tokenizer", FOLDER "/tokenizer");
    same_clip(scratch("ckpt/m.ckpt"), FOLDER, NULL);
}

static void a_text_encoder_needs_no_prefix(void)
{
    same_clip(scratch_renamed("novel.safetensors", SINGLE,
                              "cond_stage_model.transformer.text_model.",
                      "cond_stage_model.transformer."), NULL, FOLDER "/tokenizer");
}

static void a_tokenizer_lies_beside_the_file(void)
{
    scratch_copy("beside/m.safetensors", SINGLE);
    is_refused(AD_ERR_NOTFOUND, scratch("nothing"), NULL, "nothing: no such file or folder");
    use(scratch("beside/m.safetensors"), NULL, NULL);
    CHECK(render(ctx, &the_case, &(size_t){ 0 }) == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), "m.safetensors: a single file has no tokenizer; give a "
                   "folder with vocab.json and merges.txt with the option tokenizer");
    scratch_copy("beside/tokenizer", FOLDER "/tokenizer");
    same_clip(scratch("beside/m.safetensors"), NULL, NULL);
    scratch_remove("beside/tokenizer/vocab.json");
    same_clip(scratch("beside/m.safetensors"), NULL, NULL);
    scratch_remove("beside/tokenizer");
    scratch_copy("beside/vocab.json", FOLDER "/tokenizer/vocab.json");
    scratch_copy("beside/merges.txt", FOLDER "/tokenizer/merges.txt");
    same_clip(scratch("beside/m.safetensors"), NULL, NULL);
    scratch_remove("beside");
}

static void what_is_not_used_is_said(void)
{
    const char *path = scratch_renamed("more.safetensors", SINGLE, "\"alphas_cumprod\"",
                                       "\"strange\"");

    render_log();
    same_clip(path, NULL, FOLDER "/tokenizer");
    CHECK_CONTAINS(render_log(), "1 tensors are not used, e.g. \"strange\"");
}

/* Frames after other LoRA files were put in. */
static uint8_t *adapted(const char *model, size_t *n)
{
    AdModel *m = NULL;
    AdSession *s = NULL;
    AdSessionParams p;
    uint8_t *frames;

    use(model, VAE_FILE, FOLDER "/tokenizer");
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), AD_OK);
    p = render_params(m, &the_case);
    CHECK_STATUS(ad_session_create(m, &s, &p), AD_OK);
    *n = (size_t)p.frames * (size_t)p.width * (size_t)p.height * 3;
    frames = malloc(*n);
    if (ad_model_adapt(m, LORA, NULL) < 0)
        FAIL("%s", ad_context_error(ctx));
    CHECK_STATUS(render_clip(s, &the_case.clip, &p, frames), AD_OK);
    ad_session_destroy(&s);
    ad_model_destroy(&m);
    return frames;
}

static void loras_find_their_layers(void)
{
    size_t n, m, k, l;
    uint8_t *folder, *file, *later, *without;

    use(FOLDER, NULL, NULL);
    without = rendered(&l);
    the_case.model.lora = LORA;
    folder = rendered(&n);
    use(SINGLE, NULL, FOLDER "/tokenizer");
    the_case.model.lora = LORA;
    file  = rendered(&m);
    later = adapted(SINGLE, &k);
    CHECK(n == m && n == k && n == l);
    CHECK(!memcmp(file, folder, n));
    CHECK(!memcmp(later, folder, n));
    CHECK(memcmp(without, folder, n));
    free(later);
    later = adapted(CKPT, &k);
    CHECK(!memcmp(later, folder, n));
    free(folder);
    free(file);
    free(later);
    free(without);
}

/* Another schedule's marks: empty tensors. */
static void v_prediction_is_marked(void)
{
    const char *path = scratch_renamed("v.safetensors", SINGLE, "\"alphas_cumprod\"",
                               "\"v_pred\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"
                               ",\"ztsnr\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"
                               ",\"alphas_cumprod\"");
    AdModel *m = NULL;

    use(path, NULL, FOLDER "/tokenizer");
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), AD_OK);
    CHECK_TEXT(m->scheduler_config.prediction_type, "v_prediction");
    CHECK_INT(m->scheduler_config.rescale_betas_zero_snr, 1);
    ad_model_destroy(&m);
    path = scratch_renamed("m.safetensors", SINGLE, "\"alphas_cumprod\"", "\"__metadata__\":{"
                           "\"modelspec.prediction_type\":\"v\"},\"alphas_cumprod\"");
    use(path, NULL, FOLDER "/tokenizer");
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), AD_OK);
    CHECK_TEXT(m->scheduler_config.prediction_type, "v_prediction");
    CHECK(m->scheduler_config.rescale_betas_zero_snr != 1);
    ad_model_destroy(&m);
    use(SINGLE, NULL, FOLDER "/tokenizer");
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), AD_OK);
    CHECK_TEXT(m->scheduler_config.prediction_type, "");
    CHECK_TEXT(m->info.name, "single.safetensors");
    ad_model_destroy(&m);
}

/* ---- the VAE ------------------------------------------------------------------------------ */

static const char *vae_with(const char *from, const char *to)
{
    return scratch_renamed("v.safetensors", VAE_FILE, from, to);
}

static void a_vae_may_be_any_file(void)
{
    const char *without = scratch_renamed("bare.safetensors", SINGLE, "first_stage_model.",
                                          "elsewhere.");
    const char *prefixed = scratch_renamed("vae.safetensors", VAE_FILE, "\"decoder.",
                                   "\"first_stage_model.decoder.");
    const char *path;

    is_refused(AD_ERR_INVALID, without, NULL, "bare.safetensors: a checkpoint without a VAE; give "
               "one with the option vae");
    same_clip(without, FOLDER "/vae", FOLDER "/tokenizer");
    same_clip(without, FOLDER, FOLDER "/tokenizer");
    same_clip(without, FOLDER "/vae/diffusion_pytorch_model.safetensors", FOLDER "/tokenizer");
    same_clip(without, VAE_FILE, FOLDER "/tokenizer");
    same_clip(without, SINGLE, FOLDER "/tokenizer");
    same_clip(without, scratch_renamed("p.safetensors", prefixed, "\"post_quant",
                               "\"first_stage_model.post_quant"), FOLDER "/tokenizer");
    is_refused(AD_ERR_FORMAT, without, without, "no VAE of Stable Diffusion 1.x in it; this is "
               "a Stable Diffusion 1.x model; give it to model=");
    is_refused(AD_ERR_FORMAT, SINGLE, MOTION, "no VAE of Stable Diffusion 1.x in it; this is "
               "a motion module; give it to motion_adapter=");
    path = scratch_renamed("2.safetensors", SINGLE, "cond_stage_model.transformer.",
                           "cond_stage_model.model.");
    same_clip(without, path, FOLDER "/tokenizer");
    path = scratch_renamed("xl.safetensors", SINGLE, "cond_stage_model.", "conditioner.embedders.");
    is_refused(AD_ERR_FORMAT, SINGLE, path, "in it; this is a Stable Diffusion XL model");
    is_refused(AD_ERR_FORMAT, SINGLE, vae_with("decoder.conv_in.weight", "decoder.conv_out.other"),
               "the VAE is not complete");
    is_refused(AD_ERR_UNSUPPORTED, SINGLE, vae_with("[32,4,3,3]", "[8,16,3,3]"),
               "latent_channels is 16; a VAE of this family has 4");
    is_refused(AD_ERR_FORMAT, SINGLE, vae_with("up.2.block.1.norm1", "up.2.block.1.norm"),
               "VAE: 2 tensors missing");
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void relatives_are_refused_by_name(void)
{
    static const struct { const char *from, *to; AdStatus status; const char *part; } changes[] = {
        { "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.", AD_ERR_FORMAT,
          "this is a Stable Diffusion XL model" },
        { "cond_stage_model.transformer.", "cond_stage_model.model.", AD_ERR_FORMAT,
          "this is a Stable Diffusion 2.x model" },
        { "diffusion_model.input_blocks.0.0.bias", "diffusion_model.joint_blocks.0.x",
          AD_ERR_FORMAT, "this is a Stable Diffusion 3 model" },
        { "diffusion_model.input_blocks.0.0.bias", "diffusion_model.double_blocks.0.img_attn.x",
          AD_ERR_FORMAT, "this is a FLUX model" },
        { "diffusion_model.input_blocks.0.0.bias", "diffusion_model.input_blocks.0.time_stack.x",
          AD_ERR_FORMAT, "this is a Stable Video Diffusion model" },
        { "diffusion_model.input_blocks.0.0.bias", "diffusion_model.label_emb.0", AD_ERR_FORMAT,
          "this is a Stable Diffusion XL model" },
        { "diffusion_model.", "diffusion_model.net.", AD_ERR_FORMAT,
          "this is a model of another family" },
        { "[32,4,3,3]", "[128,9,1,1]", AD_ERR_UNSUPPORTED, "an inpainting model (9 input "
          "channels); text to video needs one with 4" },
        { "[32,4,3,3]", "[16,8,3,3]", AD_ERR_UNSUPPORTED, "an image-editing model (8 input" },
        { "[32,4,3,3]", "[64,2,3,3]", AD_ERR_UNSUPPORTED, "another kind of model (2 input" },
        { "input_blocks.3.0.op.", "input_blocks.2.0.op.", AD_ERR_UNSUPPORTED, "a UNet with 1 "
          "layer on its first level; in one file only Stable Diffusion 1.x's 2 are supported" },
        { "input_blocks.3.0.op.", "input_blocks.4.0.op.", AD_ERR_UNSUPPORTED, "a UNet with 3 "
          "layers on its first level" },
        { "input_blocks.5.", "input_blocks.6.", AD_ERR_UNSUPPORTED, "a UNet of 2 levels with "
          "blocks up to 6 down and 5 up; in one file only 2 layers a level are supported" },
        { "output_blocks.5.", "output_blocks.6.", AD_ERR_UNSUPPORTED, "blocks up to 5 down and 6 "
          "up" },
        { "[32,64]", "[2,1024]", AD_ERR_FORMAT, "a Stable Diffusion 2.x model (text states of "
          "width 1024); Stable Diffusion 1.x is needed" },
        { "[32,64]", "[1,2048]", AD_ERR_FORMAT, "a Stable Diffusion XL model" },
        { "cond_stage_model.", "elsewhere.", AD_ERR_FORMAT,
          "a checkpoint without its text encoder, which is needed" },
        { "diffusion_model.middle_block.1.", "diffusion_model.gone.", AD_ERR_UNSUPPORTED,
          "a UNet without a middle attention (a distilled one)" },
        { "diffusion_model.out.2.", "diffusion_model.gone.", AD_ERR_FORMAT,
          "the UNet is not complete" },
        { "diffusion_model.output_blocks.2.0.in_layers.0.", "diffusion_model.gone.", AD_ERR_FORMAT,
          "UNet: 2 tensors missing or misshapen: \"up_blocks.0.resnets.2.norm1.weight\" missing" },
        { "token_embedding", "token_table", AD_ERR_FORMAT, "the text encoder is not complete" },
    };

    for (size_t i = 0; i < AD_COUNT(changes); i++)
        is_refused(changes[i].status, scratch_renamed("x.safetensors", SINGLE, changes[i].from,
                                              changes[i].to), NULL, changes[i].part);
}

static void other_files_are_refused_by_name(void)
{
    static const struct { const char *path, *part; } others[] = {
        { MOTION, "no Stable Diffusion 1.x model in it; this is a motion module; give it to "
          "motion_adapter=" },
        { VAE_FILE, "this is a VAE; give it to vae=" },
        { GOLDEN "loras/pan.safetensors", "this is a motion LoRA; give it to motion_lora=" },
        { GOLDEN "loras/kohya.safetensors", "this is a LoRA; give it to lora=" },
        { GOLDEN "loras/peft.safetensors", "this is a LoRA; give it to lora=" },
        { GOLDEN "embeddings/two.safetensors", "this is a textual inversion; give it to" },
        { FOLDER "/text_encoder/model.safetensors", "this is a text encoder" },
        { FOLDER "/unet/diffusion_pytorch_model.safetensors", "this is the UNet of a diffusers" },
        { GOLDEN "blocks.safetensors", "no Stable Diffusion 1.x model in it" },
    };

    for (size_t i = 0; i < AD_COUNT(others); i++)
        is_refused(AD_ERR_FORMAT, others[i].path, NULL, others[i].part);
    is_refused(AD_ERR_FORMAT, scratch_write("empty.safetensors", "", 0), NULL, "an empty file");
    use(SINGLE, NULL, FOLDER "/tokenizer");
    the_case.model.motion_adapter = NULL;
    CHECK(render(ctx, &the_case, &(size_t){ 0 }) == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), "single.safetensors has no motion modules; give some");
    the_case.model.motion_adapter = SINGLE;
    CHECK(render(ctx, &the_case, &(size_t){ 0 }) == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), "no motion modules in it; this is a Stable Diffusion 1.x "
                                          "model; give it to model=");
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    ctx = render_context("cpu", 2);
    RUN(the_published_size_is_derived);
    RUN(tensors_are_the_folders);
    RUN(the_clip_is_the_folders);
    RUN(a_ckpt_is_the_same_model);
    RUN(a_text_encoder_needs_no_prefix);
    RUN(a_tokenizer_lies_beside_the_file);
    RUN(what_is_not_used_is_said);
    RUN(loras_find_their_layers);
    RUN(v_prediction_is_marked);
    RUN(a_vae_may_be_any_file);
    RUN(relatives_are_refused_by_name);
    RUN(other_files_are_refused_by_name);
    ad_context_destroy(&ctx);
    return check_result();
}
