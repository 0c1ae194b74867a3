/* cpu_kernels_plain.c - the inner loops for processors with plain C.
 * SPDX-License-Identifier: LGPL-2.1-or-later */

#include "cpu_kernels.h"
#include "cpu_vec.h"

#define T           float
#define LOAD        v_load
#define STORE       v_store
#define SILU        v_silu
#define GELU        v_gelu
#define TABLE       ad_cpu_plain_f32
#define NAME(f)     f##_f32
#include "cpu_kernels_tmpl.h"

#define T           uint16_t
#define LOAD        v_load_bf16
#define STORE       v_store_bf16
#define SILU        v_silu_rough
#define GELU        v_gelu_rough
#define TABLE       ad_cpu_plain_bf16
#define NAME(f)     f##_bf16
#include "cpu_kernels_tmpl.h"
