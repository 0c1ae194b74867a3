/* test_wrong_kind.c - every kind of file, given to every option that takes another kind.
 *
 * Files of a few telling names are made here. Each option must refuse them with a sentence that
 * says what the file is and which option takes it, or that none does. What lies in a folder is
 * found; an LCM-LoRA is taken, with advice where the settings do not suit it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check.h"
#include "render.h"
#include "scratch.h"
#include "tensors.h"

#include "../engine/internal.h"

#define BLOCK  "down_blocks.0.attentions.0.transformer_blocks.0.attn1."
#define MOTION "down_blocks.0.motion_modules.0."
#define QUERY  "transformer_blocks.0.attn1.to_q"
#define ORIGINAL "temporal_transformer.transformer_blocks.0.attention_blocks.0."

static AdContext *ctx;
static RenderCase the_case;
static size_t i_, k_;           /* these outlive the longjmp of a failing case */

/* ---- files -------------------------------------------------------------------------------- */

static const struct Kind {
    const char *is;             /* what the sentence says                   */
    const char *option;         /* the one that takes it; NULL: none        */
    const char *names[5];       /* of its tensors, all of [2, 2]            */
} kinds[] = {
    { "a Stable Diffusion 1.x model", "model",
      { "model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x" } },
    { "a Stable Diffusion 2.x model", NULL,
      { "model.diffusion_model.input_blocks.0.0.weight",
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight" } },
    { "a Stable Diffusion XL model", NULL,
      { "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.0.transformer.text_model.x" } },
    { "a Stable Diffusion 3 model", NULL,
      { "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight" } },
    { "a FLUX model", NULL, { "double_blocks.0.img_attn.qkv.weight" } },
    { "a motion module", "motion_adapter",
      { MOTION ORIGINAL "to_q.weight", "up_blocks.0.motion_modules.0." ORIGINAL "to_q.weight" } },
    { "a motion module", "motion_adapter", { MOTION QUERY ".weight", MOTION "norm.weight" } },
    { "a HotShot-XL motion module", NULL,
      { "down_blocks.0.temporal_attentions.0.pos_encoder.positional_encoding" } },
    { "an AnimateLCM-I2V motion module", NULL,
      { "img_encoder.conv_in.weight", MOTION ORIGINAL "to_q.weight" } },
    { "a motion LoRA", "motion_lora",
      { MOTION ORIGINAL "processor.to_q_lora.down.weight",
        MOTION ORIGINAL "processor.to_q_lora.up.weight" } },
    { "a motion LoRA", "motion_lora",
      { "unet." MOTION QUERY ".lora_A.weight", "unet." MOTION QUERY ".lora_B.weight" } },
    { "a motion LoRA", "motion_lora",
      { "unet." MOTION QUERY ".lora.down.weight", "unet." MOTION QUERY ".lora.up.weight" } },
    { "a motion LoRA", "motion_lora",
      { "lora_unet_down_blocks_0_motion_modules_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks_0_motion_modules_0_proj_in.lora_up.weight" } },
    { "a LoRA", "lora",
      { "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.alpha" } },
    { "a LoRA", "lora",
      { "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight" } },
    { "a LoRA", "lora",
      { BLOCK "processor.to_q_lora.down.weight", BLOCK "processor.to_q_lora.up.weight" } },
    { "a LoRA", "lora",
      { "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight" } },
    { "a LoRA", "lora",
      { "unet." BLOCK "to_q.lora_A.weight", "unet." BLOCK "to_q.lora_B.weight" } },
    { "a LoRA", "lora",
      { "lora_unet_x.hada_w1_a", "lora_unet_x.hada_w1_b", "lora_unet_x.hada_w2_a",
        "lora_unet_x.hada_w2_b" } },
    { "a LoRA for Stable Diffusion XL", NULL,
      { "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight" } },
    { "a LoRA for FLUX", NULL,
      { "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight" } },
    { "a LoRA for a model of another family", NULL,
      { "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
        "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight" } },
    { "a textual inversion", "embedding", { "emb_params" } },
    { "a textual inversion", "embedding", { "<my-cat>" } },
    { "a textual inversion", "embedding", { "string_to_param.*", "string_to_token.*" } },
    { "a textual inversion", "embedding", { "clip_g", "clip_l" } },
    { "a VAE", "vae", { "decoder.mid.block_1.conv1.weight", "encoder.conv_in.weight" } },
    { "a VAE", "vae", { "decoder.mid_block.resnets.0.conv1.weight", "encoder.conv_in.weight" } },
    { "a VAE", "vae", { "first_stage_model.decoder.conv_in.weight", "first_stage_model.x" } },
    { "a tiny autoencoder (TAESD)", NULL,
      { "encoder.layers.0.weight", "decoder.layers.0.weight" } },
    { "a ControlNet", NULL,
      { "controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight" } },
    { "a ControlNet", NULL,
      { "control_model.input_hint_block.0.weight", "control_model.input_blocks.0.0.weight" } },
    { "a SparseCtrl encoder", NULL,
      { "controlnet_cond_embedding.weight", MOTION ORIGINAL "to_q.weight" } },
    { "a Control-LoRA", NULL, { "lora_controlnet", "input_blocks.1.0.in_layers.2.down" } },
    { "a T2I-Adapter", NULL,
      { "adapter.body.0.resnets.0.block1.weight", "adapter.conv_in.weight" } },
    { "an IP-Adapter", NULL, { "image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight" } },
    { "an IP-Adapter", NULL,            /* FaceID: it has a LoRA inside */
      { "image_proj.norm.weight", "ip_adapter.0.to_q_lora.down.weight",
        "ip_adapter.0.to_q_lora.up.weight", "ip_adapter.1.to_k_ip.weight" } },
    { "a CLIP image encoder", NULL,
      { "vision_model.embeddings.patch_embedding.weight", "visual_projection.weight" } },
    { "a text encoder", NULL,
      { "text_model.encoder.layers.0.mlp.fc1.weight", "text_model.final_layer_norm.weight" } },
    { "the UNet of a diffusers folder; give the whole folder to model=", NULL,
      { "conv_in.weight", "down_blocks.0.resnets.0.conv1.weight" } },
    { "an upscaling network", NULL, { "conv_first.weight", "body.0.rdb1.conv1.weight" } },
};

static const char *file_of(const struct Kind *k)
{
    static const float zeros[4];
    TensorWriter w = { 0 };

    for (size_t i = 0; i < AD_COUNT(k->names) && k->names[i]; i++)
        tensors_add(&w, k->names[i], "F32", 2, (int64_t[]){ 2, 2 }, zeros, sizeof(zeros));
    return tensors_write(&w, "kind.safetensors");
}

/* ---- options ------------------------------------------------------------------------------ */

static const char *const options[] = {
    "model", "motion_adapter", "vae", "lora", "motion_lora", "embedding",
};

/* The small model, but for one option. */
static void give(const char *option, const char *path)
{
    static char list[400];
    AdModelParams *m = &the_case.model;
    const char **const fields[] = { &m->model, &m->motion_adapter, &m->vae, &m->lora,
                                    &m->motion_lora, &m->embedding };

    render_small(&the_case);
    snprintf(list, sizeof(list), "%s%s", strcmp(option, "embedding") ? "" : "<x>@", path);
    for (size_t i = 0; i < AD_COUNT(options); i++)
        if (!strcmp(options[i], option))
            *fields[i] = list;
    if (!strcmp(option, "model"))
        m->tokenizer = GOLDEN "models/plain/tokenizer";
}

static void refused(const char *option, const char *path, AdStatus status)
{
    AdModel *m = NULL;

    give(option, path);
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), status);
    CHECK(m == NULL);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
}

static void is_named(const struct Kind *k, const char *option)
{
    char wanted[160];

    refused(option, file_of(k), AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "kind.safetensors: no ");
    snprintf(wanted, sizeof(wanted), "; this is %s", k->is);
    CHECK_CONTAINS(ad_context_error(ctx), wanted);
    snprintf(wanted, sizeof(wanted), "; give it to %s=", k->option ? k->option : "");
    if (k->option)
        CHECK_CONTAINS(ad_context_error(ctx), wanted);
    else
        CHECK(!strstr(ad_context_error(ctx), "give it to "));
}

static void is_named_everywhere(const struct Kind *k)
{
    for (k_ = 0; k_ < AD_COUNT(options); k_++)
        if (!k->option || strcmp(k->option, options[k_]))
            is_named(k, options[k_]);
}

/* ---- folders ------------------------------------------------------------------------------ */

static void a_folder_is_named_like_its_file(void)
{
    scratch_copy("zoom/diffusion_pytorch_model.safetensors", GOLDEN "loras/zoom.safetensors");
    refused("lora", scratch("zoom"), AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "zoom/diffusion_pytorch_model.safetensors: no LoRA for "
                   "pictures in it; this is a motion LoRA; give it to motion_lora=");
    for (size_t i = 0; i < 3; i++) {
        refused(options[i], scratch("zoom"), AD_ERR_FORMAT);
        CHECK_CONTAINS(ad_context_error(ctx), "this is a motion LoRA; give it to motion_lora=");
    }
    refused("embedding", scratch("zoom"), AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "this is a motion LoRA; give it to motion_lora=");
    refused("lora", GOLDEN "models/plain", AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), "models/plain: this is the folder of a whole model; give "
                                          "it to model=");
    refused("motion_lora", GOLDEN "models/plain-motion", AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "this is a motion module; give it to motion_adapter=");
    refused("model", GOLDEN "models/plain/vae", AD_ERR_FORMAT);
    CHECK_CONTAINS(ad_context_error(ctx), "this is a VAE; give it to vae=");
}

static uint8_t *frames_of(const char *option, const char *path, size_t *n)
{
    uint8_t *out;

    give(option, path);
    out = render(ctx, &the_case, n);
    if (!out)
        FAIL("%s: %s", option, ad_context_error(ctx));
    return out;
}

static void same_clip(const char *option, const char *folder, const char *file)
{
    size_t n, m;
    uint8_t *a = frames_of(option, folder, &n), *b = frames_of(option, file, &m);
    bool same = n == m && !memcmp(a, b, n);

    free(a), free(b);
    if (!same)
        FAIL("%s: %s gives other frames than %s", option, folder, file);
}

/* As diffusers chooses: weights of LoRAs and embeddings have names of their own. */
static void the_file_in_a_folder_is_found(void)
{
    static const char zoom[] = GOLDEN "loras/zoom.safetensors", pan[] = GOLDEN
                                      "loras/pan.safetensors";
    char list[400];

    scratch_copy("l/diffusion_pytorch_model.safetensors", pan);
    same_clip("motion_lora", scratch("l"), pan);
    scratch_copy("l/my_pytorch_lora_weights.safetensors", zoom);
    same_clip("motion_lora", scratch("l"), zoom);
    scratch_copy("l/scheduler.safetensors", pan);
    scratch_copy("l/optimizer_pytorch_lora_weights.safetensors", pan);
    snprintf(list, sizeof(list), "%s@0.8|" GOLDEN "loras/pan.safetensors", scratch("l"));
    same_clip("motion_lora", list, GOLDEN "loras/zoom.safetensors@0.8|" GOLDEN
              "loras/pan.safetensors");
    scratch_copy("e/learned_embeds.bin", GOLDEN "embeddings/two.pt");
    scratch_copy("e/learned_embeds.safetensors", GOLDEN "embeddings/two.safetensors");
    same_clip("embedding", scratch("e"), GOLDEN "embeddings/two.pt");
    scratch_remove("e/learned_embeds.safetensors");
    same_clip("embedding", scratch("e"), GOLDEN "embeddings/two.safetensors");
}

static void folders_without_one_are_refused(void)
{
    scratch_folder("nothing");
    refused("lora", scratch("nothing"), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ad_context_error(ctx), "nothing: a folder without a file of weights");
    scratch_copy("two/b.safetensors", GOLDEN "loras/zoom.safetensors");
    scratch_copy("two/a.safetensors", GOLDEN "loras/zoom.safetensors");
    refused("motion_lora", scratch("two"), AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), "two: a folder with several files of weights; name one, "
                                          "e.g. \"a.safetensors\"");
}

/* ---- LCM ---------------------------------------------------------------------------------- */

enum { WIDTH = 16, RANK = 8 };

/* One kohya pair of a level's width for the layer of the UNet. */
static void add_pair(TensorWriter *w, const char *layer, int in, int out, int kernel, float alpha)
{
    static float values[RANK * 2 * 32 * 9];
    char name[200];

    snprintf(name, sizeof(name), "lora_%s.lora_down.weight", layer);
    tensors_add(w, name, "F32", kernel ? 4 : 2, (int64_t[]){ RANK, in, kernel, kernel }, values,
                (size_t)(RANK * in * (kernel ? kernel * kernel : 1)) * 4);
    snprintf(name, sizeof(name), "lora_%s.lora_up.weight", layer);
    tensors_add(w, name, "F32", kernel ? 4 : 2, (int64_t[]){ out, RANK, 1, 1 }, values,
                (size_t)(out * RANK) * 4);
    snprintf(name, sizeof(name), "lora_%s.alpha", layer);
    tensors_add(w, name, "F32", 0, NULL, &alpha, sizeof(alpha));
}

/* A LoRA of zeros with or without what tells an LCM-LoRA. */
static const char *lcm(const char *file, bool times, float alpha, bool text)
{
    TensorWriter w = { 0 };

    add_pair(&w, "unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", WIDTH, WIDTH, 0,
             alpha);
    add_pair(&w, "unet_up_blocks_0_upsamplers_0_conv", 32, 32, 3, alpha);
    if (times)
        add_pair(&w, "unet_down_blocks_0_resnets_0_time_emb_proj", 64, WIDTH, 0, alpha);
    if (text)
        add_pair(&w, "te_text_model_encoder_layers_0_self_attn_q_proj", 32, 32, 0, alpha);
    return tensors_write(&w, file);
}

static int advices(const char *path, const char *scheduler, int steps, float guidance, int clips)
{
    AdModel *m = NULL;
    AdSession *s = NULL;
    AdSessionParams p;
    int count = 0;

    give("lora", path);
    the_case.session.scheduler = scheduler;
    the_case.clip.steps = steps;
    the_case.clip.guidance_scale = guidance;
    if (ad_model_load(ctx, &m, &the_case.model) < 0)
        FAIL("%s", ad_context_error(ctx));
    p = render_params(m, &the_case);
    CHECK_STATUS(ad_session_create(m, &s, &p), AD_OK);
    for (int i = 0; i < clips; i++) {
        render_log();
        CHECK_STATUS(ad_session_begin(s, &the_case.clip), AD_OK);
        count += strstr(render_log(), "made for scheduler=lcm, 4 to 8 steps") != NULL;
    }
    ad_session_destroy(&s);
    ad_model_destroy(&m);
    return count;
}

static void an_lcm_lora_brings_advice_once(void)
{
    const char *path = lcm("x.safetensors", true, RANK / 8.f, false);
    char copy[300];

    snprintf(copy, sizeof(copy), "%s", path);
    CHECK_INT(advices(copy, "lcm", 4, 1.5f, 2), 0);
    CHECK_INT(advices(copy, "lcm", 8, 1, 1), 0);
    CHECK_INT(advices(copy, "ddim", 4, 1, 3), 1);
    CHECK_INT(advices(copy, "lcm", 25, 1, 1), 1);
    CHECK_INT(advices(copy, "lcm", 4, 7.5f, 1), 1);
}

static void other_loras_bring_none(void)
{
    CHECK_INT(advices(lcm("x.safetensors", false, RANK / 8.f, false), "ddim", 25, 7.5f, 1), 0);
    CHECK_INT(advices(lcm("x.safetensors", true, RANK / 2.f, false), "ddim", 25, 7.5f, 1), 0);
    CHECK_INT(advices(lcm("x.safetensors", true, RANK / 8.f, true), "ddim", 25, 7.5f, 1), 0);
    CHECK_INT(advices(lcm("My_LCM_8.safetensors", false, 1, false), "ddim", 25, 7.5f, 1), 1);
}

int main(void)
{
    ctx = render_context("cpu", 2);
    for (i_ = 0; i_ < AD_COUNT(kinds); i_++)
        RUN_AS(is_named_everywhere(&kinds[i_]), "named by every other option: %s (%s)",
               kinds[i_].is, kinds[i_].names[0]);
    RUN(a_folder_is_named_like_its_file);
    RUN(the_file_in_a_folder_is_found);
    RUN(folders_without_one_are_refused);
    RUN(an_lcm_lora_brings_advice_once);
    RUN(other_loras_bring_none);
    ad_context_destroy(&ctx);
    return check_result();
}
