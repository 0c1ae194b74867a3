/* nn.c - layers; see nn.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "nn.h"

/* ---- failing ------------------------------------------------------------------------------ */

AdStatus ad_exec_fail(AdExec *x, AdStatus status, const char *format, ...)
{
    va_list args;

    if (x->status < 0)
        return x->status;
    va_start(args, format);
    ad_vformat(x->message, sizeof(x->message), format, args);
    va_end(args);
    return x->status = status;
}

static bool usable(const AdExec *x, AdTensor t)
{
    return x->status >= 0 && t.data;
}

/* ---- memory ------------------------------------------------------------------------------- */

static void *take(AdExec *x, size_t bytes)
{
    size_t missing;
    void *p = x->status < 0 ? NULL : ad_arena_take(x->work, bytes, &missing);

    if (!p && x->status >= 0)
        ad_exec_fail(x, AD_ERR_NOMEM, "need %zu more bytes of work memory", missing);
    return p;
}

AdTensor ad_empty_typed(AdExec *x, AdType type, int64_t n, int64_t h, int64_t w, int64_t c)
{
    AdTensor t = { .dim = { n, h, w, c }, .type = type };

    t.data = take(x, ad_bytes(t));
    return t;
}

AdTensor ad_empty(AdExec *x, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return ad_empty_typed(x, x->type, n, h, w, c);
}

AdTensor ad_empty_like(AdExec *x, AdTensor t, int64_t c)
{
    return ad_empty(x, t.dim[0], t.dim[1], t.dim[2], c);
}

AdMark ad_mark(const AdExec *x)
{
    return ad_arena_mark(x->work);
}

void ad_release(AdExec *x, AdMark mark)
{
    ad_arena_release(x->work, mark);
}

void ad_drop(AdExec *x, AdTensor t)
{
    if (x->status >= 0)
        ad_arena_drop(x->work, t.data);
}

/* ---- pieces ------------------------------------------------------------------------------- */

/* Rows of `bytes` that should be worked on together. Not fewer than twice the width: the weights
 * (about 16 c^2) are read once per piece and must not cost more than the rows (some 15 tensors). */
static int64_t rows_for_cache(const AdExec *x, int64_t rows, int64_t c, size_t share)
{
    size_t cache = x->backend->cache_bytes / share;
    int64_t fit = (int64_t)(cache / ((size_t)c * ad_type_bytes(x->type)));

    return cache ? AD_MIN(AD_MAX(fit, 2 * c), rows) : rows;
}

static void piece_measure(AdPiece *p)
{
    int64_t whole = AD_MAX(p->target / p->positions, 1);
    int64_t in_group = p->group - p->picture % p->group;

    if (p->picture >= p->pictures)
        p->rows = 0;
    else if (p->target >= p->positions)
        p->rows = AD_MIN(whole, in_group) * p->positions;
    else
        p->rows = AD_MIN(p->target, p->positions - p->row);
}

AdPiece ad_pieces(const AdExec *x, AdTensor t, int64_t group)
{
    AdPiece p = { .pictures = t.dim[0], .positions = t.dim[1] * t.dim[2], .group = group };

    p.target = rows_for_cache(x, ad_rows(t), t.dim[3], 4);
    if (p.target < p.positions)             /* equal parts of a picture, in whole slices */
        p.target = (int64_t)ad_round_up((size_t)(p.positions / AD_MAX(p.positions / p.target, 1)),
                                        64);
    piece_measure(&p);
    return p;
}

void ad_next_piece(AdPiece *p)
{
    p->row += p->rows;
    p->picture += p->row / p->positions;
    p->row     %= p->positions;
    piece_measure(p);
}

AdTensor ad_piece_of(AdPiece p, AdTensor t)
{
    bool whole = p.rows >= p.positions;
    AdTensor rows = ad_slice(ad_view(t, ad_rows(t), 1, 1, t.dim[3]),
                             p.picture * p.positions + p.row, p.rows);

    return ad_view(rows, whole ? p.rows / p.positions : 1, 1, whole ? p.positions : p.rows,
                   t.dim[3]);
}

/* ---- one operation ------------------------------------------------------------------------ */

/* Hand on a backend's failure. */
static void done(AdExec *x, AdStatus st)
{
    if (st < 0)
        ad_exec_fail(x, st, "%s", x->backend->message);
}

/* Ask for scratch, take it, compute, give it back. `args` is a lvalue with a field `scratch`. */
#define COMPUTE(x, op, args)                                                            \
    do {                                                                                \
        AdMark mark_ = ad_mark(x);                                                      \
        size_t need_ = 0;                                                               \
        (args).scratch.need = &need_;                                                   \
        done(x, (x)->backend->cls->ops->op((x)->backend, &(args)));                     \
        (args).scratch.need = NULL;                                                     \
        if (need_)                                                                      \
            (args).scratch.data = take(x, need_);                                       \
        if ((x)->status >= 0)                                                           \
            done(x, (x)->backend->cls->ops->op((x)->backend, &(args)));                 \
        ad_release(x, mark_);                                                           \
    } while (0)

/* ---- linear, convolution ------------------------------------------------------------------ */

void ad_linear_to(AdExec *x, AdTensor out, const AdLinear *l, AdTensor in, AdAct act,
                  AdTensor residual)
{
    AdLinearArgs a = { .out = out, .x = in, .w = l->w, .b = l->b, .residual = residual,
                       .act = act };

    if (!usable(x, out) || !usable(x, in))
        return;
    assert(in.dim[3] == l->w.dim[3] && ad_rows(in) == ad_rows(out));
    assert(out.dim[3] == l->w.dim[2] / (act == AD_ACT_GEGLU ? 2 : 1));
    COMPUTE(x, linear, a);
}

AdTensor ad_linear(AdExec *x, const AdLinear *l, AdTensor in)
{
    AdTensor out = ad_empty_like(x, in, l->w.dim[2]);

    ad_linear_to(x, out, l, in, AD_ACT_NONE, (AdTensor){ 0 });
    return out;
}

void ad_conv2d_to(AdExec *x, AdTensor out, const AdConv *c, AdTensor in, AdTensor residual)
{
    int pad = (int)c->w.dim[1] / 2;
    AdConvArgs a = { .out = out, .x = in, .w = c->w, .b = c->b, .residual = residual,
                     .pad = { pad, pad, pad, pad } };

    if (!usable(x, out) || !usable(x, in))
        return;
    assert(in.dim[3] == c->w.dim[3] && out.dim[3] == c->w.dim[0]);
    COMPUTE(x, conv2d, a);
}

AdTensor ad_conv2d(AdExec *x, const AdConv *c, AdTensor in)
{
    AdTensor out = ad_empty_like(x, in, c->w.dim[0]);

    ad_conv2d_to(x, out, c, in, (AdTensor){ 0 });
    return out;
}

AdTensor ad_downsample(AdExec *x, const AdConv *c, AdTensor in, const int pad[4])
{
    AdTensor out = ad_empty(x, in.dim[0], (in.dim[1] + pad[2] + pad[3] - 3) / 2 + 1,
                            (in.dim[2] + pad[0] + pad[1] - 3) / 2 + 1, c->w.dim[0]);
    AdConvArgs a = { .out = out, .x = in, .w = c->w, .b = c->b, .stride = 2,
                     .pad = { pad[0], pad[1], pad[2], pad[3] } };

    if (usable(x, out) && usable(x, in))
        COMPUTE(x, conv2d, a);
    return out;
}

AdTensor ad_upsample(AdExec *x, const AdConv *c, AdTensor in, int64_t h, int64_t w)
{
    AdTensor out  = ad_empty(x, in.dim[0], h, w, c->w.dim[0]);
    AdMark   m    = ad_mark(x);
    AdTensor wide = ad_empty(x, in.dim[0], h, w, in.dim[3]);

    if (usable(x, wide) && usable(x, in))
        done(x, x->backend->cls->ops->upsample(x->backend,
                                               &(AdUpsampleArgs){ .out = wide, .x = in }));
    ad_conv2d_to(x, out, c, wide, (AdTensor){ 0 });
    ad_release(x, m);
    return out;
}

/* ---- norms, activation -------------------------------------------------------------------- */

void ad_norm_to(AdExec *x, AdTensor out, const AdNorm *n, AdTensor in, const AdNormOptions *o)
{
    AdNormArgs a = { .out = out, .x = in, .x2 = o->x2, .add = o->add, .gamma = n->gamma,
                     .beta = n->beta, .pos = o->pos, .groups = n->groups, .eps = n->eps,
                     .silu = o->silu };

    if (!usable(x, out) || !usable(x, in))
        return;
    assert(n->gamma.dim[3] == out.dim[3]);
    COMPUTE(x, norm, a);
}

AdTensor ad_norm_with(AdExec *x, const AdNorm *n, AdTensor in, const AdNormOptions *o)
{
    AdTensor out = ad_empty_like(x, in, in.dim[3] + (o->x2.data ? o->x2.dim[3] : 0));

    ad_norm_to(x, out, n, in, o);
    return out;
}

AdTensor ad_norm(AdExec *x, const AdNorm *n, AdTensor in)
{
    return ad_norm_with(x, n, in, &(AdNormOptions){ 0 });
}

AdTensor ad_norm_silu(AdExec *x, const AdNorm *n, AdTensor in)
{
    return ad_norm_with(x, n, in, &(AdNormOptions){ .silu = true });
}

AdTensor ad_gather(AdExec *x, AdTensor ids, AdTensor table, AdTensor extra, AdTensor pos)
{
    AdTensor out = ad_empty(x, 1, 1, ids.dim[3], table.dim[3]);
    AdGatherArgs a = { .out = out, .ids = ids, .table = table, .extra = extra, .pos = pos };

    if (usable(x, out))
        done(x, x->backend->cls->ops->gather(x->backend, &a));
    return out;
}

void ad_activate(AdExec *x, AdTensor t, AdAct act)
{
    AdActArgs a = { .out = t, .x = t, .act = act };

    if (usable(x, t))
        done(x, x->backend->cls->ops->activate(x->backend, &a));
}

/* ---- attention ---------------------------------------------------------------------------- */

static const void *part(AdTensor t, int64_t channels)
{
    return (const char *)t.data + (size_t)channels * ad_type_bytes(t.type);
}

static void attend(AdExec *x, AdAttentionArgs *a, AdTensor out, int64_t c, int heads)
{
    a->out        = out.data;
    a->type       = x->type;
    a->heads      = heads;
    a->head_width = (int)(c / heads);
    a->scale      = 1 / sqrtf((float)a->head_width);
    if (x->status >= 0)
        COMPUTE(x, attention, *a);
}

AdTensor ad_attention_self(AdExec *x, AdTensor qkv, int heads, bool causal)
{
    int64_t n = qkv.dim[0], s = qkv.dim[1] * qkv.dim[2], c = qkv.dim[3] / 3, d = c / heads;
    AdTensor out = ad_empty_like(x, qkv, c);
    AdStride in = { s * 3 * c, 0, 3 * c, d };
    AdAttentionArgs a = { .q = qkv.data, .k = part(qkv, c), .v = part(qkv, 2 * c),
                          .q_stride = in, .k_stride = in, .v_stride = in,
                          .out_stride = { s * c, 0, c, d }, .batch0 = n, .batch1 = 1,
                          .queries = (int)s, .keys = (int)s, .causal = causal };

    attend(x, &a, out, c, heads);
    return out;
}

AdTensor ad_attention_frames(AdExec *x, AdTensor qkv, int heads, int frames)
{
    int64_t s = qkv.dim[1] * qkv.dim[2], c = qkv.dim[3] / 3, d = c / heads;
    AdTensor out = ad_empty_like(x, qkv, c);
    AdStride in = { frames * s * 3 * c, 3 * c, s * 3 * c, d };
    AdAttentionArgs a = { .q = qkv.data, .k = part(qkv, c), .v = part(qkv, 2 * c),
                          .q_stride = in, .k_stride = in, .v_stride = in,
                          .out_stride = { frames * s * c, c, s * c, d },
                          .batch0 = qkv.dim[0] / frames, .batch1 = s, .queries = frames,
                          .keys = frames };

    attend(x, &a, out, c, heads);
    return out;
}

AdTensor ad_attention_text(AdExec *x, AdTensor q, AdTensor kv, int heads)
{
    int64_t s = q.dim[1] * q.dim[2], c = q.dim[3], d = c / heads, tokens = kv.dim[2];
    int64_t pictures = q.dim[0] / kv.dim[0];
    AdTensor out = ad_empty_like(x, q, c);
    AdStride in = { pictures * s * c, s * c, c, d }, keys = { tokens * 2 * c, 0, 2 * c, d };
    AdAttentionArgs a = { .q = q.data, .k = kv.data, .v = part(kv, c), .q_stride = in,
                          .k_stride = keys, .v_stride = keys, .out_stride = in,
                          .batch0 = kv.dim[0], .batch1 = pictures, .queries = (int)s,
                          .keys = (int)tokens };

    attend(x, &a, out, c, heads);
    return out;
}

/* ---- feed-forward, sums ------------------------------------------------------------------- */

void ad_feed_forward(AdExec *x, const AdLinear *geglu, const AdLinear *out, AdTensor in, AdTensor h)
{
    int64_t rows = ad_rows(in), inner = geglu->w.dim[2] / 2;
    int64_t piece = rows_for_cache(x, rows, inner, 3);
    AdMark m = ad_mark(x);
    AdTensor middle;

    piece  = AD_MIN(rows, (int64_t)ad_round_up((size_t)piece, 64));
    middle = ad_empty(x, 1, 1, piece, inner);
    in = ad_view(in, rows, 1, 1, in.dim[3]);
    h  = ad_view(h, rows, 1, 1, h.dim[3]);
    for (int64_t first = 0; first < rows; first += piece) {
        int64_t n = AD_MIN(piece, rows - first);
        AdTensor to = ad_slice(h, first, n);
        AdTensor inside = middle;

        inside.dim[2] = n;
        ad_linear_to(x, inside, geglu, ad_slice(in, first, n), AD_ACT_GEGLU, (AdTensor){ 0 });
        ad_linear_to(x, to, out, inside, AD_ACT_NONE, to);
    }
    ad_release(x, m);
}

void ad_lincomb(AdExec *x, AdTensor out, const float *coef, const AdTensor *t, int count,
                float clamp)
{
    AdLincombArgs a = { .out = out, .count = count, .clamp = clamp };

    assert(count <= AD_LINCOMB_MAX);
    memcpy(a.coef, coef, (size_t)count * sizeof(*coef));
    memcpy(a.x, t, (size_t)count * sizeof(*t));
    if (usable(x, out))
        done(x, x->backend->cls->ops->lincomb(x->backend, &a));
}

void ad_nonfinite(AdExec *x, AdTensor count, AdTensor t)
{
    AdNonfiniteArgs a = { .out = count, .x = t };

    if (usable(x, t))
        done(x, x->backend->cls->ops->nonfinite(x->backend, &a));
}

void ad_to_rgb(AdExec *x, AdTensor out, AdTensor t)
{
    AdRgbArgs a = { .out = out, .x = t };

    if (usable(x, t))
        done(x, x->backend->cls->ops->to_rgb(x->backend, &a));
}
