/* cpu_kernels_avx512bf16.c - the inner loops for processors that round to bf16 themselves.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#define AD_VEC_AVX512
#define AD_VEC_BF16

#include "cpu_kernels.h"
#include "cpu_vec.h"

#define T           uint16_t
#define PAIRS
#define LOAD        v_load_bf16
#define STORE       v_store_bf16
#define SILU        v_silu_rough
#define GELU        v_gelu_rough
#define TABLE       ad_cpu_avx512bf16_bf16
#define NAME(f)     f##_bf16
#include "cpu_kernels_tmpl.h"
