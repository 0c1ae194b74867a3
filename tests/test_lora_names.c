/* test_lora_names.c - what the names in LoRA files mean, dialect by dialect.
 *
 * Names of the original repository's order and of kohya's trainer are those of Stable Diffusion
 * 1.5, as found in published files.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/lora_names.h"
#include "../kernels/base.h"
#include "check.h"

#define TE "text_model_encoder_layers_3_"

static const struct { const char *name, *target; } known[] = {
    /* kohya, diffusers' order */
    { "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
      "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q" },
    { "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0.lora_down.weight",
      "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0" },
    { "lora_unet_up_blocks_3_resnets_2_conv_shortcut.lora_down.weight",
      "up_blocks_3_resnets_2_conv_shortcut" },
    { "lora_unet_conv_in.lora_down.weight", "conv_in" },
    { "lora_te_text_model_encoder_layers_3_self_attn_q_proj.lora_down.weight",
      TE "self_attn_q_proj" },
    { "lora_te1_text_model_encoder_layers_3_mlp_fc1.lora_down.weight", TE "mlp_fc1" },
    /* kohya, the original order */
    { "lora_unet_input_blocks_0_0.lora_down.weight", "conv_in" },
    { "lora_unet_input_blocks_1_1_proj_in.lora_down.weight", "down_blocks_0_attentions_0_proj_in" },
    { "lora_unet_input_blocks_2_0_in_layers_2.lora_down.weight", "down_blocks_0_resnets_1_conv1" },
    { "lora_unet_input_blocks_3_0_op.lora_down.weight", "down_blocks_0_downsamplers_0_conv" },
    { "lora_unet_input_blocks_4_0_skip_connection.lora_down.weight",
      "down_blocks_1_resnets_0_conv_shortcut" },
    { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
      "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q" },
    { "lora_unet_input_blocks_8_1_proj_out.lora_down.weight",
      "down_blocks_2_attentions_1_proj_out" },
    { "lora_unet_input_blocks_9_0_op.lora_down.weight", "down_blocks_2_downsamplers_0_conv" },
    { "lora_unet_input_blocks_11_0_out_layers_3.lora_down.weight",
      "down_blocks_3_resnets_1_conv2" },
    { "lora_unet_middle_block_0_emb_layers_1.lora_down.weight",
      "mid_block_resnets_0_time_emb_proj" },
    { "lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
      "mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj" },
    { "lora_unet_middle_block_2_in_layers_2.lora_down.weight", "mid_block_resnets_1_conv1" },
    { "lora_unet_output_blocks_0_0_in_layers_2.lora_down.weight", "up_blocks_0_resnets_0_conv1" },
    { "lora_unet_output_blocks_2_1_conv.lora_down.weight", "up_blocks_0_upsamplers_0_conv" },
    { "lora_unet_output_blocks_3_1_proj_in.lora_down.weight", "up_blocks_1_attentions_0_proj_in" },
    { "lora_unet_output_blocks_5_2_conv.lora_down.weight", "up_blocks_1_upsamplers_0_conv" },
    { "lora_unet_output_blocks_11_1_transformer_blocks_0_attn2_to_out_0.lora_down.weight",
      "up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0" },
    { "lora_unet_time_embed_2.lora_down.weight", "time_embedding_linear_2" },
    { "lora_unet_out_2.lora_down.weight", "conv_out" },
    /* diffusers, by age */
    { "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
      "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0" },
    { "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight",
      "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" },
    { "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.lora_A.weight",
      "mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj" },
    { "base_model.model.up_blocks.1.attentions.2.proj_in.lora_A.default.weight",
      "up_blocks_1_attentions_2_proj_in" },
    { "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.down.weight",
      TE "self_attn_out_proj" },
    { "text_encoder.text_model.encoder.layers.3.mlp.fc2.lora_linear_layer.down.weight",
      TE "mlp_fc2" },
    { "text_encoder.text_model.encoder.layers.3.self_attn.k_proj.lora_A.weight",
      TE "self_attn_k_proj" },
    /* motion modules */
    { "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1."
      "to_out.processor.0_lora.down.weight",
      "mid_block_motion_modules_0_transformer_blocks_0_attn2_to_out_0" },
};

static void is_known(size_t i)
{
    AdLoraName name;

    CHECK(ad_lora_name(known[i].name, &name));
    CHECK_TEXT(name.target, known[i].target);
    CHECK(name.motion == (strstr(known[i].name, "motion") != NULL));
    CHECK(ad_lora_is_text(name.target) == (strstr(known[i].name, "text_model") != NULL));
    CHECK(!name.other_encoder);
}

#define STEM "lora_unet_conv_in"

static const struct { const char *name, *kind; int part; const char *suffix; bool bias; }
kinds[] = {
    { STEM ".lora_down.weight", "LoRA", 1, ".lora_up.weight", false },
    { STEM ".lora_down.weight", "LoRA", 2, ".lora_mid.weight", false },
    { "unet.conv_in.lora_A.weight", "LoRA", 1, ".lora_B.weight", false },
    { "conv_in_lora.down.weight", "LoRA", 1, "_lora.up.weight", false },
    { STEM ".hada_w1_a", "LoHa", 5, ".hada_t2", false },
    { STEM ".lokr_w1", "LoKr", 3, ".lokr_w2", false },
    { STEM ".lokr_w1_a", "LoKr", 2, ".lokr_w1_b", false },
    { STEM ".diff", "difference", 0, ".diff", false },
    { STEM ".diff_b", "difference", 0, ".diff_b", true },
    { STEM ".w_norm", "difference", 0, ".w_norm", false },
    { STEM ".b_norm", "difference", 0, ".b_norm", true },
    { STEM ".on_input", "IA3", 0, ".weight", false },
    { "base_model.model.conv_in.ia3_l", "IA3", 0, ".ia3_l", false },
    { "lycoris_conv_in.lokr_w1", "LoKr", 0, ".lokr_w1", false },
};

static void partners_and_alpha_stand_beside(void)
{
    AdLoraName name;

    char text[AD_CAP_NAME + 1];

    for (size_t i = 0; i < AD_COUNT(kinds); i++) {
        CHECK(ad_lora_name(kinds[i].name, &name));
        CHECK_TEXT(name.dialect->kind->name, kinds[i].kind);
        CHECK_TEXT(name.dialect->suffix[kinds[i].part], kinds[i].suffix);
        CHECK_TEXT(name.target, "conv_in");
        CHECK(name.dialect->bias == kinds[i].bias);
    }
    CHECK(ad_lora_name("unet.conv_in.lora_A.weight", &name));
    ad_lora_beside("unet.conv_in.lora_A.weight", &name, ".alpha", text);
    CHECK_TEXT(text, "unet.conv_in.alpha");
    CHECK(!ad_lora_name("lora_unet_conv_in.lora_up.weight", &name));
    CHECK(!ad_lora_name("lora_unet_conv_in.alpha", &name));
    CHECK(!ad_lora_name(".lora_A.weight", &name));
    CHECK(!ad_lora_name("", &name));
}

static void the_second_text_encoder_is_noticed(void)
{
    AdLoraName name;

    CHECK(ad_lora_name("lora_te2_text_model_encoder_layers_3_mlp_fc1.lora_down.weight", &name));
    CHECK(name.other_encoder);
    CHECK(ad_lora_name("text_encoder_2.text_model.encoder.layers.3.mlp.fc1.lora_A.weight", &name));
    CHECK(name.other_encoder);
}

static void weights_of_models_are_flattened(void)
{
    char flat[AD_CAP_NAME + 1];
    bool bias;

    CHECK(ad_lora_flat("text_model.encoder.layers.3.mlp.fc1.weight", flat, &bias));
    CHECK_TEXT(flat, TE "mlp_fc1");
    CHECK(ad_lora_flat("encoder.layers.3.mlp.fc1.weight", flat, &bias));
    CHECK_TEXT(flat, TE "mlp_fc1");
    CHECK(ad_lora_flat("down_blocks.0.resnets.0.conv1.weight", flat, &bias));
    CHECK_TEXT(flat, "down_blocks_0_resnets_0_conv1");
    CHECK(!bias);
    CHECK(ad_lora_flat("down_blocks.0.resnets.0.norm1.bias", flat, &bias));
    CHECK_TEXT(flat, "down_blocks_0_resnets_0_norm1");
    CHECK(bias);
    CHECK(!ad_lora_flat("down_blocks.0.motion_modules.0.pos_embed.pe", flat, &bias));
}

/* Names from hostile files: numbers out of range, ends in the middle, the longest ones. */
static void strange_names_are_harmless(void)
{
    static const char *const strange[] = {
        "input_blocks_", "input_blocks_4", "input_blocks_4_", "input_blocks_-4_1_x",
        "input_blocks_99999999999999999999_1_x", "output_blocks_2_1_", "middle_block_",
        "middle_block_1", "middle_block_1_", "middle_block_7_x", "lora_unet_", "lora_te_", "unet.",
    };
    char text[AD_CAP_NAME + 1];
    AdLoraName name;

    for (size_t i = 0; i < AD_COUNT(strange); i++) {
        snprintf(text, sizeof(text), "%s.lora_down.weight", strange[i]);
        CHECK(ad_lora_name(text, &name));
        CHECK(strlen(name.target) < sizeof(name.target));
    }
    for (size_t n = 20; n <= AD_CAP_NAME; n++) {        /* growing: every ".to_q" gets longer */
        for (size_t i = 0; i < n; i++)
            text[i] = ".to_q"[i % 5];
        memcpy(text, "text_encoder.", 13);
        if (n > 34)
            memcpy(text + n - 14, "_to_out", 7);
        memcpy(text + n - 7, ".lora_A", 8);
        if (ad_lora_name(text, &name))
            CHECK(strlen(name.target) < sizeof(name.target));
    }
}

static size_t i_;               /* outlives the longjmp of a failing case */

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(known); i_++)
        RUN_AS(is_known(i_), "%s", known[i_].name);
    RUN(partners_and_alpha_stand_beside);
    RUN(the_second_text_encoder_is_noticed);
    RUN(weights_of_models_are_flattened);
    RUN(strange_names_are_harmless);
    return check_result();
}
