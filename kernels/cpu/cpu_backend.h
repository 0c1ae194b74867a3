/* cpu_backend.h - what the files of the CPU backend share.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_BACKEND_H
#define AD_CPU_BACKEND_H

#include "../host_memory.h"
#include "cpu_crowd.h"
#include "cpu_dnnl.h"
#include "cpu_kernels.h"

typedef struct AdCpu {
    AdHostBackend       host;
    AdDnnl             *dnnl;
    AdCpuCrowd         *crowd;                  /* NULL: not needed, or none was to be had */
    const AdCpuKernels *kernels[AD_TYPES];      /* for f32 and bf16 */
    int                 threads;
    bool                avx512;                 /* decides how matrix work is cut: cpu_matrix.c */
    bool                amx;                    /* bf16 attention on matrix tiles */
} AdCpu;

static inline AdCpu *ad_cpu_of(AdBackend *be)
{
    return (AdCpu *)be;
}

/* The caller's own number of OpenMP threads, put back by ad_cpu_leave. Every operation that runs
 * threads stands between the two: OpenMP keeps the number per calling thread, and ffmpeg changes
 * threads between two calls. */
int  ad_cpu_enter(const AdCpu *cpu);
void ad_cpu_leave(int threads_before);

AdStatus ad_cpu_pack     (AdBackend *be, const AdPackArgs *a);          /* cpu_matrix.c    */
AdStatus ad_cpu_linear   (AdBackend *be, const AdLinearArgs *a);
AdStatus ad_cpu_conv2d   (AdBackend *be, const AdConvArgs *a);
AdStatus ad_cpu_norm     (AdBackend *be, const AdNormArgs *a);          /* cpu_norm.c      */
AdStatus ad_cpu_activate (AdBackend *be, const AdActArgs *a);
AdStatus ad_cpu_upsample (AdBackend *be, const AdUpsampleArgs *a);
AdStatus ad_cpu_attention(AdBackend *be, const AdAttentionArgs *a);     /* cpu_attention.c */

#endif
