/* host_runtime.cpp - device memory, streams and errors of the stand-in.
 *
 * Streams compute at once. A new allocation is full of ones, which is not a number in any type,
 * and has guards on both sides that are looked at when it is freed (under the address sanitizer
 * they cannot be touched at all). AD_HOST_MEMORY=bytes is the card's memory, AD_HOST_FAIL=n makes
 * the n-th call fail: "n:2" with error 2, "n:700" and all after it with error 700.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

void hc_run_kernel(const char *, dim3, dim3, size_t, const std::function<void()> &);

enum { GUARD = 256, DEVICES = 2 };

struct HcStream { int device; };
struct HcEvent  { int device; };

static std::mutex lock;
static std::map<const char *, size_t> device_memory, pinned_memory;
static size_t held;
static long calls;
static thread_local cudaError_t last;
static bool dead;

/* ---- errors ------------------------------------------------------------------------------- */

/* The error this call shall end with: the next number in AD_HOST_FAIL. */
static cudaError_t injected(void)
{
    const char *plan = getenv("AD_HOST_FAIL");
    long at = plan ? atol(plan) : 0;
    const char *colon = plan ? strchr(plan, ':') : NULL;
    cudaError_t error = colon ? (cudaError_t)atoi(colon + 1) : cudaErrorMemoryAllocation;

    if (dead)
        return cudaErrorIllegalAddress;
    if (!plan) {
        calls = 0;
        return cudaSuccess;
    }
    if (++calls != at)
        return cudaSuccess;
    dead = error >= 700;
    return error;
}

static cudaError_t report(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last = e;
    return e;
}

#define MAY_FAIL()                                                                      \
    do {                                                                                \
        cudaError_t e_ = injected();                                                    \
        if (e_ != cudaSuccess)                                                          \
            return report(e_);                                                          \
    } while (0)

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:               return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice:    return "invalid device ordinal";
    case cudaErrorIllegalAddress:   return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:    return "unspecified launch failure";
    default:                        return "invalid argument";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;

    last = dead ? cudaErrorIllegalAddress : cudaSuccess;
    return e;
}

/* ---- devices ------------------------------------------------------------------------------ */

static size_t card_memory(void)
{
    const char *bytes = getenv("AD_HOST_MEMORY");

    return bytes ? strtoull(bytes, NULL, 10) : (size_t)4 << 30;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    MAY_FAIL();
    *n = DEVICES;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int index)
{
    const char *capability = getenv("AD_HOST_CAPABILITY");

    MAY_FAIL();
    if (index < 0 || index >= DEVICES)
        return report(cudaErrorInvalidDevice);
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof(p->name), "stand-in without a GPU");
    p->totalGlobalMem = card_memory();
    p->major = capability ? atoi(capability) / 10 : 9;
    p->minor = capability ? atoi(capability) % 10 : 0;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int index)
{
    MAY_FAIL();
    return index < 0 || index >= DEVICES ? report(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    MAY_FAIL();
    *total = card_memory();
    *free  = *total > held ? *total - held : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGraphMemTrim(int)
{
    MAY_FAIL();
    return cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------- */

static bool inside(const std::map<const char *, size_t> &all, const void *p, size_t bytes)
{
    std::lock_guard<std::mutex> hold(lock);
    auto it = all.upper_bound((const char *)p);

    if (it == all.begin())
        return false;
    --it;
    return (const char *)p + bytes <= it->first + it->second;
}

bool hc_on_device(const void *p, size_t bytes) { return inside(device_memory, p, bytes); }
bool hc_pinned(const void *p, size_t bytes)    { return inside(pinned_memory, p, bytes); }

static void *guarded(std::map<const char *, size_t> &all, size_t bytes)
{
    size_t room = (bytes + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
    char *p = (char *)aligned_alloc(GUARD, room);

    if (!p)
        return NULL;
    memset(p, 0xff, room);
    memset(p, 0xa5, GUARD);
    memset(p + GUARD + bytes, 0xa5, room - GUARD - bytes);
    ASAN_POISON_MEMORY_REGION(p, GUARD);
    ASAN_POISON_MEMORY_REGION(p + GUARD + bytes, room - GUARD - bytes);
    std::lock_guard<std::mutex> hold(lock);
    all[p + GUARD] = bytes;
    return p + GUARD;
}

static void release(std::map<const char *, size_t> &all, void *p)
{
    std::lock_guard<std::mutex> hold(lock);
    auto it = all.find((char *)p);

    if (it == all.end())
        hc_die("freed, but never allocated: %p", p);
    size_t bytes = it->second, room = (bytes + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
    char *base = (char *)p - GUARD;

    ASAN_UNPOISON_MEMORY_REGION(base, room);
    for (size_t i = 0; i < room; i++)
        if ((i < GUARD || i >= GUARD + bytes) && base[i] != (char)0xa5)
            hc_die("byte %ld of an allocation of %zu was written", (long)i - GUARD, bytes);
    all.erase(it);
    free(base);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = NULL;
    MAY_FAIL();
    if (held + bytes > card_memory() || !(*p = guarded(device_memory, bytes)))
        return report(cudaErrorMemoryAllocation);
    held += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    MAY_FAIL();
    if (p) {
        held -= device_memory[(char *)p];
        release(device_memory, p);
    }
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = NULL;
    MAY_FAIL();
    *p = guarded(pinned_memory, bytes);
    return *p ? cudaSuccess : report(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    MAY_FAIL();
    if (p)
        release(pinned_memory, p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    MAY_FAIL();
    if (!stream)
        hc_die("copy on the default stream");
    if (kind == cudaMemcpyHostToDevice ? !hc_on_device(to, bytes) || !hc_pinned(from, bytes)
      : kind == cudaMemcpyDeviceToHost ? !hc_pinned(to, bytes) || !hc_on_device(from, bytes)
                                       : !hc_on_device(to, bytes) || !hc_on_device(from, bytes))
        hc_die("copy of %zu bytes, kind %d: not in device or pinned memory", bytes, (int)kind);
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    MAY_FAIL();
    if (!stream || !hc_on_device(p, bytes))
        hc_die("memset of %zu bytes: default stream, or not in device memory", bytes);
    memset(p, value, bytes);
    return cudaSuccess;
}

/* ---- streams and events ------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    *s = NULL;
    MAY_FAIL();
    if (flags != cudaStreamNonBlocking)
        hc_die("a stream that waits for the default stream");
    *s = new HcStream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) { MAY_FAIL(); delete s; return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t)     { MAY_FAIL(); return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = NULL;
    MAY_FAIL();
    *e = new HcEvent();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    MAY_FAIL();
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)   { MAY_FAIL(); return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t)                  { MAY_FAIL(); return cudaSuccess; }

/* ---- launches ----------------------------------------------------------------------------- */

void hc_launch(const char *name, dim3 grid, dim3 block, size_t bytes, cudaStream_t stream,
               const std::function<void()> &kernel)
{
    unsigned threads = block.x * block.y * block.z;
    cudaError_t e = injected();

    if (!stream)
        hc_die("%s: launched on the default stream", name);
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 ||
        grid.y > 65535 || grid.z == 0 || grid.z > 65535 || bytes > (48 << 10))
        hc_die("%s: grid %u,%u,%u, %u threads, %zu bytes of shared memory", name, grid.x, grid.y,
               grid.z, threads, bytes);
    if (e != cudaSuccess)
        report(e);
    else
        hc_run_kernel(name, grid, block, bytes, kernel);
}
