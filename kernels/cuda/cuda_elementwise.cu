/* cuda_elementwise.cu - one number in, one number out: activations, copies, sums, pixels.
 *
 * All memory bound. 16 bytes per thread where sizes and addresses allow it, one element otherwise.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "cuda_backend.h"

#define BLOCK 256

static dim3 blocks_for(int64_t n)
{
    return dim3((unsigned)((n + BLOCK - 1) / BLOCK));
}

static bool aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* ---- kernels ------------------------------------------------------------------------------ */

static __device__ __forceinline__ int64_t own_index(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* out = act(x) + residual; n in vectors. 2 or 3 accesses per element. */
template <typename T, int V>
__global__ void k_act(AdVec<T, V> *out, const AdVec<T, V> *x, const AdVec<T, V> *residual,
                      int64_t n, AdAct act)
{
    int64_t i = own_index();
    AdVec<T, V> v, r;

    if (i >= n)
        return;
    v = x[i];
    r = residual ? residual[i] : v;
    for (int j = 0; j < V; j++)
        ad_set(v.v[j], ad_activate(act, ad_float(v.v[j])) + (residual ? ad_float(r.v[j]) : 0));
    out[i] = v;
}

/* out[r, :] = x[r, 0..c) * gelu(x[r, c..2c)); c in vectors. */
template <typename T, int V>
__global__ void k_geglu(AdVec<T, V> *out, const AdVec<T, V> *x, int64_t n, int64_t c)
{
    int64_t i = own_index();

    if (i >= n)
        return;
    AdVec<T, V> value = x[i / c * 2 * c + i % c], gate = x[i / c * 2 * c + c + i % c];
    for (int j = 0; j < V; j++)
        ad_set(value.v[j], ad_float(value.v[j]) * ad_activate(AD_ACT_GELU, ad_float(gate.v[j])));
    out[i] = value;
}

/* Nearest neighbour; c in vectors. */
template <typename T, int V>
__global__ void k_upsample(AdVec<T, V> *out, const AdVec<T, V> *in, int64_t n, int h, int w, int oh,
                           int ow, int64_t c)
{
    int64_t i = own_index(), x = i / c % ow, y = i / c / ow % oh, picture = i / c / ow / oh;

    if (i < n)
        out[i] = in[((picture * h + y * h / oh) * w + x * w / ow) * c + i % c];
}

template <typename T>
__global__ void k_gather(T *out, const int *ids, const T *table, const T *extra, const T *pos,
                         int64_t n, int64_t c, int64_t known, int64_t positions)
{
    int64_t i = own_index(), row = i / c, j = i % c;

    if (i >= n)
        return;
    int64_t id = ids[row];
    float x = ad_float(id < known ? table[id * c + j] : extra[(id - known) * c + j]);
    ad_set(out[i], x + ad_float(pos[row % positions * c + j]));
}

struct Any {                    /* numbers of a type known at run time */
    void   *data;
    int64_t count;
    AdType  type;
};

struct Sum {
    Any   out, x[AD_LINCOMB_MAX];
    float coef[AD_LINCOMB_MAX], clamp;
    int   count;
};

static __device__ __forceinline__ float load_any(const Any &a, int64_t i)
{
    switch (a.type) {
    case AD_F32: return ((const float *)a.data)[i];
    case AD_F16: return ad_float(((const AdHalf *)a.data)[i]);
    default:     return ad_float(((const AdBf16 *)a.data)[i]);
    }
}

static __device__ __forceinline__ void store_any(const Any &a, int64_t i, float v)
{
    switch (a.type) {
    case AD_F32: ((float *)a.data)[i] = v; break;
    case AD_F16: ad_set(((AdHalf *)a.data)[i], v); break;
    default:     ad_set(((AdBf16 *)a.data)[i], v);
    }
}

/* The same roundings in the same order as ref: no fused multiply and add. */
__global__ void k_lincomb(Sum s)
{
    int64_t i = own_index();
    float sum = 0;

    if (i >= s.out.count)
        return;
    for (int k = 0; k < s.count; k++)
        sum = __fadd_rn(sum, __fmul_rn(s.coef[k], load_any(s.x[k], i % s.x[k].count)));
    if (s.clamp > 0)
        sum = fminf(fmaxf(sum, -s.clamp), s.clamp);
    store_any(s.out, i, sum);
}

__global__ void k_to_rgb(unsigned char *out, Any x, int64_t first, int64_t n)
{
    int64_t i = own_index();

    if (i >= n)
        return;
    float v = __fadd_rn(__fmul_rn(load_any(x, first + i), 0.5f), 0.5f);
    v = fminf(fmaxf(v, 0.0f), 1.0f);
    out[i] = (unsigned char)rintf(__fmul_rn(v, 255.0f));
}

/* Adds that stop at 2^31 - 1, so that their order does not matter. */
__global__ void k_nonfinite(int *out, Any x)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    int64_t found = 0;

    for (int64_t i = own_index(); i < x.count; i += step) {
        float v = load_any(x, i);
        found += !(fabsf(v) <= 3.402823466e38f);
    }
    for (int old = *out, next; found; old = next) {
        int64_t sum = old + found;

        next = atomicCAS(out, old, (int)(sum < 0x7fffffff ? sum : 0x7fffffff));
        if (next == old)
            break;
    }
}

/* ---- launchers ---------------------------------------------------------------------------- */

template <typename T>
static void act_launch(AdCuda *cu, void *out, const void *x, const void *residual, int64_t n,
                       AdAct act)
{
    enum { V = AdWide<T>::n };

    if (n % V == 0 && aligned(out) && aligned(x) && aligned(residual))
        AD_LAUNCH((k_act<T, V>), blocks_for(n / V), dim3(BLOCK), 0, cu->stream, (AdVec<T, V> *)out,
                  (const AdVec<T, V> *)x, (const AdVec<T, V> *)residual, n / V, act);
    else
        AD_LAUNCH((k_act<T, 1>), blocks_for(n), dim3(BLOCK), 0, cu->stream, (AdVec<T, 1> *)out,
                  (const AdVec<T, 1> *)x, (const AdVec<T, 1> *)residual, n, act);
}

template <typename T>
static void geglu_launch(AdCuda *cu, void *out, const void *x, int64_t rows, int64_t c)
{
    enum { V = AdWide<T>::n };

    if (c % V == 0 && aligned(out) && aligned(x))
        AD_LAUNCH((k_geglu<T, V>), blocks_for(rows * c / V), dim3(BLOCK), 0, cu->stream,
                  (AdVec<T, V> *)out, (const AdVec<T, V> *)x, rows * c / V, c / V);
    else
        AD_LAUNCH((k_geglu<T, 1>), blocks_for(rows * c), dim3(BLOCK), 0, cu->stream,
                  (AdVec<T, 1> *)out, (const AdVec<T, 1> *)x, rows * c, c);
}

template <typename T> static void upsample_launch(AdCuda *cu, const AdUpsampleArgs *a)
{
    enum { V = AdWide<T>::n };
    int h = (int)a->x.dim[1], w = (int)a->x.dim[2];
    int oh = (int)a->out.dim[1], ow = (int)a->out.dim[2];
    int64_t n = ad_count(a->out), c = a->x.dim[3];

    if (c % V == 0 && aligned(a->out.data) && aligned(a->x.data))
        AD_LAUNCH((k_upsample<T, V>), blocks_for(n / V), dim3(BLOCK), 0, cu->stream,
                  (AdVec<T, V> *)a->out.data, (const AdVec<T, V> *)a->x.data, n / V, h, w, oh, ow,
                  c / V);
    else
        AD_LAUNCH((k_upsample<T, 1>), blocks_for(n), dim3(BLOCK), 0, cu->stream,
                  (AdVec<T, 1> *)a->out.data, (const AdVec<T, 1> *)a->x.data, n, h, w, oh, ow, c);
}

template <typename T> static void gather_launch(AdCuda *cu, const AdGatherArgs *a)
{
    AD_LAUNCH((k_gather<T>), blocks_for(ad_count(a->out)), dim3(BLOCK), 0, cu->stream,
              (T *)a->out.data, (const int *)a->ids.data, (const T *)a->table.data,
              (const T *)a->extra.data, (const T *)a->pos.data, ad_count(a->out), a->out.dim[3],
              a->table.dim[2], a->pos.dim[2]);
}

/* ---- entry points ------------------------------------------------------------------------- */

AdStatus ad_cuda_act_residual(AdCuda *cu, void *out, const void *x, const void *residual,
                              AdType type, int64_t n, AdAct act)
{
    if (n)
        AD_CUDA_BY_TYPE(type, act_launch<T>(cu, out, x, residual, n, act));
    return ad_cuda_launched(cu, "activation");
}

AdStatus ad_cuda_geglu(AdCuda *cu, void *out, const void *x, AdType type, int64_t rows, int64_t c)
{
    AD_CUDA_BY_TYPE(type, geglu_launch<T>(cu, out, x, rows, c));
    return ad_cuda_launched(cu, "GEGLU");
}

AdStatus ad_cuda_activate(AdBackend *be, const AdActArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    return st < 0 ? st : ad_cuda_act_residual(cu, a->out.data, a->x.data, NULL, a->x.type,
                                              ad_count(a->x), a->act);
}

AdStatus ad_cuda_upsample(AdBackend *be, const AdUpsampleArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    if (st < 0)
        return st;
    AD_CUDA_BY_TYPE(a->x.type, upsample_launch<T>(cu, a));
    return ad_cuda_launched(cu, "upsample");
}

AdStatus ad_cuda_gather(AdBackend *be, const AdGatherArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);

    if (st < 0)
        return st;
    AD_CUDA_BY_TYPE(a->out.type, gather_launch<T>(cu, a));
    return ad_cuda_launched(cu, "gather");
}

static Any any(AdTensor t)
{
    Any a;

    a.data  = t.data;
    a.count = ad_count(t);
    a.type  = t.type;
    return a;
}

AdStatus ad_cuda_lincomb(AdBackend *be, const AdLincombArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);
    Sum s;

    if (st < 0)
        return st;
    memset(&s, 0, sizeof(s));
    s.out   = any(a->out);
    s.count = a->count;
    s.clamp = a->clamp;
    for (int k = 0; k < a->count; k++) {
        s.x[k]    = any(a->x[k]);
        s.coef[k] = a->coef[k];
    }
    AD_LAUNCH(k_lincomb, blocks_for(s.out.count), dim3(BLOCK), 0, cu->stream, s);
    return ad_cuda_launched(cu, "lincomb");
}

/* Pixels for the host pass through a stage. */
AdStatus ad_cuda_to_rgb(AdBackend *be, const AdRgbArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);
    int64_t n = ad_count(a->x), most = ad_cuda_owns(cu, a->out.data) ? n : AD_CUDA_STAGE;

    for (int64_t at = 0; at < n && st >= 0; at += most) {
        int64_t count = AD_MIN(n - at, most);
        bool staged = !ad_cuda_owns(cu, a->out.data);
        unsigned char *to = staged ? (unsigned char *)cu->room : (unsigned char *)a->out.data;

        AD_LAUNCH(k_to_rgb, blocks_for(count), dim3(BLOCK), 0, cu->stream, to, any(a->x), at,
                  count);
        st = ad_cuda_launched(cu, "to_rgb");
        if (st >= 0 && staged)
            st = ad_cuda_download(be, (unsigned char *)a->out.data + at, to, (size_t)count);
    }
    return st;
}

AdStatus ad_cuda_nonfinite(AdBackend *be, const AdNonfiniteArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    AdStatus st = ad_cuda_enter(cu);
    int64_t n = ad_count(a->x);

    if (st >= 0)
        st = ad_cuda_check(cu, cudaMemsetAsync(a->out.data, 0, sizeof(int), cu->stream), "memset");
    if (st < 0)
        return st;
    AD_LAUNCH(k_nonfinite, dim3((unsigned)AD_MIN((n + BLOCK - 1) / BLOCK, (int64_t)1024)),
              dim3(BLOCK), 0, cu->stream, (int *)a->out.data, any(a->x));
    return ad_cuda_launched(cu, "nonfinite");
}
