/* clip.c - the CLIP text encoder; see clip.h.
 *
 * Called by session.c once per clip. There is no padding mask: padding attends and is attended to
 * like any token, as in every Stable Diffusion 1.x pipeline.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clip.h"

static void layer_bind(AdBinder *b, int i, const AdTextConfig *c, AdClipLayer *l)
{
    static const char *const qkv[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj" };

    ad_bind_enter_at(b, "encoder.layers", i);
    ad_bind_norm(b, "layer_norm1", c->width, 0, c->eps, &l->norm1);
    ad_bind_linear_cat(b, qkv, 3, c->width, c->width, true, &l->qkv);
    ad_bind_linear(b, "self_attn.out_proj", c->width, c->width, true, &l->out);
    ad_bind_norm(b, "layer_norm2", c->width, 0, c->eps, &l->norm2);
    ad_bind_linear(b, "mlp.fc1", c->width, c->inner, true, &l->fc1);
    ad_bind_linear(b, "mlp.fc2", c->inner, c->width, true, &l->fc2);
    ad_bind_leave(b);
}

void ad_clip_bind(AdBinder *b, const AdTextConfig *c, AdClipWeights *w)
{
    bool prefix = ad_bind_has(b, "text_model.final_layer_norm.weight");

    w->config = *c;
    b->side   = 9;                      /* 9 * 9 positions: about as many as tokens */
    if (prefix)
        ad_bind_enter(b, "text_model");
    ad_bind_table(b, "embeddings.token_embedding.weight", c->vocabulary, c->width, &w->tokens);
    ad_bind_table(b, "embeddings.position_embedding.weight", c->positions, c->width,
                  &w->positions);
    ad_bind_ignore(b, "embeddings.position_ids");   /* always 0 ... 76; files hold damaged ones */
    for (int i = 0; i < c->layers; i++)
        layer_bind(b, i, c, &w->layers[i]);
    ad_bind_norm(b, "final_layer_norm", c->width, 0, c->eps, &w->norm);
    if (prefix)
        ad_bind_leave(b);
    ad_bind_ignore(b, "text_projection.weight");
    ad_bind_ignore(b, "logit_scale");
}

/* h += attention(norm1(h)); h += fc2(act(fc1(norm2(h)))) */
static void layer_forward(AdExec *x, const AdClipLayer *l, const AdTextConfig *c, AdTensor h)
{
    AdMark   m   = ad_mark(x);
    AdTensor n   = ad_norm(x, &l->norm1, h);                            /* [chunks, 1, 77, c] */
    AdTensor mix = ad_attention_self(x, ad_linear(x, &l->qkv, n), c->heads, true);
    AdTensor inner;

    ad_linear_to(x, h, &l->out, mix, AD_ACT_NONE, h);
    n     = ad_norm(x, &l->norm2, h);
    inner = ad_empty_like(x, n, c->inner);
    ad_linear_to(x, inner, &l->fc1, n, c->quick_gelu ? AD_ACT_QUICK_GELU : AD_ACT_GELU,
                 (AdTensor){ 0 });
    ad_linear_to(x, h, &l->fc2, inner, AD_ACT_NONE, h);
    ad_release(x, m);
}

void ad_clip_forward(AdExec *x, const AdClipWeights *w, AdTensor ids, int skip, AdTensor out)
{
    int64_t  tokens = ids.dim[3], width = w->config.width;
    AdMark   m = ad_mark(x);
    AdTensor h = ad_gather(x, ids, w->tokens, w->extra, w->positions);

    h = ad_view(h, tokens / AD_TOKENS, 1, AD_TOKENS, width);
    for (int i = 0; i < w->config.layers - skip; i++)
        layer_forward(x, &w->layers[i], &w->config, h);
    ad_norm_to(x, out, &w->norm, ad_view(h, 1, 1, tokens, width), &(AdNormOptions){ 0 });
    ad_release(x, m);
}
