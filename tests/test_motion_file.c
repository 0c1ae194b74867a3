/* test_motion_file.c - motion modules in one file, as they are published.
 *
 * The version, and with it the longest clip, is read off the tensors. Files of other versions are
 * made here of the golden one (the original repository's layout, as diffusers' script reads it) by
 * other names in the header.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/model.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

#define MOTION  GOLDEN "models/single-motion.safetensors"

static AdContext *ctx;
static RenderCase the_case;
static const char *model = GOLDEN "models/single";      /* of the next use() */

static void use(const char *adapter)
{
    render_small(&the_case);
    the_case.model.model          = model;
    model = GOLDEN "models/single";
    the_case.model.motion_adapter = adapter;
    the_case.session.scheduler    = NULL;
    the_case.session.frames       = 2;
}

static void is_refused(AdStatus status, const char *adapter, const char *part)
{
    AdModel *m = NULL;

    use(adapter);
    CHECK_STATUS(ad_model_load(ctx, &m, &the_case.model), status);
    CHECK(m == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), part);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
}

/* Loads, says `log`, and has this many frames. */
static void is_version(const char *adapter, const char *log, int frames, bool mid)
{
    AdSessionParams p;
    AdModel *m = NULL;
    AdModelInfo info;

    use(adapter);
    render_log();
    if (ad_model_load(ctx, &m, &the_case.model) < 0)
        FAIL("%s", ad_context_error(ctx));
    CHECK_CONTAINS(render_log(), log);
    ad_model_info(m, &info);
    ad_session_defaults(m, &p);
    CHECK_INT(info.max_frames, frames);
    CHECK_INT(m->unet_config.motion_mid, mid);
    CHECK_TEXT(m->motion_betas, "linear");
    ad_model_destroy(&m);
}

/* The frames of the golden file, whose clip the reference rendered (test_clips). */
static void same_clip(const char *adapter)
{
    size_t n, m;
    uint8_t *wanted, *found;

    use(MOTION);
    wanted = render(ctx, &the_case, &n);
    use(adapter);
    found = render(ctx, &the_case, &m);
    if (!wanted || !found)
        FAIL("%s", ad_context_error(ctx));
    CHECK_INT(m, n);
    CHECK(!memcmp(found, wanted, n));
    free(wanted);
    free(found);
}

/* ---- versions ----------------------------------------------------------------------------- */

static void versions_are_told_by_tensors(void)
{
    const char *v3 = scratch_renamed("v3.safetensors", MOTION, "\"mid_block.motion_modules.",
                                     "\"gone.");

    is_version(MOTION, "motion modules v2, clips of up to 32 frames, linear betas", 32, true);
    is_version(v3, "motion modules v3, clips of up to 32 frames", 32, false);
    model = GOLDEN "models/v1";
    is_version(GOLDEN "models/v1-motion-original.safetensors",
               "motion modules v1, clips of up to 24 frames, linear betas", 24, false);
}

/* torch.save's, with a wrapper and distributed training's names. */
static void a_ckpt_is_the_same_file(void)
{
    size_t n, m;
    uint8_t *wanted, *found;

    model = GOLDEN "models/v1";
    is_version(GOLDEN "models/v1-motion-original.ckpt",
               "motion modules v1, clips of up to 24 frames, linear betas", 24, false);
    model = GOLDEN "models/v1";
    use(GOLDEN "models/v1-motion-original.safetensors");
    wanted = render(ctx, &the_case, &n);
    model = GOLDEN "models/v1";
    use(GOLDEN "models/v1-motion-original.ckpt");
    found = render(ctx, &the_case, &m);
    if (!wanted || !found)
        FAIL("%s", ad_context_error(ctx));
    CHECK(n == m && !memcmp(found, wanted, n));
    free(found);
    scratch_copy("folder/diffusion_pytorch_model.bin", GOLDEN "models/v1-motion-original.ckpt");
    scratch_text("folder/config.json", "{\"_class_name\":\"MotionAdapter\",\"block_out_channels\":"
                 "[16,32,32],\"motion_layers_per_block\":1,\"motion_norm_num_groups\":8,"
                 "\"motion_num_attention_heads\":8,\"motion_max_seq_length\":24,"
                 "\"use_motion_mid_block\":false}");
    model = GOLDEN "models/v1";
    use(scratch("folder"));
    found = render(ctx, &the_case, &m);
    if (!found)
        FAIL("%s", ad_context_error(ctx));
    CHECK(n == m && !memcmp(found, wanted, n));
    free(wanted);
    free(found);
}

static void long_tables_make_long_clips(void)
{
    is_version(scratch_renamed("long.safetensors", MOTION, "\"shape\":[1,32,32]",
                               "\"shape\":[1,64,16]"), "v2, clips of up to 64 frames", 64, true);
}

static void tables_are_a_formula(void)
{
    const char *lcm = scratch_renamed("lcm.safetensors", MOTION, "pos_encoder.pe",
                                      "pos_encoder.gone");

    is_version(lcm, "motion modules AnimateLCM (no positional tables), clips of up to 64 frames",
               64, true);
    is_version(lcm, "AnimateLCM was made for scheduler=lcm, 4 to 8 steps, guidance_scale 1 to 2",
               64, true);
    same_clip(lcm);
}

static void names_may_have_a_wrapper(void)
{
    const char *path = scratch_renamed("a.safetensors", MOTION, "\"down_blocks.",
                                       "\"module.down_blocks.");

    path = scratch_renamed("b.safetensors", path, "\"up_blocks.", "\"module.up_blocks.");
    same_clip(scratch_renamed("c.safetensors", path, "\"mid_block.", "\"module.mid_block."));
}

/* Lightning's file for diffusers: diffusers' names, no config. */
static void diffusers_names_need_no_config(void)
{
    static const char *const pairs[][2] = {
        { ".temporal_transformer", "" }, { "attention_blocks.0.to", "attn1.to" },
        { "attention_blocks.1.to", "attn2.to" }, { ".norms.0", ".norm1" },
        { ".norms.1", ".norm2" }, { ".ff_norm", ".norm3" },
        { "attention_blocks.0.pos_encoder.pe", "pos_embed.pe" },
    };
    const char *path = MOTION;
    char name[32];

    for (size_t i = 0; i < AD_COUNT(pairs); i++) {
        snprintf(name, sizeof(name), "d%zu.safetensors", i);
        path = scratch_renamed(name, path, pairs[i][0], pairs[i][1]);
    }
    is_version(path, "motion modules v2, clips of up to 32 frames", 32, true);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void others_are_refused_by_name(void)
{
    static const struct { const char *from, *to; AdStatus status; const char *part; } changes[] = {
        { "\"mid_block.motion_modules.0.temporal_transformer.proj_in.weight\"",
          "\"conv_in.weight\":{\"dtype\":\"F16\",\"shape\":[0,9,3,3],\"data_offsets\":[0,0]},"
          "\"mid_block.motion_modules.0.temporal_transformer.proj_in.weight\"",
          AD_ERR_UNSUPPORTED, "a PIA adapter, which needs an input image" },
        { "mid_block.motion_modules.0.temporal_transformer.proj_in.weight",
          "img_encoder.conv_in.weight", AD_ERR_FORMAT, "no motion modules in it; this is an "
          "AnimateLCM-I2V motion module, which needs an input image" },
        { "mid_block.motion_modules.0.temporal_transformer.proj_in.weight",
          "controlnet_cond_embedding.weight", AD_ERR_FORMAT, "this is a SparseCtrl encoder" },
        { "pos_encoder.pe", "pos_encoder.positional_encoding", AD_ERR_FORMAT,
          "this is a HotShot-XL motion module" },
        { "down_blocks.1.", "down_blocks.2.", AD_ERR_FORMAT,
          "motion modules for 3 levels (SDXL); the UNet has 2" },
        { "transformer_blocks.0.", "transformer_blocks.12.", AD_ERR_FORMAT,
          "motion modules of 13 blocks; at most 12 are supported" },
        { "down_blocks.0.motion_modules.1.", "down_blocks.0.motion_modules.2.", AD_ERR_FORMAT,
          "missing or misshapen: \"down_blocks.0.motion_modules.1.norm.weight\" missing" },
    };

    for (size_t i = 0; i < AD_COUNT(changes); i++)
        is_refused(changes[i].status, scratch_renamed("x.safetensors", MOTION, changes[i].from,
                                                      changes[i].to), changes[i].part);
    is_refused(AD_ERR_FORMAT, GOLDEN "loras/pan.safetensors",
               "no motion modules in it; this is a motion LoRA; give it to motion_lora=");
    is_refused(AD_ERR_FORMAT, GOLDEN "models/single-vae.safetensors",
               "no motion modules in it; this is a VAE; give it to vae=");
}

int main(void)
{
    ctx = render_context("cpu", 2);
    RUN(versions_are_told_by_tensors);
    RUN(a_ckpt_is_the_same_file);
    RUN(long_tables_make_long_clips);
    RUN(tables_are_a_formula);
    RUN(names_may_have_a_wrapper);
    RUN(diffusers_names_need_no_config);
    RUN(others_are_refused_by_name);
    ad_context_destroy(&ctx);
    return check_result();
}
