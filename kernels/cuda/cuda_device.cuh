/* cuda_device.cuh - what all kernels are written with: launch, shared memory, types, matrix tiles.
 *
 * The same files compile with nvcc and, for tests without a GPU, as plain C++ against the stand-in
 * in tests/cuda_host (AD_CUDA_HOST). Therefore: launches and shared memory by the macros here, and
 * every instruction that has no meaning in C++ is one small function with a plain twin.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CUDA_DEVICE_CUH
#define AD_CUDA_DEVICE_CUH

#include <string.h>

#include <cuda_runtime.h>

extern "C" {
#include "../backend.h"
}

/* ---- launch and shared memory ------------------------------------------------------------- */

#ifdef AD_CUDA_HOST
#define AD_LAUNCH(kernel, grid, block, bytes, stream, ...) \
    hc_call(#kernel, kernel, grid, block, bytes, stream, __VA_ARGS__)
#define AD_DYN_SHARED(T, name)   T *name = (T *)(void *)hc_dynamic_shared()
#define AD_SHARED(T, name, n)                                                           \
    static char name##_site;                                                            \
    T *name = (T *)hc_static_shared(&name##_site, sizeof(T) * (n))
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define AD_LAUNCH(kernel, grid, block, bytes, stream, ...) \
    kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__)
#define AD_DYN_SHARED(T, name) \
    extern __shared__ __align__(16) unsigned char ad_dyn_shared[]; T *name = (T *)ad_dyn_shared
#define AD_SHARED(T, name, n)    __shared__ T name[n]
#endif

#define AD_FULL_WARP 0xffffffffu

/* ---- element types ------------------------------------------------------------------------ */

#ifdef AD_CUDA_HOST
struct AdHalf { uint16_t bits; };
struct AdBf16 { uint16_t bits; };
static inline float ad_float(AdHalf x) { return ad_half_to_float(x.bits); }
static inline float ad_float(AdBf16 x) { return ad_bf16_to_float(x.bits); }
static inline void  ad_set(AdHalf &to, float x) { to.bits = ad_float_to_half(x); }
static inline void  ad_set(AdBf16 &to, float x) { to.bits = ad_float_to_bf16(x); }
#else
typedef __half        AdHalf;
typedef __nv_bfloat16 AdBf16;
static __device__ __forceinline__ float ad_float(AdHalf x) { return __half2float(x); }
static __device__ __forceinline__ float ad_float(AdBf16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ void  ad_set(AdHalf &to, float x) { to = __float2half_rn(x); }
static __device__ __forceinline__ void  ad_set(AdBf16 &to, float x) { to = __float2bfloat16_rn(x); }
#endif
static __device__ __forceinline__ float ad_float(float x) { return x; }
static __device__ __forceinline__ void  ad_set(float &to, float x) { to = x; }

/* V neighbouring elements in one load: 16 bytes where sizes and addresses allow, else one. */
template <typename T, int V> struct alignas(sizeof(T) * V) AdVec { T v[V]; };

template <typename T> struct AdWide { enum { n = 16 / sizeof(T) }; };

/* Both of a pair in one register, lower first: the operands of the matrix unit. */
template <typename T> static __device__ __forceinline__ uint32_t ad_pack2(float lo, float hi)
{
    AdVec<T, 2> pair;
    uint32_t bits;

    ad_set(pair.v[0], lo);
    ad_set(pair.v[1], hi);
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
}

/* ---- arithmetic --------------------------------------------------------------------------- */

static __device__ __forceinline__ float ad_exp2(float x)
{
#ifdef AD_CUDA_HOST
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

static __device__ __forceinline__ float ad_activate(AdAct act, float x)
{
    switch (act) {
    case AD_ACT_SILU:       return x / (1 + expf(-x));
    case AD_ACT_GELU:       return 0.5f * x * (1 + erff(x * 0.70710678f));
    case AD_ACT_QUICK_GELU: return x / (1 + expf(-1.702f * x));
    default:                return x;
    }
}

static __device__ __forceinline__ float ad_warp_sum(float x)
{
    for (int m = 16; m; m >>= 1)
        x += __shfl_xor_sync(AD_FULL_WARP, x, m);
    return x;
}

static __device__ __forceinline__ float ad_warp_max(float x)
{
    for (int m = 16; m; m >>= 1)
        x = fmaxf(x, __shfl_xor_sync(AD_FULL_WARP, x, m));
    return x;
}

/* ---- matrix tiles ------------------------------------------------------------------------- */

/* Lane L of a warp holds of a 16x8 tile of results rows L/4 (c[0], c[1]) and L/4 + 8 (c[2], c[3]),
 * columns L%4*2 and the next. Of a [16 x 16]: a[0] row L/4, k = L%4*2; a[1] row + 8; a[2] k + 8;
 * a[3] both. Of b [16 x 8]: b[0] column L/4, k = L%4*2; b[1] k + 8. */

#ifdef AD_CUDA_HOST

/* Every lane brings its numbers as floats; each then adds up the products of its four results. */
template <typename T>
static inline void ad_mma_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    struct Fragment { float a[4][2], b[2][2]; } mine, left, right[2];
    unsigned lane = hc_now->lane;
    T own[12];

    memcpy(own, a, sizeof(a));
    memcpy(own + 8, b, sizeof(b));
    for (int i = 0; i < 8; i++)
        mine.a[i / 2][i % 2] = ad_float(own[i]);
    for (int i = 0; i < 4; i++)
        mine.b[i / 2][i % 2] = ad_float(own[8 + i]);
    const char *all = hc_exchange(&mine, sizeof(mine));
    for (unsigned q = 0; q < 4; q++) {          /* lanes 4r + q hold k = 2q, 2q + 1, and 8 more */
        memcpy(&left, all + (lane / 4 * 4 + q) * HC_SLOT, sizeof(left));
        for (unsigned j = 0; j < 2; j++)
            memcpy(&right[j], all + ((lane % 4 * 2 + j) * 4 + q) * HC_SLOT, sizeof(right[j]));
        for (unsigned i = 0; i < 4; i++)
            for (unsigned k = 0; k < 4; k++)
                c[i] += left.a[k / 2 * 2 + i / 2][k % 2] * right[i % 2].b[k / 2][k % 2];
    }
}

/* Four 8x8 matrices of 16-bit numbers; lanes 8i..8i+7 bring the addresses of matrix i's rows. Lane
 * L gets of matrix i the pair at row L/4, columns L%4*2, in r[i]; of the transposed one the
 * same. */
static inline void ad_load_tiles(uint32_t (&r)[4], const void *row, bool transposed)
{
    const char *all = hc_exchange(&row, sizeof(row));
    unsigned lane = hc_now->lane;

    if ((uintptr_t)row % 16)
        hc_die("a row of a matrix tile at an odd address");
    for (unsigned i = 0; i < 4; i++) {
        uint16_t pair[2];

        for (unsigned j = 0; j < 2; j++) {
            unsigned y = lane / 4, x = lane % 4 * 2 + j;
            const uint16_t *from;

            memcpy(&from, all + (i * 8 + (transposed ? x : y)) * HC_SLOT, sizeof(from));
            pair[j] = from[transposed ? y : x];
        }
        memcpy(&r[i], pair, sizeof(pair));
    }
    hc_exchange(NULL, 0);               /* nobody writes shared memory before all have read */
}

static inline void ad_copy_async16(void *to, const void *from, bool there)
{
    hc_copy_async16(to, from, there);
}
static inline void ad_copy_commit(void)                 { hc_copy_commit(); }
template <int N> static inline void ad_copy_wait(void)  { hc_copy_wait(N); }

#else

template <typename T> struct AdMma;

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define AD_MMA(T, name)                                                                          \
    template <> struct AdMma<T> {                                                                \
        static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4],        \
                                                   const uint32_t (&b)[2])                       \
        {                                                                                        \
            asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                   \
                "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                          \
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                 \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));             \
        }                                                                                        \
    };
AD_MMA(AdHalf, "f16")
AD_MMA(AdBf16, "bf16")
#else
template <> struct AdMma<AdHalf> {      /* sm_75 has half the depth */
    static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        for (int i = 0; i < 2; i++)
            asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
    }
};
template <> struct AdMma<AdBf16> {      /* refused when the device is opened */
    static __device__ __forceinline__ void run(float (&)[4], const uint32_t (&)[4],
                                               const uint32_t (&)[2]) {}
};
#endif

template <typename T>
static __device__ __forceinline__ void ad_mma_16816(float (&c)[4], const uint32_t (&a)[4],
                                                    const uint32_t (&b)[2])
{
    AdMma<T>::run(c, a, b);
}

static __device__ __forceinline__ uint32_t ad_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void ad_load_tiles(uint32_t (&r)[4], const void *row,
                                                     bool transposed)
{
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(ad_shared_address(row)) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(ad_shared_address(row)) : "memory");
}

/* 16 bytes from device to shared memory, zeros when not there; usable after commit and wait. */
static __device__ __forceinline__ void ad_copy_async16(void *to, const void *from, bool there)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(ad_shared_address(to)), "l"(from), "r"(there ? 16 : 0) : "memory");
#else
    *(uint4 *)to = there ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
#endif
}

static __device__ __forceinline__ void ad_copy_commit(void)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int N> static __device__ __forceinline__ void ad_copy_wait(void)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
#endif
}

#endif

#endif
