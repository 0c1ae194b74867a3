/* cuda_conv.cu - convolution as a matrix product whose left side is gathered on the way.
 *
 * out[m, o] = sum over k of x[position of (m, tap), channel] w[o, k]; m counts output pixels, k
 * runs over taps and channels. Tiles of 128 x 64 results on the matrix units for 16-bit types,
 * 64 x 64 with plain multiply-adds for f32. The same kernels multiply matrices (one tap).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "cuda_backend.h"

typedef struct ConvShape {
    const void *x, *w, *b, *residual;
    void       *out;
    int64_t     m;              /* output pixels */
    int         h, wide, ci, oh, ow, co, kw, k, stride, left, top;
} ConvShape;

/* ---- kernels ------------------------------------------------------------------------------ */

/* Where a row of the left side looks: first pixel of the picture and corner; m past it: none. */
struct Corner { int64_t picture; int y, x; };

static __device__ __forceinline__ Corner corner_of(const ConvShape &s, int64_t m)
{
    Corner c;

    c.picture = m < s.m ? m / ((int64_t)s.oh * s.ow) * s.h * s.wide : -1;
    c.y = (int)(m / s.ow % s.oh) * s.stride - s.top;
    c.x = (int)(m % s.ow) * s.stride - s.left;
    return c;
}

/* Offset in x of element k of the row, or -1 for padding. */
static __device__ __forceinline__ int64_t source(const ConvShape &s, const Corner &c, int k)
{
    int tap = k / s.ci, y = c.y + tap / s.kw, x = c.x + tap % s.kw;
    bool there = k < s.k && c.picture >= 0 && y >= 0 && y < s.h && x >= 0 && x < s.wide;

    return there ? (c.picture + (int64_t)y * s.wide + x) * s.ci + k % s.ci : -1;
}

template <typename T>
static __device__ __forceinline__ void finish(const ConvShape &s, int64_t m, int o, float y)
{
    if (m >= s.m || o >= s.co)
        return;
    if (s.residual)
        y += ad_float(((const T *)s.residual)[m * s.co + o]);
    if (s.b)
        y += ad_float(((const T *)s.b)[o]);
    ad_set(((T *)s.out)[m * s.co + o], y);
}

enum { TM = 128, TN = 64, TK = 32, LINE = TK + 8, STAGE = (TM + TN) * LINE };

/* One k-slice of both sides into shared memory. V = 8: a vector lies in one tap, async copies. */
template <typename T, int V>
static __device__ __forceinline__ void load_slice(const ConvShape &s, const Corner (&corner)[2],
                                                  T *to, int k0)
{
    int t = threadIdx.x, k = t % 4 * 8, o = blockIdx.y * TN + t / 4;

#pragma unroll
    for (int i = 0; i < 3; i++) {               /* rows t/4 and + 64 of x, row t/4 of w */
        T *line = to + (i * 64 + t / 4) * LINE + k;

        for (int j = 0; j < 8; j += V) {
            int64_t from = i < 2 ? source(s, corner[i], k0 + k + j)
                         : o < s.co && k0 + k + j < s.k ? (int64_t)o * s.k + k0 + k + j : -1;
            const T *base = (const T *)(i < 2 ? s.x : s.w);

            if (V == 8)
                ad_copy_async16(line, base + (from < 0 ? 0 : from), from >= 0);
            else if (from >= 0)
                line[j] = base[from];
            else
                ad_set(line[j], 0);
        }
    }
    ad_copy_commit();
}

/* 8 warps, 4 x 2, of 32 x 32 results each. Two slices in shared memory: one arrives, one is
 * used. */
template <typename T, int V> __global__ void __launch_bounds__(256) k_conv(ConvShape s)
{
    typedef AdVec<T, 8> Memory;
    AD_SHARED(Memory, memory, 2 * STAGE / 8);
    T *shared = memory[0].v;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int wm = warp / 2 * 32, wn = warp % 2 * 32, row = threadIdx.x / 4;
    int64_t m0 = (int64_t)blockIdx.x * TM;
    Corner corner[2] = { corner_of(s, m0 + row), corner_of(s, m0 + row + 64) };
    float c[2][4][4] = { { { 0 } } };

    load_slice<T, V>(s, corner, shared, 0);
    for (int k0 = 0, turn = 0; k0 < s.k; k0 += TK, turn ^= 1) {
        const T *a = shared + turn * STAGE, *b = a + TM * LINE;

        if (k0 + TK < s.k)
            load_slice<T, V>(s, corner, shared + (turn ^ 1) * STAGE, k0 + TK);
        else
            ad_copy_commit();
        ad_copy_wait<1>();
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TK; k += 16) {
            uint32_t af[2][4], bf[4][2], both[4];

            for (int i = 0; i < 2; i++)
                ad_load_tiles(af[i], a + (wm + i * 16 + lane % 16) * LINE + k + lane / 16 * 8,
                              false);
            for (int j = 0; j < 4; j += 2) {    /* columns j*8 .. j*8+15: k, k+8 of each eight */
                ad_load_tiles(both, b + (wn + j * 8 + lane / 16 * 8 + lane % 8) * LINE + k +
                              lane / 8 % 2 * 8, false);
                bf[j][0] = both[0];
                bf[j][1] = both[1];
                bf[j + 1][0] = both[2];
                bf[j + 1][1] = both[3];
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    ad_mma_16816<T>(c[i][j], af[i], bf[j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 4; e++)
                finish<T>(s, m0 + wm + i * 16 + lane / 4 + e / 2 * 8,
                          blockIdx.y * TN + wn + j * 8 + lane % 4 * 2 + e % 2, c[i][j][e]);
}

/* f32: 64 x 64 results, 16 deep, 4 x 4 per thread; exact f32 products. Sums of 16 are added to the
 * whole: one long row of additions loses a digit where a norm over few numbers follows. */
__global__ void __launch_bounds__(256) k_conv_f32(ConvShape s)
{
    enum { SIDE = 64, DEEP = 16 };
    AD_SHARED(float, a, DEEP * (SIDE + 1));
    AD_SHARED(float, b, DEEP * (SIDE + 1));
    int t = threadIdx.x, tm = t / 16, tn = t % 16, row = t / 4;
    int64_t m0 = (int64_t)blockIdx.x * SIDE;
    int o = blockIdx.y * SIDE + row;
    Corner corner = corner_of(s, m0 + row);
    float c[4][4] = { { 0 } };

    for (int k0 = 0; k0 < s.k; k0 += DEEP) {
        float part[4][4] = { { 0 } };

        for (int i = 0; i < 4; i++) {
            int k = t % 4 * 4 + i;
            int64_t from = source(s, corner, k0 + k);

            a[k * (SIDE + 1) + row] = from >= 0 ? ((const float *)s.x)[from] : 0;
            b[k * (SIDE + 1) + row] = o < s.co && k0 + k < s.k
                                          ? ((const float *)s.w)[(int64_t)o * s.k + k0 + k] : 0;
        }
        __syncthreads();
        for (int k = 0; k < DEEP; k++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    part[i][j] += a[k * (SIDE + 1) + tm + i * 16] * b[k * (SIDE + 1) + tn + j * 16];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                c[i][j] += part[i][j];
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            finish<float>(s, m0 + tm + i * 16, blockIdx.y * SIDE + tn + j * 16, c[i][j]);
}

/* ---- launchers ---------------------------------------------------------------------------- */

template <typename T> static void conv_launch(AdCuda *cu, const ConvShape &s)
{
    dim3 grid((unsigned)((s.m + TM - 1) / TM), (unsigned)((s.co + TN - 1) / TN));

    if (s.ci % 8 == 0 && ((uintptr_t)s.x | (uintptr_t)s.w) % 16 == 0)
        AD_LAUNCH((k_conv<T, 8>), grid, dim3(256), 0, cu->stream, s);
    else
        AD_LAUNCH((k_conv<T, 1>), grid, dim3(256), 0, cu->stream, s);
}

static ConvShape shape_of(const AdConvArgs *a)
{
    ConvShape s;

    memset(&s, 0, sizeof(s));
    s.x        = a->x.data;
    s.w        = a->w.data;
    s.b        = ad_cuda_vector(a->b, a->x.type);
    s.residual = a->residual.data;
    s.out      = a->out.data;
    s.m        = a->out.dim[0] * a->out.dim[1] * a->out.dim[2];
    s.h        = (int)a->x.dim[1];
    s.wide     = (int)a->x.dim[2];
    s.ci       = (int)a->x.dim[3];
    s.oh       = (int)a->out.dim[1];
    s.ow       = (int)a->out.dim[2];
    s.co       = (int)a->out.dim[3];
    s.kw       = (int)a->w.dim[2];
    s.k        = (int)(a->w.dim[1] * a->w.dim[2] * a->w.dim[3]);
    s.stride   = a->stride ? a->stride : 1;
    s.left     = a->pad[0];
    s.top      = a->pad[2];
    return s;
}

AdStatus ad_cuda_own_conv(AdCuda *cu, const AdConvArgs *a)
{
    ConvShape s = shape_of(a);

    if (a->x.type == AD_F16)
        conv_launch<AdHalf>(cu, s);
    else if (a->x.type == AD_BF16)
        conv_launch<AdBf16>(cu, s);
    else
        AD_LAUNCH(k_conv_f32, dim3((unsigned)((s.m + 63) / 64), (unsigned)((s.co + 63) / 64)),
                  dim3(256), 0, cu->stream, s);
    return ad_cuda_launched(cu, "convolution");
}

/* ---- entry point -------------------------------------------------------------------------- */

/* A 1x1 convolution is a matrix product, and libraries are better at those. */
static bool is_linear(const AdConvArgs *a)
{
    return a->w.dim[1] * a->w.dim[2] == 1 && a->stride <= 1 &&
           !(a->pad[0] | a->pad[1] | a->pad[2] | a->pad[3]);
}

AdStatus ad_cuda_conv2d(AdBackend *be, const AdConvArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st;

    if (is_linear(a)) {
        AdLinearArgs linear;

        memset(&linear, 0, sizeof(linear));
        linear.out      = a->out;
        linear.x        = a->x;
        linear.w        = ad_view(a->w, 1, 1, a->w.dim[0], a->w.dim[3]);
        linear.b        = a->b;
        linear.residual = a->residual;
        linear.scratch  = a->scratch;
        return ad_cuda_linear(be, &linear);
    }
    if (a->scratch.need) {
        *a->scratch.need = 0;
        return AD_OK;
    }
    if ((st = ad_cuda_enter(cu)) < 0)
        return st;
    return ad_cuda_own_conv(cu, a);
}
