/* recognize.c - what a file of tensors is; see recognize.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "recognize.h"

/* ---- kinds -------------------------------------------------------------------------------- */

/* The first row of which both patterns occur counts. '^': a name begins so; else it holds that. */
static const struct Known {
    const char *first, *second;
    AdFileKind  kind;
    const char *what;
} known[] = {
    { "joint_blocks.0.", NULL, AD_FILE_OTHER, "a Stable Diffusion 3 model" },
    { "double_blocks.0.img_", NULL, AD_FILE_OTHER, "a FLUX model" },
    { "^model.diffusion_model.", "time_stack.", AD_FILE_OTHER, "a Stable Video Diffusion model" },
    { "^conditioner.embedders.", NULL, AD_FILE_OTHER, "a Stable Diffusion XL model" },
    { "^model.diffusion_model.label_emb.", NULL, AD_FILE_OTHER, "a Stable Diffusion XL model" },
    { "^cond_stage_model.model.", NULL, AD_FILE_SECOND, "a Stable Diffusion 2.x model" },
    { "lora_controlnet", NULL, AD_FILE_OTHER, "a Control-LoRA" },
    { "^model.diffusion_model.input_blocks.", NULL, AD_FILE_CHECKPOINT,
      "a Stable Diffusion 1.x model (for the option model)" },
    { "^model.diffusion_model.", NULL, AD_FILE_OTHER, "a model of another family" },
    { "^image_proj.", "^ip_adapter.", AD_FILE_OTHER, "an IP-Adapter" },
    { "controlnet_cond_embedding.", "motion_modules.", AD_FILE_OTHER, "a SparseCtrl encoder" },
    { "controlnet_cond_embedding.", NULL, AD_FILE_OTHER, "a ControlNet" },
    { "input_hint_block.0.", NULL, AD_FILE_OTHER, "a ControlNet" },
    { "^control_model.", NULL, AD_FILE_OTHER, "a ControlNet" },
    { "pos_encoder.positional_encoding", NULL, AD_FILE_OTHER, "a HotShot-XL motion module" },
    { "temporal_attentions.", NULL, AD_FILE_OTHER, "a HotShot-XL motion module" },
    { "img_encoder.", "motion_modules.", AD_FILE_OTHER,
      "an AnimateLCM-I2V motion module, which needs an input image" },
    { "motion_modules.", "_lora.", AD_FILE_OTHER, "a motion LoRA (for the option motion_lora)" },
    { "motion_modules.", ".lora_", AD_FILE_OTHER, "a motion LoRA (for the option motion_lora)" },
    { "motion_modules.", NULL, AD_FILE_MOTION, "a motion module (for the option motion_adapter)" },
    { "lora_unet_", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { "lora_te_", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { ".lora_A", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { ".lora.down.", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { "_lora.down.", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { ".lora_down.", NULL, AD_FILE_OTHER, "a LoRA (for the option lora)" },
    { "emb_params", NULL, AD_FILE_OTHER, "a textual inversion (for the option embedding)" },
    { "string_to_param", NULL, AD_FILE_OTHER, "a textual inversion (for the option embedding)" },
    { "vision_model.embeddings.", NULL, AD_FILE_OTHER, "a CLIP image encoder" },
    { "conv_first.weight", NULL, AD_FILE_OTHER, "an upscaling network" },
    { "^first_stage_model.", NULL, AD_FILE_VAE, "a VAE (for the option vae)" },
    { "^vae.decoder.", NULL, AD_FILE_VAE, "a VAE (for the option vae)" },
    { "^decoder.mid", NULL, AD_FILE_VAE, "a VAE (for the option vae)" },
    { "^cond_stage_model.", NULL, AD_FILE_OTHER, "a text encoder" },
    { "text_model.encoder.", NULL, AD_FILE_OTHER, "a text encoder" },
    { "^down_blocks.", "^conv_in.", AD_FILE_OTHER, "the UNet of a diffusers folder (for the "
      "option model, give the folder)" },
};

static bool occurs(const AdTensorFile *f, const char *pattern)
{
    bool begin = *pattern == '^';
    size_t n = strlen(pattern += begin);

    for (size_t i = 0; i < f->count; i++)
        if (begin ? !strncmp(f->entries[i].name, pattern, n) : strstr(f->entries[i].name, pattern)
                                                                   != NULL)
            return true;
    return false;
}

AdFileKind ad_recognize(const AdTensorFile *f, const char **what)
{
    for (size_t i = 0; i < AD_COUNT(known); i++)
        if (occurs(f, known[i].first) && (!known[i].second || occurs(f, known[i].second))) {
            *what = known[i].what;
            return known[i].kind;
        }
    *what = f->count == 1 && f->entries[0].rank <= 2    /* named by its token */
          ? "a textual inversion (for the option embedding)" : NULL;
    return AD_FILE_OTHER;
}

AdStatus ad_not_in_it(AdContext *ctx, const AdTensorFile *f, const char *needed)
{
    const char *what;

    ad_recognize(f, &what);
    return ad_fail(ctx, AD_ERR_FORMAT, "%.140s: no %s in it%s%s", f->file->path, needed,
                   what ? "; it is " : "", what ? what : "");
}

/* ---- checkpoints -------------------------------------------------------------------------- */

static int64_t axis(const AdTensorFile *f, const char *name, int i)
{
    const AdEntry *e = ad_tensor_file_find(f, name);

    return e && i < e->rank ? e->shape[i] : 0;
}

/* Relatives that have the same names. */
static AdStatus refuse_relatives(AdContext *ctx, const AdTensorFile *f)
{
    static const char first[] = "model.diffusion_model.input_blocks.0.0.weight";
    int64_t in = axis(f, first, 1), context = 0;

    for (size_t i = 0; i < f->count && !context; i++)
        if (!strncmp(f->entries[i].name, "model.diffusion_model.", 22) &&
            strstr(f->entries[i].name, ".attn2.to_k.weight") && f->entries[i].rank == 2)
            context = f->entries[i].shape[1];
    if (context == 1024 || context == 2048 || context == 1280)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a %s model (text states of width %d); Stable "
                       "Diffusion 1.x is needed", f->file->path,
                       context == 1024 ? "Stable Diffusion 2.x" : "Stable Diffusion XL",
                       (int)context);
    if (in == 9 || in == 8)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: %s model (%d input channels); text to "
                       "video needs one with 4", f->file->path, in == 9 ? "an inpainting"
                                                                   : "an image-editing", (int)in);
    return AD_OK;
}

/* Training's tables and counters, and networks that text to video has no use for. */
static bool is_training(const char *name)
{
    static const char *const begins[] = {
        "betas", "alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "logvar",
        "lvlb_weights", "embedding_manager.", "denoiser.", "lora_", "control_model.",
        "first_stage_model.loss.", "cond_stage_model.logit_scale", "cond_stage_model.vision_model.",
        "v_pred", "ztsnr", "global_step", "epoch",
    };

    for (size_t i = 0; i < AD_COUNT(begins); i++)
        if (!strncmp(name, begins[i], strlen(begins[i])))
            return true;
    return false;
}

static void look(const AdTensorFile *f, AdCheckpoint *c)
{
    static const char *const parts[] = {
        "model.diffusion_model.", "first_stage_model.", "vae.", "cond_stage_model.transformer.",
    };
    char quoted[AD_QUOTE_TEXT];

    for (size_t i = 0; i < f->count; i++) {
        const char *name = f->entries[i].name;
        size_t part = 0;

        while (part < AD_COUNT(parts) && strncmp(name, parts[part], strlen(parts[part])))
            part++;
        if (!strncmp(name, "model_ema.", 10))
            c->ema++;
        else if (is_training(name))
            c->training++;
        else if (part == AD_COUNT(parts) && !c->other++)
            ad_format(c->example, sizeof(c->example), "%s", ad_quote(name, strlen(name), quoted));
        c->vae  = c->vae || part == 1 || part == 2;
        c->text = c->text || part == 3;
    }
    c->v_prediction = ad_tensor_file_find(f, "v_pred") != NULL;
    c->zero_snr     = ad_tensor_file_find(f, "ztsnr") != NULL;
}

AdStatus ad_checkpoint_look(AdContext *ctx, const char *path, AdCheckpoint *out)
{
    AdTensorFile *f = NULL;
    const char *what = NULL;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    *out = (AdCheckpoint){ 0 };
    if (st >= 0 && ad_recognize(f, &what) != AD_FILE_CHECKPOINT)
        st = ad_not_in_it(ctx, f, "Stable Diffusion 1.x model");
    if (st >= 0) st = refuse_relatives(ctx, f);
    if (st >= 0) {
        look(f, out);
        if (!out->text)
            st = ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a checkpoint without its text encoder, which "
                         "is needed", path);
    }
    ad_tensor_file_close(&f);
    return st;
}

AdStatus ad_vae_file_look(AdContext *ctx, const char *path, bool *prefixed)
{
    AdTensorFile *f = NULL;
    const char *what = NULL;
    AdFileKind kind;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    if (st < 0)
        return st;
    kind = ad_recognize(f, &what);
    *prefixed = occurs(f, "^first_stage_model.") || occurs(f, "^vae.");
    if (kind != AD_FILE_VAE &&
        !(*prefixed && (kind == AD_FILE_CHECKPOINT || kind == AD_FILE_SECOND)))
        st = ad_not_in_it(ctx, f, "VAE of Stable Diffusion 1.x");
    ad_tensor_file_close(&f);
    return st;
}
