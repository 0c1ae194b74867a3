/* cpu_matrix.c - linear layers, convolutions and their weights on the CPU.
 *
 * Turns the arguments of backend.h into shapes for cpu_dnnl.c. A weight lives only in the order the
 * library asked for (a number in AdTensor.layout); a dense one works as well.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "../ref/ref_ops.h"
#include "cpu_backend.h"

static int32_t residual_kind(AdTensor out, AdTensor residual)
{
    return !residual.data             ? AD_DNNL_NO_RESIDUAL
         : residual.data == out.data  ? AD_DNNL_IN_PLACE : AD_DNNL_APART;
}

static AdStatus failure(const AdCpu *cpu)
{
    return ad_dnnl_starved(cpu->dnnl) ? AD_ERR_NOMEM : AD_ERR_BACKEND;
}

/* Make or find the plan; tell its scratch, or run it. */
static AdStatus plan_and_run(AdBackend *be, const AdDnnlShape *shape, const AdDnnlCall *call,
                             size_t *need)
{
    AdCpu *cpu = ad_cpu_of(be);
    int before = ad_cpu_enter(cpu);
    const char *why = "oneDNN failed";
    AdDnnlPlan *plan = ad_dnnl_plan(cpu->dnnl, shape, &why);
    bool ok = plan != NULL;

    if (ok && need)
        *need = ad_dnnl_scratch(plan);
    else if (ok)
        ok = ad_dnnl_run(cpu->dnnl, plan, call);
    ad_cpu_leave(before);
    if (!ok)
        return ad_backend_fail(be, failure(cpu), "%s (%s, %d -> %d channels)", why,
                               shape->conv ? "convolution" : "product", (int)shape->ci,
                               (int)shape->co);
    return AD_OK;
}

/* ---- linear ------------------------------------------------------------------------------- */

/* Without AVX-512 a product of floats is a 1x1 convolution of a column of pixels: the library's
 * products would repack the weight at every call (10 to 20 % slower) and cut their sums by the
 * number of threads, so that the last bits depended on it. */
static void as_column(AdDnnlShape *s)
{
    s->conv = 1;
    s->stride = 1;
    s->n = s->w = s->ow = s->kh = s->kw = 1;
    s->h = s->oh = s->rows;
    s->rows = 0;
}

static bool is_column(const AdCpu *cpu, AdType type)
{
    return type == AD_F32 && !cpu->avx512;
}

static AdDnnlShape linear_shape(const AdCpu *cpu, const AdLinearArgs *a)
{
    AdDnnlShape s = {
        .type = (int32_t)a->x.type, .layout = a->w.layout, .bias = a->b.data != NULL,
        .residual = residual_kind(a->out, a->residual), .act = (int32_t)a->act,
        .rows = ad_rows(a->x), .ci = a->x.dim[3], .co = a->out.dim[3],
    };

    if (is_column(cpu, a->x.type) && a->w.layout)
        as_column(&s);
    return s;
}

/* One product, twice as wide, then value * gelu(gate) while it is in the cache. The library can do
 * it in two products with a GELU in the first, at twice the time: its erf is exact to f32. */
static AdStatus geglu(AdBackend *be, const AdLinearArgs *a)
{
    const AdCpu *cpu = ad_cpu_of(be);
    AdDnnlShape shape = linear_shape(cpu, a);
    size_t product = ad_round_up(2 * ad_bytes(a->out), AD_ARENA_ALIGN), need = 0;
    int64_t rows = ad_rows(a->x), n = a->out.dim[3], piece = 16;
    size_t element = ad_type_bytes(a->x.type);
    char *both = a->scratch.data, *out = a->out.data;
    AdStatus st;
    int before;

    shape.act = AD_ACT_NONE;
    shape.co  = 2 * n;
    st = plan_and_run(be, &shape, &(AdDnnlCall){ .out = both, .x = a->x.data, .w = a->w.data,
                                                 .bias = a->b.data,
                                                 .scratch = both ? both + product : NULL },
                      a->scratch.need ? &need : NULL);
    if (a->scratch.need)
        *a->scratch.need = product + need;
    if (a->scratch.need || st < 0)
        return st;
    before = ad_cpu_enter(cpu);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r += piece)
        cpu->kernels[a->x.type]->geglu(out + (size_t)(r * n) * element,
                                       both + (size_t)(2 * r * n) * element,
                                       AD_MIN(piece, rows - r), n);
    ad_cpu_leave(before);
    return AD_OK;
}

static void copy_rows(const AdCpu *cpu, void *out, const void *in, size_t bytes)
{
    enum { PIECE = 1 << 18 };
    int before = ad_cpu_enter(cpu);

#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < bytes; at += PIECE)
        memcpy((char *)out + at, (const char *)in + at, AD_MIN(bytes - at, PIECE));
    ad_cpu_leave(before);
}

/* A residual that stands apart is copied to the result first where the library only adds in place:
 * its convolutions fall back to plain loops (1000 times slower) for a separate addend. */
static void put_residual(const AdCpu *cpu, AdTensor out, AdTensor residual)
{
    if (residual_kind(out, residual) == AD_DNNL_APART)
        copy_rows(cpu, out.data, residual.data, ad_bytes(out));
}

AdStatus ad_cpu_linear(AdBackend *be, const AdLinearArgs *a)
{
    AdDnnlShape shape = linear_shape(ad_cpu_of(be), a);

    if (a->act == AD_ACT_GEGLU)
        return geglu(be, a);
    if (shape.conv && shape.residual == AD_DNNL_APART) {
        shape.residual = AD_DNNL_IN_PLACE;
        if (!a->scratch.need)
            put_residual(ad_cpu_of(be), a->out, a->residual);
    }
    return plan_and_run(be, &shape,
                        &(AdDnnlCall){
                            .out = a->out.data, .x = a->x.data, .w = a->w.data, .bias = a->b.data,
                            .other = a->residual.data, .scratch = a->scratch.data,
                        },
                        a->scratch.need);
}

/* ---- convolution -------------------------------------------------------------------------- */

static AdDnnlShape conv_shape(const AdConvArgs *a)
{
    return (AdDnnlShape){
        .conv = 1, .type = (int32_t)a->x.type, .layout = a->w.layout, .bias = a->b.data != NULL,
        .residual = a->residual.data ? AD_DNNL_IN_PLACE : AD_DNNL_NO_RESIDUAL,
        .stride = a->stride ? a->stride : 1,
        .ci = a->x.dim[3], .co = a->out.dim[3], .n = a->x.dim[0], .h = a->x.dim[1],
        .w = a->x.dim[2], .oh = a->out.dim[1], .ow = a->out.dim[2], .kh = a->w.dim[1],
        .kw = a->w.dim[2], .pad = { a->pad[0], a->pad[1], a->pad[2], a->pad[3] },
    };
}

/* Small pictures stand side by side in one row, a column of zeros behind each: the library works
 * on 16 neighbouring pixels of a row at a time, and a picture of 4 or 8 columns would leave most
 * of a tile empty. Only with AVX-512: the loops for AVX2 are twice as fast on the small pictures.
 * [n, h, w, c] <-> [1, h, n * (w + 1), c]. */
static bool wants_row(const AdCpu *cpu, const AdConvArgs *a)
{
    return cpu->avx512 && a->x.dim[0] > 1 && a->x.dim[2] < 16 && a->w.dim[1] == 3 &&
           a->w.dim[2] == 3 && a->stride < 2 && a->pad[0] == 1 && a->pad[1] == 1 &&
           a->pad[2] == 1 && a->pad[3] == 1;
}

/* One line of all pictures between [n, h, w, c] and the row; to: into the row, with zeros. */
static void move_lines(const AdCpu *cpu, char *pictures, char *row, AdTensor t, bool to)
{
    size_t pixel = (size_t)t.dim[3] * ad_type_bytes(t.type), line = (size_t)t.dim[2] * pixel;
    int64_t n = t.dim[0], h = t.dim[1];
    int before = ad_cpu_enter(cpu);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < h * n; i++) {           /* line i / n of picture i % n */
        char *in_picture = pictures + (size_t)(i % n * h + i / n) * line;
        char *in_row = row + (size_t)i * (line + pixel);

        if (to) {
            memcpy(in_row, in_picture, line);
            memset(in_row + line, 0, pixel);
        } else
            memcpy(in_picture, in_row, line);
    }
    ad_cpu_leave(before);
}

static AdStatus conv_in_row(AdBackend *be, const AdConvArgs *a)
{
    const AdCpu *cpu = ad_cpu_of(be);
    AdDnnlShape shape = conv_shape(a);
    int64_t wide = a->x.dim[0] * (a->x.dim[2] + 1), lines = wide * a->x.dim[1];
    size_t element = ad_type_bytes(a->x.type), need = 0;
    size_t in_bytes = ad_round_up((size_t)(lines * a->x.dim[3]) * element, AD_ARENA_ALIGN);
    size_t out_bytes = ad_round_up((size_t)(lines * a->out.dim[3]) * element, AD_ARENA_ALIGN);
    char *in = a->scratch.data, *out = in ? in + in_bytes : NULL;
    bool ask = a->scratch.need != NULL;
    AdStatus st;

    shape.n = 1;
    shape.w = shape.ow = wide;
    if (!ask)
        move_lines(cpu, a->x.data, in, a->x, true);
    if (!ask && a->residual.data)
        move_lines(cpu, a->residual.data, out, a->out, true);
    st = plan_and_run(be, &shape, &(AdDnnlCall){ .out = out, .x = in, .w = a->w.data,
                                                 .bias = a->b.data,
                                                 .scratch = out ? out + out_bytes : NULL },
                      ask ? &need : NULL);
    if (ask)
        *a->scratch.need = in_bytes + out_bytes + need;
    else if (st >= 0)
        move_lines(cpu, a->out.data, out, a->out, false);
    return st;
}

AdStatus ad_cpu_conv2d(AdBackend *be, const AdConvArgs *a)
{
    AdDnnlShape shape = conv_shape(a);

    if (wants_row(ad_cpu_of(be), a))
        return conv_in_row(be, a);
    if (!a->scratch.need)
        put_residual(ad_cpu_of(be), a->out, a->residual);
    return plan_and_run(be, &shape,
                        &(AdDnnlCall){
                            .out = a->out.data, .x = a->x.data, .w = a->w.data, .bias = a->b.data,
                            .scratch = a->scratch.data,
                        },
                        a->scratch.need);
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The shape whose preferred weight order is kept. Convolutions: "same" padding, two pictures. */
static AdDnnlShape pack_shape(const AdCpu *cpu, const AdPackArgs *a)
{
    AdDnnlShape s = {
        .type = (int32_t)a->w.type, .bias = 1, .ci = a->w.dim[3], .co = a->w.dim[2],
        .rows = AD_MAX(2 * a->side * a->side, 1),
    };

    if (a->kind == AD_PACK_CONV) {
        s.conv   = 1;
        s.stride = 1;
        s.n      = 2;
        s.co     = a->w.dim[0];
        s.kh     = a->w.dim[1];
        s.kw     = a->w.dim[2];
        s.h = s.w = s.oh = s.ow = AD_MAX(a->side, 4);
        for (int i = 0; i < 4; i++)
            s.pad[i] = (i < 2 ? s.kw : s.kh) / 2;
    } else if (is_column(cpu, a->w.type))
        as_column(&s);
    return s;
}

AdStatus ad_cpu_pack(AdBackend *be, const AdPackArgs *a)
{
    AdCpu *cpu = ad_cpu_of(be);
    bool matrix = a->kind == AD_PACK_LINEAR || a->kind == AD_PACK_GEGLU || a->kind == AD_PACK_CONV;
    AdDnnlShape shape = pack_shape(cpu, a);
    size_t bytes;
    int before, layout;
    bool ok = true;

    if (!matrix)
        return ad_ref_pack(be, a);
    before = ad_cpu_enter(cpu);
    layout = ad_dnnl_layout(cpu->dnnl, &shape);
    bytes  = layout ? ad_dnnl_layout_bytes(cpu->dnnl, layout) : 0;
    if (layout && a->need)
        *a->need = bytes;
    else if (layout)
        ok = ad_dnnl_pack(cpu->dnnl, &shape, layout, a->src, a->out->data);
    ad_cpu_leave(before);
    if (!layout || !ok)
        return ad_backend_fail(be, failure(cpu), "oneDNN cannot lay out a weight of %d x %d",
                               (int)shape.co, (int)shape.ci);
    if (!a->need) {
        void *data = a->out->data;

        *a->out = a->w;
        a->out->data   = data;
        a->out->layout = layout;
    }
    return AD_OK;
}
