/* cuda_backend.h - what the files of the CUDA backend share.
 *
 * One instance: one device, one stream, one caller at a time. Every entry point begins with
 * ad_cuda_enter and hands each result to ad_cuda_check, which alone knows what an error means.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CUDA_BACKEND_H
#define AD_CUDA_BACKEND_H

#include "cuda_device.cuh"
#include "../plugin.h"

#define AD_CUDA_WORKSPACE (32u << 20)   /* of cuBLASLt and cuDNN: one stream, one workspace */
#define AD_CUDA_STAGE     (8u << 20)    /* pinned, two of them: host memory passes through here */

typedef struct AdCudaMatmuls AdCudaMatmuls;     /* cuda_linear.cu: handle and plans */

typedef struct AdCuda {
    AdBackend      base;
    int            index, process;
    bool           lost;
    int            major;       /* compute capability */
    cudaStream_t   stream;
    cudaEvent_t    stage_done[2];
    char          *stage[2];    /* pinned; the device reads and writes them too */
    int            turn;
    char          *room;        /* device: the workspace, then what a stage is unpacked from */
    AdCudaMatmuls *matmuls;
    uint64_t       ours, peak;
    void          *slabs;       /* a list of what is allocated */
} AdCuda;

static inline AdCuda *ad_cuda_of(AdBackend *be) { return (AdCuda *)be; }

/* ---- cuda_memory.cu ----------------------------------------------------------------------- */

AdStatus ad_cuda_fail(AdCuda *cu, AdStatus st, const char *format, ...) AD_PRINTF(3, 4);

/* What a call of the runtime returned; `what` names it in the sentence. */
AdStatus ad_cuda_check(AdCuda *cu, cudaError_t e, const char *what);

/* Makes the device current; refuses after a loss and after a fork. */
AdStatus ad_cuda_enter(AdCuda *cu);

/* What the launch just before came to. */
AdStatus ad_cuda_launched(AdCuda *cu, const char *what);

AdStatus ad_cuda_wait_stage(AdCuda *cu, int slot);
bool     ad_cuda_owns(const AdCuda *cu, const void *p);         /* inside one of its slabs? */
AdStatus ad_cuda_alloc   (AdBackend *be, size_t bytes, void **out);
void     ad_cuda_free    (AdBackend *be, void *p);
AdStatus ad_cuda_upload  (AdBackend *be, void *dst, const void *src, size_t bytes);
AdStatus ad_cuda_download(AdBackend *be, void *dst, const void *src, size_t bytes);
AdStatus ad_cuda_sync    (AdBackend *be);
AdStatus ad_cuda_memory  (AdBackend *be, AdMemory *out);
AdStatus ad_cuda_pack    (AdBackend *be, const AdPackArgs *a);

/* A vector [1, 1, 1, c] as AD_PACK_VECTOR leaves it: floats, and behind them the same numbers in
 * the graph's type, which is what the libraries want as a bias. */
static inline const void *ad_cuda_vector(AdTensor v, AdType type)
{
    if (!v.data || type == AD_F32)
        return v.data;
    return (const char *)v.data + ad_round_up(ad_bytes(v), 256);
}

/* ---- operations --------------------------------------------------------------------------- */

AdStatus ad_cuda_gather   (AdBackend *be, const AdGatherArgs *a);       /* cuda_elementwise.cu */
AdStatus ad_cuda_activate (AdBackend *be, const AdActArgs *a);
AdStatus ad_cuda_upsample (AdBackend *be, const AdUpsampleArgs *a);
AdStatus ad_cuda_lincomb  (AdBackend *be, const AdLincombArgs *a);
AdStatus ad_cuda_to_rgb   (AdBackend *be, const AdRgbArgs *a);
AdStatus ad_cuda_nonfinite(AdBackend *be, const AdNonfiniteArgs *a);
AdStatus ad_cuda_linear   (AdBackend *be, const AdLinearArgs *a);       /* cuda_linear.cu      */
AdStatus ad_cuda_conv2d   (AdBackend *be, const AdConvArgs *a);         /* cuda_conv.cu        */
AdStatus ad_cuda_norm     (AdBackend *be, const AdNormArgs *a);         /* cuda_norm.cu        */
AdStatus ad_cuda_attention(AdBackend *be, const AdAttentionArgs *a);    /* cuda_attention.cu   */

/* Behind a product: out = act(x) + residual (absent: NULL), n numbers; GEGLU: x has rows of 2c. */
AdStatus ad_cuda_act_residual(AdCuda *cu, void *out, const void *x, const void *residual,
                              AdType type, int64_t n, AdAct act);
AdStatus ad_cuda_geglu(AdCuda *cu, void *out, const void *x, AdType type, int64_t rows, int64_t c);

/* The product by our own kernel: what convolutions run on, and matrices that cuBLASLt refuses. */
AdStatus ad_cuda_own_conv(AdCuda *cu, const AdConvArgs *a);

AdStatus ad_cuda_matmuls_open(AdCuda *cu);
void     ad_cuda_matmuls_close(AdCuda *cu);

/* fp32 attention, and any type when nothing better fits: cuda_attention_f32.cu */
AdStatus ad_cuda_attention_f32(AdCuda *cu, const AdAttentionArgs *a);

/* `kernel` of T = float, AdHalf, AdBf16 by an AdType. */
#define AD_CUDA_BY_TYPE(type, call)                                                     \
    do {                                                                                \
        if ((type) == AD_F32)      { typedef float  T; call; }                          \
        else if ((type) == AD_F16) { typedef AdHalf T; call; }                          \
        else                       { typedef AdBf16 T; call; }                          \
    } while (0)

#endif
