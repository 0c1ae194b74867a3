/* cpu_attention.c - attention on the CPU without a table of scores.
 *
 * Keys and values of a head are repacked once, then queries go over them in blocks with a running
 * softmax (Milakov, Gimelshein 2018, arXiv 1805.02867). Heads are shared out among the threads;
 * one large head (the VAE's) is shared by all of them. A query is computed the same way in both
 * cases, so the result does not depend on the number of threads.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <omp.h>

#include "cpu_amx.h"
#include "cpu_backend.h"

#define QUERY_PIECE 64          /* queries of one piece of work when a head is shared */

/* Floats of one packed head and of the work of one thread. */
typedef struct AttentionWork {
    size_t kt, v, attend;
} AttentionWork;

static AttentionWork work_of(const AdAttentionArgs *a)
{
    return (AttentionWork){
        .kt     = (size_t)a->head_width * ad_cpu_padded(a->keys),
        .v      = (size_t)a->keys * ad_cpu_padded(a->head_width),
        .attend = ad_cpu_attend_work(a->head_width),
    };
}

static int64_t offset(const AdStride *s, int64_t b0, int64_t b1, int64_t head)
{
    return b0 * s->batch0 + b1 * s->batch1 + head * s->head;
}

/* Head number i of all (batch0, batch1, head), with its keys and values packed to `pack`. */
static AdCpuHead head_make(const AdAttentionArgs *a, const AdCpuKernels *k, int64_t i, float *pack)
{
    int64_t head = i % a->heads, b1 = i / a->heads % a->batch1, b0 = i / a->heads / a->batch1;
    AttentionWork work = work_of(a);
    size_t element = ad_type_bytes(a->type);

    k->pack_keys(pack, (const char *)a->k + offset(&a->k_stride, b0, b1, head) * (int64_t)element,
                 a->k_stride.position, a->keys, a->head_width);
    k->pack_values(pack + work.kt,
                   (const char *)a->v + offset(&a->v_stride, b0, b1, head) * (int64_t)element,
                   a->v_stride.position, a->keys, a->head_width);
    return (AdCpuHead){
        .q     = (const char *)a->q + offset(&a->q_stride, b0, b1, head) * (int64_t)element,
        .out   = (char *)a->out + offset(&a->out_stride, b0, b1, head) * (int64_t)element,
        .q_row = a->q_stride.position, .out_row = a->out_stride.position,
        .kt = pack, .v = pack + work.kt, .keys = a->keys, .d = a->head_width,
        .scale = a->scale, .causal = a->causal,
    };
}

static void many_heads(const AdCpu *cpu, const AdAttentionArgs *a, int64_t heads)
{
    const AdCpuKernels *k = cpu->kernels[a->type];
    AttentionWork work = work_of(a);
    size_t each = ad_round_up(work.kt + work.v + work.attend, AD_ALIGN);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < heads; i++) {
        float *mine = (float *)a->scratch.data + (size_t)omp_get_thread_num() * each;
        AdCpuHead head = head_make(a, k, i, mine);

        k->attend(&head, 0, a->queries, mine + work.kt + work.v);
    }
}

static void shared_heads(const AdCpu *cpu, const AdAttentionArgs *a, int64_t heads)
{
    const AdCpuKernels *k = cpu->kernels[a->type];
    AttentionWork work = work_of(a);
    float *pack = a->scratch.data;
    int pieces = (a->queries + QUERY_PIECE - 1) / QUERY_PIECE;

    for (int64_t i = 0; i < heads; i++) {
        AdCpuHead head = head_make(a, k, i, pack);

#pragma omp parallel for schedule(dynamic)
        for (int p = 0; p < pieces; p++)
            k->attend(&head, p * QUERY_PIECE, AD_MIN(a->queries - p * QUERY_PIECE, QUERY_PIECE),
                      pack + work.kt + work.v + (size_t)omp_get_thread_num() * work.attend);
    }
}

/* ---- on tiles ----------------------------------------------------------------------------- */

static AdAmxHead amx_head(const AdAttentionArgs *a, int64_t b0, int64_t b1, int64_t head,
                          const char *pack, const AdAmxSizes *size)
{
    return (AdAmxHead){
        .q   = (const uint16_t *)a->q + offset(&a->q_stride, b0, b1, head),
        .out = (uint16_t *)a->out + offset(&a->out_stride, b0, b1, head),
        .q_row = a->q_stride.position, .out_row = a->out_stride.position,
        .keys = (const uint16_t *)(const void *)pack,
        .values = (const uint16_t *)(const void *)(pack + size->keys),
        .count = a->keys, .d = a->head_width, .scale = a->scale, .causal = a->causal,
    };
}

static void amx_pack(const AdAttentionArgs *a, int64_t b0, int64_t b1, int64_t head, char *pack,
                     const AdAmxSizes *size)
{
    ad_cpu_amx_pack((uint16_t *)(void *)pack, (uint16_t *)(void *)(pack + size->keys),
                    (const uint16_t *)a->k + offset(&a->k_stride, b0, b1, head),
                    a->k_stride.position,
                    (const uint16_t *)a->v + offset(&a->v_stride, b0, b1, head),
                    a->v_stride.position, a->keys, a->head_width);
}

/* Every thread takes whole heads; keys that all of batch1 share are packed once. */
static void amx_many(const AdAttentionArgs *a, const AdAmxSizes *size, size_t each)
{
    bool same = a->k_stride.batch1 == 0 && a->v_stride.batch1 == 0;
    int64_t outer = same ? a->batch0 : a->batch0 * a->batch1, inner = same ? a->batch1 : 1;

#pragma omp parallel
    {
        char *mine = (char *)a->scratch.data + (size_t)omp_get_thread_num() * each;

        ad_cpu_amx_start();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < outer * a->heads; i++) {
            int64_t head = i % a->heads, batch = i / a->heads;
            int64_t b0 = same ? batch : batch / a->batch1, b1 = same ? 0 : batch % a->batch1;

            amx_pack(a, b0, b1, head, mine, size);
            for (int64_t k = 0; k < inner; k++) {
                AdAmxHead h = amx_head(a, b0, b1 + k, head, mine, size);

                ad_cpu_amx_attend(&h, 0, a->queries, mine + size->keys + size->values);
            }
        }
        ad_cpu_amx_stop();
    }
}

/* All threads share one head after the other. */
static void amx_shared(const AdAttentionArgs *a, const AdAmxSizes *size, size_t work)
{
    char *pack = a->scratch.data;
    int pieces = (a->queries + QUERY_PIECE - 1) / QUERY_PIECE;

    for (int64_t i = 0; i < a->batch0 * a->batch1 * a->heads; i++) {
        int64_t head = i % a->heads, b1 = i / a->heads % a->batch1, b0 = i / a->heads / a->batch1;
        AdAmxHead h = amx_head(a, b0, b1, head, pack, size);

        amx_pack(a, b0, b1, head, pack, size);
#pragma omp parallel
        {
            char *mine = pack + size->keys + size->values + (size_t)omp_get_thread_num() * work;

            ad_cpu_amx_start();
#pragma omp for schedule(static)
            for (int p = 0; p < pieces; p++)
                ad_cpu_amx_attend(&h, p * QUERY_PIECE,
                                  AD_MIN(a->queries - p * QUERY_PIECE, QUERY_PIECE), mine);
            ad_cpu_amx_stop();
        }
    }
}

static AdStatus amx_attention(const AdCpu *cpu, const AdAttentionArgs *a, bool shared)
{
    AdAmxSizes size = ad_cpu_amx_sizes(a->keys, a->head_width);
    size_t work = ad_round_up(size.work, AD_ALIGN), each = size.keys + size.values + work;
    int before;

    if (a->scratch.need) {
        *a->scratch.need = shared ? size.keys + size.values + (size_t)cpu->threads * work
                                  : (size_t)cpu->threads * each;
        return AD_OK;
    }
    before = ad_cpu_enter(cpu);
    if (shared)
        amx_shared(a, &size, work);
    else
        amx_many(a, &size, each);
    ad_cpu_leave(before);
    return AD_OK;
}

/* ---- entry point -------------------------------------------------------------------------- */

AdStatus ad_cpu_attention(AdBackend *be, const AdAttentionArgs *a)
{
    const AdCpu *cpu = ad_cpu_of(be);
    AttentionWork work = work_of(a);
    int64_t heads = a->batch0 * a->batch1 * a->heads;
    bool shared = heads < 2 * cpu->threads;
    size_t each = ad_round_up(work.kt + work.v + work.attend, AD_ALIGN);
    int before;

    if (cpu->amx && a->type == AD_BF16)
        return amx_attention(cpu, a, shared);
    if (a->scratch.need) {
        *a->scratch.need = sizeof(float) * (shared
            ? work.kt + work.v + (size_t)cpu->threads * work.attend
            : (size_t)cpu->threads * each);
        return AD_OK;
    }
    before = ad_cpu_enter(cpu);
    if (shared)
        shared_heads(cpu, a, heads);
    else
        many_heads(cpu, a, heads);
    ad_cpu_leave(before);
    return AD_OK;
}
