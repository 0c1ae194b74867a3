/* null_backend.c - the device that computes nothing.
 *
 * A forward pass on it, with a measuring arena, tells how much memory a real pass will take: the
 * null backend answers questions about scratch by asking the backend it stands for. That backend
 * makes its plans at the same moment, so that the first real step finds them ready.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../host_memory.h"

typedef struct NullBackend {
    AdHostBackend host;
    AdBackend    *measured;     /* borrowed; NULL: scratch sizes are 0 */
} NullBackend;

static AdStatus null_open(AdBackend **out, const AdDeviceParams *params)
{
    NullBackend *null = ad_host_open(&ad_null_backend, sizeof(*null), params);

    *out = null ? &null->host.base : NULL;
    if (!null)
        return AD_ERR_NOMEM;
    null->measured = params->measured;
    if (params->measured)
        null->host.base.cache_bytes = params->measured->cache_bytes;
    ad_format(null->host.base.about, sizeof(null->host.base.about), "computes nothing");
    return AD_OK;
}

static void null_close(AdBackend **be)
{
    ad_free(*be);
    *be = NULL;
}

static bool null_supports(const AdBackend *be, AdType type)
{
    (void)be;
    return type == AD_F32 || type == AD_F16 || type == AD_BF16;
}

/* Addresses of a measuring arena are not memory. */
static AdStatus null_transfer(AdBackend *be, void *dst, const void *src, size_t bytes)
{
    (void)be, (void)dst, (void)src, (void)bytes;
    return AD_OK;
}

static AdStatus null_pack(AdBackend *be, const AdPackArgs *a)
{
    NullBackend *null = (NullBackend *)be;

    if (null->measured && a->need)
        return null->measured->cls->pack(null->measured, a);
    if (a->need)
        *a->need = ad_bytes(a->w);
    return AD_OK;
}

/* An operation with scratch: hand the question on, with the answer's sentence on failure. */
#define NULL_OP(name, Args)                                                             \
    static AdStatus null_##name(AdBackend *be, const Args *a)                           \
    {                                                                                   \
        AdBackend *measured = ((NullBackend *)be)->measured;                            \
        AdStatus st;                                                                    \
                                                                                        \
        if (a->scratch.need)                                                            \
            *a->scratch.need = 0;                                                       \
        if (!a->scratch.need || !measured)                                              \
            return AD_OK;                                                               \
        st = measured->cls->ops->name(measured, a);                                     \
        return st < 0 ? ad_backend_fail(be, st, "%s", measured->message) : st;          \
    }

NULL_OP(linear, AdLinearArgs)
NULL_OP(conv2d, AdConvArgs)
NULL_OP(norm, AdNormArgs)
NULL_OP(attention, AdAttentionArgs)

static AdStatus null_gather(AdBackend *be, const AdGatherArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}

static AdStatus null_activate(AdBackend *be, const AdActArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}

static AdStatus null_upsample(AdBackend *be, const AdUpsampleArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}

static AdStatus null_lincomb(AdBackend *be, const AdLincombArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}

static AdStatus null_to_rgb(AdBackend *be, const AdRgbArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}

static AdStatus null_nonfinite(AdBackend *be, const AdNonfiniteArgs *a)
{
    (void)be, (void)a;
    return AD_OK;
}


static const AdOps null_ops = {
    .gather    = null_gather,
    .linear    = null_linear,
    .conv2d    = null_conv2d,
    .norm      = null_norm,
    .attention = null_attention,
    .activate  = null_activate,
    .upsample  = null_upsample,
    .lincomb   = null_lincomb,
    .to_rgb    = null_to_rgb,
    .nonfinite = null_nonfinite,
};

const AdBackendClass ad_null_backend = {
    .name     = "null",
    .about    = "computes nothing; measures memory",
    .open     = null_open,
    .close    = null_close,
    .supports = null_supports,
    .alloc    = ad_host_alloc,
    .free     = ad_host_free,
    .upload   = null_transfer,
    .download = null_transfer,
    .sync     = ad_host_sync,
    .memory   = ad_host_memory,
    .pack     = null_pack,
    .ops      = &null_ops,
};
