/* cpu_dnnl.c - the only file that includes oneDNN; 2.6 and 3.x differ only here.
 *
 * Why oneDNN: it beats our loops by far at matrix work and picks the instruction set at run time.
 * Traps met: Debian's build keeps a scratchpad per primitive in library mode (1-2 MB per bf16
 * convolution), so scratch is the caller's; data of zeros runs twice as fast as real data.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

#include "cpu_dnnl.h"

#define TABLE_SIZE 1024         /* plans are found by hash; a power of two */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Md;                  /* a pointer to an opaque object */
typedef const_dnnl_memory_desc_t ConstMd;
#define MD_FREE(md) ((md) ? (void)dnnl_memory_desc_destroy(md) : (void)0)
#else
typedef dnnl_memory_desc_t *Md;                 /* a plain struct: kept in our own memory */
typedef const dnnl_memory_desc_t *ConstMd;
#define MD_FREE(md) ad_free(md)
#endif

struct AdDnnlPlan {
    AdDnnlShape      shape;
    dnnl_primitive_t primitive;
    dnnl_memory_t    x, w, bias, out, other, scratch;
    size_t           scratch_bytes;
    AdDnnlPlan      *next;                      /* same hash */
};

struct AdDnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    AdDnnlPlan   *table[TABLE_SIZE];
    Md           *layouts;                      /* number i is layouts[i - 1] */
    size_t        layout_count, layout_room;
    bool          starved;                      /* an allocation failed since the last look */
};

/* ---- memory descriptors ------------------------------------------------------------------- */

static dnnl_data_type_t data_type(int type)
{
    return type == AD_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* The pointer, and the fact that it is none. */
static void *got(AdDnnl *d, void *p)
{
    d->starved = d->starved || !p;
    return p;
}

static Md md_new(AdDnnl *d, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type,
                 dnnl_format_tag_t tag)
{
    Md md = NULL;

#if DNNL_VERSION_MAJOR >= 3
    (void)d;
    if (dnnl_memory_desc_create_with_tag(&md, ndims, dims, type, tag) != dnnl_success)
        return NULL;
#else
    md = got(d, ad_alloc(sizeof(*md)));
    if (md && dnnl_memory_desc_init_by_tag(md, ndims, dims, type, tag) != dnnl_success) {
        ad_free(md);
        md = NULL;
    }
#endif
    return md;
}

static Md md_copy(AdDnnl *d, ConstMd from)
{
    Md md = NULL;

#if DNNL_VERSION_MAJOR >= 3
    (void)d;
    if (dnnl_memory_desc_clone(&md, from) != dnnl_success)
        return NULL;
#else
    md = got(d, ad_alloc(sizeof(*md)));
    if (md)
        *md = *from;
#endif
    return md;
}

/* The descriptors of one operation. */
typedef struct Mds { Md x, w, bias, out; } Mds;

static void mds_free(Mds *m)
{
    MD_FREE(m->x);
    MD_FREE(m->w);
    MD_FREE(m->bias);
    MD_FREE(m->out);
}

static bool mds_make(AdDnnl *d, const AdDnnlShape *s, Mds *m)
{
    dnnl_data_type_t type = data_type(s->type);
    dnnl_dims_t bias = { 1, s->co };
    bool any = s->layout < 0;

    *m = (Mds){ 0 };
    if (s->conv) {
        dnnl_dims_t x = { s->n, s->ci, s->h, s->w }, w = { s->co, s->ci, s->kh, s->kw };
        dnnl_dims_t out = { s->n, s->co, s->oh, s->ow };

        bias[0] = s->co;
        m->x   = md_new(d, 4, x, type, dnnl_nhwc);
        m->out = md_new(d, 4, out, type, dnnl_nhwc);
        m->w   = s->layout > 0 ? md_copy(d, d->layouts[s->layout - 1])
                               : md_new(d, 4, w, type, any ? dnnl_format_tag_any : dnnl_acdb);
        m->bias = s->bias ? md_new(d, 1, bias, dnnl_f32, dnnl_a) : NULL;
    } else {
        dnnl_dims_t x = { s->rows, s->ci }, w = { s->ci, s->co }, out = { s->rows, s->co };

        m->x   = md_new(d, 2, x, type, dnnl_ab);
        m->out = md_new(d, 2, out, type, dnnl_ab);
        m->w   = s->layout > 0 ? md_copy(d, d->layouts[s->layout - 1])
                               : md_new(d, 2, w, type, any ? dnnl_format_tag_any : dnnl_ba);
        m->bias = s->bias ? md_new(d, 2, bias, dnnl_f32, dnnl_ab) : NULL;
    }
    return m->x && m->w && m->out && (m->bias || !s->bias);
}

/* ---- primitive descriptors ---------------------------------------------------------------- */

static dnnl_status_t append_act(dnnl_post_ops_t ops, int act)
{
    dnnl_alg_kind_t kind = act == AD_ACT_GELU ? dnnl_eltwise_gelu_erf : dnnl_eltwise_swish;
    float alpha = act == AD_ACT_QUICK_GELU ? 1.702f : 1;

    if (act == AD_ACT_NONE)
        return dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0);
#else
    return dnnl_post_ops_append_eltwise(ops, 1, kind, alpha, 0);
#endif
}

static dnnl_status_t append_residual(dnnl_post_ops_t ops, const AdDnnlShape *s, Md out)
{
    if (s->residual == AD_DNNL_IN_PLACE)
#if DNNL_VERSION_MAJOR >= 3
        return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
#else
        return dnnl_post_ops_append_sum(ops, 1);
#endif
    if (s->residual == AD_DNNL_APART)
        return dnnl_post_ops_append_binary(ops, dnnl_binary_add, out);
    return dnnl_success;
}

static dnnl_primitive_attr_t attr_make(const AdDnnlShape *s, Md out)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success &&
              dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) ==
                  dnnl_success &&
              dnnl_post_ops_create(&ops) == dnnl_success &&
              append_act(ops, s->act) == dnnl_success &&
              append_residual(ops, s, out) == dnnl_success &&
              dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;

    if (ops)
        dnnl_post_ops_destroy(ops);
    if (!ok && attr) {
        dnnl_primitive_attr_destroy(attr);
        attr = NULL;
    }
    return attr;
}

static dnnl_status_t pd_make(AdDnnl *d, const AdDnnlShape *s, const Mds *m,
                             dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd)
{
    dnnl_dims_t stride = { s->stride, s->stride }, dilate = { 0, 0 };
    dnnl_dims_t before = { s->pad[2], s->pad[0] }, after = { s->pad[3], s->pad[1] };

#if DNNL_VERSION_MAJOR >= 3
    if (s->conv)
        return dnnl_convolution_forward_primitive_desc_create(
            pd, d->engine, dnnl_forward_inference, dnnl_convolution_direct, m->x, m->w, m->bias,
            m->out, stride, dilate, before, after, attr);
    return dnnl_matmul_primitive_desc_create(pd, d->engine, m->x, m->w, m->bias, m->out, attr);
#else
    if (s->conv) {
        dnnl_convolution_desc_t conv;
        dnnl_status_t st = dnnl_dilated_convolution_forward_desc_init(
            &conv, dnnl_forward_inference, dnnl_convolution_direct, m->x, m->w, m->bias, m->out,
            stride, dilate, before, after);
        return st != dnnl_success ? st
                                  : dnnl_primitive_desc_create(pd, &conv, attr, d->engine, NULL);
    } else {
        dnnl_matmul_desc_t product;
        dnnl_status_t st = dnnl_matmul_desc_init(&product, m->x, m->w, m->bias, m->out);
        return st != dnnl_success ? st
                                  : dnnl_primitive_desc_create(pd, &product, attr, d->engine, NULL);
    }
#endif
}

/* The primitive descriptor of a shape, and the descriptors it was made from; NULL on failure. */
static dnnl_primitive_desc_t describe(AdDnnl *d, const AdDnnlShape *s, Mds *m)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr;

    if (!mds_make(d, s, m))
        return NULL;
    attr = attr_make(s, m->out);
    if (attr && pd_make(d, s, m, attr, &pd) != dnnl_success)
        pd = NULL;
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return pd;
}

/* ---- plans -------------------------------------------------------------------------------- */

static uint64_t hash(const void *key, size_t bytes)
{
    uint64_t h = 14695981039346656037u;             /* FNV-1a */

    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)key)[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static void plan_free(AdDnnlPlan *p)
{
    dnnl_memory_t memory[] = { p->x, p->w, p->bias, p->out, p->other, p->scratch };

    for (size_t i = 0; i < AD_COUNT(memory); i++)
        if (memory[i])
            dnnl_memory_destroy(memory[i]);
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    ad_free(p);
}

/* A memory object whose address is given at each run. */
static bool memory_make(AdDnnl *d, dnnl_memory_t *out, ConstMd md)
{
    return dnnl_memory_create(out, md, d->engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static bool plan_fill(AdDnnl *d, AdDnnlPlan *p, dnnl_primitive_desc_t pd, const Mds *m)
{
    ConstMd scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);

    p->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    return dnnl_primitive_create(&p->primitive, pd) == dnnl_success &&
           memory_make(d, &p->x, m->x) && memory_make(d, &p->w, m->w) &&
           memory_make(d, &p->out, m->out) && memory_make(d, &p->other, m->out) &&
           (!m->bias || memory_make(d, &p->bias, m->bias)) &&
           (!p->scratch_bytes || memory_make(d, &p->scratch, scratch));
}

AdDnnlPlan *ad_dnnl_plan(AdDnnl *d, const AdDnnlShape *shape, const char **why)
{
    AdDnnlPlan **slot = &d->table[hash(shape, sizeof(*shape)) % TABLE_SIZE], *p;
    dnnl_primitive_desc_t pd;
    Mds m;

    for (p = *slot; p; p = p->next)
        if (!memcmp(&p->shape, shape, sizeof(*shape)))
            return p;
    *why = "oneDNN cannot compute this shape";
    pd = describe(d, shape, &m);
    p  = pd ? got(d, ad_alloc(sizeof(*p))) : NULL;
    if (p) {
        p->shape = *shape;
        if (plan_fill(d, p, pd, &m)) {
            p->next = *slot;
            *slot = p;
        } else {
            plan_free(p);
            p = NULL;
        }
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (!p && d->starved)
        *why = "no memory for a plan";
    mds_free(&m);
    return p;
}

bool ad_dnnl_starved(AdDnnl *d)
{
    bool starved = d->starved;

    d->starved = false;
    return starved;
}

size_t ad_dnnl_scratch(const AdDnnlPlan *plan)
{
    return plan->scratch_bytes;
}

bool ad_dnnl_run(AdDnnl *d, AdDnnlPlan *p, const AdDnnlCall *c)
{
    struct { int arg; dnnl_memory_t memory; const void *data; } use[] = {
        { DNNL_ARG_SRC, p->x, c->x },           { DNNL_ARG_WEIGHTS, p->w, c->w },
        { DNNL_ARG_DST, p->out, c->out },       { DNNL_ARG_BIAS, p->bias, c->bias },
        { DNNL_ARG_SCRATCHPAD, p->scratch, c->scratch },
        { 0, p->other, c->other },
    };
    dnnl_exec_arg_t args[AD_COUNT(use)];
    bool apart = p->shape.residual == AD_DNNL_APART;
    int n = 0;

    /* The binary post-operation stands after the activation, if there is one. */
    use[5].arg = DNNL_ARG_ATTR_MULTIPLE_POST_OP(p->shape.act != AD_ACT_NONE) | DNNL_ARG_SRC_1;
    for (size_t i = 0; i < AD_COUNT(use) - !apart; i++) {
        if (!use[i].memory)
            continue;
        if (dnnl_memory_set_data_handle(use[i].memory, (void *)(uintptr_t)use[i].data) !=
            dnnl_success)
            return false;
        args[n++] = (dnnl_exec_arg_t){ use[i].arg, use[i].memory };
    }
    return dnnl_primitive_execute(p->primitive, d->stream, n, args) == dnnl_success &&
           dnnl_stream_wait(d->stream) == dnnl_success;
}

/* ---- weights ------------------------------------------------------------------------------ */

int ad_dnnl_layout(AdDnnl *d, const AdDnnlShape *shape)
{
    AdDnnlShape s = *shape;
    dnnl_primitive_desc_t pd;
    ConstMd want;
    void *layouts = d->layouts;
    int number = 0;
    Mds m;

    s.layout = -1;                                  /* the library chooses */
    pd = describe(d, &s, &m);
    want = pd ? dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0) : NULL;
    for (size_t i = 0; want && i < d->layout_count && !number; i++)
        if (dnnl_memory_desc_equal(d->layouts[i], want))
            number = (int)i + 1;
    if (want && !number &&
        got(d, ad_grow(&layouts, &d->layout_room, d->layout_count + 1, sizeof(*d->layouts))
                   ? layouts : NULL)) {
        d->layouts = layouts;
        d->layouts[d->layout_count] = md_copy(d, want);
        if (d->layouts[d->layout_count])
            number = (int)++d->layout_count;
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    mds_free(&m);
    return number;
}

size_t ad_dnnl_layout_bytes(const AdDnnl *d, int layout)
{
    return dnnl_memory_desc_get_size(d->layouts[layout - 1]);
}

bool ad_dnnl_pack(AdDnnl *d, const AdDnnlShape *shape, int layout, const float *src, void *dst)
{
    AdDnnlShape s = *shape;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    bool ok;
    Mds m;

    s.layout = 0;
    s.type   = AD_F32;
    ok = mds_make(d, &s, &m) &&
         dnnl_memory_create(&from, m.w, d->engine, (void *)(uintptr_t)src) == dnnl_success &&
         dnnl_memory_create(&to, d->layouts[layout - 1], d->engine, dst) == dnnl_success &&
         dnnl_reorder_primitive_desc_create(&pd, m.w, d->engine, d->layouts[layout - 1],
                                            d->engine, NULL) == dnnl_success &&
         dnnl_primitive_create(&reorder, pd) == dnnl_success;
    if (ok) {
        dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, from }, { DNNL_ARG_TO, to } };

        ok = dnnl_primitive_execute(reorder, d->stream, 2, args) == dnnl_success &&
             dnnl_stream_wait(d->stream) == dnnl_success;
    }
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (from)
        dnnl_memory_destroy(from);
    if (to)
        dnnl_memory_destroy(to);
    mds_free(&m);
    return ok;
}

/* ---- life --------------------------------------------------------------------------------- */

AdDnnlIsa ad_dnnl_isa(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();

    /* The values are sets of bits: a richer instruction set contains the poorer ones'. */
    return (AdDnnlIsa){
        .avx2   = (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2,
        .avx512 = (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core,
        .bf16   = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16,
        .amx    = (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx,
    };
}

AdDnnl *ad_dnnl_create(void)
{
    AdDnnl *d = ad_alloc(sizeof(*d));

    if (d && (dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success ||
              dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) !=
                  dnnl_success))
        ad_dnnl_destroy(&d);
    return d;
}

void ad_dnnl_destroy(AdDnnl **handle)
{
    AdDnnl *d = *handle;

    *handle = NULL;
    if (!d)
        return;
    for (size_t i = 0; i < TABLE_SIZE; i++)
        for (AdDnnlPlan *p = d->table[i], *next; p; p = next) {
            next = p->next;
            plan_free(p);
        }
    for (size_t i = 0; i < d->layout_count; i++)
        MD_FREE(d->layouts[i]);
    ad_free(d->layouts);
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    ad_free(d);
}
