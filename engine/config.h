/* config.h - the architecture of each part, read from diffusers' config.json files.
 *
 * Graphs read these fields and never ask for a family's name. Every field is bounded here, so that
 * sizes derived from them cannot overflow.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CONFIG_H
#define AD_CONFIG_H

#include "fail.h"

#define AD_LEVELS 6             /* resolutions of a UNet or VAE        */
#define AD_LAYERS 8             /* resnets of one block, with the extra one of the way up */
#define AD_DEPTH  12            /* transformer blocks one after the other */

typedef struct AdTextConfig {   /* CLIP text encoder */
    int   vocabulary, width, layers, heads, inner, positions;
    bool  quick_gelu;           /* else the erf form */
    float eps;
} AdTextConfig;

typedef struct AdUnetConfig {
    int   levels;
    int   channels[AD_LEVELS];
    int   layers[AD_LEVELS];            /* resnets per block going down; one more going up */
    bool  down_attention[AD_LEVELS], up_attention[AD_LEVELS];
    int   heads[AD_LEVELS];
    int   down_depth[AD_LEVELS][AD_LAYERS], up_depth[AD_LEVELS][AD_LAYERS]; /* transformer blocks */
    int   mid_depth[AD_LAYERS], mid_layers;
    int   context;                      /* width of the text states  */
    int   groups;
    float eps;
    float mid_scale;
    int   padding;                      /* of the downsampling convolutions */
    bool  linear_projection;
    int   in_channels, out_channels, sample_size;
    int   time_cond;                    /* width of an LCM condition; loaded, not used */
    bool  motion;                       /* has motion modules at all */
    bool  motion_mid;
    int   motion_heads[AD_LEVELS];
    int   motion_down_depth[AD_LEVELS][AD_LAYERS], motion_up_depth[AD_LEVELS][AD_LAYERS];
    int   motion_mid_depth[AD_LAYERS];
    int   max_frames;                   /* rows of the positional table */
    bool  is_motion_model;             /* the file is a UNetMotionModel: motion weights are in it */
} AdUnetConfig;

typedef struct AdVaeConfig {
    int    levels;
    int    channels[AD_LEVELS];
    int    layers;                      /* resnets per block going down; one more going up */
    int    latent_channels, groups, sample_size;
    bool   mid_attention, quant_conv, post_quant_conv;
    double scaling_factor;
} AdVaeConfig;

/* scheduler_config.json; a field that the file lacks (or that is null) is marked as absent. */
typedef struct AdSchedulerConfig {
    char   class_name[64];              /* "" : no file                                       */
    char   beta_schedule[32], timestep_spacing[32], prediction_type[32];    /* "": absent     */
    char   algorithm_type[32], solver_type[32], final_sigmas_type[32];
    char   interpolation_type[32];
    double beta_start, beta_end;        /* < 0: absent                                        */
    double clip_sample_range, sigma_min, sigma_max, timestep_scaling;
    int    train_steps, steps_offset, solver_order, original_steps;         /* -1: absent     */
    int    clip_sample, set_alpha_to_one, skip_prk_steps, use_karras_sigmas; /* -1, 0, 1       */
    int    use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas, rescale_betas_zero_snr;
    int    lower_order_final, euler_at_final, thresholding, predict_x0;
    int    disable_corrector;           /* how many entries the list has */
    double eta;                         /* not from the file: DDIM's noise, < 0: absent */
} AdSchedulerConfig;

AdStatus ad_text_config_read(AdContext *ctx, const char *path, AdTextConfig *c);

/* Reads a UNet2DConditionModel's or a UNetMotionModel's file. */
AdStatus ad_unet_config_read(AdContext *ctx, const char *path, AdUnetConfig *c);

/* Adds a MotionAdapter's fields to a UNet's; they must fit each other. path NULL: defaults. */
AdStatus ad_motion_config_read(AdContext *ctx, const char *path, AdUnetConfig *c);

AdStatus ad_vae_config_read(AdContext *ctx, const char *path, AdVaeConfig *c);
AdStatus ad_scheduler_config_read(AdContext *ctx, const char *path, AdSchedulerConfig *c);
void     ad_scheduler_config_absent(AdSchedulerConfig *c);      /* every field absent */

/* Stable Diffusion 1.5's own values, for files without a config. */
void ad_text_config_sd15(AdTextConfig *c);
void ad_unet_config_sd15(AdUnetConfig *c);
void ad_vae_config_sd15(AdVaeConfig *c);
void ad_scheduler_config_sd15(AdSchedulerConfig *c);

/* What every architecture must keep to, whoever described it; `path` is for the sentence. */
AdStatus ad_unet_config_check(AdContext *ctx, const char *path, const AdUnetConfig *c);
AdStatus ad_vae_config_check(AdContext *ctx, const char *path, const AdVaeConfig *c);

#endif
