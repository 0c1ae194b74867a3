/* recognize.c - what a file of tensors is; see recognize.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "recognize.h"

/* ---- kinds -------------------------------------------------------------------------------- */

#define OTHER(what) { AD_FILE_OTHER, what, NULL }
#define LORA        { AD_FILE_LORA, "a LoRA", "lora" }
#define MOTION_LORA { AD_FILE_MOTION_LORA, "a motion LoRA", "motion_lora" }
#define EMBEDDING   { AD_FILE_EMBEDDING, "a textual inversion", "embedding" }
#define VAE         { AD_FILE_VAE, "a VAE", "vae" }

/* The first row of which both patterns occur counts. '^': a name begins so; else it holds that. */
static const struct Row { const char *first, *second; AdKind kind; } rows[] = {
    { "joint_blocks.0.", NULL, OTHER("a Stable Diffusion 3 model") },
    { "double_blocks.0.img_", NULL, OTHER("a FLUX model") },
    { "^model.diffusion_model.", "time_stack.", OTHER("a Stable Video Diffusion model") },
    { "^conditioner.embedders.", NULL, OTHER("a Stable Diffusion XL model") },
    { "^model.diffusion_model.label_emb.", NULL, OTHER("a Stable Diffusion XL model") },
    { "^cond_stage_model.model.", NULL, { AD_FILE_SECOND, "a Stable Diffusion 2.x model", NULL } },
    { "lora_controlnet", NULL, OTHER("a Control-LoRA") },
    { "^model.diffusion_model.input_blocks.", NULL,
      { AD_FILE_CHECKPOINT, "a Stable Diffusion 1.x model", "model" } },
    { "^model.diffusion_model.", NULL, OTHER("a model of another family") },
    { "^image_proj.", "^ip_adapter.", OTHER("an IP-Adapter") },
    { "controlnet_cond_embedding.", "motion_modules.", OTHER("a SparseCtrl encoder") },
    { "controlnet_cond_embedding.", NULL, OTHER("a ControlNet") },
    { "input_hint_block.0.", NULL, OTHER("a ControlNet") },
    { "^control_model.", NULL, OTHER("a ControlNet") },
    { "^adapter.body.", NULL, OTHER("a T2I-Adapter") },
    { "^body.0.block1.", "^conv_in.", OTHER("a T2I-Adapter") },
    { "pos_encoder.positional_encoding", NULL, OTHER("a HotShot-XL motion module") },
    { "temporal_attentions.", NULL, OTHER("a HotShot-XL motion module") },
    { "img_encoder.", "motion_modules.",
      OTHER("an AnimateLCM-I2V motion module, which needs an input image") },
    { "motion_modules.", "_lora.", MOTION_LORA },
    { "motion_modules.", ".lora", MOTION_LORA },
    { "motion_modules_", NULL, MOTION_LORA },
    { "motion_modules.", NULL, { AD_FILE_MOTION, "a motion module", "motion_adapter" } },
    { "^lora_te2_", NULL, OTHER("a LoRA for Stable Diffusion XL") },
    { "^text_encoder_2.", ".lora", OTHER("a LoRA for Stable Diffusion XL") },
    { "^lora_unet_double_blocks_", NULL, OTHER("a LoRA for FLUX") },
    { "^lora_unet_joint_blocks_", NULL, OTHER("a LoRA for Stable Diffusion 3") },
    { "transformer_blocks.0.", "^transformer.", OTHER("a LoRA for a model of another family") },
    { "lora_unet_", NULL, LORA },
    { "lora_te", NULL, LORA },
    { ".lora_A", NULL, LORA },
    { ".lora.down.", NULL, LORA },
    { "_lora.down.", NULL, LORA },
    { ".lora_down.", NULL, LORA },
    { ".lora_linear_layer.down.", NULL, LORA },
    { ".hada_w1_", NULL, LORA },
    { ".lokr_w1", NULL, LORA },
    { ".ia3_l", NULL, LORA },
    { "emb_params", NULL, EMBEDDING },
    { "string_to_param", NULL, EMBEDDING },
    { "^clip_l", NULL, EMBEDDING },
    { "^clip_g", NULL, OTHER("a textual inversion for Stable Diffusion XL") },
    { "vision_model.embeddings.", NULL, OTHER("a CLIP image encoder") },
    { "conv_first.weight", NULL, OTHER("an upscaling network") },
    { "^decoder.layers.", "^encoder.layers.", OTHER("a tiny autoencoder (TAESD)") },
    { "^first_stage_model.", NULL, VAE },
    { "^vae.decoder.", NULL, VAE },
    { "^decoder.mid", NULL, VAE },
    { "^cond_stage_model.", NULL, OTHER("a text encoder") },
    { "text_model.encoder.", NULL, OTHER("a text encoder") },
    { "^down_blocks.", "^conv_in.",
      { AD_FILE_UNET, "the UNet of a diffusers folder; give the whole folder to model=", NULL } },
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

/* A LoRA that changes more than motion modules; lora= takes all of it. */
static bool is_mixed(const AdTensorFile *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (strstr(f->entries[i].name, "lora") && !strstr(f->entries[i].name, "motion_modules"))
            return true;
    return false;
}

const AdKind *ad_recognize(const AdTensorFile *f)
{
    static const AdKind mixed = { AD_FILE_LORA, "a LoRA of pictures and motion modules", "lora" };
    static const AdKind unknown = OTHER(NULL);
    static const AdKind token = EMBEDDING;

    for (size_t i = 0; i < AD_COUNT(rows); i++)
        if (occurs(f, rows[i].first) && (!rows[i].second || occurs(f, rows[i].second)))
            return rows[i].kind.kind == AD_FILE_MOTION_LORA && is_mixed(f) ? &mixed
                                                                          : &rows[i].kind;
    /* diffusers names the one tensor by its token */
    return f->count == 1 && f->entries[0].rank <= 2 ? &token : &unknown;
}

AdStatus ad_not_in_it(AdContext *ctx, const AdTensorFile *f, const char *needed)
{
    const AdKind *kind = ad_recognize(f);

    return ad_fail(ctx, AD_ERR_FORMAT, "%.140s: no %s in it%s%s%s%s%s", f->file->path, needed,
                   kind->what ? "; this is " : "", kind->what ? kind->what : "",
                   kind->option ? "; give it to " : "", kind->option ? kind->option : "",
                   kind->option ? "=" : "");
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
    if (in && in != 4)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: %s model (%d input channels); text to "
                       "video needs one with 4", f->file->path,
                       in == 9 ? "an inpainting" : in == 8 ? "an image-editing" :
                       in == 7 ? "an upscaling" : in == 5 ? "a depth-guided" : "another kind of",
                       (int)in);
    return AD_OK;
}

/* The number behind a prefix, and *rest behind it; -1: the name is another. */
static int block_number(const char *name, const char *prefix, const char **rest)
{
    size_t n = strlen(prefix);
    int number = 0;

    if (strncmp(name, prefix, n) || name[n] < '0' || name[n] > '9')
        return -1;
    for (name += n; *name >= '0' && *name <= '9' && number < 10000; name++)
        number = 10 * number + (*name - '0');
    *rest = name;
    return number;
}

/* Blocks are numbered through; what they are follows from two layers on every level, three on the
 * way up. With others the same names would mean other layers. */
static AdStatus check_layers(AdContext *ctx, const AdTensorFile *f)
{
    static const char down[] = "model.diffusion_model.input_blocks.";
    static const char up[] = "model.diffusion_model.output_blocks.";
    int samplers = 0, first = 0, last_down = 0, last_up = 0;

    for (size_t i = 0; i < f->count; i++) {
        const char *rest = "";
        int n = block_number(f->entries[i].name, down, &rest);

        last_down = AD_MAX(last_down, n);
        last_up   = AD_MAX(last_up, block_number(f->entries[i].name, up, &rest));
        if (n > 0 && !strcmp(rest, ".0.op.weight")) {
            samplers++;
            first = first ? AD_MIN(first, n) : n;
        }
    }
    if (first && first != 3)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.140s: a UNet with %d layer%s on its first "
                       "level; in one file only Stable Diffusion 1.x's 2 are supported",
                       f->file->path, first - 1, first == 2 ? "" : "s");
    if (last_down != 3 * samplers + 2 || last_up != 3 * samplers + 2)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.140s: a UNet of %d levels with blocks up to %d "
                       "down and %d up; in one file only 2 layers a level are supported",
                       f->file->path, samplers + 1, last_down, last_up);
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
    const char *prediction = ad_tensor_file_metadata(f, "modelspec.prediction_type");
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
    c->v_prediction = ad_tensor_file_find(f, "v_pred") ||
                      (prediction && !strcmp(prediction, "v"));     /* Stability's model spec */
    c->zero_snr     = ad_tensor_file_find(f, "ztsnr") != NULL;
}

AdStatus ad_checkpoint_look(AdContext *ctx, const char *path, AdCheckpoint *out)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    *out = (AdCheckpoint){ 0 };
    if (st >= 0 && ad_recognize(f)->kind != AD_FILE_CHECKPOINT)
        st = ad_not_in_it(ctx, f, "Stable Diffusion 1.x model");
    if (st >= 0) st = refuse_relatives(ctx, f);
    if (st >= 0) st = check_layers(ctx, f);
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
    AdFileKind kind;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    if (st < 0)
        return st;
    kind = ad_recognize(f)->kind;
    *prefixed = occurs(f, "^first_stage_model.") || occurs(f, "^vae.");
    if (kind != AD_FILE_VAE &&
        !(*prefixed && (kind == AD_FILE_CHECKPOINT || kind == AD_FILE_SECOND)))
        st = ad_not_in_it(ctx, f, "VAE of Stable Diffusion 1.x");
    ad_tensor_file_close(&f);
    return st;
}
