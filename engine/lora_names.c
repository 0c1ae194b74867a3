/* lora_names.c - what the names in LoRA files mean; see lora_names.h.
 *
 * A name is a prefix (which network), a layer's path and a suffix (which matrix). Trainers differ
 * in all three: kohya's scripts write "lora_unet_down_blocks_0_...", in the order of diffusers or
 * of the original repository; diffusers wrote attention processors, then layers, then PEFT's.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "../kernels/base.h"
#include "lora_names.h"
#include "names.h"

static bool starts(const char *s, const char *with)
{
    return !strncmp(s, with, strlen(with));
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);

    return n > m && !strcmp(s + n - m, with);
}

/* ---- suffixes ----------------------------------------------------------------------------- */

/* Which of a kind's parts must be there: bit i for part i. */
enum { PAIR = 3, TWO_PAIRS = 15 };

/* Parts in the order of lycoris.h; the first that is named here stands for the layer. */
static const AdLoraDialect dialects[] = {
    { &ad_delta_lora, PAIR, false, true, NULL, { ".lora_A.weight", ".lora_B.weight" } },
    { &ad_delta_lora, PAIR, false, true, NULL,
      { ".lora_A.default.weight", ".lora_B.default.weight" } },
    { &ad_delta_lora, PAIR, false, true, NULL, { ".lora_A", ".lora_B" } },
    { &ad_delta_full, 1, true, true, NULL, { ".lora_B.bias" } },
    { &ad_delta_full, 1, true, true, NULL, { ".lora_B.default.bias" } },
    { &ad_delta_lora, PAIR, false, true, NULL,
      { ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight" } },
    { &ad_delta_lora, PAIR, false, true, NULL, { ".lora.down.weight", ".lora.up.weight" } },
    { &ad_delta_lora, PAIR, false, true, NULL, { "_lora.down.weight", "_lora.up.weight" } },
    { &ad_delta_lora, PAIR, false, false, NULL,
      { ".lora_down.weight", ".lora_up.weight", ".lora_mid.weight" } },
    { &ad_delta_loha, TWO_PAIRS, false, false, NULL,
      { ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2" } },
    { &ad_delta_lokr, 1, false, false, NULL,
      { ".lokr_w1", NULL, NULL, ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2" } },
    { &ad_delta_lokr, 6, false, false, NULL,
      { NULL, ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2" } },
    { &ad_delta_full, 1, false, false, NULL, { ".diff" } },
    { &ad_delta_full, 1, true, false, NULL, { ".diff_b" } },
    { &ad_delta_full, 1, false, false, NULL, { ".w_norm" } },
    { &ad_delta_full, 1, true, false, NULL, { ".b_norm" } },
    { &ad_delta_ia3, 1, false, false, ".on_input", { ".weight" } },
    { &ad_delta_ia3_peft, 1, false, false, NULL, { ".ia3_l" } },
};

const char *ad_lora_other_kind(const char *name)
{
    static const struct { const char *end, *kind; } known[] = {
        { ".oft_blocks", "an OFT" }, { ".oft_R.weight", "an OFT" }, { ".a1.weight", "a GLoRA" },
        { ".bias_indices", "a LoRA with a sparse remainder, in a" },
    };

    for (size_t i = 0; i < AD_COUNT(known); i++)
        if (ends(name, known[i].end))
            return known[i].kind;
    return NULL;
}

/* The suffix that tells a layer of this dialect. */
static const char *anchor(const AdLoraDialect *d)
{
    return d->flag ? d->flag : d->suffix[0] ? d->suffix[0] : d->suffix[1];
}

void ad_lora_beside(const char *name, const AdLoraName *n, const char *suffix, char *out)
{
    ad_format(out, AD_CAP_NAME + 1, "%.*s%s", (int)n->stem, name, suffix);
}

/* ---- the original repository's order ------------------------------------------------------ */

/* A resnet's layers. */
static const char *resnet_leaf(const char *leaf)
{
    static const char *const pairs[][2] = {
        { "in_layers_0", "norm1" }, { "in_layers_2", "conv1" }, { "out_layers_0", "norm2" },
        { "out_layers_3", "conv2" }, { "emb_layers_1", "time_emb_proj" },
        { "skip_connection", "conv_shortcut" },
    };

    for (size_t i = 0; i < AD_COUNT(pairs); i++)
        if (!strcmp(leaf, pairs[i][0]))
            return pairs[i][1];
    return leaf;
}

/* The two numbers and what follows: "4_1_proj_in". */
static const char *two_numbers(const char *s, long *a, long *b)
{
    char *end;

    *a = strtol(s, &end, 10);
    if (*end != '_' || *a < 0 || *a > 99)
        return NULL;
    *b = strtol(end + 1, &end, 10);
    return *end == '_' && *b >= 0 && *b <= 9 ? end + 1 : NULL;
}

/* Blocks of Stable Diffusion 1.x: two layers a level on the way down, three on the way up. */
static void from_original(char *flat)
{
    static const char *const whole[][2] = {
        { "input_blocks_0_0", "conv_in" }, { "out_2", "conv_out" }, { "out_0", "conv_norm_out" },
        { "time_embed_0", "time_embedding_linear_1" },
        { "time_embed_2", "time_embedding_linear_2" },
    };
    bool down = starts(flat, "input_blocks_"), up = starts(flat, "output_blocks_");
    char rest[AD_CAP_NAME + 1], *room = flat;
    const char *leaf;
    long n = 0, kind = 0;

    for (size_t i = 0; i < AD_COUNT(whole); i++)
        if (!strcmp(flat, whole[i][0])) {
            strcpy(flat, whole[i][1]);
            return;
        }
    strcpy(rest, flat);
    if (starts(flat, "middle_block_") && (rest[13] == '0' || rest[13] == '1' || rest[13] == '2') &&
        rest[14] == '_') {
        if (rest[13] == '1')
            ad_format(room, AD_CAP_NAME + 1, "mid_block_attentions_0_%s", rest + 15);
        else
            ad_format(room, AD_CAP_NAME + 1, "mid_block_resnets_%d_%s", rest[13] != '0',
                      resnet_leaf(rest + 15));
    }
    leaf = down || up ? two_numbers(rest + (down ? 13 : 14), &n, &kind) : NULL;
    if (!leaf || (down && !n))
        return;
    n -= down;
    if (down && n % 3 == 2)
        ad_format(room, AD_CAP_NAME + 1, "down_blocks_%ld_downsamplers_0_conv", n / 3);
    else if (up && !strcmp(leaf, "conv"))
        ad_format(room, AD_CAP_NAME + 1, "up_blocks_%ld_upsamplers_0_conv", n / 3);
    else
        ad_format(room, AD_CAP_NAME + 1, "%s_blocks_%ld_%s_%ld_%s", down ? "down" : "up", n / 3,
                  kind ? "attentions" : "resnets", n % 3, kind ? leaf : resnet_leaf(leaf));
}

/* ---- layers ------------------------------------------------------------------------------- */

static void flatten(char *s)
{
    for (; *s; s++)
        if (*s == '.')
            *s = '_';
}

bool ad_lora_is_text(const char *flat)
{
    return starts(flat, "text_model_");
}

bool ad_lora_flat(const char *name, char *out, bool *bias)
{
    size_t n = strlen(name), m = ends(name, ".weight") ? 7 : ends(name, ".bias") ? 5 : 0;

    if (!m || n > AD_CAP_NAME)
        return false;
    ad_format(out, AD_CAP_NAME + 1, "%s%.*s", starts(name, "encoder.layers.") ? "text_model." : "",
              (int)(n - m), name);
    flatten(out);
    *bias = m == 5;
    return true;
}

/* Cut a prefix off. */
static bool cut(char *s, const char *prefix)
{
    size_t n = strlen(prefix);

    if (!starts(s, prefix))
        return false;
    memmove(s, s + n, strlen(s + n) + 1);
    return true;
}

/* Old files name the projections of the text encoder's attention as those of the UNet's. */
static void text_layer(char *path)
{
    static const char *const pairs[][2] = {
        { ".to_q", ".q_proj" }, { ".to_k", ".k_proj" }, { ".to_v", ".v_proj" },
        { ".to_out", ".out_proj" },
    };

    for (size_t i = 0; i < AD_COUNT(pairs); i++)
        ad_replace(path, pairs[i][0], pairs[i][1]);
}

/* A layer's path in any spelling becomes a flat one. */
static void layer(char *path, AdLoraName *out)
{
    char motion[AD_CAP_NAME + 1];

    cut(path, "base_model.model.");
    if (cut(path, "lora_te2_") || cut(path, "text_encoder_2."))
        out->other_encoder = true;
    else if (cut(path, "lora_te1_") || cut(path, "lora_te_") || cut(path, "text_encoder."))
        text_layer(path);
    else if (cut(path, "lora_unet_") || cut(path, "lycoris_"))
        ;
    else
        cut(path, "unet.");
    ad_replace(path, ".processor", "");
    if (ad_rename_motion(path, motion))
        strcpy(path, motion);
    flatten(path);
    from_original(path);
    if (ends(path, "_to_out") && strlen(path) + 2 <= AD_CAP_NAME)
        strcat(path, "_0");
    out->motion = strstr(path, "motion_modules_") != NULL;
}

bool ad_lora_name(const char *name, AdLoraName *out)
{
    size_t n = strlen(name), m = 0, i = 0;

    for (; i < AD_COUNT(dialects); i++)
        if (ends(name, anchor(&dialects[i]))) {
            m = n - strlen(anchor(&dialects[i]));
            break;
        }
    if (!m || n + 64 > AD_CAP_NAME)             /* room for what is put in the place of names */
        return false;
    *out = (AdLoraName){ .dialect = &dialects[i], .stem = m };
    ad_format(out->target, sizeof(out->target), "%.*s", (int)m, name);
    layer(out->target, out);
    return true;
}
