/* cuda_memory.cu - errors, slabs and transfers of the CUDA backend.
 *
 * Host memory passes through two pinned stages in turn, so that a copy runs while the next piece is
 * gathered. Waiting polls: a device that fails is noticed, and nothing spins a processor.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cuda_backend.h"

#define PATIENCE_S 120          /* of one wait; no step is that long */

/* ---- errors ------------------------------------------------------------------------------- */

AdStatus ad_cuda_fail(AdCuda *cu, AdStatus st, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ad_vformat(cu->base.message, sizeof(cu->base.message), format, args);
    va_end(args);
    return st;
}

AdStatus ad_cuda_check(AdCuda *cu, cudaError_t e, const char *what)
{
    switch (e) {
    case cudaSuccess:
        return AD_OK;
    case cudaErrorMemoryAllocation:
        cudaGetLastError();             /* else the next launch would report it again */
        return ad_cuda_fail(cu, AD_ERR_NOMEM, "%s: the GPU has no memory left for it", what);
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorNoKernelImageForDevice:
        cudaGetLastError();
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "%s: %s", what, cudaGetErrorString(e));
    default:
        cu->lost = true;
        return ad_cuda_fail(cu, AD_ERR_LOST, "the GPU is lost (%s: %s); only a new process helps",
                            what, cudaGetErrorString(e));
    }
}

AdStatus ad_cuda_enter(AdCuda *cu)
{
    if (cu->lost)
        return ad_cuda_fail(cu, AD_ERR_LOST, "the GPU was lost before; only a new process helps");
    if (cu->process != (int)getpid())
        return ad_cuda_fail(cu, AD_ERR_BACKEND, "the GPU was used before fork()");
    return ad_cuda_check(cu, cudaSetDevice(cu->index), "cudaSetDevice");
}

AdStatus ad_cuda_launched(AdCuda *cu, const char *what)
{
    return ad_cuda_check(cu, cudaGetLastError(), what);
}

/* ---- waiting ------------------------------------------------------------------------------ */

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Until the event has happened, or, without one, the stream is empty. */
static AdStatus wait_for(AdCuda *cu, cudaEvent_t event, const char *what)
{
    double since = now_s();
    const struct timespec moment = { 0, 50000 };

    for (;;) {
        cudaError_t e = event ? cudaEventQuery(event) : cudaStreamQuery(cu->stream);

        if (e != cudaErrorNotReady)
            return ad_cuda_check(cu, e, what);
        if (now_s() - since > PATIENCE_S) {
            cu->lost = true;
            return ad_cuda_fail(cu, AD_ERR_LOST, "the GPU does not answer since %d s", PATIENCE_S);
        }
        nanosleep(&moment, NULL);
    }
}

AdStatus ad_cuda_sync(AdBackend *be)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    return st < 0 ? st : wait_for(cu, NULL, "work");
}

AdStatus ad_cuda_wait_stage(AdCuda *cu, int slot)
{
    return wait_for(cu, cu->stage_done[slot], "copy");
}

/* ---- slabs -------------------------------------------------------------------------------- */

/* In front of a slab; on the host, since the device's memory cannot be read from here. */
typedef struct Slab {
    void        *data;
    size_t       bytes;
    struct Slab *next;
} Slab;

AdStatus ad_cuda_alloc(AdBackend *be, size_t bytes, void **out)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);
    Slab *slab = st < 0 ? NULL : (Slab *)ad_alloc(sizeof(*slab));
    size_t free = 0, total = 0;
    cudaError_t e = cudaSuccess;

    *out = NULL;
    if (st < 0)
        return st;
    if (!slab)
        return ad_cuda_fail(cu, AD_ERR_NOMEM, "no memory on the host");
    slab->bytes = AD_MAX(bytes, (size_t)1);
    e = cudaMalloc(&slab->data, slab->bytes);
    if (e == cudaErrorMemoryAllocation) {       /* once more without what the driver keeps */
        cudaGetLastError();
        cudaDeviceGraphMemTrim(cu->index);
        cudaGetLastError();
        e = cudaMalloc(&slab->data, slab->bytes);
    }
    if (e != cudaSuccess) {
        ad_free(slab);
        if (e != cudaErrorMemoryAllocation)
            return ad_cuda_check(cu, e, "cudaMalloc");
        cudaGetLastError();
        cudaMemGetInfo(&free, &total);
        return ad_cuda_fail(cu, AD_ERR_NOMEM, "%zu MiB of GPU memory are needed, %zu MiB are free; "
                            "a smaller picture, fewer frames or decode_chunk=1 need less",
                            bytes >> 20, free >> 20);
    }
    *out = slab->data;
    slab->next = (Slab *)cu->slabs;
    cu->slabs = slab;
    cu->ours += slab->bytes;
    cu->peak = AD_MAX(cu->peak, cu->ours);
    return AD_OK;
}

void ad_cuda_free(AdBackend *be, void *p)
{
    AdCuda *cu = ad_cuda_of(be);

    for (Slab **at = (Slab **)&cu->slabs; p && *at; at = &(*at)->next)
        if ((*at)->data == p) {
            Slab *slab = *at;

            *at = slab->next;
            cu->ours -= slab->bytes;
            if (ad_cuda_enter(cu) >= 0)         /* of a lost device nothing is freed */
                ad_cuda_check(cu, cudaFree(p), "cudaFree");
            ad_free(slab);
            return;
        }
}

bool ad_cuda_owns(const AdCuda *cu, const void *p)
{
    for (const Slab *slab = (const Slab *)cu->slabs; slab; slab = slab->next)
        if ((const char *)p >= (const char *)slab->data &&
            (const char *)p < (const char *)slab->data + slab->bytes)
            return true;
    return false;
}

AdStatus ad_cuda_memory(AdBackend *be, AdMemory *out)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);
    size_t free = 0, total = 0;

    if (st >= 0)
        st = ad_cuda_check(cu, cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    out->total = total;
    out->free  = free;
    out->ours  = cu->ours;
    out->peak  = cu->peak;
    return st;
}

/* ---- transfers ---------------------------------------------------------------------------- */

/* The next stage, empty; *slot tells which. */
static AdStatus next_stage(AdCuda *cu, int *slot)
{
    *slot = cu->turn;
    cu->turn ^= 1;
    return ad_cuda_wait_stage(cu, *slot);
}

/* One piece from host memory to the device, `to` or the place where pieces are unpacked. */
static AdStatus send(AdCuda *cu, void *to, const void *from, size_t bytes, int *slot)
{
    AdStatus st = next_stage(cu, slot);

    if (st < 0)
        return st;
    memcpy(cu->stage[*slot], from, bytes);
    return ad_cuda_check(cu, cudaMemcpyAsync(to, cu->stage[*slot], bytes, cudaMemcpyHostToDevice,
                                             cu->stream), "copy to the GPU");
}

static AdStatus stage_ends(AdCuda *cu, int slot)
{
    return ad_cuda_check(cu, cudaEventRecord(cu->stage_done[slot], cu->stream), "cudaEventRecord");
}

AdStatus ad_cuda_upload(AdBackend *be, void *dst, const void *src, size_t bytes)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    for (size_t at = 0; at < bytes && st >= 0; at += AD_CUDA_STAGE) {
        int slot;

        st = send(cu, (char *)dst + at, (const char *)src + at,
                  AD_MIN(bytes - at, (size_t)AD_CUDA_STAGE), &slot);
        if (st >= 0)
            st = stage_ends(cu, slot);
    }
    return st;
}

AdStatus ad_cuda_download(AdBackend *be, void *dst, const void *src, size_t bytes)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    for (size_t at = 0; at < bytes && st >= 0; at += AD_CUDA_STAGE) {
        size_t piece = AD_MIN(bytes - at, (size_t)AD_CUDA_STAGE);
        int slot;

        st = next_stage(cu, &slot);
        if (st >= 0)
            st = ad_cuda_check(cu, cudaMemcpyAsync(cu->stage[slot], (const char *)src + at, piece,
                                                   cudaMemcpyDeviceToHost, cu->stream),
                               "copy from the GPU");
        if (st >= 0)
            st = stage_ends(cu, slot);
        if (st >= 0)
            st = ad_cuda_wait_stage(cu, slot);
        if (st >= 0)
            memcpy((char *)dst + at, cu->stage[slot], piece);
    }
    return st;
}

/* ---- weights ------------------------------------------------------------------------------ */

template <typename T> __global__ void k_narrow(T *out, const float *x, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        ad_set(out[i], x[i]);
}

/* Floats of the host as `type` at `to`, rounded on the device. */
static AdStatus send_as(AdCuda *cu, void *to, AdType type, const float *from, int64_t n)
{
    const int64_t most = AD_CUDA_STAGE / sizeof(float);
    AdStatus st = AD_OK;

    if (type == AD_F32)
        return ad_cuda_upload(&cu->base, to, from, (size_t)n * sizeof(float));
    for (int64_t at = 0; at < n && st >= 0; at += most) {
        int64_t count = AD_MIN(n - at, most);
        float *unpacked = (float *)cu->room;
        int slot;

        st = send(cu, unpacked, from + at, (size_t)count * sizeof(float), &slot);
        if (st < 0)
            break;
        if (type == AD_F16)
            AD_LAUNCH(k_narrow<AdHalf>, dim3((unsigned)((count + 255) / 256)), dim3(256), 0,
                      cu->stream, (AdHalf *)to + at, unpacked, count);
        else
            AD_LAUNCH(k_narrow<AdBf16>, dim3((unsigned)((count + 255) / 256)), dim3(256), 0,
                      cu->stream, (AdBf16 *)to + at, unpacked, count);
        st = ad_cuda_launched(cu, "weights");
        if (st >= 0)
            st = stage_ends(cu, slot);
    }
    return st;
}

AdStatus ad_cuda_pack(AdBackend *be, const AdPackArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdTensor w = a->w;
    AdType copy = w.type;
    bool twice = a->kind == AD_PACK_VECTOR && copy != AD_F32;
    AdStatus st;

    w.layout = 0;
    if (a->kind == AD_PACK_VECTOR)
        w.type = AD_F32;
    if (a->need) {
        *a->need = twice ? ad_round_up(ad_bytes(w), 256) + (size_t)ad_count(w) * 2 : ad_bytes(w);
        return AD_OK;
    }
    w.data = a->out->data;
    if ((st = ad_cuda_enter(cu)) >= 0)
        st = send_as(cu, w.data, w.type, a->src, ad_count(w));
    if (st >= 0 && twice)
        st = send_as(cu, (void *)(uintptr_t)ad_cuda_vector(w, copy), copy, a->src, ad_count(w));
    *a->out = w;
    return st;
}
