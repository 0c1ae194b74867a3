/* cuda_linear.cu - matrix products by cuBLASLt, the only file that includes its header.
 *
 * Row-major out [m, n] = x [m, k] w [n, k]T is, seen by columns, outT = w x xT: A is w, transposed,
 * B is x, D is out. Bias and residual (as C with beta 1) are part of the product. A plan - shapes,
 * layouts and the algorithm that the library suggests - is made once, when scratch is asked for.
 * What the library has no kernel for runs on our own (cuda_conv.cu). Activations follow as a kernel
 * of ours: its GELU is the tanh form, and SiLU it has none.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include <cublasLt.h>

#include "cuda_backend.h"

#define PIECE_BYTES (32 << 20)  /* of a product that an activation follows: it stays in the cache */

typedef struct Key {            /* what a plan depends on; compared byte by byte */
    int64_t m, n, k;
    int32_t type, bias, residual;
    int32_t align;              /* of x, w, out and residual: the largest power of two, to 256 */
} Key;

typedef struct Plan {
    Key                    key;
    bool                   usable;
    cublasLtMatmulDesc_t   desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t   algo;
    size_t                 workspace;
} Plan;

struct AdCudaMatmuls {
    cublasLtHandle_t handle;
    Plan            *plans;
    size_t           count, room;
};

/* ---- plans -------------------------------------------------------------------------------- */

static AdStatus check(AdCuda *cu, cublasStatus_t e, const char *what)
{
    if (e == CUBLAS_STATUS_SUCCESS)
        return AD_OK;
    if (e == CUBLAS_STATUS_ALLOC_FAILED)
        return ad_cuda_fail(cu, AD_ERR_NOMEM, "%s: cuBLASLt has no memory", what);
    if (e == CUBLAS_STATUS_EXECUTION_FAILED || e == CUBLAS_STATUS_INTERNAL_ERROR) {
        cu->lost = true;
        return ad_cuda_fail(cu, AD_ERR_LOST, "%s: cuBLASLt failed (%d); only a new process helps",
                            what, (int)e);
    }
    return ad_cuda_fail(cu, AD_ERR_BACKEND, "%s: cuBLASLt says %d", what, (int)e);
}

static cudaDataType_t data_type(int32_t type)
{
    return type == AD_F32 ? CUDA_R_32F : type == AD_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* CUBLAS_COMPUTE_32F: sums in f32; f32 inputs are not cut to TF32. */
static cublasStatus_t describe(Plan *p, const void *bias)
{
    cudaDataType_t type = data_type(p->key.type);
    cublasOperation_t yes = CUBLAS_OP_T, no = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    uint64_t m = (uint64_t)p->key.m, n = (uint64_t)p->key.n, k = (uint64_t)p->key.k;
    cublasStatus_t e = cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);

#define NEXT(call) if (e == CUBLAS_STATUS_SUCCESS) e = call
#define SET(name, value)                                                                           \
    NEXT(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_##name, &value,              \
                                        sizeof(value)))
    SET(TRANSA, yes);
    SET(TRANSB, no);
    if (p->key.bias) {
        SET(EPILOGUE, epilogue);
        SET(BIAS_POINTER, bias);
        SET(BIAS_DATA_TYPE, type);
    }
    NEXT(cublasLtMatrixLayoutCreate(&p->a, type, k, n, (int64_t)k));
    NEXT(cublasLtMatrixLayoutCreate(&p->b, type, k, m, (int64_t)k));
    NEXT(cublasLtMatrixLayoutCreate(&p->d, type, n, m, (int64_t)n));
    return e;
}

/* The library's first choice within our workspace; partial sums are never rounded to 16 bits. */
static cublasStatus_t choose(cublasLtHandle_t handle, Plan *p)
{
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found;
    size_t workspace = AD_CUDA_WORKSPACE;
    uint32_t align = (uint32_t)p->key.align;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    int count = 0;
    cublasStatus_t e = cublasLtMatmulPreferenceCreate(&wish);

#define WISH(name, value)                                                                          \
    NEXT(cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_##name, &value,           \
                                              sizeof(value)))
    WISH(MAX_WORKSPACE_BYTES, workspace);
    WISH(REDUCTION_SCHEME_MASK, schemes);
    WISH(MIN_ALIGNMENT_A_BYTES, align);
    WISH(MIN_ALIGNMENT_B_BYTES, align);
    WISH(MIN_ALIGNMENT_C_BYTES, align);
    WISH(MIN_ALIGNMENT_D_BYTES, align);
    NEXT(cublasLtMatmulAlgoGetHeuristic(handle, p->desc, p->a, p->b, p->d, p->d, wish, 1, &found,
                                        &count));
    if (wish)
        cublasLtMatmulPreferenceDestroy(wish);
    if (e != CUBLAS_STATUS_SUCCESS)
        return e;
    if (count < 1 || found.state != CUBLAS_STATUS_SUCCESS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    p->algo      = found.algo;
    p->workspace = found.workspaceSize;
    return e;
}

static void drop(Plan *p)
{
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    if (p->a)
        cublasLtMatrixLayoutDestroy(p->a);
    if (p->b)
        cublasLtMatrixLayoutDestroy(p->b);
    if (p->d)
        cublasLtMatrixLayoutDestroy(p->d);
    memset(p, 0, sizeof(*p));
}

static int32_t alignment(const AdLinearArgs *a, const void *out)
{
    uintptr_t all = (uintptr_t)a->x.data | (uintptr_t)a->w.data | (uintptr_t)out |
                    (uintptr_t)a->residual.data | 256;

    return (int32_t)(all & ~(all - 1));
}

/* The plan for m rows, made if it is not there yet; NULL: the status tells. */
static Plan *plan_for(AdCuda *cu, const AdLinearArgs *a, const void *out, int64_t m, int64_t n,
                      bool residual, AdStatus *st)
{
    AdCudaMatmuls *t = cu->matmuls;
    cublasStatus_t e;
    Plan *p;
    Key key;

    memset(&key, 0, sizeof(key));
    key.m        = m;
    key.n        = n;
    key.k        = a->x.dim[3];
    key.type     = a->x.type;
    key.bias     = a->b.data != NULL;
    key.residual = residual;
    key.align    = alignment(a, out);
    for (size_t i = 0; i < t->count; i++)
        if (!memcmp(&t->plans[i].key, &key, sizeof(key)))
            return &t->plans[i];
    if (!ad_grow((void **)&t->plans, &t->room, t->count + 1, sizeof(Plan))) {
        *st = ad_cuda_fail(cu, AD_ERR_NOMEM, "no memory on the host");
        return NULL;
    }
    p = &t->plans[t->count++];
    memset(p, 0, sizeof(*p));
    p->key = key;
    e = describe(p, cu->room);          /* a bias as well aligned as any will be */
    if (e == CUBLAS_STATUS_SUCCESS)
        e = choose(t->handle, p);
    p->usable = e == CUBLAS_STATUS_SUCCESS;
    if (e == CUBLAS_STATUS_NOT_SUPPORTED || e == CUBLAS_STATUS_INVALID_VALUE)
        return p;
    if ((*st = check(cu, e, "matrix product")) >= 0)
        return p;
    drop(p);
    t->count--;
    return NULL;
}

/* ---- one product -------------------------------------------------------------------------- */

/* The same by our own kernel: a picture of m pixels, one tap. */
static AdStatus own_product(AdCuda *cu, const AdLinearArgs *a, const void *x, void *out,
                            const void *residual, int64_t m, int64_t n)
{
    AdConvArgs c;

    memset(&c, 0, sizeof(c));
    c.x   = ad_view(a->x, ad_rows(a->x), 1, 1, a->x.dim[3]);
    c.w   = ad_view(a->w, n, 1, 1, a->x.dim[3]);
    c.b   = a->b;
    c.out = c.x;
    c.x.data        = (void *)(uintptr_t)x;
    c.x.dim[0]      = m;
    c.out.data      = out;
    c.out.dim[0]    = m;
    c.out.dim[3]    = n;
    c.residual.data = (void *)(uintptr_t)residual;
    return ad_cuda_own_conv(cu, &c);
}

static AdStatus product(AdCuda *cu, const AdLinearArgs *a, const void *x, void *out,
                        const void *residual, int64_t m, int64_t n)
{
    AdCudaMatmuls *t = cu->matmuls;
    const void *bias = ad_cuda_vector(a->b, a->x.type);
    float one = 1, beta = residual ? 1.0f : 0.0f;
    AdStatus st = AD_OK;
    Plan *p = plan_for(cu, a, out, m, n, residual != NULL, &st);

    if (!p)
        return st;
    if (!p->usable)
        return own_product(cu, a, x, out, residual, m, n);
    if (bias)
        st = check(cu, cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                      &bias, sizeof(bias)), "bias");
    if (st < 0)
        return st;
    return check(cu, cublasLtMatmul(t->handle, p->desc, &one, a->w.data, p->a, x, p->b, &beta,
                                    residual ? residual : out, p->d, out, p->d, &p->algo, cu->room,
                                    p->workspace, cu->stream), "matrix product");
}

/* ---- entry point -------------------------------------------------------------------------- */

/* Rows of one piece: those whose product stays in the cache until the activation reads it. */
static int64_t piece_rows(const AdLinearArgs *a, int64_t rows, int64_t n)
{
    int64_t fit = PIECE_BYTES / (n * (int64_t)ad_type_bytes(a->x.type)) / 128 * 128;

    return AD_MIN(rows, AD_MAX(fit, (int64_t)128));
}

static AdStatus activated(AdCuda *cu, const AdLinearArgs *a, int64_t rows, int64_t n)
{
    size_t each = ad_type_bytes(a->x.type);
    int64_t most = piece_rows(a, rows, n), c = a->out.dim[3];
    AdStatus st = AD_OK;

    for (int64_t at = 0; at < rows && st >= 0; at += most) {
        int64_t m = AD_MIN(most, rows - at);
        char *out = (char *)a->out.data + (size_t)(at * c) * each;
        const char *residual = (const char *)a->residual.data;

        st = product(cu, a, (const char *)a->x.data + (size_t)(at * a->x.dim[3]) * each,
                     a->scratch.data, NULL, m, n);
        if (st < 0)
            break;
        if (a->act == AD_ACT_GEGLU)
            st = ad_cuda_geglu(cu, out, a->scratch.data, a->x.type, m, c);
        else
            st = ad_cuda_act_residual(cu, out, a->scratch.data,
                                      residual ? residual + (size_t)(at * c) * each : NULL,
                                      a->x.type, m * c, a->act);
    }
    return st;
}

AdStatus ad_cuda_linear(AdBackend *be, const AdLinearArgs *a)
{
    AdCuda *cu = ad_cuda_of(be);
    int64_t rows = ad_rows(a->x), n = a->out.dim[3] * (a->act == AD_ACT_GEGLU ? 2 : 1);
    AdStatus st = ad_cuda_enter(cu);

    if (st < 0)
        return st;
    if (a->scratch.need) {
        int64_t m = a->act == AD_ACT_NONE ? rows : piece_rows(a, rows, n);

        *a->scratch.need = a->act == AD_ACT_NONE ? 0 : (size_t)(m * n) * ad_type_bytes(a->x.type);
        plan_for(cu, a, a->out.data, m, n, a->act == AD_ACT_NONE && a->residual.data, &st);
        return st;
    }
    if (a->act == AD_ACT_NONE)
        return product(cu, a, a->x.data, a->out.data, a->residual.data, rows, n);
    return activated(cu, a, rows, n);
}

AdStatus ad_cuda_matmuls_open(AdCuda *cu)
{
    cu->matmuls = (AdCudaMatmuls *)ad_alloc(sizeof(*cu->matmuls));
    if (!cu->matmuls)
        return ad_cuda_fail(cu, AD_ERR_NOMEM, "no memory on the host");
    return check(cu, cublasLtCreate(&cu->matmuls->handle), "cublasLtCreate");
}

void ad_cuda_matmuls_close(AdCuda *cu)
{
    AdCudaMatmuls *t = cu->matmuls;

    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++)
        drop(&t->plans[i]);
    if (t->handle && !cu->lost)
        cublasLtDestroy(t->handle);
    ad_free(t->plans);
    ad_free(t);
    cu->matmuls = NULL;
}
