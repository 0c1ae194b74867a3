/* transformer.c - attention, attention, feed-forward; see transformer.h.
 *
 * Called by unet.c and motion.c. q, k and v of a self attention are one product. Between two self
 * attentions every row goes its own way, so those layers run in pieces that stay in the cache.
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

/* h += out2(attention to the text); then the feed-forward; all row by row. kv: of this half. */
static void text_rows(AdExec *x, const AdTransformer *t, AdTensor h, AdTensor kv, int heads)
{
    AdMark   m   = ad_mark(x);
    AdTensor q   = ad_linear(x, &t->q2, ad_norm(x, &t->norm2, h));
    AdTensor mix = ad_attention_text(x, q, kv, heads);

    ad_linear_to(x, h, &t->out2, mix, AD_ACT_NONE, h);
    ad_release(x, m);
    feed_forward(x, t, h);
}

void ad_transformer_text(AdExec *x, const AdTransformer *t, AdTensor h, AdTensor kv, int heads)
{
    int64_t  half = h.dim[0] / kv.dim[0];               /* pictures that share a text */
    AdMark   m    = ad_mark(x);
    AdTensor qkv  = ad_empty_like(x, h, t->qkv1.w.dim[2]), mix;

    for (AdPiece p = ad_pieces(x, h, half); p.rows; ad_next_piece(&p)) {
        AdMark inner = ad_mark(x);

        ad_linear_to(x, ad_piece_of(p, qkv), &t->qkv1, ad_norm(x, &t->norm1, ad_piece_of(p, h)),
                     AD_ACT_NONE, (AdTensor){ 0 });
        ad_release(x, inner);
    }
    mix = ad_attention_self(x, qkv, heads, false);
    ad_drop(x, qkv);
    for (AdPiece p = ad_pieces(x, h, half); p.rows; ad_next_piece(&p)) {
        AdTensor rows = ad_piece_of(p, h);

        ad_linear_to(x, rows, &t->out1, ad_piece_of(p, mix), AD_ACT_NONE, rows);
        text_rows(x, t, rows, ad_slice(kv, p.picture / half, 1), heads);
    }
    ad_release(x, m);
}

/* ---- along the frames --------------------------------------------------------------------- */

/* The rows of the positional table that the pictures of a piece want. */
static AdTensor positions_of(AdPiece p, AdTensor table, int frames)
{
    AdTensor rows = ad_view(table, table.dim[2], 1, 1, table.dim[3]);

    rows = ad_slice(rows, p.picture % frames, AD_MAX(p.rows / p.positions, 1));
    return ad_view(rows, 1, 1, rows.dim[0], rows.dim[3]);
}

/* qkv = linear(norm(h) + position), for one piece */
static void qkv_rows(AdExec *x, AdPiece p, const AdNorm *norm, const AdLinear *linear,
                     AdTensor table, int frames, AdTensor h, AdTensor qkv)
{
    AdMark m = ad_mark(x);
    AdTensor n = ad_norm_with(x, norm, ad_piece_of(p, h),
                              &(AdNormOptions){ .pos = positions_of(p, table, frames) });

    ad_linear_to(x, ad_piece_of(p, qkv), linear, n, AD_ACT_NONE, (AdTensor){ 0 });
    ad_release(x, m);
}

void ad_transformer_motion(AdExec *x, const AdTransformer *t, AdTensor h, int heads, int frames)
{
    AdMark   m   = ad_mark(x);
    AdTensor qkv = ad_empty_like(x, h, t->qkv1.w.dim[2]);
    AdTensor mix;

    for (AdPiece p = ad_pieces(x, h, frames); p.rows; ad_next_piece(&p))
        qkv_rows(x, p, &t->norm1, &t->qkv1, t->positions, frames, h, qkv);
    mix = ad_attention_frames(x, qkv, heads, frames);
    for (AdPiece p = ad_pieces(x, h, frames); p.rows; ad_next_piece(&p)) {
        AdTensor rows = ad_piece_of(p, h);

        ad_linear_to(x, rows, &t->out1, ad_piece_of(p, mix), AD_ACT_NONE, rows);
        qkv_rows(x, p, &t->norm2, &t->qkv2, t->positions, frames, h, qkv);
    }
    ad_drop(x, mix);
    mix = ad_attention_frames(x, qkv, heads, frames);
    ad_drop(x, qkv);
    for (AdPiece p = ad_pieces(x, h, frames); p.rows; ad_next_piece(&p)) {
        AdTensor rows = ad_piece_of(p, h);

        ad_linear_to(x, rows, &t->out2, ad_piece_of(p, mix), AD_ACT_NONE, rows);
        feed_forward(x, t, rows);
    }
    ad_release(x, m);
}
