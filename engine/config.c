/* config.c - config.json of text encoder, UNet, motion adapter and VAE; see config.h.
 *
 * Accepted is what UNetMotionModel honours; fields that it would drop must have the value they
 * have in every SD 1.5 model, so that nothing is computed differently in silence.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "config.h"
#include "json.h"

static AdStatus open_fields(AdContext *ctx, const char *path, AdFields *f)
{
    *f = (AdFields){ .ctx = ctx, .path = path };
    f->status = ad_json_load(ctx, path, AD_CAP_CONFIG, &f->root);
    return f->status;
}

static AdStatus close_fields(AdFields *f)
{
    json_decref(f->root);
    return f->status;
}

/* ---- text encoder ------------------------------------------------------------------------- */

void ad_text_config_sd15(AdTextConfig *c)
{
    *c = (AdTextConfig){ .vocabulary = 49408, .width = 768, .layers = 12, .heads = 12,
                         .inner = 3072, .positions = 77, .quick_gelu = true, .eps = 1e-5f };
}

AdStatus ad_text_config_read(AdContext *ctx, const char *path, AdTextConfig *c)
{
    char act[32] = "quick_gelu";
    double eps = 1e-5;
    bool mask = false;
    AdFields f;

    ad_text_config_sd15(c);
    if (open_fields(ctx, path, &f) < 0)
        return f.status;
    ad_field_int(&f, "vocab_size", 3, AD_CAP_VOCABULARY, &c->vocabulary);
    ad_field_int(&f, "hidden_size", 1, AD_CAP_FIELD, &c->width);
    ad_field_int(&f, "num_hidden_layers", 1, 64, &c->layers);
    ad_field_int(&f, "num_attention_heads", 1, 1024, &c->heads);
    ad_field_int(&f, "intermediate_size", 1, AD_CAP_FIELD, &c->inner);
    ad_field_int(&f, "max_position_embeddings", 77, 77, &c->positions);
    ad_field_text(&f, "hidden_act", act, sizeof(act));
    ad_field_float(&f, "layer_norm_eps", 0, 1, &eps);
    ad_field_bool(&f, "use_attention_mask", &mask);
    c->eps = (float)eps;
    c->quick_gelu = !strcmp(act, "quick_gelu");
    if (f.status >= 0 && !c->quick_gelu && strcmp(act, "gelu"))
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "hidden_act must be quick_gelu or gelu");
    if (f.status >= 0 && c->width % c->heads)
        ad_field_fail(&f, AD_ERR_FORMAT, "%d heads do not divide a width of %d", c->heads,
                      c->width);
    if (mask)
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "use_attention_mask is not supported");
    return close_fields(&f);
}

/* ---- UNet --------------------------------------------------------------------------------- */

void ad_unet_config_sd15(AdUnetConfig *c)
{
    static const int channels[] = { 320, 640, 1280, 1280 };

    *c = (AdUnetConfig){ .levels = 4, .mid_layers = 1, .context = 768, .groups = 32, .eps = 1e-5f,
                         .mid_scale = 1, .padding = 1, .in_channels = 4, .out_channels = 4,
                         .sample_size = 64, .max_frames = 32, .motion_mid = true };
    for (int i = 0; i < AD_LEVELS; i++) {
        c->layers[i]         = 2;
        c->heads[i]          = c->motion_heads[i] = 8;
        c->channels[i]       = i < 4 ? channels[i] : 0;
        c->down_attention[i] = i < 3;
        c->up_attention[i]   = i > 0;
        for (int k = 0; k < AD_LAYERS; k++)
            c->down_depth[i][k] = c->up_depth[i][k] = c->motion_down_depth[i][k] =
                c->motion_up_depth[i][k] = 1;
    }
    for (int k = 0; k < AD_LAYERS; k++)
        c->mid_depth[k] = c->motion_mid_depth[k] = 1;
}

/* "CrossAttn" in a block type decides whether the block has attention; other words must be
 * known. */
static void block_types(AdFields *f, const char *name, const char *plain, bool *attention,
                        int levels)
{
    json_t *list = f->status < 0 ? NULL : json_object_get(f->root, name);

    if (!list || json_is_null(list))
        return;
    if (!json_is_array(list) || json_array_size(list) != (size_t)levels) {
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a list of %d names", name, levels);
        return;
    }
    for (int i = 0; i < levels; i++) {
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        char with[48], quoted[AD_QUOTE_TEXT];

        ad_format(with, sizeof(with), "CrossAttn%s", plain);
        if (!type || (strncmp(type, plain, strlen(plain)) && strncmp(type, with, strlen(with)))) {
            ad_field_fail(f, AD_ERR_UNSUPPORTED, "%s: \"%.40s\" is not supported; %s and %s are",
                          name, type ? ad_quote(type, strlen(type), quoted) : "", plain, with);
            return;
        }
        attention[i] = strstr(type, "CrossAttn") != NULL;
    }
}

static bool depth_of(AdFields *f, const char *name, const json_t *value, int *depth)
{
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || n < 1 || n > AD_DEPTH) {
        ad_field_fail(f, AD_ERR_FORMAT, "%s must hold whole numbers from 1 to %d", name, AD_DEPTH);
        return false;
    }
    *depth = (int)n;
    return true;
}

/* Depths of transformers: a number for all, or per level a number or a list with one per layer. */
static void depths(AdFields *f, const char *name, int table[][AD_LAYERS], int levels)
{
    json_t *list = f->status < 0 ? NULL : json_object_get(f->root, name);

    if (!list || json_is_null(list))
        return;
    if (json_is_array(list) && json_array_size(list) != (size_t)levels) {
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a number or a list of %d", name, levels);
        return;
    }
    for (int i = 0; i < levels; i++) {
        json_t *level = json_is_array(list) ? json_array_get(list, (size_t)i) : list;
        size_t given = json_is_array(level) ? json_array_size(level) : AD_LAYERS;

        if (given < 1 || given > AD_LAYERS) {
            ad_field_fail(f, AD_ERR_FORMAT, "%s: a level has 1 to %d layers", name, AD_LAYERS);
            return;
        }
        for (size_t k = 0; k < given; k++)
            if (!depth_of(f, name, json_is_array(level) ? json_array_get(level, k) : level,
                          &table[i][k]))
                return;
    }
}

/* The way up mirrors the way down unless the config says otherwise. */
static void mirror(int up[][AD_LAYERS], int down[][AD_LAYERS], int levels)
{
    for (int i = 0; i < levels; i++)
        memcpy(up[i], down[levels - 1 - i], sizeof(up[i]));
}

static void mid_depths(AdFields *f, const char *name, int *table, int layers, int fallback)
{
    for (int k = 0; k < AD_LAYERS; k++)
        table[k] = fallback;
    ad_field_ints(f, name, 1, AD_DEPTH, table, layers);
}

static int level_count(AdFields *f, const char *name, int fallback)
{
    json_t *list = f->status < 0 ? NULL : json_object_get(f->root, name);

    if (!list || json_is_null(list))
        return fallback;
    if (!json_is_array(list) || json_array_size(list) < 1 || json_array_size(list) > AD_LEVELS) {
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a list of 1 to %d numbers", name, AD_LEVELS);
        return fallback;
    }
    return (int)json_array_size(list);
}

static void check_dropped_fields(AdFields *f)
{
    static const char *const none[] = {
        "dual_cross_attention", "only_cross_attention", "mid_block_only_cross_attention",
        "resnet_skip_time_act", "class_embeddings_concat", "center_input_sample",
        "upcast_attention",
    };
    static const char *const null[] = {
        "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim",
        "encoder_hid_dim_type", "cross_attention_norm", "time_embedding_act_fn",
        "time_embedding_dim", "timestep_post_act", "projection_class_embeddings_input_dim",
    };

    for (size_t i = 0; i < AD_COUNT(none); i++)
        ad_field_must_be(f, none[i], "false");
    for (size_t i = 0; i < AD_COUNT(null); i++)
        ad_field_must_be(f, null[i], "null");
    ad_field_must_be(f, "flip_sin_to_cos", "true");
    ad_field_must_be(f, "freq_shift", "0");
    ad_field_must_be(f, "conv_in_kernel", "3");
    ad_field_must_be(f, "conv_out_kernel", "3");
    ad_field_must_be(f, "mid_block_type", "\"UNetMidBlock2DCrossAttn\"");
    ad_field_must_be(f, "resnet_time_scale_shift", "\"default\"");
    ad_field_must_be(f, "attention_type", "\"default\"");
    ad_field_must_be(f, "time_embedding_type", "\"positional\"");
}

static void check_unet(AdFields *f, const AdUnetConfig *c)
{
    for (int i = 0; i < c->levels && f->status >= 0; i++) {
        if (c->channels[i] % c->groups)
            ad_field_fail(f, AD_ERR_FORMAT, "norm_num_groups %d does not divide %d channels",
                          c->groups, c->channels[i]);
        else if (c->channels[i] % c->heads[i] ||
                 (c->motion && c->channels[i] % c->motion_heads[i]))
            ad_field_fail(f, AD_ERR_FORMAT, "the number of heads does not divide %d channels",
                          c->channels[i]);
        else if (c->channels[i] / c->heads[i] > 1024)
            ad_field_fail(f, AD_ERR_UNSUPPORTED, "heads of more than 1024 channels");
    }
    if (f->status >= 0 && c->in_channels != 4)
        ad_field_fail(f, AD_ERR_UNSUPPORTED, "in_channels is %d (%s); text to video needs 4",
                      c->in_channels, c->in_channels == 9 ? "an inpainting or PIA model" :
                      c->in_channels == 8 ? "an image-editing model" : "another kind of model");
    if (f->status >= 0 && (c->out_channels != 4 || c->channels[0] % 2))
        ad_field_fail(f, AD_ERR_UNSUPPORTED, "out_channels must be 4 and the first width even");
}

AdStatus ad_unet_config_check(AdContext *ctx, const char *path, const AdUnetConfig *c)
{
    AdFields f = { .ctx = ctx, .path = path };

    check_unet(&f, c);
    return f.status;
}

static void unet_motion_fields(AdFields *f, AdUnetConfig *c)
{
    static const char depth[] = "temporal_transformer_layers_per_block";
    int n = c->levels;

    ad_field_int(f, "motion_max_seq_length", 1, 4096, &c->max_frames);
    ad_field_ints(f, "motion_num_attention_heads", 1, 1024, c->motion_heads, n);
    ad_field_must_be(f, "reverse_motion_num_attention_heads", "null");
    ad_field_bool(f, "use_motion_mid_block", &c->motion_mid);
    depths(f, depth, c->motion_down_depth, n);
    mirror(c->motion_up_depth, c->motion_down_depth, n);
    depths(f, "reverse_temporal_transformer_layers_per_block", c->motion_up_depth, n);
    mid_depths(f, "temporal_transformer_layers_per_mid_block", c->motion_mid_depth, c->mid_layers,
               1);
}

AdStatus ad_unet_config_read(AdContext *ctx, const char *path, AdUnetConfig *c)
{
    char class_name[64] = "UNet2DConditionModel", act[32] = "silu";
    double eps = 1e-5, scale = 1;
    int contexts[AD_LEVELS];
    AdFields f;

    ad_unet_config_sd15(c);
    if (open_fields(ctx, path, &f) < 0)
        return f.status;
    ad_field_text(&f, "_class_name", class_name, sizeof(class_name));
    c->is_motion_model = !strcmp(class_name, "UNetMotionModel");
    if (f.status >= 0 && !c->is_motion_model && strcmp(class_name, "UNet2DConditionModel"))
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "\"%.60s\" is not a UNet of Stable Diffusion 1.x",
                      class_name);
    c->levels  = level_count(&f, "block_out_channels", 4);
    c->motion  = c->is_motion_model;
    for (int i = 0; i < AD_LEVELS; i++)
        contexts[i] = 1280;
    ad_field_ints(&f, "block_out_channels", 1, AD_CAP_FIELD, c->channels, c->levels);
    ad_field_ints(&f, "layers_per_block", 1, AD_LAYERS - 1, c->layers, c->levels);
    ad_field_ints(&f, "cross_attention_dim", 1, AD_CAP_FIELD, contexts, c->levels);
    ad_field_ints(&f, "attention_head_dim", 1, 1024, c->heads, c->levels);
    ad_field_ints(&f, "num_attention_heads", 1, 1024, c->heads, c->levels);
    block_types(&f, "down_block_types", c->is_motion_model ? "DownBlockMotion" : "DownBlock2D",
                c->down_attention, c->levels);
    block_types(&f, "up_block_types", c->is_motion_model ? "UpBlockMotion" : "UpBlock2D",
                c->up_attention, c->levels);
    ad_field_int(&f, "norm_num_groups", 1, AD_CAP_FIELD, &c->groups);
    ad_field_float(&f, "norm_eps", 0, 1, &eps);
    ad_field_float(&f, "mid_block_scale_factor", 1e-6, 1e6, &scale);
    ad_field_int(&f, "downsample_padding", 0, 1, &c->padding);
    ad_field_int(&f, "in_channels", 1, AD_CAP_FIELD, &c->in_channels);
    ad_field_int(&f, "out_channels", 1, AD_CAP_FIELD, &c->out_channels);
    ad_field_int(&f, "sample_size", 1, 4096, &c->sample_size);
    ad_field_int(&f, "time_cond_proj_dim", 1, AD_CAP_FIELD, &c->time_cond);
    ad_field_int(&f, "mid_block_layers", 1, AD_LAYERS - 1, &c->mid_layers);
    ad_field_bool(&f, "use_linear_projection", &c->linear_projection);
    ad_field_text(&f, "act_fn", act, sizeof(act));
    depths(&f, "transformer_layers_per_block", c->down_depth, c->levels);
    mirror(c->up_depth, c->down_depth, c->levels);
    depths(&f, "reverse_transformer_layers_per_block", c->up_depth, c->levels);
    mid_depths(&f, "transformer_layers_per_mid_block", c->mid_depth, c->mid_layers,
               c->down_depth[c->levels - 1][0]);
    if (c->is_motion_model)
        unet_motion_fields(&f, c);
    check_dropped_fields(&f);
    if (f.status >= 0 && strcmp(act, "silu") && strcmp(act, "swish"))
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "act_fn is \"%.30s\"; only silu is supported", act);
    for (int i = 0; i < c->levels && f.status >= 0; i++)
        if (contexts[i] != contexts[0])
            ad_field_fail(&f, AD_ERR_UNSUPPORTED, "cross_attention_dim differs between levels");
    c->context   = contexts[0];
    c->eps       = (float)eps;
    c->mid_scale = (float)scale;
    check_unet(&f, c);
    return close_fields(&f);
}

AdStatus ad_motion_config_read(AdContext *ctx, const char *path, AdUnetConfig *c)
{
    char class_name[64] = "MotionAdapter";
    int layers[AD_LEVELS] = { 2, 2, 2, 2, 2, 2 }, conv_in = 0, levels;
    AdFields f;

    c->motion = true;
    if (!path)
        return AD_OK;
    if (open_fields(ctx, path, &f) < 0)
        return f.status;
    ad_field_text(&f, "_class_name", class_name, sizeof(class_name));
    if (f.status >= 0 && strcmp(class_name, "MotionAdapter"))
        ad_field_fail(&f, AD_ERR_FORMAT, "\"%.60s\" is not a MotionAdapter", class_name);
    levels = level_count(&f, "block_out_channels", 4);
    if (f.status >= 0 && levels != c->levels)
        ad_field_fail(&f, AD_ERR_FORMAT, "a motion adapter for %d levels%s; the UNet has %d",
                      levels, levels == 3 ? " (SDXL)" : "", c->levels);
    ad_field_ints(&f, "motion_layers_per_block", 1, AD_LAYERS - 1, layers, c->levels);
    for (int i = 0; i < c->levels && f.status >= 0; i++)
        if (layers[i] != c->layers[i])
            ad_field_fail(&f, AD_ERR_FORMAT, "%d motion modules for %d layers in block %d",
                          layers[i], c->layers[i], i);
    ad_field_ints(&f, "motion_num_attention_heads", 1, 1024, c->motion_heads, c->levels);
    ad_field_int(&f, "motion_max_seq_length", 1, 4096, &c->max_frames);
    ad_field_bool(&f, "use_motion_mid_block", &c->motion_mid);
    ad_field_int(&f, "conv_in_channels", 1, AD_CAP_FIELD, &conv_in);
    if (f.status >= 0 && conv_in)
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "a PIA adapter (conv_in_channels %d) needs an input "
                      "image, which is not supported", conv_in);
    depths(&f, "motion_transformer_layers_per_block", c->motion_down_depth, c->levels);
    mirror(c->motion_up_depth, c->motion_down_depth, c->levels);
    mid_depths(&f, "motion_transformer_layers_per_mid_block", c->motion_mid_depth, c->mid_layers,
               1);
    check_unet(&f, c);
    return close_fields(&f);
}

/* ---- VAE ---------------------------------------------------------------------------------- */

void ad_vae_config_sd15(AdVaeConfig *c)
{
    *c = (AdVaeConfig){ .levels = 4, .channels = { 128, 256, 512, 512 }, .layers = 2,
                        .latent_channels = 4, .groups = 32, .sample_size = 512,
                        .mid_attention = true, .quant_conv = true, .post_quant_conv = true,
                        .scaling_factor = 0.18215 };
}

static void check_vae(AdFields *f, const AdVaeConfig *c)
{
    if (f->status >= 0 && c->latent_channels != 4)
        ad_field_fail(f, AD_ERR_UNSUPPORTED, "latent_channels is %d; a VAE of this family has 4",
                      c->latent_channels);
    for (int i = 0; i < c->levels && f->status >= 0; i++)
        if (c->channels[i] % c->groups || !c->channels[i])
            ad_field_fail(f, AD_ERR_FORMAT, "norm_num_groups %d does not divide %d channels",
                          c->groups, c->channels[i]);
}

AdStatus ad_vae_config_read(AdContext *ctx, const char *path, AdVaeConfig *c)
{
    char class_name[64] = "AutoencoderKL", act[32] = "silu";
    bool attention[AD_LEVELS] = { false };
    AdFields f;

    ad_vae_config_sd15(c);
    if (open_fields(ctx, path, &f) < 0)
        return f.status;
    ad_field_text(&f, "_class_name", class_name, sizeof(class_name));
    if (f.status >= 0 && strcmp(class_name, "AutoencoderKL"))
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "\"%.60s\" is not an AutoencoderKL", class_name);
    c->levels = level_count(&f, "block_out_channels", 4);
    ad_field_ints(&f, "block_out_channels", 1, AD_CAP_FIELD, c->channels, c->levels);
    ad_field_int(&f, "layers_per_block", 1, AD_LAYERS - 1, &c->layers);
    ad_field_int(&f, "latent_channels", 1, 64, &c->latent_channels);
    ad_field_int(&f, "norm_num_groups", 1, AD_CAP_FIELD, &c->groups);
    ad_field_int(&f, "sample_size", 1, 65536, &c->sample_size);
    ad_field_float(&f, "scaling_factor", 1e-6, 1e6, &c->scaling_factor);
    ad_field_bool(&f, "mid_block_add_attention", &c->mid_attention);
    ad_field_bool(&f, "use_quant_conv", &c->quant_conv);
    ad_field_bool(&f, "use_post_quant_conv", &c->post_quant_conv);
    ad_field_text(&f, "act_fn", act, sizeof(act));
    block_types(&f, "up_block_types", "UpDecoderBlock2D", attention, c->levels);
    ad_field_must_be(&f, "in_channels", "3");
    ad_field_must_be(&f, "out_channels", "3");
    if (f.status >= 0 && strcmp(act, "silu") && strcmp(act, "swish"))
        ad_field_fail(&f, AD_ERR_UNSUPPORTED, "act_fn is \"%.30s\"; only silu is supported", act);
    check_vae(&f, c);
    return close_fields(&f);
}

AdStatus ad_vae_config_check(AdContext *ctx, const char *path, const AdVaeConfig *c)
{
    AdFields f = { .ctx = ctx, .path = path };

    check_vae(&f, c);
    return f.status;
}

/* ---- scheduler ---------------------------------------------------------------------------- */

void ad_scheduler_config_absent(AdSchedulerConfig *c)
{
    *c = (AdSchedulerConfig){
        .beta_start = -1, .beta_end = -1, .clip_sample_range = -1, .sigma_min = -1,
        .sigma_max = -1, .timestep_scaling = -1, .eta = -1, .train_steps = -1, .steps_offset = -1,
        .solver_order = -1, .original_steps = -1, .clip_sample = -1, .set_alpha_to_one = -1,
        .skip_prk_steps = -1, .use_karras_sigmas = -1, .use_exponential_sigmas = -1,
        .use_beta_sigmas = -1, .use_lu_lambdas = -1, .rescale_betas_zero_snr = -1,
        .lower_order_final = -1, .euler_at_final = -1, .thresholding = -1, .predict_x0 = -1,
    };
}

void ad_scheduler_config_sd15(AdSchedulerConfig *c)
{
    ad_scheduler_config_absent(c);
    strcpy(c->class_name, "PNDMScheduler");
    strcpy(c->beta_schedule, "scaled_linear");
    c->beta_start  = 0.00085;
    c->beta_end    = 0.012;
    c->train_steps = 1000;
    c->skip_prk_steps = c->steps_offset = 1;
    c->set_alpha_to_one = c->clip_sample = 0;
}

static void flag(AdFields *f, const char *name, int *value)
{
    bool set = *value == 1;
    json_t *v = f->status < 0 ? NULL : json_object_get(f->root, name);

    if (!v || json_is_null(v))
        return;
    ad_field_bool(f, name, &set);
    *value = set;
}

AdStatus ad_scheduler_config_read(AdContext *ctx, const char *path, AdSchedulerConfig *c)
{
    AdFields f = { .ctx = ctx, .path = path };
    json_t *list;

    ad_scheduler_config_absent(c);
    f.status = ad_json_load_python(ctx, path, AD_CAP_CONFIG, &f.root);
    if (f.status < 0)
        return f.status;
    ad_field_text(&f, "_class_name", c->class_name, sizeof(c->class_name));
    ad_field_text(&f, "beta_schedule", c->beta_schedule, sizeof(c->beta_schedule));
    ad_field_text(&f, "timestep_spacing", c->timestep_spacing, sizeof(c->timestep_spacing));
    ad_field_text(&f, "prediction_type", c->prediction_type, sizeof(c->prediction_type));
    ad_field_text(&f, "algorithm_type", c->algorithm_type, sizeof(c->algorithm_type));
    ad_field_text(&f, "solver_type", c->solver_type, sizeof(c->solver_type));
    ad_field_text(&f, "final_sigmas_type", c->final_sigmas_type, sizeof(c->final_sigmas_type));
    ad_field_text(&f, "interpolation_type", c->interpolation_type, sizeof(c->interpolation_type));
    ad_field_float(&f, "beta_start", 1e-9, 1, &c->beta_start);
    ad_field_float(&f, "beta_end", 1e-9, 1, &c->beta_end);
    ad_field_float(&f, "clip_sample_range", 1e-6, 1e6, &c->clip_sample_range);
    ad_field_float(&f, "sigma_min", 1e-9, 1e6, &c->sigma_min);
    ad_field_float(&f, "sigma_max", 1e-9, 1e6, &c->sigma_max);
    ad_field_float(&f, "timestep_scaling", 1e-6, 1e6, &c->timestep_scaling);
    ad_field_int(&f, "num_train_timesteps", 2, 100000, &c->train_steps);
    ad_field_int(&f, "steps_offset", 0, 1000, &c->steps_offset);
    ad_field_int(&f, "solver_order", 1, 3, &c->solver_order);
    ad_field_int(&f, "original_inference_steps", 1, 100000, &c->original_steps);
    flag(&f, "clip_sample", &c->clip_sample);
    flag(&f, "set_alpha_to_one", &c->set_alpha_to_one);
    flag(&f, "skip_prk_steps", &c->skip_prk_steps);
    flag(&f, "use_karras_sigmas", &c->use_karras_sigmas);
    flag(&f, "use_exponential_sigmas", &c->use_exponential_sigmas);
    flag(&f, "use_beta_sigmas", &c->use_beta_sigmas);
    flag(&f, "use_lu_lambdas", &c->use_lu_lambdas);
    flag(&f, "rescale_betas_zero_snr", &c->rescale_betas_zero_snr);
    flag(&f, "lower_order_final", &c->lower_order_final);
    flag(&f, "euler_at_final", &c->euler_at_final);
    flag(&f, "thresholding", &c->thresholding);
    flag(&f, "predict_x0", &c->predict_x0);
    list = json_object_get(f.root, "disable_corrector");
    c->disable_corrector = json_is_array(list) ? (int)json_array_size(list) : 0;
    ad_field_must_be(&f, "use_flow_sigmas", "false");
    ad_field_must_be(&f, "trained_betas", "null");
    ad_field_must_be(&f, "lambda_min_clipped", "null");
    return close_fields(&f);
}
