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
        return ad_backend_fail(be, AD_ERR_BACKEND, "%s (%s, %d -> %d channels)", why,
                               shape->conv ? "convolution" : "product", (int)shape->ci,
                               (int)shape->co);
    return AD_OK;
}

/* ---- linear ------------------------------------------------------------------------------- */

static AdDnnlShape linear_shape(const AdLinearArgs *a)
{
    return (AdDnnlShape){
        .type = (int32_t)a->x.type, .layout = a->w.layout, .bias = a->b.data != NULL,
        .residual = residual_kind(a->out, a->residual), .act = (int32_t)a->act,
        .rows = ad_rows(a->x), .ci = a->x.dim[3], .co = a->out.dim[3],
    };
}

static size_t weight_bytes(const AdCpu *cpu, AdTensor w)
{
    return w.layout ? ad_dnnl_layout_bytes(cpu->dnnl, w.layout) : ad_bytes(w) / 2;
}

/* Two products: gelu(gate) to scratch, then value times that. The gate never leaves the registers
 * unfinished, and no result twice as wide is written. */
static AdStatus geglu(AdBackend *be, const AdLinearArgs *a)
{
    AdDnnlShape gate = linear_shape(a), value = gate;
    size_t product = ad_round_up(ad_bytes(a->out), AD_ARENA_ALIGN), need_gate = 0, need_value = 0;
    char *scratch = a->scratch.data;
    bool ask = a->scratch.need != NULL;
    AdDnnlCall call = { .x = a->x.data };
    AdStatus st;

    gate.act       = AD_ACT_GELU;
    value.act      = AD_ACT_NONE;
    value.multiply = 1;
    call.out       = ask ? NULL : scratch;
    call.scratch   = ask ? NULL : scratch + product;
    call.w         = (const char *)a->w.data + weight_bytes(ad_cpu_of(be), a->w);
    call.bias      = a->b.data ? (const float *)a->b.data + a->out.dim[3] : NULL;
    st = plan_and_run(be, &gate, &call, ask ? &need_gate : NULL);
    call.other     = call.out;
    call.out       = a->out.data;
    call.w         = a->w.data;
    call.bias      = a->b.data;
    if (st >= 0)
        st = plan_and_run(be, &value, &call, ask ? &need_value : NULL);
    if (ask)
        *a->scratch.need = product + AD_MAX(need_gate, need_value);
    return st;
}

AdStatus ad_cpu_linear(AdBackend *be, const AdLinearArgs *a)
{
    AdDnnlShape shape = linear_shape(a);

    if (a->act == AD_ACT_GEGLU)
        return geglu(be, a);
    return plan_and_run(be, &shape,
                        &(AdDnnlCall){
                            .out = a->out.data, .x = a->x.data, .w = a->w.data, .bias = a->b.data,
                            .other = a->residual.data, .scratch = a->scratch.data,
                        },
                        a->scratch.need);
}

/* ---- convolution -------------------------------------------------------------------------- */

static void copy_rows(const AdCpu *cpu, void *out, const void *in, size_t bytes)
{
    enum { PIECE = 1 << 18 };
    int before = ad_cpu_enter(cpu);

#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < bytes; at += PIECE)
        memcpy((char *)out + at, (const char *)in + at, AD_MIN(bytes - at, PIECE));
    ad_cpu_leave(before);
}

/* A residual that stands apart is copied to the result first: oneDNN adds in place in its fast
 * kernels, and falls back to plain loops (1000 times slower) for a separate addend. */
AdStatus ad_cpu_conv2d(AdBackend *be, const AdConvArgs *a)
{
    AdDnnlShape shape = {
        .conv = 1, .type = (int32_t)a->x.type, .layout = a->w.layout, .bias = a->b.data != NULL,
        .residual = a->residual.data ? AD_DNNL_IN_PLACE : AD_DNNL_NO_RESIDUAL,
        .stride = a->stride ? a->stride : 1,
        .ci = a->x.dim[3], .co = a->out.dim[3], .n = a->x.dim[0], .h = a->x.dim[1],
        .w = a->x.dim[2], .oh = a->out.dim[1], .ow = a->out.dim[2], .kh = a->w.dim[1],
        .kw = a->w.dim[2], .pad = { a->pad[0], a->pad[1], a->pad[2], a->pad[3] },
    };

    if (!a->scratch.need && a->residual.data && a->residual.data != a->out.data)
        copy_rows(ad_cpu_of(be), a->out.data, a->residual.data, ad_bytes(a->out));
    return plan_and_run(be, &shape,
                        &(AdDnnlCall){
                            .out = a->out.data, .x = a->x.data, .w = a->w.data, .bias = a->b.data,
                            .scratch = a->scratch.data,
                        },
                        a->scratch.need);
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The shape whose preferred weight order is kept. Convolutions: "same" padding, two pictures. */
static AdDnnlShape pack_shape(const AdPackArgs *a)
{
    AdDnnlShape s = {
        .type = (int32_t)a->w.type, .bias = 1, .ci = a->w.dim[3], .co = a->w.dim[2],
        .rows = AD_MAX(2 * a->side * a->side, 1),
    };

    if (a->kind == AD_PACK_GEGLU)
        s.co /= 2;
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
    }
    return s;
}

AdStatus ad_cpu_pack(AdBackend *be, const AdPackArgs *a)
{
    AdCpu *cpu = ad_cpu_of(be);
    bool matrix = a->kind == AD_PACK_LINEAR || a->kind == AD_PACK_GEGLU || a->kind == AD_PACK_CONV;
    AdDnnlShape shape = pack_shape(a);
    size_t bytes, halves = a->kind == AD_PACK_GEGLU ? 2 : 1;
    int before, layout;
    bool ok = true;

    if (!matrix)
        return ad_ref_pack(be, a);
    before = ad_cpu_enter(cpu);
    layout = ad_dnnl_layout(cpu->dnnl, &shape);
    bytes  = layout ? ad_dnnl_layout_bytes(cpu->dnnl, layout) : 0;
    if (layout && a->need)
        *a->need = halves * bytes;
    for (size_t i = 0; i < halves && layout && !a->need; i++)
        ok = ok && ad_dnnl_pack(cpu->dnnl, &shape, layout,
                                a->src + i * (size_t)(shape.co * shape.ci),
                                (char *)a->out->data + i * bytes);
    ad_cpu_leave(before);
    if (!layout || !ok)
        return ad_backend_fail(be, AD_ERR_BACKEND, "oneDNN cannot lay out a weight of %d x %d",
                               (int)shape.co, (int)shape.ci);
    if (!a->need) {
        void *data = a->out->data;

        *a->out = a->w;
        a->out->data   = data;
        a->out->layout = layout;
    }
    return AD_OK;
}
