/* names.c - textual translation of tensor names; see names.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "../kernels/base.h"
#include "caps.h"
#include "names.h"

typedef const char *const Pair[2];

void ad_replace(char *name, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to);

    for (char *at = name; (at = strstr(at, from)); at += m) {
        size_t rest = strlen(at + n);

        if ((size_t)(at - name) + m + rest > AD_CAP_NAME)
            return;
        memmove(at + m, at + n, rest + 1);
        memcpy(at, to, m);
    }
}

static void replace_all(char *name, Pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ad_replace(name, pairs[i][0], pairs[i][1]);
}

/* Move behind the prefix, if it is there. */
static bool skip(const char **name, const char *prefix)
{
    size_t n = strlen(prefix);

    if (strncmp(*name, prefix, n))
        return false;
    *name += n;
    return true;
}

/* ---- motion modules ----------------------------------------------------------------------- */

bool ad_rename_motion(const char *name, char *out)
{
    static Pair pairs[] = {
        { ".temporal_transformer", "" },   { ".attention_blocks.0", ".attn1" },
        { ".attention_blocks.1", ".attn2" }, { ".norms.0", ".norm1" }, { ".norms.1", ".norm2" },
        { ".ff_norm", ".norm3" },
    };

    if (!strstr(name, "motion_modules.") || strstr(name, "pos_encoder"))
        return false;
    skip(&name, "module.");
    strcpy(out, name);
    replace_all(out, pairs, AD_COUNT(pairs));
    return true;
}

/* ---- autoencoder -------------------------------------------------------------------------- */

/* Latent diffusion counts the decoder's levels from the widest picture, diffusers from the
 * narrowest; there are four. */
static void turn_levels(const char *name, char *out)
{
    static const char up[] = "decoder.up.";
    const char *rest = name;

    if (skip(&rest, up) && rest[0] >= '0' && rest[0] <= '3' && rest[1] == '.')
        ad_format(out, AD_CAP_NAME + 1, "decoder.up_blocks.%d.%s", '3' - rest[0], rest + 2);
    else
        strcpy(out, name);
}

bool ad_rename_vae(const char *name, char *out)
{
    static Pair ldm[] = {
        { ".block.", ".resnets." }, { ".upsample.conv.", ".upsamplers.0.conv." },
        { ".mid.block_1.", ".mid_block.resnets.0." }, { ".mid.block_2.", ".mid_block.resnets.1." },
        { ".mid.attn_1.", ".mid_block.attentions.0." }, { ".nin_shortcut.", ".conv_shortcut." },
        { "decoder.norm_out.", "decoder.conv_norm_out." },
    };
    static Pair attention[] = {
        { ".attentions.0.norm.", ".attentions.0.group_norm." },
        { ".attentions.0.q.", ".attentions.0.to_q." },
        { ".attentions.0.k.", ".attentions.0.to_k." },
        { ".attentions.0.v.", ".attentions.0.to_v." },
        { ".attentions.0.proj_out.", ".attentions.0.to_out.0." },
        { ".attentions.0.query.", ".attentions.0.to_q." },
        { ".attentions.0.key.", ".attentions.0.to_k." },
        { ".attentions.0.value.", ".attentions.0.to_v." },
        { ".attentions.0.proj_attn.", ".attentions.0.to_out.0." },
    };

    turn_levels(name, out);
    replace_all(out, ldm, AD_COUNT(ldm));
    replace_all(out, attention, AD_COUNT(attention));
    return strncmp(out, "encoder.", 8) && strncmp(out, "quant_conv.", 11) &&
           strncmp(out, "loss.", 5) && strncmp(out, "model_ema.", 10);
}

bool ad_rename_ldm_vae(const char *name, char *out)
{
    return (skip(&name, "first_stage_model.") || skip(&name, "vae.")) && ad_rename_vae(name, out);
}

/* ---- a checkpoint's text encoder ---------------------------------------------------------- */

bool ad_rename_ldm_text(const char *name, char *out)
{
    static const char *const bare[] = { "embeddings.", "encoder.", "final_layer_norm." };
    const char *prefix = "";

    if (!skip(&name, "cond_stage_model.transformer.") || !strncmp(name, "vision_model.", 13) ||
        !strncmp(name, "visual_projection.", 18))
        return false;
    for (size_t i = 0; i < AD_COUNT(bare); i++)
        if (!strncmp(name, bare[i], strlen(bare[i])))
            prefix = "text_model.";
    ad_format(out, AD_CAP_NAME + 1, "%s%s", prefix, name);
    return true;
}

/* ---- a checkpoint's UNet ------------------------------------------------------------------ */

/* "12." at *s; the number, and *s behind it; -1: none. */
static int number(const char **s)
{
    const char *at = *s;
    int n = 0;

    while (*at >= '0' && *at <= '9' && at - *s < 3)
        n = 10 * n + (*at++ - '0');
    if (at == *s || *at != '.')
        return -1;
    *s = at + 1;
    return n;
}

/* "down_blocks.LEVEL.resnets.LAYER." + leaf, or attentions. */
static void layer(char *out, const char *way, int level, bool attention, int i, const char *leaf)
{
    static Pair resnet[] = {
        { "in_layers.0.", "norm1." }, { "in_layers.2.", "conv1." },
        { "emb_layers.1.", "time_emb_proj." }, { "out_layers.0.", "norm2." },
        { "out_layers.3.", "conv2." }, { "skip_connection.", "conv_shortcut." },
    };
    const char *name = "";

    for (size_t k = 0; k < AD_COUNT(resnet) && !attention; k++)
        if (skip(&leaf, resnet[k][0])) {
            name = resnet[k][1];
            break;
        }
    if (level < 0)
        ad_format(out, AD_CAP_NAME + 1, "mid_block.%s.%d.%s%s",
                  attention ? "attentions" : "resnets", i, name, leaf);
    else
        ad_format(out, AD_CAP_NAME + 1, "%s_blocks.%d.%s.%d.%s%s", way, level,
                  attention ? "attentions" : "resnets", i, name, leaf);
}

/* Two layers and a sampler on the way down, three layers on the way up, per level. */
static bool unet_block(const char *name, char *out)
{
    const char *leaf = name;
    bool down = skip(&leaf, "input_blocks."), up = !down && skip(&leaf, "output_blocks.");
    int n = down || up ? number(&leaf) : 0, kind;

    if (!down && !up && !skip(&leaf, "middle_block."))
        return false;
    kind = number(&leaf);
    if (n < 0 || kind < 0 || kind > 2)
        return false;
    if (down && n == 0)
        ad_format(out, AD_CAP_NAME + 1, "conv_in.%s", leaf);
    else if (down && n % 3 == 0 && skip(&leaf, "op."))
        ad_format(out, AD_CAP_NAME + 1, "down_blocks.%d.downsamplers.0.conv.%s", n / 3 - 1, leaf);
    else if (up && kind && skip(&leaf, "conv."))
        ad_format(out, AD_CAP_NAME + 1, "up_blocks.%d.upsamplers.0.conv.%s", n / 3, leaf);
    else if (!down && !up)
        layer(out, "", -1, kind == 1, kind == 2, leaf);
    else if (kind == 2 || (down && n % 3 == 0))
        return false;
    else
        layer(out, down ? "down" : "up", (n - down) / 3, kind, (n - down) % 3, leaf);
    return true;
}

bool ad_rename_ldm_unet(const char *name, char *out)
{
    static Pair whole[] = {
        { "time_embed.0.", "time_embedding.linear_1." },
        { "time_embed.2.", "time_embedding.linear_2." }, { "out.0.", "conv_norm_out." },
        { "out.2.", "conv_out." },
    };
    const char *prefix = "";

    if (!skip(&name, "model.diffusion_model."))
        return false;
    if (unet_block(name, out))
        return true;
    for (size_t i = 0; i < AD_COUNT(whole); i++)
        if (skip(&name, whole[i][0])) {
            prefix = whole[i][1];
            break;
        }
    ad_format(out, AD_CAP_NAME + 1, "%s%s", prefix, name);
    return true;
}
