/* vae.c - the autoencoder's decoder; see vae.h.
 *
 * Called by session.c for each chunk of frames; frames do not influence each other. Groups' eps is
 * 1e-6 throughout, the one attention has a single head as wide as its channels, with biases.
 * Papers: Kingma, Welling 2013, arXiv 1312.6114; Rombach et al. 2022, arXiv 2112.10752.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vae.h"

static void resnet_bind(AdBinder *b, const char *name, int i, int ci, int co, int groups,
                        AdResnet *w)
{
    ad_bind_enter_at(b, name, i);
    ad_resnet_bind(b, &(AdResnetShape){ .ci = ci, .co = co, .groups = groups, .eps = 1e-6f }, w);
    ad_bind_leave(b);
}

static void mid_bind(AdBinder *b, int c, AdVaeWeights *w)
{
    static const char *const qkv[] = { "to_q", "to_k", "to_v" };

    ad_bind_enter(b, "mid_block");
    for (int i = 0; i < 2; i++)
        resnet_bind(b, "resnets", i, c, c, w->config.groups, &w->mid[i]);
    if (w->config.mid_attention) {
        ad_bind_enter_at(b, "attentions", 0);
        ad_bind_norm(b, "group_norm", c, w->config.groups, 1e-6f, &w->attention_norm);
        ad_bind_linear_cat(b, qkv, 3, c, c, true, &w->attention_qkv);
        ad_bind_linear(b, "to_out.0", c, c, true, &w->attention_out);
        ad_bind_leave(b);
    }
    ad_bind_leave(b);
}

void ad_vae_bind(AdBinder *b, const AdVaeConfig *c, AdVaeWeights *w)
{
    int last = c->levels - 1, width = c->channels[last], scale = 1 << last;

    w->config = *c;
    b->side   = AD_MAX(c->sample_size / scale, 1);
    if (c->post_quant_conv)
        ad_bind_linear(b, "post_quant_conv", c->latent_channels, c->latent_channels, true,
                       &w->post_quant);
    ad_bind_enter(b, "decoder");
    ad_bind_conv2d(b, "conv_in", c->latent_channels, width, 3, &w->conv_in);
    mid_bind(b, width, w);
    for (int i = 0; i < c->levels; i++) {
        int co = c->channels[last - i], ci = i ? c->channels[last - i + 1] : co;

        ad_bind_enter_at(b, "up_blocks", i);
        for (int k = 0; k <= c->layers; k++)
            resnet_bind(b, "resnets", k, k ? co : ci, co, c->groups, &w->resnets[i][k]);
        b->side *= 2;
        if (i < last)
            ad_bind_conv2d(b, "upsamplers.0.conv", co, co, 3, &w->upsamplers[i]);
        ad_bind_leave(b);
    }
    ad_bind_norm(b, "conv_norm_out", c->channels[0], c->groups, 1e-6f, &w->norm_out);
    ad_bind_conv2d(b, "conv_out", c->channels[0], 3, 3, &w->conv_out);
    ad_bind_leave(b);
}

/* h += out(attention(qkv(norm(h)))), in place */
static void attention_forward(AdExec *x, const AdVaeWeights *w, AdTensor h)
{
    AdMark   m = ad_mark(x);
    AdTensor n = ad_norm(x, &w->attention_norm, h);
    AdTensor qkv = ad_linear(x, &w->attention_qkv, n);

    ad_drop(x, n);
    ad_linear_to(x, h, &w->attention_out, ad_attention_self(x, qkv, 1, false), AD_ACT_NONE, h);
    ad_release(x, m);
}

AdTensor ad_vae_decode(AdExec *x, const AdVaeWeights *w, AdTensor z)
{
    const AdVaeConfig *c = &w->config;
    int scale = 1 << (c->levels - 1);
    AdTensor none = { 0 };
    AdTensor out = ad_empty(x, z.dim[0], z.dim[1] * scale, z.dim[2] * scale, 3);
    AdMark   m   = ad_mark(x);
    AdTensor h   = ad_conv2d(x, &w->conv_in, c->post_quant_conv ? ad_linear(x, &w->post_quant, z)
                                                                 : z);

    h = ad_resnet_forward(x, &w->mid[0], h, none, none, true);
    if (c->mid_attention)
        attention_forward(x, w, h);
    h = ad_resnet_forward(x, &w->mid[1], h, none, none, true);
    for (int i = 0; i < c->levels; i++) {
        for (int k = 0; k <= c->layers; k++)
            h = ad_resnet_forward(x, &w->resnets[i][k], h, none, none, true);
        if (i < c->levels - 1) {
            AdTensor wide = ad_upsample(x, &w->upsamplers[i], h, 2 * h.dim[1], 2 * h.dim[2]);

            ad_drop(x, h);
            h = wide;
        }
    }
    ad_norm_to(x, h, &w->norm_out, h, &(AdNormOptions){ .silu = true });
    ad_conv2d_to(x, out, &w->conv_out, h, none);
    ad_release(x, m);
    return out;
}
