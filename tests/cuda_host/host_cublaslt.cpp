/* host_cublaslt.cpp - matrix products by plain loops, with strict looks at the arguments.
 *
 * Like the real library it refuses sizes (here: odd ones), so that the backend's own kernel is
 * tried too, and an algorithm serves only the shapes and alignments it was suggested for.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <cublasLt.h>

extern "C" {
#include "../../kernels/tensor.h"
}

struct HcLt { int unused; };
struct HcDesc {
    cublasOperation_t  a, b;
    cublasLtEpilogue_t epilogue;
    const void        *bias;
    cudaDataType_t     bias_type;
    bool               typed;
};
struct HcLayout { cudaDataType type; uint64_t rows, cols; int64_t ld; };
struct HcPreference { size_t workspace; uint32_t schemes, align[4]; };

enum { WORK = 4096 };           /* bytes that every algorithm wants, and spoils */

static cublasStatus_t injected(const char *call)
{
    cudaError_t e = hc_injected(call);

    return e == cudaSuccess ? CUBLAS_STATUS_SUCCESS
         : e == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
         : e >= 700 ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_INVALID_VALUE;
}

#define MAY_FAIL()                                                                      \
    do {                                                                                \
        cublasStatus_t e_ = injected(__func__);                                         \
        if (e_ != CUBLAS_STATUS_SUCCESS)                                                \
            return e_;                                                                  \
    } while (0)

/* One handle for all who ask: on a lost device nobody destroys his. */
static HcLt the_handle;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = NULL;
    MAY_FAIL();
    *h = &the_handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t)     { return CUBLAS_STATUS_SUCCESS; }

/* ---- descriptors -------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        hc_die("cuBLASLt: sums not in f32");
    *d = NULL;
    MAY_FAIL();
    *d = new HcDesc();
    (*d)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

template <typename T> static cublasStatus_t set(T *to, const void *value, size_t bytes)
{
    if (bytes != sizeof(T))
        hc_die("cuBLASLt: an attribute of %zu bytes, %zu given", sizeof(T), bytes);
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:         return set(&d->a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:         return set(&d->b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:       return set(&d->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:   return set(&d->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        d->typed = true;
        return set(&d->bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (!rows || !cols || ld < (int64_t)rows)
        hc_die("cuBLASLt: a matrix of %zu rows, %zu columns, %ld apart", (size_t)rows, (size_t)cols,
               (long)ld);
    *l = NULL;
    MAY_FAIL();
    *l = new HcLayout{ type, rows, cols, ld };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = NULL;
    MAY_FAIL();
    *p = new HcPreference{ 0, 7, { 256, 256, 256, 256 } };
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes)
{
    switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:   return set(&p->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&p->schemes, value, bytes);
    default:
        return set(&p->align[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    }
}

/* ---- algorithms --------------------------------------------------------------------------- */

static void fingerprint(cublasLtMatmulAlgo_t *algo, const HcDesc *d, const HcLayout *a,
                        const HcLayout *b, const HcLayout *out, const uint32_t *align)
{
    memset(algo, 0, sizeof(*algo));
    algo->data[0] = a->rows << 32 | a->cols;
    algo->data[1] = b->rows << 32 | b->cols;
    algo->data[2] = out->rows << 32 | out->cols;
    algo->data[3] = (uint64_t)a->type << 8 | (uint64_t)d->epilogue;
    algo->data[4] = (uint64_t)align[0] << 32 | align[1];
    algo->data[5] = (uint64_t)align[2] << 32 | align[3];
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t *found, int *count)
{
    *count = 0;
    if (!h || wanted < 1 || d->a != CUBLAS_OP_T || d->b != CUBLAS_OP_N || a->rows != b->rows ||
        out->rows != a->cols || out->cols != b->cols || c->rows != out->rows ||
        c->cols != out->cols)
        hc_die("cuBLASLt: shapes do not fit each other");
    if (p->schemes & CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)
        hc_die("cuBLASLt: partial sums may be rounded");
    if (d->epilogue == CUBLASLT_EPILOGUE_BIAS &&
        (!d->bias || !d->typed || d->bias_type != out->type))
        hc_die("cuBLASLt: bias without address, or not in the type of the result");
    MAY_FAIL();
    if (a->rows % 2 || p->workspace < WORK)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    fingerprint(&found->algo, d, a, b, out, p->align);
    found->workspaceSize = WORK;
    found->state = CUBLAS_STATUS_SUCCESS;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product -------------------------------------------------------------------------- */

static AdType type_of(cudaDataType t)
{
    return t == CUDA_R_32F ? AD_F32 : t == CUDA_R_16F ? AD_F16 : AD_BF16;
}

static void on_device(const char *name, const void *p, const HcLayout *l, uint32_t align)
{
    size_t bytes = ((size_t)l->ld * (l->cols - 1) + l->rows) * ad_type_bytes(type_of(l->type));

    if (!hc_on_device(p, bytes))
        hc_die("cuBLASLt: %s is not in device memory, or shorter than %zu bytes", name, bytes);
    if ((uintptr_t)p % align)
        hc_die("cuBLASLt: %s is less aligned than promised", name);
    if (*name == 'A' || *name == 'B')
        hc_reads(p, bytes);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t al, const void *b,
                              cublasLtMatrixLayout_t bl, const void *beta, const void *c,
                              cublasLtMatrixLayout_t cl, void *d, cublasLtMatrixLayout_t dl,
                              const cublasLtMatmulAlgo_t *algo, void *work, size_t bytes,
                              cudaStream_t stream)
{
    uint32_t align[4] = { (uint32_t)(algo->data[4] >> 32), (uint32_t)algo->data[4],
                          (uint32_t)(algo->data[5] >> 32), (uint32_t)algo->data[5] };
    float scale = *(const float *)alpha, add = *(const float *)beta;
    AdType type = type_of(dl->type);
    cublasLtMatmulAlgo_t want;

    fingerprint(&want, desc, al, bl, dl, align);
    if (memcmp(&want, algo, sizeof(want)))
        hc_die("cuBLASLt: the algorithm was suggested for another product");
    if (!h || !stream || cl != dl || bytes < WORK || (uintptr_t)work % 256 ||
        !hc_on_device(work, bytes))
        hc_die("cuBLASLt: handle, stream, C's layout or workspace");
    on_device("A", a, al, align[0]);
    on_device("B", b, bl, align[1]);
    on_device("C", c, cl, align[2]);
    on_device("D", d, dl, align[3]);
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS &&
        !hc_on_device(desc->bias, dl->rows * ad_type_bytes(type)))
        hc_die("cuBLASLt: bias is not in device memory, or too short");
    MAY_FAIL();
    if (hc_dry)
        return CUBLAS_STATUS_SUCCESS;
    memset(work, 0x5a, WORK);
    hc_writes(work, WORK);
    if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS)
        hc_reads(desc->bias, dl->rows * ad_type_bytes(type));
    if (add != 0)
        hc_reads(c, dl->rows * dl->cols * ad_type_bytes(type));
    for (uint64_t j = 0; j < dl->cols; j++)
        for (uint64_t i = 0; i < dl->rows; i++) {
            int64_t at = (int64_t)(j * (uint64_t)dl->ld + i);
            double sum = 0;

            for (uint64_t k = 0; k < al->rows; k++)
                sum += (double)ad_load(a, type, (int64_t)(i * (uint64_t)al->ld + k)) *
                       ad_load(b, type, (int64_t)(j * (uint64_t)bl->ld + k));
            sum *= scale;
            if (add != 0)
                sum += add * ad_load(c, type, at);
            if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS)
                sum += ad_load(desc->bias, type, (int64_t)i);
            ad_store(d, type, at, (float)sum);
        }
    hc_writes(d, dl->rows * dl->cols * ad_type_bytes(type));
    return CUBLAS_STATUS_SUCCESS;
}
