/* faulty.cu - kernels with one fault each: does the stand-in see it?
 *
 * A program of its own, compiled as the CUDA backend's files are. Every case runs in a child
 * process that has to end with the sentence; a kernel without a fault has to end without one.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../kernels/cuda/cuda_device.cuh"

enum { N = 64 };

static cudaStream_t stream;
static float *data;             /* N numbers on the device, the first half written */

/* ---- kernels ------------------------------------------------------------------------------ */

__global__ void k_right(float *p)
{
    AD_SHARED(float, both, N);
    unsigned i = threadIdx.x;

    both[i] = p[i % 32];
    __syncthreads();
    p[i] = both[N - 1 - i];
}

__global__ void k_beyond(float *p)      { p[threadIdx.x + 1] = 1; }
__global__ void k_before(float *p)      { p[threadIdx.x] = p[(int)threadIdx.x - 1]; }
__global__ void k_unwritten(float *p)   { p[threadIdx.x] = p[N - 1 - threadIdx.x]; }

__global__ void k_no_barrier(float *p)
{
    AD_SHARED(float, both, N);

    both[threadIdx.x] = 1;
    p[threadIdx.x] = both[N - 1 - threadIdx.x];
}

__global__ void k_early_overwrite(float *p)
{
    AD_SHARED(float, both, N);

    both[threadIdx.x] = 1;
    __syncthreads();
    p[threadIdx.x] = both[N - 1 - threadIdx.x];
    both[threadIdx.x] = 2;
}

__global__ void k_shared_beyond(float *p)
{
    AD_SHARED(float, both, N);

    both[threadIdx.x + 1] = 1;
    p[threadIdx.x] = 1;
}

__global__ void k_shared_unwritten(float *p)
{
    AD_SHARED(float, both, N);

    p[threadIdx.x] = both[threadIdx.x];
}

__global__ void k_no_wait(float *p)
{
    AD_SHARED(float, all, N);

    if (threadIdx.x < 8)
        ad_copy_async16(all + threadIdx.x * 4, p + threadIdx.x * 4, true);
    ad_copy_commit();
    __syncthreads();
    p[threadIdx.x] = all[threadIdx.x % 32];
}

__global__ void k_lonely_barrier(float *p)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        p[threadIdx.x] = ad_warp_sum(threadIdx.x == 40 ? 0 : 1);
    if (threadIdx.x == 33)
        ad_warp_sum(1);
}

/* ---- cases -------------------------------------------------------------------------------- */

static void run(void (*kernel)(float *))
{
    AD_LAUNCH(kernel, dim3(1), dim3(N), 0, stream, data);
}

static void on_default_stream(void) { AD_LAUNCH(k_right, dim3(1), dim3(N), 0, NULL, data); }
static void too_many_threads(void)  { AD_LAUNCH(k_right, dim3(1), dim3(1025), 0, stream, data); }
static void right(void)             { run(k_right); }
static void beyond(void)            { run(k_beyond); }
static void before(void)            { run(k_before); }
static void unwritten(void)         { run(k_unwritten); }
static void no_barrier(void)        { run(k_no_barrier); }
static void early_overwrite(void)   { run(k_early_overwrite); }
static void shared_beyond(void)     { run(k_shared_beyond); }
static void shared_unwritten(void)  { run(k_shared_unwritten); }
static void no_wait(void)           { run(k_no_wait); }
static void lonely_barrier(void)    { run(k_lonely_barrier); }

static void freed(void)
{
    float *was = data;

    cudaFree(data);
    AD_LAUNCH(k_right, dim3(1), dim3(N), 0, stream, was);
}

static void forgotten(void)
{
    hc_forget(data, N * sizeof(float));
    run(k_right);
}

static void downloaded(void)
{
    void *pinned;

    cudaHostAlloc(&pinned, N * sizeof(float), 0);
    cudaMemcpyAsync(pinned, data, N * sizeof(float), cudaMemcpyDeviceToHost, stream);
}

static void from_the_heap(void)
{
    float numbers[N] = { 0 };

    cudaMemcpyAsync(data, numbers, sizeof(numbers), cudaMemcpyHostToDevice, stream);
}

/* The address sanitizer's build sees no unwritten bytes and no races: their sentences are NULL. */
#if defined(__SANITIZE_ADDRESS__)
#define HOOKS(sentence)   NULL
#define OUTSIDE(sentence) "AddressSanitizer"
#else
#define HOOKS(sentence)   sentence
#define OUTSIDE(sentence) sentence
#endif

static const struct { const char *name, *sentence; void (*run)(void); } cases[] = {
    { "a right kernel ends well", "", right },
    { "a write behind an allocation", OUTSIDE("4 bytes written outside"), beyond },
    { "a read before an allocation", OUTSIDE("4 bytes read outside"), before },
    { "a read of what was freed", OUTSIDE("4 bytes read outside"), freed },
    { "a read of what was never written", HOOKS("4 bytes read and never written"), unwritten },
    { "a read of a slab's part that is used again", HOOKS("read and never written"), forgotten },
    { "a download of what was never written", HOOKS("read and never written"), downloaded },
    { "a copy from memory that is not pinned", "not in device or pinned memory", from_the_heap },
    { "a missing barrier", HOOKS("read"), no_barrier },
    { "an overwrite before all have read", HOOKS("while another thread"),
      early_overwrite },
    { "a write behind shared memory", OUTSIDE("byte 768 of shared memory"), shared_beyond },
    { "a read of shared memory that the block has not written", HOOKS("read and never written"),
      shared_unwritten },
    { "a copy that is not waited for", HOOKS("read and never written"), no_wait },
    { "a barrier that not all reach", "waits for ever", lonely_barrier },
    { "a launch on the default stream", "launched on the default stream", on_default_stream },
    { "a launch of too many threads", "1025 threads", too_many_threads },
};

/* Half of the numbers written, then the case. */
static void child(void (*fault)(void))
{
    void *pinned;

    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMalloc((void **)&data, N * sizeof(float));
    cudaHostAlloc(&pinned, N / 2 * sizeof(float), 0);
    memset(pinned, 0, N / 2 * sizeof(float));
    cudaMemcpyAsync(data, pinned, N / 2 * sizeof(float), cudaMemcpyHostToDevice, stream);
    fault();
    _exit(0);
}

/* What the child wrote to stderr; true: it ended well. */
static bool ended_well(void (*fault)(void), char *said, size_t size)
{
    int ends[2], status = 0;
    size_t n = 0;
    ssize_t more;
    pid_t pid;

    if (pipe(ends) || (pid = fork()) < 0)
        return false;
    if (!pid) {
        dup2(ends[1], 2);
        close(ends[0]);
        child(fault);
    }
    close(ends[1]);
    while ((more = read(ends[0], said + n, size - 1 - n)) > 0)
        n += (size_t)more;
    said[n] = 0;
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void)
{
    static char said[64 << 10];
    int failed = 0;

    for (const auto &c : cases) {
        bool well, right;

        if (!c.sentence)
            continue;
        well  = ended_well(c.run, said, sizeof(said));
        right = *c.sentence ? !well && strstr(said, c.sentence) : well;
        if (right)
            printf("ok - stand-in: %s\n", c.name);
        else
            printf("not ok - stand-in: %s: %s, \"%.200s\"\n", c.name,
                   well ? "ended well" : "failed", said);
        failed += !right;
    }
    return failed != 0;
}
