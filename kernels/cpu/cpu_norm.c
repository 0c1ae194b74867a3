/* cpu_norm.c - group norm, layer norm and the plain elementwise operations on the CPU.
 *
 * Cuts the work into pieces that do not depend on the number of threads and hands them to the
 * inner loops of cpu_kernels.h. Group norm reads its input twice: sums per column in slices of
 * rows, folded in f64 and in order, then one multiply and add per element.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu_backend.h"

#define SLICE 128               /* rows of one piece of work */

static int64_t slices(int64_t rows)
{
    return (rows + SLICE - 1) / SLICE;
}

static const char *row_of(AdTensor t, int64_t row)
{
    return (const char *)t.data + (size_t)(row * t.dim[3]) * ad_type_bytes(t.type);
}

/* ---- layer norm --------------------------------------------------------------------------- */

static void layer_norm(const AdCpu *cpu, const AdNormArgs *a)
{
    const AdCpuKernels *k = cpu->kernels[a->x.type];
    int64_t c = a->x.dim[3], positions = a->x.dim[1] * a->x.dim[2], per = slices(positions);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->x.dim[0] * per; i++) {
        int64_t n = i / per, first = i % per * SLICE;
        int64_t rows = AD_MIN(SLICE, positions - first), row = n * positions + first;
        const float *pos = a->pos.data;

        k->layer_norm((char *)(uintptr_t)row_of(a->out, row), row_of(a->x, row), a->gamma.data,
                      a->beta.data, pos ? pos + n % a->pos.dim[2] * c : NULL, rows, c, a->eps,
                      a->silu, (float *)a->scratch.data + (size_t)omp_get_thread_num() *
                                                              ad_round_up((size_t)c, AD_ALIGN));
    }
}

/* ---- group norm --------------------------------------------------------------------------- */

/* Scratch of a group norm: per entry of n and slice the sums and squares of all columns, then per
 * entry the scale and shift of all columns. */
typedef struct GroupWork {
    int64_t c, positions, per;
    float  *sums;               /* [n, per, 2, c] */
    float  *lines;              /* [n, 2, c]      */
} GroupWork;

static size_t group_work(const AdNormArgs *a, GroupWork *w)
{
    w->c         = a->out.dim[3];
    w->positions = a->x.dim[1] * a->x.dim[2];
    w->per       = slices(w->positions);
    w->sums      = a->scratch.data;
    w->lines     = w->sums ? w->sums + a->x.dim[0] * w->per * 2 * w->c : NULL;
    return (size_t)(a->x.dim[0] * (w->per + 1) * 2 * w->c) * sizeof(float);
}

/* Value of column j in the first row of entry n: what the sums are relative to, plus `add`. */
static double origin(const AdNormArgs *a, const GroupWork *w, int64_t n, int64_t j)
{
    int64_t c = a->x.dim[3];
    AdTensor x = j < c ? a->x : a->x2;
    double add = a->add.data && j < c
               ? ad_load(a->add.data, a->add.type, n % a->add.dim[2] * c + j) : 0;

    return ad_load(row_of(x, n * w->positions), x.type, j < c ? j : j - c) + add;
}

/* Mean and variance of the columns [c0, c1) of entry n, then their lines y = x * scale + shift. */
static void group_lines(const AdNormArgs *a, const GroupWork *w, int64_t n, int64_t c0, int64_t c1)
{
    double count = (double)w->positions, mean = 0, square = 0;
    float *scale = w->lines + n * 2 * w->c, *shift = scale + w->c;

    for (int64_t j = c0; j < c1; j++) {
        double sum = 0, squares = 0, base = origin(a, w, n, j);

        for (int64_t i = 0; i < w->per; i++) {
            const float *sums = w->sums + (n * w->per + i) * 2 * w->c;

            sum     += sums[j];
            squares += sums[w->c + j];
        }
        mean   += base + sum / count;
        square += squares / count + 2 * base * (sum / count) + base * base;
    }
    mean  /= (double)(c1 - c0);
    square = square / (double)(c1 - c0) - mean * mean;
    for (int64_t j = c0; j < c1; j++) {
        double gain = ((const float *)a->gamma.data)[j] / sqrt(AD_MAX(square, 0) + a->eps);
        double add  = a->add.data && j < a->x.dim[3]
                    ? ad_load(a->add.data, a->add.type, n % a->add.dim[2] * a->x.dim[3] + j) : 0;

        scale[j] = (float)gain;
        shift[j] = (float)(((const float *)a->beta.data)[j] + (add - mean) * gain);
    }
}

static void group_norm(const AdCpu *cpu, const AdNormArgs *a, const GroupWork *w)
{
    const AdCpuKernels *k = cpu->kernels[a->x.type];
    int64_t n = a->x.dim[0], c = a->x.dim[3], c2 = w->c - c;
    size_t element = ad_type_bytes(a->x.type);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n * w->per; i++) {
        int64_t first = i % w->per * SLICE, row = i / w->per * w->positions + first;
        int64_t rows = AD_MIN(SLICE, w->positions - first);
        float *sums = w->sums + i * 2 * w->c;

        k->column_sums(sums, sums + w->c, row_of(a->x, row), row_of(a->x, row - first), rows, c);
        if (c2)
            k->column_sums(sums + c, sums + w->c + c, row_of(a->x2, row),
                           row_of(a->x2, row - first), rows, c2);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n * a->groups; i++) {
        int64_t g = i % a->groups, size = w->c / a->groups;

        group_lines(a, w, i / a->groups, g * size, (g + 1) * size);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n * w->per; i++) {
        int64_t first = i % w->per * SLICE, row = i / w->per * w->positions + first;
        int64_t rows = AD_MIN(SLICE, w->positions - first);
        const float *scale = w->lines + i / w->per * 2 * w->c, *shift = scale + w->c;
        char *out = (char *)(uintptr_t)row_of(a->out, row);

        k->scale_rows(out, w->c, row_of(a->x, row), scale, shift, rows, c, a->silu);
        if (c2)
            k->scale_rows(out + (size_t)c * element, w->c, row_of(a->x2, row), scale + c,
                          shift + c, rows, c2, a->silu);
    }
}

AdStatus ad_cpu_norm(AdBackend *be, const AdNormArgs *a)
{
    const AdCpu *cpu = ad_cpu_of(be);
    GroupWork work;
    size_t row = ad_round_up((size_t)a->x.dim[3], AD_ALIGN) * sizeof(float);
    size_t need = a->groups ? group_work(a, &work) : (size_t)cpu->threads * row;
    int before;

    if (a->scratch.need) {
        *a->scratch.need = need;
        return AD_OK;
    }
    before = ad_cpu_enter(cpu);
    if (a->groups)
        group_norm(cpu, a, &work);
    else
        layer_norm(cpu, a);
    ad_cpu_leave(before);
    return AD_OK;
}

/* ---- elementwise -------------------------------------------------------------------------- */

AdStatus ad_cpu_activate(AdBackend *be, const AdActArgs *a)
{
    ad_cpu_of(be)->kernels[a->x.type]->activate(a->out.data, a->x.data, ad_count(a->x), a->act);
    return AD_OK;
}

AdStatus ad_cpu_upsample(AdBackend *be, const AdUpsampleArgs *a)
{
    int64_t h = a->x.dim[1], w = a->x.dim[2], oh = a->out.dim[1], ow = a->out.dim[2];
    size_t pixel = (size_t)a->x.dim[3] * ad_type_bytes(a->x.type);
    int before = ad_cpu_enter(ad_cpu_of(be));

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->out.dim[0] * oh; i++) {
        const char *in = row_of(a->x, (i / oh * h + i % oh * h / oh) * w);
        char *out = (char *)(uintptr_t)row_of(a->out, i * ow);

        for (int64_t x = 0; x < ow; x++)
            memcpy(out + (size_t)x * pixel, in + (size_t)(x * w / ow) * pixel, pixel);
    }
    ad_cpu_leave(before);
    return AD_OK;
}
