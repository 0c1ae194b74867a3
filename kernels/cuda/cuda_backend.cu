/* cuda_backend.cu - opening a GPU, and the table of operations.
 *
 * One stream of our own per instance; never the default stream, never cudaDeviceReset: other users
 * of the same process (ffmpeg's own CUDA filters) share the context.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <unistd.h>

#include "cuda_backend.h"

__global__ void k_probe(int *p)
{
    if (p)
        *p = 1;
}

/* ---- opening ------------------------------------------------------------------------------ */

/* No driver, or the toolkit's stub of it: told apart before the runtime makes one error of both. */
static bool has_driver(void)
{
#ifdef AD_CUDA_HOST
    return true;
#else
    return dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) != NULL;
#endif
}

static AdStatus find_device(AdCuda *cu, cudaDeviceProp *card)
{
    int count = 0;
    cudaFuncAttributes attributes;
    cudaError_t e;

    if (!has_driver())
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "no NVIDIA driver (libcuda.so.1 is not there)");
    e = cudaGetDeviceCount(&count);
    if (e == cudaErrorInsufficientDriver)
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "the NVIDIA driver is older than this build needs");
    if (e == cudaErrorStubLibrary)
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "libcuda.so.1 is the toolkit's stub, not a driver");
    if (e != cudaSuccess || count == 0)
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "no NVIDIA GPU: %s",
                            e ? cudaGetErrorString(e) : "the driver sees none");
    if (cu->index >= count)
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "cuda:%d: there is %s%d", cu->index,
                            count == 1 ? "only cuda:" : "cuda:0 to cuda:", count - 1);
    e = cudaGetDeviceProperties(card, cu->index);
    if (e == cudaSuccess)
        e = cudaSetDevice(cu->index);
    if (e == cudaSuccess) {
        e = cudaFuncGetAttributes(&attributes, k_probe);
        if (e != cudaSuccess)
            return ad_cuda_fail(cu, AD_ERR_BACKEND, "%s (compute capability %d.%d): this build has "
                                "no code for it", card->name, card->major, card->minor);
    }
    return e == cudaSuccess ? AD_OK : ad_cuda_fail(cu, AD_ERR_BACKEND, "cuda:%d: %s", cu->index,
                                                   cudaGetErrorString(e));
}

static AdStatus make_room(AdCuda *cu)
{
    void *room = NULL;
    AdStatus st = ad_cuda_check(cu, cudaStreamCreateWithFlags(&cu->stream, cudaStreamNonBlocking),
                                "stream");

    for (int i = 0; i < 2 && st >= 0; i++) {
        st = ad_cuda_check(cu, cudaEventCreateWithFlags(&cu->stage_done[i], cudaEventDisableTiming),
                           "event");
        if (st >= 0)
            st = ad_cuda_check(cu, cudaHostAlloc((void **)&cu->stage[i], AD_CUDA_STAGE,
                                                 cudaHostAllocDefault), "pinned memory");
    }
    if (st >= 0)
        st = ad_cuda_alloc(&cu->base, AD_CUDA_WORKSPACE, &room);
    cu->room = (char *)room;
    return st < 0 ? st : ad_cuda_matmuls_open(cu);
}

static void cuda_close(AdBackend **be)
{
    AdCuda *cu = *be ? ad_cuda_of(*be) : NULL;

    *be = NULL;
    if (!cu)
        return;
    if (cu->process == (int)getpid() && !cu->lost)      /* else: the device is not ours to touch */
        cudaSetDevice(cu->index);
    else
        cu->lost = true;
    if (cu->stream && !cu->lost)
        ad_cuda_sync(&cu->base);
    ad_cuda_matmuls_close(cu);
    while (cu->slabs)
        ad_cuda_free(&cu->base, *(void **)cu->slabs);   /* a slab begins with its address */
    for (int i = 0; i < 2 && !cu->lost; i++) {
        if (cu->stage[i])
            cudaFreeHost(cu->stage[i]);
        if (cu->stage_done[i])
            cudaEventDestroy(cu->stage_done[i]);
    }
    if (cu->stream && !cu->lost)
        cudaStreamDestroy(cu->stream);
    cudaGetLastError();
    ad_free(cu);
}

static AdStatus cuda_open(AdBackend **out, const AdDeviceParams *params);

static bool cuda_supports(const AdBackend *be, AdType type)
{
    return type == AD_F32 || type == AD_F16 ||
           (type == AD_BF16 && ((const AdCuda *)be)->major >= 8);
}

/* ---- the tables --------------------------------------------------------------------------- */

/* In the order of backend.h: C++17 has no designated initialisers. */
static const AdOps cuda_ops = {
    ad_cuda_gather,
    ad_cuda_linear,
    ad_cuda_conv2d,
    ad_cuda_norm,
    ad_cuda_attention,
    ad_cuda_activate,
    ad_cuda_upsample,
    ad_cuda_lincomb,
    ad_cuda_to_rgb,
    ad_cuda_nonfinite,
};

static const AdBackendClass cuda_class = {
    "cuda",
    "NVIDIA GPUs: cuBLASLt and own kernels",
    cuda_open,
    cuda_close,
    cuda_supports,
    ad_cuda_alloc,
    ad_cuda_free,
    ad_cuda_upload,
    ad_cuda_download,
    ad_cuda_sync,
    ad_cuda_memory,
    ad_cuda_pack,
    &cuda_ops,
};

static AdStatus cuda_open(AdBackend **out, const AdDeviceParams *params)
{
    AdCuda *cu = (AdCuda *)ad_alloc(sizeof(*cu));
    cudaDeviceProp card;
    AdStatus st;

    *out = cu ? &cu->base : NULL;
    if (!cu) {
        ad_format(params->message, params->message_size, "no memory for the cuda backend");
        return AD_ERR_NOMEM;
    }
    cu->base.cls = &cuda_class;
    cu->index    = params->index;
    cu->process  = (int)getpid();
    st = find_device(cu, &card);
    if (st >= 0)
        st = make_room(cu);
    if (st < 0) {
        ad_format(params->message, params->message_size, "%s", cu->base.message);
        cuda_close(out);
        return st == AD_ERR_NOMEM ? st : AD_ERR_BACKEND;
    }
    cu->major        = card.major;
    cu->base.fastest = AD_F16;
    ad_format(cu->base.about, sizeof(cu->base.about), "%.80s (cuda:%d)", card.name, cu->index);
    return AD_OK;
}

extern "C" __attribute__((visibility("default"))) const AdCudaPlugin ad_cuda_plugin = {
    AD_BACKEND_ABI, AD_CUDA_PLUGIN_SIZES, &cuda_class
};
