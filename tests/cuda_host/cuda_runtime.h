/* cuda_runtime.h - a stand-in for NVIDIA's header: the CUDA backend's files as plain C++.
 *
 * Found before the real one when kernels/cuda is compiled by g++ for tests.
 * Only what those files use, with the real names and numbers. A kernel's threads are fibres
 * (host_fibres.cpp), device memory is host memory with guards (host_runtime.cpp). What is wrong
 * with a launch, a barrier, an exchange or an address ends the program with a sentence.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_HOST_CUDA_RUNTIME_H
#define AD_HOST_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#define AD_CUDA_HOST 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

/* ---- threads ------------------------------------------------------------------------------ */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct HcThread {               /* what one thread of a kernel sees */
    dim3     thread, block, block_dim, grid_dim;
    unsigned index, lane, warp, exchange;
};

extern HcThread *hc_now;        /* one kernel runs at a time */

#define threadIdx (hc_now->thread)
#define blockIdx  (hc_now->block)
#define blockDim  (hc_now->block_dim)
#define gridDim   (hc_now->grid_dim)

typedef struct HcStream *cudaStream_t;
typedef struct HcEvent  *cudaEvent_t;

/* Every thread of the block; then every lane of the warp, with up to 64 bytes each: what comes
 * back are the 32 lanes' bytes, valid until the lane's next exchange but one. */
void  hc_barrier(void);
char *hc_exchange(const void *value, size_t bytes);
enum { HC_SLOT = 64 };

/* Shared memory of the block, unwritten in every block; `site` tells declarations apart. */
void *hc_dynamic_shared(void);
void *hc_static_shared(const void *site, size_t bytes);

/* Copies of 16 bytes into shared memory that happen as late as they may: when all but the last
 * `left` groups are waited for. */
void hc_copy_async16(void *to, const void *from, bool there);
void hc_copy_commit(void);
void hc_copy_wait(int left);

[[noreturn]] void hc_die(const char *format, ...);

static inline void __syncthreads(void) { hc_barrier(); }
static inline void __syncwarp(unsigned = 0xffffffffu) { hc_exchange(NULL, 0); }

template <typename T> T hc_from_lane(T value, unsigned lane)
{
    static_assert(sizeof(T) <= HC_SLOT, "exchange of large values");
    const char *all = hc_exchange(&value, sizeof(T));
    T out;

    memcpy(&out, all + lane % 32 * HC_SLOT, sizeof(T));
    return out;
}

template <typename T> T __shfl_sync(unsigned, T v, int lane)
{
    return hc_from_lane(v, (unsigned)lane);
}
template <typename T> T __shfl_xor_sync(unsigned, T v, int mask)
{
    return hc_from_lane(v, hc_now->lane ^ (unsigned)mask);
}

template <typename T> T atomicAdd(T *p, T v) { T old = *p; *p = old + v; return old; }
static inline int atomicCAS(int *p, int was, int v)
{
    int old = *p;
    if (old == was)
        *p = v;
    return old;
}

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }

/* ---- launch ------------------------------------------------------------------------------- */

void hc_launch(const char *name, dim3 grid, dim3 block, size_t bytes, cudaStream_t stream,
               const std::function<void()> &kernel);

/* Arguments are converted and copied at the launch, as the real call does. */
template <typename... P, typename... A>
void hc_call(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t bytes,
             cudaStream_t stream, A &&...args)
{
    std::tuple<P...> copy(std::forward<A>(args)...);

    hc_launch(name, grid, block, bytes, stream,
              [kernel, copy]() { std::apply([kernel](auto... a) { kernel(a...); }, copy); });
}

/* ---- the runtime -------------------------------------------------------------------------- */

typedef enum cudaError {
    cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2,
    cudaErrorCudartUnloading = 4, cudaErrorInvalidConfiguration = 9, cudaErrorStubLibrary = 34,
    cudaErrorInsufficientDriver = 35, cudaErrorNoDevice = 100, cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209, cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600, cudaErrorIllegalAddress = 700, cudaErrorLaunchFailure = 719
} cudaError_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };

struct cudaDeviceProp {
    char   name[256];
    size_t totalGlobalMem;
    int    major, minor, multiProcessorCount, l2CacheSize;
};

struct cudaFuncAttributes { int numRegs; };

const char *cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *, int);
cudaError_t cudaSetDevice(int);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaHostAlloc(void **, size_t, unsigned);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaMemGetInfo(size_t *, size_t *);
cudaError_t cudaDeviceGraphMemTrim(int);
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamQuery(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
template <typename K> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, K)
{
    a->numRegs = 0;
    return cudaSuccess;
}

/* ---- faults, host_runtime.cpp ------------------------------------------------------------- */

#define HC_SHOWN extern "C" __attribute__((visibility("default")))

/* From now on a healthy card, whose n-th call ends with an error: "once", "late" (told by the next
 * wait; the device is lost), "always" (and every later cudaMalloc too). 0: none. */
HC_SHOWN void hc_fail_at(long n, int error, const char *how);
HC_SHOWN long hc_calls(void);               /* since then */
HC_SHOWN const char *hc_failed(void);       /* the call's or kernel's name; NULL: none failed */
HC_SHOWN size_t hc_left(void);              /* bytes allocated, device and pinned */
HC_SHOWN void hc_dry_run(int dry);          /* kernels and products do nothing */
HC_SHOWN void hc_give_back_all(void);       /* as the end of the process would */

extern bool hc_dry;
cudaError_t hc_injected(const char *call);

/* ---- memory, host_memory.cpp -------------------------------------------------------------- */

enum HcKind { HC_DEVICE = 1, HC_PINNED = 2 };

void *hc_take(HcKind kind, size_t bytes);           /* NULL: no room */
size_t hc_give_back(HcKind kind, void *p);          /* how many bytes it had */
size_t hc_held(HcKind kind);

/* True: the bytes lie in device memory that is still allocated. Pinned: in cudaHostAlloc's. */
bool hc_on_device(const void *p, size_t bytes);
bool hc_pinned(const void *p, size_t bytes);

/* Accesses outside kernels: the first ends the program when a byte was never written. */
void hc_reads(const void *p, size_t bytes);
void hc_writes(const void *p, size_t bytes);

/* Written or not: from now on unwritten. For slabs whose parts are used again. */
HC_SHOWN void hc_forget(void *p, size_t bytes);

/* A block begins or passed a barrier: what was touched before is no race any more. */
void hc_new_phase(void);
const char *hc_kernel_name(void);
void *hc_shared_room(size_t offset, size_t bytes);  /* in the block's shared memory, unwritten */
void  hc_shared_clear(void);                        /* all of it is nobody's */
enum { HC_SHARED = 256 << 10 };

#endif
