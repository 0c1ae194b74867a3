/* cpu_backend.c - the processor as a device: oneDNN for matrix work, own loops for the rest.
 *
 * Starts as a copy of ref's table and replaces what has a fast version. The instruction set is
 * chosen when the device is opened.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE             /* sched_getaffinity */
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include "../ref/ref_ops.h"
#include "cpu_amx.h"
#include "cpu_backend.h"

int ad_cpu_enter(const AdCpu *cpu)
{
    int before = omp_get_max_threads();

    omp_set_num_threads(cpu->threads);
    return before;
}

void ad_cpu_leave(int threads_before)
{
    omp_set_num_threads(threads_before);
}

/* Processors this process may run on, not those of the machine. */
static int allowed_processors(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* The second-level caches of the machine together. Not those of the threads in use: where rows are
 * cut must not depend on their number, or the last bits of a product might. */
static size_t cache_bytes(void)
{
    long each = sysconf(_SC_LEVEL2_CACHE_SIZE), processors = sysconf(_SC_NPROCESSORS_ONLN);

    return (size_t)AD_MAX(AD_MIN(processors, 16), 1) * (size_t)(each > 0 ? each : 1 << 20);
}

static const char *choose_kernels(AdCpu *cpu)
{
    AdDnnlIsa isa = ad_dnnl_isa();

    cpu->kernels[AD_F32]  = isa.avx512 ? &ad_cpu_avx512_f32  : isa.avx2 ? &ad_cpu_avx2_f32
                                                                        : &ad_cpu_plain_f32;
    cpu->kernels[AD_BF16] = isa.bf16   ? &ad_cpu_avx512bf16_bf16
                          : isa.avx512 ? &ad_cpu_avx512_bf16
                          : isa.avx2   ? &ad_cpu_avx2_bf16 : &ad_cpu_plain_bf16;
    cpu->avx512 = isa.avx512;
    cpu->amx = isa.amx && ad_cpu_amx_allowed();
    cpu->host.base.fastest = isa.bf16 ? AD_BF16 : AD_F32;
    return cpu->amx ? "AMX bf16" : isa.bf16 ? "AVX-512 bf16" : isa.avx512 ? "AVX-512"
         : isa.avx2 ? "AVX2" : "no vector instructions";
}

static void cpu_close(AdBackend **be)
{
    if (*be) {
        ad_cpu_crowd_destroy(&ad_cpu_of(*be)->crowd);
        ad_dnnl_destroy(&ad_cpu_of(*be)->dnnl);
        ad_free(*be);
    }
    *be = NULL;
}

static AdStatus cpu_open(AdBackend **out, const AdDeviceParams *params)
{
    AdCpu *cpu = ad_host_open(&ad_cpu_backend, sizeof(*cpu), params);
    const char *isa;

    *out = cpu ? &cpu->host.base : NULL;
    if (!cpu)
        return AD_ERR_NOMEM;
    cpu->threads = params->threads ? params->threads : allowed_processors();
    cpu->dnnl    = ad_dnnl_create();
    if (!cpu->dnnl) {
        ad_format(params->message, params->message_size, "oneDNN does not start");
        cpu_close(out);
        return AD_ERR_BACKEND;
    }
    if (cpu->threads > 1 && cpu->threads >= allowed_processors())
        cpu->crowd = ad_cpu_crowd_create();
    isa = choose_kernels(cpu);
    cpu->host.base.cache_bytes = cache_bytes();
    ad_format((*out)->about, sizeof((*out)->about), "cpu, %d thread%s, %s", cpu->threads,
              cpu->threads == 1 ? "" : "s", isa);
    return AD_OK;
}

static bool cpu_supports(const AdBackend *be, AdType type)
{
    (void)be;
    return type == AD_F32 || (type == AD_BF16 && ad_dnnl_isa().avx512);     /* oneDNN's rule */
}

static const AdOps cpu_ops = {
    .gather    = ad_ref_gather,
    .linear    = ad_cpu_linear,
    .conv2d    = ad_cpu_conv2d,
    .norm      = ad_cpu_norm,
    .attention = ad_cpu_attention,
    .activate  = ad_cpu_activate,
    .upsample  = ad_cpu_upsample,
    .lincomb   = ad_ref_lincomb,
    .to_rgb    = ad_ref_to_rgb,
    .nonfinite = ad_ref_nonfinite,
};

const AdBackendClass ad_cpu_backend = {
    .name     = "cpu",
    .about    = "oneDNN and vectorised loops",
    .open     = cpu_open,
    .close    = cpu_close,
    .supports = cpu_supports,
    .alloc    = ad_host_alloc,
    .free     = ad_host_free,
    .upload   = ad_host_upload,
    .download = ad_host_download,
    .sync     = ad_host_sync,
    .memory   = ad_host_memory,
    .pack     = ad_cpu_pack,
    .ops      = &cpu_ops,
};
