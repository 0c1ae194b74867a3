/* test_config.c - every field of the config files: what it may be, and what is refused how.
 *
 * A field is set in a config that is fine otherwise; null stands for "absent".
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "../engine/json.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */
static AdTextConfig text;
static AdUnetConfig unet;
static AdVaeConfig vae;

typedef enum Kind { TEXT, UNET, MOTION, MODEL, VAE } Kind;     /* MODEL: a UNetMotionModel */

static const struct { const char *name, *file; } kinds[] = {
    [TEXT] = { "text encoder", "models/plain/text_encoder/config.json" },
    [UNET] = { "UNet", "models/plain/unet/config.json" },
    [MOTION] = { "adapter", "models/plain-motion/config.json" },
    [MODEL] = { "motion UNet", "models/saved/unet/config.json" },
    [VAE] = { "VAE", "models/plain/vae/config.json" },
};

static AdStatus read_file(Kind kind, const char *path)
{
    if (kind == TEXT)
        return ad_text_config_read(&ctx, path, &text);
    if (kind == VAE)
        return ad_vae_config_read(&ctx, path, &vae);
    if (kind != MOTION)
        return ad_unet_config_read(&ctx, path, &unet);
    if (ad_unet_config_read(&ctx, GOLDEN "models/plain/unet/config.json", &unet) < 0)
        die("%s", ctx.error);
    return ad_motion_config_read(&ctx, path, &unet);
}

/* The good config with the fields of a JSON object on top. */
static AdStatus read_with(Kind kind, const char *fields)
{
    json_t *config = golden_json(kinds[kind].file), *more = json_loads(fields, 0, NULL);
    const char *path = scratch("config.json");

    scratch_folder("");
    if (!more || json_object_update(config, more) < 0 || json_dump_file(config, path, 0) < 0)
        die("%s: no JSON", fields);
    json_decref(more);
    json_decref(config);
    return read_file(kind, path);
}

/* ---- refused ------------------------------------------------------------------------------ */

static const struct Refused { Kind kind; const char *fields; AdStatus status; const char *part; }
refused[] = {
    { TEXT, "{\"vocab_size\":2}", AD_ERR_FORMAT,
      "vocab_size must be a whole number from 3 to 131072" },
    { TEXT, "{\"vocab_size\":131073}", AD_ERR_FORMAT, "vocab_size" },
    { TEXT, "{\"vocab_size\":1344.0}", AD_ERR_FORMAT, "vocab_size" },
    { TEXT, "{\"vocab_size\":\"1344\"}", AD_ERR_FORMAT, "vocab_size" },
    { TEXT, "{\"vocab_size\":true}", AD_ERR_FORMAT, "vocab_size" },
    { TEXT, "{\"vocab_size\":[1344]}", AD_ERR_FORMAT, "vocab_size" },
    { TEXT, "{\"hidden_size\":0}", AD_ERR_FORMAT,
      "hidden_size must be a whole number from 1 to 65536" },
    { TEXT, "{\"hidden_size\":65537}", AD_ERR_FORMAT, "hidden_size" },
    { TEXT, "{\"hidden_size\":-32}", AD_ERR_FORMAT, "hidden_size" },
    { TEXT, "{\"hidden_size\":33}", AD_ERR_FORMAT, "2 heads do not divide a width of 33" },
    { TEXT, "{\"num_hidden_layers\":0}", AD_ERR_FORMAT, "num_hidden_layers" },
    { TEXT, "{\"num_hidden_layers\":65}", AD_ERR_FORMAT, "from 1 to 64" },
    { TEXT, "{\"num_attention_heads\":0}", AD_ERR_FORMAT, "num_attention_heads" },
    { TEXT, "{\"intermediate_size\":0}", AD_ERR_FORMAT, "intermediate_size" },
    { TEXT, "{\"max_position_embeddings\":76}", AD_ERR_FORMAT, "max_position_embeddings" },
    { TEXT, "{\"max_position_embeddings\":248}", AD_ERR_FORMAT, "from 77 to 77" },
    { TEXT, "{\"hidden_act\":\"relu\"}", AD_ERR_UNSUPPORTED,
      "hidden_act must be quick_gelu or gelu" },
    { TEXT, "{\"hidden_act\":3}", AD_ERR_FORMAT, "hidden_act must be a text" },
    { TEXT, "{\"layer_norm_eps\":\"1e-5\"}", AD_ERR_FORMAT, "layer_norm_eps must be a number" },
    { TEXT, "{\"layer_norm_eps\":-1}", AD_ERR_FORMAT, "layer_norm_eps" },
    { TEXT, "{\"use_attention_mask\":true}", AD_ERR_UNSUPPORTED, "use_attention_mask" },

    { UNET, "{\"_class_name\":\"UNet3DConditionModel\"}", AD_ERR_UNSUPPORTED, "is not a UNet of" },
    { UNET, "{\"block_out_channels\":[]}", AD_ERR_FORMAT, "a list of 1 to 6 numbers" },
    { UNET, "{\"block_out_channels\":[4,4,4,4,4,4,4]}", AD_ERR_FORMAT, "a list of 1 to 6 numbers" },
    { UNET, "{\"block_out_channels\":16}", AD_ERR_FORMAT, "a list of 1 to 6 numbers" },
    { UNET, "{\"block_out_channels\":[16,\"32\"]}", AD_ERR_FORMAT, "block_out_channels must hold" },
    { UNET, "{\"block_out_channels\":[16,65540]}", AD_ERR_FORMAT, "block_out_channels" },
    { UNET, "{\"block_out_channels\":[16,18]}", AD_ERR_FORMAT,
      "norm_num_groups 4 does not divide 18" },
    { UNET, "{\"block_out_channels\":[16,32,32]}", AD_ERR_FORMAT, "down_block_types" },
    { UNET, "{\"attention_head_dim\":3}", AD_ERR_FORMAT, "heads does not divide 16 channels" },
    { UNET, "{\"attention_head_dim\":[4]}", AD_ERR_FORMAT, "a list of 2 of them" },
    { UNET, "{\"attention_head_dim\":0}", AD_ERR_FORMAT, "attention_head_dim" },
    { UNET, "{\"num_attention_heads\":5}", AD_ERR_FORMAT, "heads does not divide" },
    { UNET, "{\"block_out_channels\":[16,8192],\"attention_head_dim\":[4,4]}", AD_ERR_UNSUPPORTED,
      "heads of more than 1024" },
    { UNET, "{\"norm_num_groups\":0}", AD_ERR_FORMAT, "norm_num_groups" },
    { UNET, "{\"norm_num_groups\":5}", AD_ERR_FORMAT, "does not divide 16" },
    { UNET, "{\"layers_per_block\":0}", AD_ERR_FORMAT, "layers_per_block" },
    { UNET, "{\"layers_per_block\":8}", AD_ERR_FORMAT, "from 1 to 7" },
    { UNET, "{\"layers_per_block\":[1,2,3]}", AD_ERR_FORMAT, "layers_per_block" },
    { UNET, "{\"in_channels\":9}", AD_ERR_UNSUPPORTED, "an inpainting or PIA model" },
    { UNET, "{\"in_channels\":8}", AD_ERR_UNSUPPORTED, "an image-editing model" },
    { UNET, "{\"in_channels\":16}", AD_ERR_UNSUPPORTED, "another kind of model" },
    { UNET, "{\"out_channels\":8}", AD_ERR_UNSUPPORTED, "out_channels must be 4" },
    { UNET, "{\"down_block_types\":[\"DownBlock2D\"]}", AD_ERR_FORMAT, "a list of 2 names" },
    { UNET, "{\"down_block_types\":[\"DownBlock2D\",\"AttnDownBlock2D\"]}", AD_ERR_UNSUPPORTED,
      "AttnDownBlock2D\" is not supported" },
    { UNET, "{\"down_block_types\":[\"DownBlock2D\",7]}", AD_ERR_UNSUPPORTED, "down_block_types" },
    { UNET, "{\"up_block_types\":[\"SimpleCrossAttnUpBlock2D\",\"UpBlock2D\"]}", AD_ERR_UNSUPPORTED,
      "up_block_types" },
    { UNET, "{\"mid_block_type\":\"UNetMidBlock2DSimpleCrossAttn\"}", AD_ERR_UNSUPPORTED,
      "mid_block_type" },
    { UNET, "{\"cross_attention_dim\":[32,16]}", AD_ERR_UNSUPPORTED, "differs between levels" },
    { UNET, "{\"cross_attention_dim\":0}", AD_ERR_FORMAT, "cross_attention_dim" },
    { UNET, "{\"transformer_layers_per_block\":0}", AD_ERR_FORMAT, "transformer_layers_per_block" },
    { UNET, "{\"transformer_layers_per_block\":13}", AD_ERR_FORMAT, "from 1 to 12" },
    { UNET, "{\"transformer_layers_per_block\":[1]}", AD_ERR_FORMAT, "a list of 2" },
    { UNET, "{\"transformer_layers_per_block\":[[1],\"2\"]}", AD_ERR_FORMAT, "whole numbers" },
    { UNET, "{\"transformer_layers_per_block\":[[1.5],2]}", AD_ERR_FORMAT, "whole numbers" },
    { UNET, "{\"transformer_layers_per_block\":[[],2]}", AD_ERR_FORMAT, "1 to 8 layers" },
    { UNET, "{\"transformer_layers_per_block\":[[1,1,1,1,1,1,1,1,1],2]}", AD_ERR_FORMAT, "1 to 8" },
    { UNET, "{\"downsample_padding\":2}", AD_ERR_FORMAT, "downsample_padding" },
    { UNET, "{\"mid_block_scale_factor\":0}", AD_ERR_FORMAT, "mid_block_scale_factor" },
    { UNET, "{\"norm_eps\":2}", AD_ERR_FORMAT, "norm_eps" },
    { UNET, "{\"sample_size\":0}", AD_ERR_FORMAT, "sample_size" },
    { UNET, "{\"sample_size\":4097}", AD_ERR_FORMAT, "sample_size" },
    { UNET, "{\"use_linear_projection\":1}", AD_ERR_FORMAT, "must be true or false" },
    { UNET, "{\"act_fn\":\"gelu\"}", AD_ERR_UNSUPPORTED, "only silu is supported" },
    { UNET, "{\"conv_in_kernel\":5}", AD_ERR_UNSUPPORTED, "conv_in_kernel is 5; only 3" },
    { UNET, "{\"conv_out_kernel\":1}", AD_ERR_UNSUPPORTED, "conv_out_kernel" },
    { UNET, "{\"resnet_time_scale_shift\":\"scale_shift\"}", AD_ERR_UNSUPPORTED, "scale_shift" },
    { UNET, "{\"addition_embed_type\":\"text_time\"}", AD_ERR_UNSUPPORTED, "addition_embed_type" },
    { UNET, "{\"class_embed_type\":\"timestep\"}", AD_ERR_UNSUPPORTED, "class_embed_type" },
    { UNET, "{\"num_class_embeds\":10}", AD_ERR_UNSUPPORTED, "num_class_embeds" },
    { UNET, "{\"encoder_hid_dim_type\":\"text_proj\"}", AD_ERR_UNSUPPORTED,
      "encoder_hid_dim_type" },
    { UNET, "{\"flip_sin_to_cos\":false}", AD_ERR_UNSUPPORTED, "flip_sin_to_cos" },
    { UNET, "{\"freq_shift\":1}", AD_ERR_UNSUPPORTED, "freq_shift" },
    { UNET, "{\"dual_cross_attention\":true}", AD_ERR_UNSUPPORTED, "dual_cross_attention" },
    { UNET, "{\"only_cross_attention\":true}", AD_ERR_UNSUPPORTED, "only_cross_attention" },
    { UNET, "{\"only_cross_attention\":[true,false]}", AD_ERR_UNSUPPORTED, "only_cross_attention" },
    { UNET, "{\"upcast_attention\":true}", AD_ERR_UNSUPPORTED, "upcast_attention" },
    { UNET, "{\"attention_type\":\"gated\"}", AD_ERR_UNSUPPORTED, "attention_type" },
    { UNET, "{\"time_embedding_type\":\"fourier\"}", AD_ERR_UNSUPPORTED, "time_embedding_type" },

    { MOTION, "{\"_class_name\":\"ControlNetModel\"}", AD_ERR_FORMAT, "is not a MotionAdapter" },
    { MOTION, "{\"block_out_channels\":[16,32,64]}", AD_ERR_FORMAT,
      "3 levels (SDXL); the UNet has 2" },
    { MOTION, "{\"motion_layers_per_block\":2}", AD_ERR_FORMAT, "2 motion modules for 1 layers" },
    { MOTION, "{\"motion_layers_per_block\":[1,2]}", AD_ERR_FORMAT, "in block 1" },
    { MOTION, "{\"motion_num_attention_heads\":5}", AD_ERR_FORMAT, "heads does not divide" },
    { MOTION, "{\"motion_max_seq_length\":0}", AD_ERR_FORMAT, "motion_max_seq_length" },
    { MOTION, "{\"motion_max_seq_length\":4097}", AD_ERR_FORMAT, "from 1 to 4096" },
    { MOTION, "{\"use_motion_mid_block\":\"yes\"}", AD_ERR_FORMAT, "must be true or false" },
    { MOTION, "{\"conv_in_channels\":9}", AD_ERR_UNSUPPORTED,
      "a PIA adapter (conv_in_channels 9)" },
    { MOTION, "{\"motion_transformer_layers_per_block\":[1,13]}", AD_ERR_FORMAT, "from 1 to 12" },
    { MOTION, "{\"motion_transformer_layers_per_mid_block\":0}", AD_ERR_FORMAT, "per_mid_block" },

    { MODEL, "{\"down_block_types\":[\"DownBlock2D\",\"DownBlock2D\"]}", AD_ERR_UNSUPPORTED,
      "DownBlockMotion" },
    { MODEL, "{\"motion_num_attention_heads\":3}", AD_ERR_FORMAT, "heads does not divide" },
    { MODEL, "{\"reverse_motion_num_attention_heads\":2}", AD_ERR_UNSUPPORTED, "reverse_motion" },
    { MODEL, "{\"temporal_transformer_layers_per_block\":[1,2,3]}", AD_ERR_FORMAT, "a list of 2" },
    { MODEL, "{\"motion_max_seq_length\":1.0}", AD_ERR_FORMAT, "motion_max_seq_length" },

    { VAE, "{\"_class_name\":\"AsymmetricAutoencoderKL\"}", AD_ERR_UNSUPPORTED,
      "is not an AutoencoderKL" },
    { VAE, "{\"latent_channels\":16}", AD_ERR_UNSUPPORTED, "latent_channels is 16" },
    { VAE, "{\"in_channels\":4}", AD_ERR_UNSUPPORTED, "in_channels" },
    { VAE, "{\"out_channels\":4}", AD_ERR_UNSUPPORTED, "out_channels" },
    { VAE, "{\"norm_num_groups\":3}", AD_ERR_FORMAT, "norm_num_groups 3 does not divide 8" },
    { VAE, "{\"layers_per_block\":8}", AD_ERR_FORMAT, "layers_per_block" },
    { VAE, "{\"scaling_factor\":0}", AD_ERR_FORMAT, "scaling_factor must be a number" },
    { VAE, "{\"scaling_factor\":-1}", AD_ERR_FORMAT, "scaling_factor" },
    { VAE, "{\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\","
      "\"AttnUpDecoderBlock2D\"]}", AD_ERR_UNSUPPORTED, "AttnUpDecoderBlock2D" },
    { VAE, "{\"block_out_channels\":[8,16,16]}", AD_ERR_FORMAT, "up_block_types" },
    { VAE, "{\"sample_size\":0}", AD_ERR_FORMAT, "sample_size" },
    { VAE, "{\"use_quant_conv\":0}", AD_ERR_FORMAT, "must be true or false" },
    { VAE, "{\"act_fn\":\"relu\"}", AD_ERR_UNSUPPORTED, "only silu" },
};

static void is_refused(const struct Refused *r)
{
    CHECK_STATUS(read_with(r->kind, r->fields), r->status);
    CHECK_CONTAINS(ctx.error, r->part);
    CHECK_CONTAINS(ctx.error, "config.json: ");
    CHECK(strlen(ctx.error) <= 300);
}

/* ---- accepted ----------------------------------------------------------------------------- */

static const struct Accepted { Kind kind; const char *fields; } accepted[] = {
    { TEXT, "{\"vocab_size\":131072}" }, { TEXT, "{\"vocab_size\":3}" },
    { TEXT, "{\"hidden_size\":65536}" }, { TEXT, "{\"hidden_act\":\"gelu\"}" },
    { TEXT, "{\"num_hidden_layers\":64}" }, { TEXT, "{\"use_attention_mask\":false}" },
    { TEXT, "{\"a field of tomorrow\":[{}]}" }, { TEXT, "{\"hidden_act\":null}" },
    { UNET, "{\"act_fn\":\"swish\"}" }, { UNET, "{\"block_out_channels\":[16,65536],"
      "\"attention_head_dim\":[4,64]}" },
    { UNET, "{\"transformer_layers_per_block\":[[1,2],3]}" }, { UNET, "{\"layers_per_block\":7}" },
    { UNET, "{\"cross_attention_dim\":[32,32]}" }, { UNET, "{\"time_cond_proj_dim\":256}" },
    { UNET, "{\"conv_in_kernel\":null,\"upcast_attention\":null}" },
    { UNET, "{\"mid_block_type\":\"UNetMidBlock2DCrossAttn\"}" },
    { MOTION, "{\"motion_max_seq_length\":4096}" }, { MOTION, "{\"use_motion_mid_block\":false}" },
    { MOTION, "{\"conv_in_channels\":null}" }, { VAE, "{\"force_upcast\":false}" },
    { VAE, "{\"scaling_factor\":1}" }, { VAE, "{\"mid_block_add_attention\":false}" },
};

static void is_accepted(const struct Accepted *a)
{
    if (read_with(a->kind, a->fields) < 0)
        FAIL("%s", ctx.error);
}

static void lists_of_depths_are_read_by_level_and_layer(void)
{
    CHECK_STATUS(read_with(UNET, "{\"transformer_layers_per_block\":[[1,2],3]}"), AD_OK);
    CHECK_INT(unet.down_depth[0][0], 1);
    CHECK_INT(unet.down_depth[0][1], 2);
    CHECK_INT(unet.down_depth[1][0], 3);
    CHECK_INT(unet.down_depth[1][AD_LAYERS - 1], 3);
    CHECK_INT(unet.up_depth[0][0], 3);              /* the way up mirrors the way down */
    CHECK_INT(unet.up_depth[1][1], 2);
    CHECK_INT(unet.mid_depth[0], 3);
    CHECK_STATUS(read_with(UNET, "{\"transformer_layers_per_block\":2,"
                           "\"reverse_transformer_layers_per_block\":[4,5],"
                           "\"transformer_layers_per_mid_block\":6}"), AD_OK);
    CHECK_INT(unet.down_depth[1][0], 2);
    CHECK_INT(unet.up_depth[0][0], 4);
    CHECK_INT(unet.up_depth[1][0], 5);
    CHECK_INT(unet.mid_depth[0], 6);
}

static void heads_have_two_names(void)
{
    CHECK_STATUS(read_with(UNET, "{\"attention_head_dim\":[2,4]}"), AD_OK);
    CHECK_INT(unet.heads[0], 2);
    CHECK_INT(unet.heads[1], 4);
    CHECK_STATUS(read_with(UNET, "{\"attention_head_dim\":[2,4],\"num_attention_heads\":8}"),
      AD_OK);
    CHECK_INT(unet.heads[0], 8);
}

static void absent_fields_are_those_of_stable_diffusion(void)
{
    const char *path = scratch_text("config.json", "{}");

    CHECK_STATUS(ad_text_config_read(&ctx, path, &text), AD_OK);
    CHECK(text.vocabulary == 49408 && text.width == 768 && text.layers == 12 && text.heads == 12);
    CHECK(text.quick_gelu && text.inner == 3072 && text.eps == 1e-5f);
    CHECK_STATUS(ad_unet_config_read(&ctx, path, &unet), AD_OK);
    CHECK(unet.levels == 4 && unet.channels[3] == 1280 && unet.groups == 32 && unet.heads[0] == 8);
    CHECK(unet.down_attention[0] && !unet.down_attention[3] && !unet.up_attention[0]);
    CHECK_STATUS(ad_vae_config_read(&ctx, path, &vae), AD_OK);
    CHECK(vae.levels == 4 && vae.layers == 2 && vae.scaling_factor == 0.18215);
}

/* ---- files that are no config ------------------------------------------------------------- */

static void json_must_be_strict(void)
{
    static const struct { const char *text, *part; } bad[] = {
        { "", "an empty file" }, { "[]", "not a JSON object" }, { "3", "line 1" },
        { "{\"a\":1,}", "line 1" }, { "{\"a\":1}x", "line 1" }, { "{\"a\":NaN}", "line 1" },
        { "{\"a\":1,\"a\":1}", "duplicate" }, { "{// c\n}", "line 1" },
        { "\xef\xbb\xbf{}", "line 1" }, { "{\"a\":\"\xff\"}", "unable to decode" },
        { "{\"a\":01}", "line 1" },
        { "{\"a\":1e999}", "line 1" }, { "<html></html>", "a web page" },
        { "version https://git-lfs.github.com/spec/v1\n", "Git-LFS pointer" },
        { "<!DOCTYPE html>", "a web page" }, { "\x1f\x8b\x08", "compressed with gzip" },
        { "PK\3\4", "line 1" }, { "{\"a\":\"\\ud800\"}", "line 1" }, { "{\"a\":\"\n\"}", "line 1" },
        { "{\"a\":tru}", "line 1" }, { "{\"a\":+1}", "line 1" }, { "{\"a\":.5}", "line 1" },
    };

    for (size_t i = 0; i < AD_COUNT(bad); i++) {
        CHECK_STATUS(read_file(TEXT, scratch_text("config.json", bad[i].text)), AD_ERR_FORMAT);
        CHECK_CONTAINS(ctx.error, bad[i].part);
    }
    CHECK_STATUS(read_file(TEXT, scratch("no-config.json")), AD_ERR_NOTFOUND);
}

static void configs_have_at_most_one_mib(void)
{
    char *all = malloc(AD_CAP_CONFIG + 1);

    memset(all, ' ', AD_CAP_CONFIG + 1);
    memcpy(all, "{}", 2);
    CHECK_STATUS(read_file(TEXT, scratch_write("config.json", all, AD_CAP_CONFIG)), AD_OK);
    CHECK_STATUS(read_file(TEXT, scratch_write("config.json", all, AD_CAP_CONFIG + 1)),
                 AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "at most 1048576");
    free(all);
}

/* The object itself is one level. */
static AdStatus nested(int n)
{
    char all[256] = "{\"x\":";

    for (int i = 1; i < n; i++)
        strcat(all, i % 2 ? "[" : "{\"y\":");
    strcat(all, "1");
    for (int i = n - 1; i > 0; i--)
        strcat(all, i % 2 ? "]" : "}");
    strcat(all, "}");
    return read_file(TEXT, scratch_text("config.json", all));
}

static void configs_are_nested_at_most_32_deep(void)
{
    CHECK_STATUS(nested(32), AD_OK);
    CHECK_STATUS(nested(33), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "nested more than 32 deep");
}

static void brackets_in_texts_are_not_nested(void)
{
    static const char brackets[] = "[[[[[[[[{{{{{{{{[[[[[[[[{{{{{{{{[[[[[[[[";
    char all[256];

    snprintf(all, sizeof(all), "{\"%s\":\"\\\"%s\\\\\",\"x\":[\"]\"]}", brackets, brackets);
    CHECK_STATUS(read_file(TEXT, scratch_text("config.json", all)), AD_OK);
    snprintf(all, sizeof(all), "{\"a\":\"\\\\\",\"b\":%s", brackets);
    CHECK_STATUS(read_file(TEXT, scratch_text("config.json", all)), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "nested more than 32 deep");
}

/* `n` times `unit` in a list, the last without its comma. */
static AdStatus list_of(const char *unit, size_t n)
{
    size_t m = strlen(unit), at = 6;
    char *all = malloc(at + n * m + 2);
    const char *path;
    json_t *root = NULL;
    AdStatus st;

    memcpy(all, "{\"a\":[", 6);
    for (size_t i = 0; i < n; i++, at += m)
        memcpy(all + at, unit, m);
    memcpy(all + at - 1, "]}", 2);
    path = scratch_write("values.json", all, at + 1);
    free(all);
    st = ad_json_load(&ctx, path, AD_CAP_INDEX, &root);
    json_decref(root);
    return st;
}

/* An object of n keys. */
static AdStatus keys(size_t n)
{
    char *all = malloc(n * 16 + 2);
    const char *path;
    json_t *root = NULL;
    size_t at = 0;
    AdStatus st;

    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(all + at, "%c\"%zu\":1", i ? ',' : '{', i);
    all[at++] = '}';
    path = scratch_write("values.json", all, at);
    free(all);
    st = ad_json_load(&ctx, path, AD_CAP_INDEX, &root);
    json_decref(root);
    return st;
}

/* n values have n - 1 commas; the object and the list are containers too. */
static void values_and_containers_are_counted(void)
{
    CHECK_STATUS(list_of("1,", AD_CAP_VALUES + 1), AD_OK);
    CHECK_STATUS(list_of("1,", AD_CAP_VALUES + 2), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "more than 600000 values");
    CHECK_STATUS(list_of("[],", AD_CAP_CONTAINERS - 2), AD_OK);
    CHECK_STATUS(list_of("{},", AD_CAP_CONTAINERS - 1), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "150000 lists and objects");
}

/* A tokenizer.json of the largest vocabulary, with merges in the form that takes the most. */
static void the_largest_vocabulary_is_taken(void)
{
    char *all = malloc(AD_CAP_INDEX);
    const char *path;
    json_t *root = NULL;
    size_t at = 0;

    for (int i = 0; i < (int)AD_CAP_VOCABULARY; i++)
        at += (size_t)sprintf(all + at, "%s\"tok%05d</w>\":%d", i ? "," : "{\"vocab\":{", i, i);
    for (int i = 0; i < (int)AD_CAP_VOCABULARY; i++)
        at += (size_t)sprintf(all + at, "%s[\"tok\",\"%05d</w>\"]", i ? "," : "},\"merges\":[", i);
    at += (size_t)sprintf(all + at, "]}");
    path = scratch_write("values.json", all, at);
    free(all);
    CHECK_STATUS(ad_json_load(&ctx, path, AD_CAP_INDEX, &root), AD_OK);
    json_decref(root);
}

static void keys_count_by_what_they_take(void)
{
    CHECK_STATUS(keys(290000), AD_OK);
    CHECK_STATUS(keys(300000), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "they would take more than 80 MiB");
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(refused); i_++)
        RUN_AS(is_refused(&refused[i_]), "refused: %s %s", kinds[refused[i_].kind].name,
               refused[i_].fields);
    for (i_ = 0; i_ < AD_COUNT(accepted); i_++)
        RUN_AS(is_accepted(&accepted[i_]), "accepted: %s %s", kinds[accepted[i_].kind].name,
               accepted[i_].fields);
    RUN(lists_of_depths_are_read_by_level_and_layer);
    RUN(heads_have_two_names);
    RUN(absent_fields_are_those_of_stable_diffusion);
    RUN(json_must_be_strict);
    RUN(configs_have_at_most_one_mib);
    RUN(configs_are_nested_at_most_32_deep);
    RUN(brackets_in_texts_are_not_nested);
    RUN(values_and_containers_are_counted);
    RUN(the_largest_vocabulary_is_taken);
    RUN(keys_count_by_what_they_take);
    return check_result();
}
