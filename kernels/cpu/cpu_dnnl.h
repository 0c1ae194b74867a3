/* cpu_dnnl.h - matrix products and convolutions by oneDNN, behind our words.
 *
 * Called by cpu_matrix.c only. cpu_dnnl.c is the one file that knows oneDNN's types; 2.6 (Debian
 * 12) and 3.x differ only there. Plans (primitives) are made once per shape and kept.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_DNNL_H
#define AD_CPU_DNNL_H

#include "../backend.h"

typedef struct AdDnnl AdDnnl;
typedef struct AdDnnlPlan AdDnnlPlan;

typedef enum AdDnnlResidual { AD_DNNL_NO_RESIDUAL, AD_DNNL_IN_PLACE, AD_DNNL_APART } AdDnnlResidual;

/* What a plan is made for; the whole struct is the key of the cache, so begin with = { 0 }. */
typedef struct AdDnnlShape {
    int32_t type;               /* AdType of activations and weights: f32 or bf16              */
    int32_t conv;               /* 0: out[rows, co] = x[rows, ci] wT. 1: a convolution         */
    int32_t layout;             /* of the weight: 0 dense, else as ad_dnnl_pack() told         */
    int32_t bias, residual;     /* 0/1, AdDnnlResidual                                         */
    int32_t act;                /* AdAct without GEGLU; applied before the residual            */
    int32_t stride, reserved;
    int64_t rows, ci, co;       /* rows: of a product                                          */
    int64_t n, h, w, oh, ow;    /* of a convolution                                            */
    int64_t kh, kw, pad[4];
} AdDnnlShape;

typedef struct AdDnnlCall {
    void       *out;
    const void *x, *w, *bias;   /* bias: f32                                                   */
    const void *other;          /* residual apart                                              */
    void       *scratch;
} AdDnnlCall;

/* NULL: no memory, or the library failed to start. */
AdDnnl *ad_dnnl_create(void);
void    ad_dnnl_destroy(AdDnnl **d);

/* What the library found (or was told by ONEDNN_MAX_CPU_ISA): our own loops follow it. */
typedef struct AdDnnlIsa {
    bool avx2, avx512;          /* AVX-512 F, BW, DQ, VL               */
    bool bf16, amx;             /* bf16 dot products; tiles            */
} AdDnnlIsa;

AdDnnlIsa ad_dnnl_isa(void);

/* The plan for a shape, made at the first call; NULL: not possible, *why is a static sentence. */
AdDnnlPlan *ad_dnnl_plan(AdDnnl *d, const AdDnnlShape *shape, const char **why);
/* Was it memory that was missing at the last failure? Forgotten by the call. */
bool        ad_dnnl_starved(AdDnnl *d);
size_t      ad_dnnl_scratch(const AdDnnlPlan *plan);
bool        ad_dnnl_run(AdDnnl *d, AdDnnlPlan *plan, const AdDnnlCall *call);

/* The order the library wants for the weight of such a shape (its layout is ignored), as a number
 * to keep as the tensor's layout, 0: failed; and the bytes of a weight in that order. */
int    ad_dnnl_layout(AdDnnl *d, const AdDnnlShape *shape);
size_t ad_dnnl_layout_bytes(const AdDnnl *d, int layout);

/* Reorder host floats ([co, ci] or [co, kh, kw, ci]) into that layout. */
bool ad_dnnl_pack(AdDnnl *d, const AdDnnlShape *shape, int layout, const float *src, void *dst);

#endif
