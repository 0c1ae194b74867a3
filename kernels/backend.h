/* backend.h - the contract between the network graphs and a device.
 *
 * Who computes what: the engine owns shapes, order and memory; a backend computes one operation at
 * a time on tensors that the caller has allocated. `ref` (plain C) defines every operation, `cpu`
 * starts as a copy of ref's table and replaces entries, `cuda` has its own, `null` computes
 * nothing and is used to measure memory.
 *
 * Rules that hold for every operation:
 *  - Arguments are one struct by pointer; a field left zero is the ordinary case.
 *  - Sums and statistics are f32 or better whatever the element type; a result is rounded once.
 *  - Inputs and outputs do not overlap, except that `out` may be `residual`, and the elementwise
 *    operations (norm, activate, lincomb) may write over an input of the same type and shape.
 *  - An operation with a `scratch` is first asked how much it wants: with scratch.need set it
 *    stores a number of bytes there and computes nothing; addresses are then compared (absent or
 *    not, in place or not) but not read. Plans and kernels for that shape are made at this moment.
 *    The second call brings the memory.
 *  - Nothing is allocated on the device by an operation.
 *  - The result does not depend on the number of threads.
 *  - On failure the sentence is in be->message.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_BACKEND_H
#define AD_BACKEND_H

#include "arena.h"
#include "tensor.h"

#define AD_BACKEND_ABI    1     /* raised when anything in this file changes */
#define AD_MAX_HEAD_WIDTH 1024  /* attention; the engine refuses wider heads */

typedef struct AdBackend      AdBackend;
typedef struct AdBackendClass AdBackendClass;

typedef struct AdScratch {
    void   *data;               /* at least the bytes asked for, aligned to AD_ARENA_ALIGN */
    size_t *need;               /* not NULL: only tell how many bytes are wanted           */
} AdScratch;

/* ---- weights ------------------------------------------------------------------------------ */

typedef enum AdPackKind {
    AD_PACK_LINEAR,             /* [1, 1, out, in] for linear                                 */
    AD_PACK_GEGLU,              /* [1, 1, 2*out, in]: rows of values, then rows of gates      */
    AD_PACK_CONV,               /* [out, kh, kw, in] for conv2d                               */
    AD_PACK_TABLE,              /* [1, 1, rows, c] for gather                                 */
    AD_PACK_VECTOR              /* [1, 1, 1, c]: biases, gamma, beta, positional rows [1,1,f,c] */
} AdPackKind;

/* Turn host floats into a weight in the order the device reads best. The packed tensor keeps the
 * logical sizes; only `layout` tells that its bytes are in the backend's own order. */
typedef struct AdPackArgs {
    AdPackKind   kind;
    AdTensor     w;             /* sizes; type: the element type of the graph (f32, f16, bf16)  */
    int          side;          /* a hint: sides of the pictures the layer will see; 0: one row */
    const float *src;           /* host, dense, in the order above                              */
    size_t      *need;          /* not NULL: only tell the bytes of the packed weight           */
    AdTensor    *out;           /* else: out->data is device memory of that many bytes; its     */
} AdPackArgs;                   /* sizes, type and layout are set                               */

/* ---- operations --------------------------------------------------------------------------- */

typedef enum AdAct { AD_ACT_NONE, AD_ACT_SILU, AD_ACT_GELU, AD_ACT_QUICK_GELU, AD_ACT_GEGLU } AdAct;

/* out[i, :] = table[ids[i], :] + pos[i % positions, :]; ids beyond the table's rows read `extra`.
 * out [1, 1, rows, c]; ids [1, 1, 1, rows] i32; table and extra [1, 1, n, c]; pos likewise. */
typedef struct AdGatherArgs {
    AdTensor out, ids, table, extra, pos;
} AdGatherArgs;

/* out = act(x wT + b) + residual. x [.., in], w [1, 1, out, in], b [1, 1, 1, out] or absent,
 * out and residual [.., out] with as many rows as x.
 * GEGLU (Shazeer 2020, arXiv 2002.05202): w and b have 2*out rows, values first, gates second;
 * out = value * gelu(gate), the erf form; no residual then. */
typedef struct AdLinearArgs {
    AdTensor  out, x, w, b, residual;
    AdAct     act;
    AdScratch scratch;
} AdLinearArgs;

/* Cross-correlation: out = conv(x, w) + residual + b, zero padding.
 * x [n, h, w, ci], w [co, kh, kw, ci], b [1, 1, 1, co] or absent, out and residual [n, h', w', co].
 * stride 0 means 1. pad: left, right, top, bottom. */
typedef struct AdConvArgs {
    AdTensor  out, x, w, b, residual;
    int       stride;
    int       pad[4];
    AdScratch scratch;
} AdConvArgs;

/* Group norm (Wu, He 2018, arXiv 1803.08494) with groups > 0: statistics per entry of n and group
 * over h, w and the group's channels. Layer norm with groups 0: over c. Then gamma, beta, SiLU.
 * x2 (optional) [n, h, w, c2]: the input is [x | x2] along c, out has c + c2 channels.
 * add (optional) [1, 1, m, c]: x + add[n % m] takes x's place (the time vector of a resnet).
 * pos (optional) [1, 1, f, c]: pos[n % f] is added to the result (layer norm of a motion module).
 * gamma, beta [1, 1, 1, c + c2]; packed as AD_PACK_VECTOR, as add's type is x's and pos's too. */
typedef struct AdNormArgs {
    AdTensor  out, x, x2, add, gamma, beta, pos;
    int       groups;
    float     eps;
    bool      silu;
    AdScratch scratch;
} AdNormArgs;

/* Elements between neighbours along the four axes of an attention operand. */
typedef struct AdStride {
    int64_t batch0, batch1, position, head;
} AdStride;

/* out = softmax(q kT * scale) v for every batch entry and head; the head's d numbers are dense.
 * The batch has two levels so that time is just another stride (c channels, S = h*w, F frames):
 *   spatial self   batch N x 1, S queries, strides S*c, 0, c, d
 *   text cross     batch B x F, S queries, strides F*S*c, S*c, c, d; keys 77*c, 0, c, d
 *   temporal       batch B x S, F queries, strides F*S*c, c, S*c, d
 * causal: query i sees keys 0..i. Memory does not grow with queries * keys. */
typedef struct AdAttentionArgs {
    void       *out;
    const void *q, *k, *v;
    AdType      type;
    AdStride    out_stride, q_stride, k_stride, v_stride;
    int64_t     batch0, batch1;
    int         queries, keys, heads, head_width;
    float       scale;          /* usually 1 / sqrt(head_width) */
    bool        causal;
    AdScratch   scratch;
} AdAttentionArgs;

/* out = act(x), elementwise; act is SiLU, GELU (erf) or quick GELU. */
typedef struct AdActArgs {
    AdTensor out, x;
    AdAct    act;
} AdActArgs;

/* Nearest neighbour to any size: out[n, y, x] = in[n, y * h / h', x * w / w'] (floor). */
typedef struct AdUpsampleArgs {
    AdTensor out, x;
} AdUpsampleArgs;

/* out = sum of coef[i] * x[i], i < count, clamped to [-clamp, clamp] when clamp > 0. Types may
 * differ; sums are f32. An x whose first axis is shorter is repeated along it. */
#define AD_LINCOMB_MAX 9
typedef struct AdLincombArgs {
    AdTensor out, x[AD_LINCOMB_MAX];
    float    coef[AD_LINCOMB_MAX];
    int      count;
    float    clamp;
} AdLincombArgs;

/* Pixels: out (host or device memory, u8 [n, h, w, 3]) = round(clamp(x / 2 + 0.5, 0, 1) * 255),
 * ties to even. */
typedef struct AdRgbArgs {
    AdTensor out, x;
} AdRgbArgs;

/* *out (device, i32, one number) = how many elements of x are not finite, cut to 2^31 - 1. */
typedef struct AdNonfiniteArgs {
    AdTensor out, x;
} AdNonfiniteArgs;

typedef struct AdOps {
    AdStatus (*gather)   (AdBackend *, const AdGatherArgs *);
    AdStatus (*linear)   (AdBackend *, const AdLinearArgs *);
    AdStatus (*conv2d)   (AdBackend *, const AdConvArgs *);
    AdStatus (*norm)     (AdBackend *, const AdNormArgs *);
    AdStatus (*attention)(AdBackend *, const AdAttentionArgs *);
    AdStatus (*activate) (AdBackend *, const AdActArgs *);
    AdStatus (*upsample) (AdBackend *, const AdUpsampleArgs *);
    AdStatus (*lincomb)  (AdBackend *, const AdLincombArgs *);
    AdStatus (*to_rgb)   (AdBackend *, const AdRgbArgs *);
    AdStatus (*nonfinite)(AdBackend *, const AdNonfiniteArgs *);
} AdOps;

/* ---- the device --------------------------------------------------------------------------- */

typedef struct AdDeviceParams {
    int        index;           /* cuda:N                                                     */
    int        threads;         /* cpu; 0: the processors this process may use                */
    AdBackend *measured;        /* null: the backend whose scratch sizes it reports; borrowed */
    char      *message;         /* where a failing open leaves its sentence,                  */
    size_t     message_size;    /* in a buffer of this many bytes                             */
} AdDeviceParams;

struct AdBackendClass {
    const char *name, *about;
    /* Ready for one caller at a time; on failure *out is NULL and params->message is filled. */
    AdStatus (*open)    (AdBackend **out, const AdDeviceParams *params);
    void     (*close)   (AdBackend **be);                         /* NULL-safe                 */
    bool     (*supports)(const AdBackend *, AdType);              /* as element type of a graph */
    AdStatus (*alloc)   (AdBackend *, size_t bytes, void **out);  /* slabs; never per operation */
    void     (*free)    (AdBackend *, void *);
    AdStatus (*upload)  (AdBackend *, void *dst, const void *src, size_t bytes);
    AdStatus (*download)(AdBackend *, void *dst, const void *src, size_t bytes);
    AdStatus (*sync)    (AdBackend *);
    AdStatus (*memory)  (AdBackend *, AdMemory *out);
    AdStatus (*pack)    (AdBackend *, const AdPackArgs *);
    const AdOps *ops;                                             /* every entry is set        */
};

/* What every backend's own struct begins with. */
struct AdBackend {
    const AdBackendClass *cls;
    AdType fastest;             /* element type this device is quickest in, at good quality   */
    size_t cache_bytes;         /* what consecutive operations should stay within; 0: anything */
    char   about[128];          /* "NVIDIA H200 (cuda:0)", "2 threads, AMX bf16"              */
    char   message[256];        /* sentence of the last failure                               */
};

/* Store a sentence in be->message and return the status. */
AdStatus ad_backend_fail(AdBackend *be, AdStatus status, const char *format, ...) AD_PRINTF(3, 4);

/* ---- the list ----------------------------------------------------------------------------- */

/* Backends of this build, ended by NULL: cpu, cuda (whose shared object may be missing), ref,
 * null. */
extern const AdBackendClass *const ad_backends[];
extern const AdBackendClass ad_ref_backend, ad_cpu_backend, ad_cuda_backend, ad_null_backend;

/* Open a device by name: "auto", "cpu", "cuda", "cuda:1", "ref". `auto` takes CUDA where it works;
 * *why then holds the reason when it did not ("" otherwise). `message` gets a failure's sentence.
 * Both are buffers of `size` bytes. */
AdStatus ad_backend_open(AdBackend **out, const char *device, int threads, char *why,
                         char *message, size_t size);

#endif
