/* unet.c - the UNet with motion modules; see unet.h.
 *
 * Called by session.c once per denoising step. Order and sizes follow the config only. A skip is
 * pushed after the motion module, so skips contain motion; going up they are dropped as soon as
 * they are read.
 * Papers: Ronneberger et al. 2015, arXiv 1505.04597; Rombach et al. 2022, arXiv 2112.10752.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "unet.h"

/* ---- weights ------------------------------------------------------------------------------ */

static void spatial_bind(AdBinder *b, int i, int c, int depth, int heads, AdUnetWeights *u,
                         AdSpatial *w)
{
    w->depth      = depth;
    w->heads      = heads;
    w->first_text = u->text_count;
    ad_bind_enter_at(b, "attentions", i);
    ad_bind_norm(b, "norm", c, u->config.groups, 1e-6f, &w->norm);
    ad_bind_linear(b, "proj_in", c, c, true, &w->proj_in);
    for (int k = 0; k < depth && u->text_count < AD_TEXT_BLOCKS; k++) {
        ad_transformer_bind(b, k, c, u->config.context, 0, &w->blocks[k]);
        u->text_heads_width[u->text_count] = c;
        u->text_kv[u->text_count++] = &w->blocks[k].kv2;
    }
    ad_bind_linear(b, "proj_out", c, c, true, &w->proj_out);
    ad_bind_leave(b);
}

/* What stands beside a resnet: depths of 0 mean there is none. */
typedef struct Beside { int c, depth, heads, motion_depth, motion_heads; } Beside;

static void beside_bind(AdBinder *b, int i, const Beside *s, AdUnetWeights *u, AdUnetLayer *l)
{
    if (!l->spatial && s->depth)
        l->spatial = ad_alloc(sizeof(*l->spatial));
    if (!l->motion && s->motion_depth)
        l->motion = ad_alloc(sizeof(*l->motion));
    if ((s->depth && !l->spatial) || (s->motion_depth && !l->motion)) {
        b->status = ad_fail_nomem(b->ctx, "a UNet");
        return;
    }
    if (s->depth)
        spatial_bind(b, i, s->c, s->depth, s->heads, u, l->spatial);
    if (s->motion_depth)
        ad_motion_bind(b, i, s->c, s->motion_depth, s->motion_heads, u->config.groups,
                       u->config.max_frames, l->motion);
}

static void resnet_bind(AdBinder *b, int i, int ci, int ci2, int co, const AdUnetConfig *c,
                        AdResnet *w)
{
    ad_bind_enter_at(b, "resnets", i);
    ad_resnet_bind(b, &(AdResnetShape){ .ci = ci, .ci2 = ci2, .co = co, .time = 4 * c->channels[0],
                                        .groups = c->groups, .eps = c->eps }, w);
    ad_bind_leave(b);
}

static int side_at(const AdUnetConfig *c, int level)
{
    return AD_MAX(c->sample_size >> level, 1);
}

static void down_bind(AdBinder *b, int i, AdUnetWeights *u)
{
    const AdUnetConfig *c = &u->config;
    int co = c->channels[i];

    b->side = side_at(c, i);
    u->down[i].count = c->layers[i];
    ad_bind_enter_at(b, "down_blocks", i);
    for (int k = 0; k < c->layers[i]; k++) {
        int ci = k == 0 && i > 0 ? c->channels[i - 1] : co;

        resnet_bind(b, k, ci, 0, co, c, &u->down[i].layers[k].resnet);
        beside_bind(b, k, &(Beside){ co, c->down_attention[i] ? c->down_depth[i][k] : 0,
                                     c->heads[i], c->motion ? c->motion_down_depth[i][k] : 0,
                                     c->motion_heads[i] }, u, &u->down[i].layers[k]);
    }
    if (i < c->levels - 1)
        ad_bind_conv2d(b, "downsamplers.0.conv", co, co, 3, &u->down[i].sampler);
    ad_bind_leave(b);
}

static void mid_bind(AdBinder *b, AdUnetWeights *u)
{
    const AdUnetConfig *c = &u->config;
    int last = c->levels - 1, co = c->channels[last];

    b->side = side_at(c, last);
    ad_bind_enter(b, "mid_block");
    resnet_bind(b, 0, co, 0, co, c, &u->mid[0].resnet);
    for (int k = 0; k < c->mid_layers; k++) {
        beside_bind(b, k, &(Beside){ co, c->mid_depth[k], c->heads[last],
                                     c->motion && c->motion_mid ? c->motion_mid_depth[k] : 0,
                                     c->motion_heads[last] }, u, &u->mid[k + 1]);
        resnet_bind(b, k + 1, co, 0, co, c, &u->mid[k + 1].resnet);
    }
    ad_bind_leave(b);
}

/* Channels of the skips in the order they are pushed; returns how many. */
static int skip_channels(const AdUnetConfig *c, int *out)
{
    int n = 0;

    out[n++] = c->channels[0];
    for (int i = 0; i < c->levels; i++)
        for (int k = 0; k < c->layers[i] + (i < c->levels - 1); k++)
            out[n++] = c->channels[i];
    return n;
}

static void up_bind(AdBinder *b, int i, AdUnetWeights *u, const int *skips, int *left)
{
    const AdUnetConfig *c = &u->config;
    int level = c->levels - 1 - i, co = c->channels[level];
    int before = c->channels[AD_MIN(level + 1, c->levels - 1)];

    b->side = side_at(c, level);
    u->up[i].count = c->layers[level] + 1;
    ad_bind_enter_at(b, "up_blocks", i);
    for (int k = 0; k < u->up[i].count; k++) {
        resnet_bind(b, k, k ? co : before, skips[--*left], co, c, &u->up[i].layers[k].resnet);
        beside_bind(b, k, &(Beside){ co, c->up_attention[i] ? c->up_depth[i][k] : 0,
                                     c->heads[level], c->motion ? c->motion_up_depth[i][k] : 0,
                                     c->motion_heads[level] }, u, &u->up[i].layers[k]);
    }
    if (i < c->levels - 1)
        ad_bind_conv2d(b, "upsamplers.0.conv", co, co, 3, &u->up[i].sampler);
    ad_bind_leave(b);
}

void ad_unet_bind(AdBinder *b, const AdUnetConfig *c, AdUnetWeights *w)
{
    int c0 = c->channels[0], skips[AD_LEVELS * AD_LAYERS + 1], left = skip_channels(c, skips);

    w->config     = *c;
    w->text_count = 0;
    b->side = side_at(c, 0);
    ad_bind_conv2d(b, "conv_in", c->in_channels, c0, 3, &w->conv_in);
    b->side = 0;
    ad_bind_linear(b, "time_embedding.linear_1", c0, 4 * c0, true, &w->time1);
    ad_bind_linear(b, "time_embedding.linear_2", 4 * c0, 4 * c0, true, &w->time2);
    ad_bind_ignore(b, "time_embedding.cond_proj.weight");
    for (int i = 0; i < c->levels; i++)
        down_bind(b, i, w);
    mid_bind(b, w);
    for (int i = 0; i < c->levels; i++)
        up_bind(b, i, w, skips, &left);
    ad_bind_norm(b, "conv_norm_out", c0, c->groups, c->eps, &w->norm_out);
    ad_bind_conv2d(b, "conv_out", c0, c->out_channels, 3, &w->conv_out);
}

static void layers_free(AdUnetLayer *l, int n)
{
    for (int i = 0; i < n; i++) {
        ad_free(l[i].spatial);
        ad_free(l[i].motion);
        l[i].spatial = NULL;
        l[i].motion  = NULL;
    }
}

void ad_unet_free(AdUnetWeights *w)
{
    for (int i = 0; i < AD_LEVELS; i++) {
        layers_free(w->down[i].layers, AD_LAYERS);
        layers_free(w->up[i].layers, AD_LAYERS);
    }
    layers_free(w->mid, AD_LAYERS + 1);
}

/* ---- time and text ------------------------------------------------------------------------ */

void ad_time_sinusoid(double t, int c, float *out)
{
    int half = c / 2;

    for (int k = 0; k < half; k++) {    /* f32 steps, as the reference has them */
        float frequency = expf((float)(-log(10000.0)) * (float)k / (float)half);
        float angle = (float)t * frequency;

        out[k]        = cosf(angle);
        out[half + k] = sinf(angle);
    }
}

void ad_unet_time(AdExec *x, const AdUnetWeights *w, AdTensor sinusoids, AdTensor out)
{
    AdMark   m   = ad_mark(x);
    AdTensor mid = ad_linear(x, &w->time1, sinusoids);

    ad_activate(x, mid, AD_ACT_SILU);
    ad_linear_to(x, out, &w->time2, mid, AD_ACT_NONE, (AdTensor){ 0 });
    ad_activate(x, out, AD_ACT_SILU);
    ad_release(x, m);
}

void ad_unet_text(AdExec *x, const AdUnetWeights *w, AdTensor states, const AdTensor *kv)
{
    for (int i = 0; i < w->text_count; i++)
        ad_linear_to(x, kv[i], w->text_kv[i], states, AD_ACT_NONE, (AdTensor){ 0 });
}

/* ---- forward ------------------------------------------------------------------------------ */

/* h += proj_out(blocks(proj_in(norm(h)))), in place */
static void spatial_forward(AdExec *x, const AdSpatial *w, AdTensor h, const AdTensor *kv)
{
    AdMark   m = ad_mark(x);
    AdTensor n = ad_norm(x, &w->norm, h);                               /* [n, h, w, c] */
    AdTensor t = ad_linear(x, &w->proj_in, n);

    ad_drop(x, n);
    for (int k = 0; k < w->depth; k++)
        ad_transformer_text(x, &w->blocks[k], t, kv[w->first_text + k], w->heads);
    ad_linear_to(x, h, &w->proj_out, t, AD_ACT_NONE, h);
    ad_release(x, m);
}

static void beside_forward(AdExec *x, const AdUnetLayer *l, AdTensor h, const AdUnetInput *in)
{
    if (l->spatial)
        spatial_forward(x, l->spatial, h, in->kv);
    if (l->motion)
        ad_motion_forward(x, l->motion, h, in->frames, in->norm_per_frame);
}

/* A resnet of the mid block divides its sum by a factor that is 1 in every known model. */
static void mid_scale(AdExec *x, const AdUnetWeights *w, AdTensor h)
{
    float scale = 1 / w->config.mid_scale;

    if (scale != 1)
        ad_lincomb(x, h, &scale, &h, 1, 0);
}

AdTensor ad_unet_forward(AdExec *x, const AdUnetWeights *w, const AdUnetInput *in)
{
    static const int around[4] = { 1, 1, 1, 1 }, behind[4] = { 0, 1, 0, 1 };
    const AdUnetConfig *c = &w->config;
    AdTensor skips[AD_LEVELS * AD_LAYERS + 1], none = { 0 }, h, out;
    AdMark m;
    int n = 0;

    out = ad_empty_like(x, in->latents, c->out_channels);
    m = ad_mark(x);
    h = skips[n++] = ad_conv2d(x, &w->conv_in, in->latents);
    for (int i = 0; i < c->levels; i++) {                               /* down */
        for (int k = 0; k < w->down[i].count; k++) {
            h = ad_resnet_forward(x, &w->down[i].layers[k].resnet, h, none, in->time, false);
            beside_forward(x, &w->down[i].layers[k], h, in);
            skips[n++] = h;
        }
        if (i < c->levels - 1)
            h = skips[n++] = ad_downsample(x, &w->down[i].sampler, h,
                                           c->padding ? around : behind);
    }
    h = ad_resnet_forward(x, &w->mid[0].resnet, h, none, in->time, false);
    mid_scale(x, w, h);
    for (int k = 1; k <= c->mid_layers; k++) {                          /* mid */
        beside_forward(x, &w->mid[k], h, in);
        h = ad_resnet_forward(x, &w->mid[k].resnet, h, none, in->time, true);
        mid_scale(x, w, h);
    }
    for (int i = 0; i < c->levels; i++) {                               /* up */
        for (int k = 0; k < w->up[i].count; k++) {
            h = ad_resnet_forward(x, &w->up[i].layers[k].resnet, h, skips[--n], in->time, true);
            beside_forward(x, &w->up[i].layers[k], h, in);
        }
        if (i < c->levels - 1) {        /* to the size of the skip that comes next */
            AdTensor wide = ad_upsample(x, &w->up[i].sampler, h, skips[n - 1].dim[1],
                                        skips[n - 1].dim[2]);

            ad_drop(x, h);
            h = wide;
        }
    }
    ad_norm_to(x, h, &w->norm_out, h, &(AdNormOptions){ .silu = true });
    ad_conv2d_to(x, out, &w->conv_out, h, none);
    ad_release(x, m);
    return out;
}
