/* host_runtime.cpp - devices, streams and errors of the stand-in.
 *
 * Streams compute at once. AD_HOST_MEMORY=bytes is the card's memory, AD_HOST_FAIL=n makes
 * the n-th call fail: "n:2" with error 2, "n:700" and all after it with error 700. A program can
 * ask for more (hc_fail_at).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "cuda_runtime.h"

void hc_run_kernel(const char *, dim3, dim3, size_t, const std::function<void()> &);

enum { DEVICES = 2 };

struct HcStream { int device; };
struct HcEvent  { int device; };

static thread_local cudaError_t last;

/* What lives on the device: it goes with it, for nobody destroys things on a lost one. */
template <class T> struct Living {
    std::mutex   guard;
    std::set<T *> all;

    T *make()
    {
        std::lock_guard<std::mutex> lock(guard);
        return *all.insert(new T()).first;
    }
    void destroy(T *one)
    {
        std::lock_guard<std::mutex> lock(guard);
        if (!all.erase(one))
            hc_die("a stream or event is destroyed that is none");
        delete one;
    }
    void destroy_all()
    {
        for (T *one : all)
            delete one;
        all.clear();
    }
};

static Living<HcStream> streams;
static Living<HcEvent>  events;

/* ---- errors ------------------------------------------------------------------------------- */

static struct {
    long        calls, at;      /* so many so far; the one that fails, 0: none */
    cudaError_t error;
    bool        late, always;   /* at the next wait instead; allocations from then on too */
    cudaError_t dead, pending;  /* lost: what everything returns; lost, but nobody knows */
    const char *failed;         /* name of the call */
} faults;

bool hc_dry;

void hc_fail_at(long n, int error, const char *how)
{
    if (faults.dead) {
        streams.destroy_all();
        events.destroy_all();
    }
    faults = {};
    faults.at     = n;
    faults.error  = (cudaError_t)error;
    faults.late   = !strcmp(how, "late");
    faults.always = !strcmp(how, "always");
    last = cudaSuccess;
}

void hc_dry_run(int dry)        { hc_dry = dry; }
long hc_calls(void)             { return faults.calls; }
const char *hc_failed(void)     { return faults.failed; }
size_t hc_left(void)            { return hc_held(HC_DEVICE) + hc_held(HC_PINNED); }

static void read_plan(void)
{
    const char *plan = getenv("AD_HOST_FAIL"), *colon = plan ? strchr(plan, ':') : NULL;

    if (plan)
        hc_fail_at(atol(plan), colon ? atoi(colon + 1) : cudaErrorMemoryAllocation, "once");
}

/* The error this call shall end with. */
cudaError_t hc_injected(const char *call)
{
    static std::once_flag once;
    bool waits = !strcmp(call, "cudaStreamQuery") || !strcmp(call, "cudaEventQuery");

    std::call_once(once, read_plan);
    if (waits && faults.pending)
        faults.dead = faults.pending;
    if (faults.dead)
        return faults.dead;
    faults.calls++;
    if (!faults.at || faults.calls < faults.at)
        return cudaSuccess;
    if (faults.calls > faults.at)
        return faults.always && !strcmp(call, "cudaMalloc") ? faults.error : cudaSuccess;
    faults.failed = call;
    if (faults.late) {
        faults.pending = faults.error;
        return cudaSuccess;
    }
    if (faults.error >= 700)
        faults.dead = faults.error;
    return faults.error;
}

static cudaError_t report(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last = e;
    return e;
}

#define MAY_FAIL()                                                                      \
    do {                                                                                \
        cudaError_t e_ = hc_injected(__func__);                                         \
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

    last = faults.dead;
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
    *free  = *total > hc_held(HC_DEVICE) ? *total - hc_held(HC_DEVICE) : 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGraphMemTrim(int)
{
    MAY_FAIL();
    return cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = NULL;
    MAY_FAIL();
    if (hc_held(HC_DEVICE) + bytes > card_memory() || !(*p = hc_take(HC_DEVICE, bytes)))
        return report(cudaErrorMemoryAllocation);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    MAY_FAIL();
    if (p)
        hc_give_back(HC_DEVICE, p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    *p = NULL;
    MAY_FAIL();
    *p = hc_take(HC_PINNED, bytes);
    return *p ? cudaSuccess : report(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    MAY_FAIL();
    if (p)
        hc_give_back(HC_PINNED, p);
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
    hc_reads(from, bytes);
    memcpy(to, from, bytes);
    hc_writes(to, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    MAY_FAIL();
    if (!stream || !hc_on_device(p, bytes))
        hc_die("memset of %zu bytes: default stream, or not in device memory", bytes);
    memset(p, value, bytes);
    hc_writes(p, bytes);
    return cudaSuccess;
}

/* ---- streams and events ------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    *s = NULL;
    MAY_FAIL();
    if (flags != cudaStreamNonBlocking)
        hc_die("a stream that waits for the default stream");
    *s = streams.make();
    return cudaSuccess;
}

/* What is destroyed is gone, whatever the answer. */
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    streams.destroy(s);
    MAY_FAIL();
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t)     { MAY_FAIL(); return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = NULL;
    MAY_FAIL();
    *e = events.make();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    events.destroy(e);
    MAY_FAIL();
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)   { MAY_FAIL(); return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t)                  { MAY_FAIL(); return cudaSuccess; }

/* ---- launches ----------------------------------------------------------------------------- */

void hc_launch(const char *name, dim3 grid, dim3 block, size_t bytes, cudaStream_t stream,
               const std::function<void()> &kernel)
{
    unsigned threads = block.x * block.y * block.z;
    cudaError_t e = hc_injected(name);

    if (!stream)
        hc_die("%s: launched on the default stream", name);
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 ||
        grid.y > 65535 || grid.z == 0 || grid.z > 65535 || bytes > (48 << 10))
        hc_die("%s: grid %u,%u,%u, %u threads, %zu bytes of shared memory", name, grid.x, grid.y,
               grid.z, threads, bytes);
    if (e != cudaSuccess)
        report(e);
    else if (!hc_dry)
        hc_run_kernel(name, grid, block, bytes, kernel);
}
