/* config_tensors.c - the architecture of parts that come without a config; see config_tensors.h.
 *
 * Names say how many blocks there are, shapes how wide; what neither says is Stable Diffusion
 * 1.5's. Whether all tensors fit together is the binder's question.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "config_tensors.h"

/* The tensor called `format`, of which the numbers are filled in; NULL: not there. */
static const AdEntry *entry(AdWeights *w, const char *format, int a, int b)
{
    char name[AD_CAP_NAME + 1];
    AdWeight *found;

    ad_format(name, sizeof(name), format, a, b);
    found = ad_weights_find(w, name);
    return found ? found->entry : NULL;
}

/* One axis of a tensor, 0 when it is not there or no size a network can have. */
static int axis(const AdEntry *e, int i)
{
    return e && i < e->rank && e->shape[i] >= 1 && e->shape[i] <= AD_CAP_FIELD ? (int)e->shape[i]
                                                                               : 0;
}

/* How many of the names with 0, 1, ... as their last number are there; `most` at most. The other
 * number is `first`; -1: there is none. */
static int count(AdWeights *w, int most, const char *format, int first)
{
    int n = 0;

    while (n < most && (first < 0 ? entry(w, format, n, 0) : entry(w, format, first, n)))
        n++;
    return n;
}

/* ---- text encoder ------------------------------------------------------------------------- */

AdStatus ad_text_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdTextConfig *c)
{
    const AdEntry *tokens = entry(w, "text_model.embeddings.token_embedding.weight", 0, 0);

    ad_text_config_sd15(c);
    c->vocabulary = axis(tokens, 0);
    c->width      = axis(tokens, 1);
    c->inner      = axis(entry(w, "text_model.encoder.layers.0.mlp.fc1.weight", 0, 0), 0);
    c->layers     = count(w, 64, "text_model.encoder.layers.%d.layer_norm1.weight", -1);
    c->heads      = c->width / 64;
    if (!c->layers || !c->inner || c->vocabulary < 3)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: the text encoder is not complete", path);
    if (c->width % 64 || !c->heads)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a text encoder of width %d; CLIP's heads are "
                       "64 wide", path, c->width);
    return AD_OK;
}

/* ---- UNet --------------------------------------------------------------------------------- */

static void derive_level(AdWeights *w, int i, AdUnetConfig *c)
{
    int up = c->levels - 1 - i;

    c->channels[i] = axis(entry(w, "down_blocks.%d.resnets.0.conv1.weight", i, 0), 0);
    c->layers[i]   = count(w, AD_LAYERS - 1, "down_blocks.%d.resnets.%d.conv1.weight", i);
    c->down_attention[i] = entry(w, "down_blocks.%d.attentions.0.norm.weight", i, 0) != NULL;
    c->up_attention[up]  = entry(w, "up_blocks.%d.attentions.0.norm.weight", up, 0) != NULL;
}

/* Transformer blocks of one attention: at least one, so that a missing one is complained of. */
static int depth(AdWeights *w, const char *place, int i, int k)
{
    char format[128];
    int n = 0;

    do
        ad_format(format, sizeof(format), "%s.transformer_blocks.%d.norm1.weight", place, n);
    while (entry(w, format, i, k) && ++n < AD_DEPTH);
    return AD_MAX(n, 1);
}

static void derive_depths(AdWeights *w, AdUnetConfig *c)
{
    for (int i = 0; i < c->levels; i++)
        for (int k = 0; k < AD_LAYERS; k++) {
            c->down_depth[i][k] = depth(w, "down_blocks.%d.attentions.%d", i, k);
            c->up_depth[i][k]   = depth(w, "up_blocks.%d.attentions.%d", i, k);
        }
    c->mid_depth[0] = depth(w, "mid_block.attentions.0", 0, 0);
}

static int context_width(AdWeights *w)
{
    static const char rest[] = "attentions.0.transformer_blocks.0.attn2.to_k.weight";
    char format[128];
    int width;

    ad_format(format, sizeof(format), "mid_block.%s", rest);
    width = axis(entry(w, format, 0, 0), 1);
    ad_format(format, sizeof(format), "down_blocks.%%d.%s", rest);
    for (int i = 0; i < AD_LEVELS && !width; i++)
        width = axis(entry(w, format, i, 0), 1);
    return width;
}

AdStatus ad_unet_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdUnetConfig *c)
{
    const AdEntry *in, *out;

    ad_unet_config_sd15(c);
    in  = entry(w, "conv_in.weight", 0, 0);
    out = entry(w, "conv_out.weight", 0, 0);
    c->levels = count(w, AD_LEVELS, "down_blocks.%d.resnets.0.conv1.weight", -1);
    c->in_channels  = axis(in, 1);
    c->out_channels = axis(out, 0);
    c->context      = context_width(w);
    if (!in || !out || !c->levels || !c->in_channels || !c->out_channels || !c->context)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: the UNet is not complete", path);
    if (!entry(w, "mid_block.attentions.0.norm.weight", 0, 0))
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: a UNet without a middle attention (a "
                       "distilled one); Stable Diffusion 1.x has one", path);
    for (int i = 0; i < c->levels; i++) {
        derive_level(w, i, c);
        if (!c->channels[i])
            return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: level %d of the UNet has no width",
                           path, i);
    }
    derive_depths(w, c);
    return ad_unet_config_check(ctx, path, c);
}

/* ---- VAE ---------------------------------------------------------------------------------- */

AdStatus ad_vae_config_derive(AdContext *ctx, const char *path, AdWeights *w, AdVaeConfig *c)
{
    static const char conv[] = "decoder.up_blocks.%d.resnets.%d.conv2.weight";
    int blocks, resnets;

    ad_vae_config_sd15(c);
    c->latent_channels = axis(entry(w, "decoder.conv_in.weight", 0, 0), 1);
    blocks  = count(w, AD_LEVELS, "decoder.up_blocks.%d.resnets.0.conv2.weight", -1);
    resnets = count(w, AD_LAYERS, conv, 0);
    if (!blocks || resnets < 2 || !c->latent_channels)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: the VAE is not complete", path);
    c->levels = blocks;
    c->layers = resnets - 1;
    for (int i = 0; i < blocks; i++)
        c->channels[blocks - 1 - i] = axis(entry(w, conv, i, 0), 0);
    c->post_quant_conv = entry(w, "post_quant_conv.weight", 0, 0) != NULL;
    c->mid_attention   = entry(w, "decoder.mid_block.attentions.0.to_q.weight", 0, 0) != NULL;
    return ad_vae_config_check(ctx, path, c);
}
