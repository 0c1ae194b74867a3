/* transformer.c - attention, attention, feed-forward; see transformer.h.
 *
 * Called by unet.c and motion.c. q, k and v of a self attention are one product.
 * Papers: Vaswani et al. 2017, arXiv 1706.03762; Rombach et al. 2022, arXiv 2112.10752.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transformer.h"

void ad_transformer_bind(AdBinder *b, int i, int c, int context, int frames, AdTransformer *t)
{
    static const char *const qkv1[] = { "attn1.to_q", "attn1.to_k", "attn1.to_v" };
    static const char *const qkv2[] = { "attn2.to_q", "attn2.to_k", "attn2.to_v" };

    ad_bind_enter_at(b, "transformer_blocks", i);
    ad_bind_norm(b, "norm1", c, 0, 1e-5f, &t->norm1);
    ad_bind_linear_cat(b, qkv1, 3, c, c, false, &t->qkv1);
    ad_bind_linear(b, "attn1.to_out.0", c, c, true, &t->out1);
    ad_bind_norm(b, "norm2", c, 0, 1e-5f, &t->norm2);
    if (context) {
        ad_bind_linear(b, qkv2[0], c, c, false, &t->q2);
        ad_bind_linear_cat(b, qkv2 + 1, 2, context, c, false, &t->kv2);
    } else
        ad_bind_linear_cat(b, qkv2, 3, c, c, false, &t->qkv2);
    ad_bind_linear(b, "attn2.to_out.0", c, c, true, &t->out2);
    ad_bind_norm(b, "norm3", c, 0, 1e-5f, &t->norm3);
    ad_bind_geglu(b, "ff.net.0.proj", c, 4 * c, &t->geglu);
    ad_bind_linear(b, "ff.net.2", 4 * c, c, true, &t->ff);
    if (frames)
        ad_bind_positions(b, "pos_embed.pe", frames, c, &t->positions);
    ad_bind_leave(b);
}

static void feed_forward(AdExec *x, const AdTransformer *t, AdTensor h)
{
    AdMark m = ad_mark(x);

    ad_feed_forward(x, &t->geglu, &t->ff, ad_norm(x, &t->norm3, h), h);
    ad_release(x, m);
}

void ad_transformer_text(AdExec *x, const AdTransformer *t, AdTensor h, AdTensor kv, int heads)
{
    AdMark   m = ad_mark(x);
    AdTensor n = ad_norm(x, &t->norm1, h);
    AdTensor qkv = ad_linear(x, &t->qkv1, n), mix;

    ad_drop(x, n);
    mix = ad_attention_self(x, qkv, heads, false);
    ad_drop(x, qkv);
    ad_linear_to(x, h, &t->out1, mix, AD_ACT_NONE, h);
    ad_release(x, m);

    n   = ad_linear(x, &t->q2, ad_norm(x, &t->norm2, h));
    mix = ad_attention_text(x, n, kv, heads);
    ad_linear_to(x, h, &t->out2, mix, AD_ACT_NONE, h);
    ad_release(x, m);

    feed_forward(x, t, h);
}

/* h += out(attention along the frames of qkv(norm(h) + position)) */
static void along_frames(AdExec *x, const AdNorm *norm, const AdLinear *qkv, const AdLinear *out,
                         AdTensor positions, AdTensor h, int heads, int frames)
{
    AdMark   m = ad_mark(x);
    AdTensor n = ad_norm_with(x, norm, h, &(AdNormOptions){ .pos = positions });
    AdTensor all = ad_linear(x, qkv, n), mix;

    ad_drop(x, n);
    mix = ad_attention_frames(x, all, heads, frames);
    ad_drop(x, all);
    ad_linear_to(x, h, out, mix, AD_ACT_NONE, h);
    ad_release(x, m);
}

void ad_transformer_motion(AdExec *x, const AdTransformer *t, AdTensor h, int heads, int frames)
{
    AdTensor positions = t->positions;

    positions.dim[2] = frames;          /* the first rows of the table */
    along_frames(x, &t->norm1, &t->qkv1, &t->out1, positions, h, heads, frames);
    along_frames(x, &t->norm2, &t->qkv2, &t->out2, positions, h, heads, frames);
    feed_forward(x, t, h);
}
