/* nn.h - layers: a shape rule, memory from the arena, one operation.
 *
 * The words the graphs (clip, unet, motion, vae) are written in. Errors are sticky: after a failure
 * every call returns an absent tensor and computes nothing; look at exec.status once per forward.
 * On the null backend with a measuring arena nothing is computed but all memory is taken: the
 * arena's peak is then the size a real pass needs.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_NN_H
#define AD_NN_H

#include "../kernels/backend.h"

/* Weights of one layer, on the device. An absent tensor (data NULL) means: the layer has none. */
typedef struct AdLinear { AdTensor w, b; } AdLinear;                /* [out, in], [out]       */
typedef struct AdConv   { AdTensor w, b; } AdConv;                  /* [out, kh, kw, in]      */
typedef struct AdNorm   { AdTensor gamma, beta; int groups; float eps; } AdNorm;

typedef struct AdExec {         /* one forward pass being computed */
    AdBackend *backend;
    AdArena   *work;
    AdType     type;            /* of activations */
    AdStatus   status;          /* first failure */
    char       message[256];
} AdExec;

/* ---- memory ------------------------------------------------------------------------------- */

/* A new tensor of the pass's element type. */
AdTensor ad_empty(AdExec *x, int64_t n, int64_t h, int64_t w, int64_t c);
AdTensor ad_empty_typed(AdExec *x, AdType type, int64_t n, int64_t h, int64_t w, int64_t c);
AdTensor ad_empty_like(AdExec *x, AdTensor t, int64_t c);           /* the sizes of t, c channels */

/* Everything taken after the mark goes at its release; drop gives back one tensor earlier. */
AdMark ad_mark(const AdExec *x);
void   ad_release(AdExec *x, AdMark mark);
void   ad_drop(AdExec *x, AdTensor t);

AdStatus ad_exec_fail(AdExec *x, AdStatus status, const char *format, ...) AD_PRINTF(3, 4);

/* ---- pieces ------------------------------------------------------------------------------- */

/* Chains of row-local layers (norm, linear, attention to text) run over some rows at a time, so
 * that what one layer writes is still in the cache when the next one reads it. A piece is some
 * whole pictures of [n, h, w, c] or some rows of one picture; it never lies in two groups of
 * `group` pictures. How much fits is the backend's to say (AdBackend.cache_bytes).
 *
 *     for (AdPiece p = ad_pieces(x, h, frames); p.rows; ad_next_piece(&p))
 *         layer(ad_piece_of(p, h));                                                            */
typedef struct AdPiece {
    int64_t pictures, positions;    /* of the whole tensor           */
    int64_t group, target;          /* rows per piece                */
    int64_t picture, row;           /* where this piece begins       */
    int64_t rows;                   /* of this piece; 0: no more     */
} AdPiece;

AdPiece ad_pieces(const AdExec *x, AdTensor t, int64_t group);
void    ad_next_piece(AdPiece *p);

/* The piece's rows of a tensor of the same pictures: [pictures, 1, positions, c], or [1, 1, rows,
 * c] when it is a part of one picture. */
AdTensor ad_piece_of(AdPiece p, AdTensor t);

/* ---- layers ------------------------------------------------------------------------------- */

/* in wT + b; _to: written to out as act(in wT + b) + residual (residual absent: nothing added). */
AdTensor ad_linear(AdExec *x, const AdLinear *l, AdTensor in);
void     ad_linear_to(AdExec *x, AdTensor out, const AdLinear *l, AdTensor in, AdAct act,
                      AdTensor residual);

/* Convolution with "same" padding for its kernel (1x1 and 3x3). */
AdTensor ad_conv2d(AdExec *x, const AdConv *c, AdTensor in);
void     ad_conv2d_to(AdExec *x, AdTensor out, const AdConv *c, AdTensor in, AdTensor residual);

/* Stride 2; pad: left, right, top, bottom. */
AdTensor ad_downsample(AdExec *x, const AdConv *c, AdTensor in, const int pad[4]);

/* Nearest neighbour to h x w, then the convolution. */
AdTensor ad_upsample(AdExec *x, const AdConv *c, AdTensor in, int64_t h, int64_t w);

typedef struct AdNormOptions {
    AdTensor x2;                /* further channels of the input     */
    AdTensor add;               /* [1, 1, m, c] added to the input   */
    AdTensor pos;               /* [1, 1, f, c] added to the result  */
    bool     silu;
} AdNormOptions;

AdTensor ad_norm(AdExec *x, const AdNorm *n, AdTensor in);
AdTensor ad_norm_silu(AdExec *x, const AdNorm *n, AdTensor in);
AdTensor ad_norm_with(AdExec *x, const AdNorm *n, AdTensor in, const AdNormOptions *o);
void     ad_norm_to(AdExec *x, AdTensor out, const AdNorm *n, AdTensor in, const AdNormOptions *o);

/* Rows of a table (ids beyond it: of `extra`) plus rows of pos: [1, 1, ids, c]. */
AdTensor ad_gather(AdExec *x, AdTensor ids, AdTensor table, AdTensor extra, AdTensor pos);

/* In place. */
void ad_activate(AdExec *x, AdTensor t, AdAct act);

/* Self attention over the positions of every picture. qkv [n, h, w, 3c] -> [n, h, w, c]. */
AdTensor ad_attention_self(AdExec *x, AdTensor qkv, int heads, bool causal);

/* Attention along the frames: qkv [b*f, h, w, 3c], for every pixel a sequence of f. */
AdTensor ad_attention_frames(AdExec *x, AdTensor qkv, int heads, int frames);

/* q [b*f, h, w, c] against kv [b, 1, tokens, 2c], the same keys for all f pictures of a half. */
AdTensor ad_attention_text(AdExec *x, AdTensor q, AdTensor kv, int heads);

/* h += out(geglu(in)), in row pieces that stay in a cache. */
void ad_feed_forward(AdExec *x, const AdLinear *geglu, const AdLinear *out, AdTensor in,
                     AdTensor h);

/* Count the numbers that are not finite; frames to bytes. See AdNonfiniteArgs, AdRgbArgs. */
void ad_nonfinite(AdExec *x, AdTensor count, AdTensor t);
void ad_to_rgb(AdExec *x, AdTensor out, AdTensor t);

/* out = sum of coef[i] * t[i]; see AdLincombArgs. */
void ad_lincomb(AdExec *x, AdTensor out, const float *coef, const AdTensor *t, int count,
                float clamp);

#endif
