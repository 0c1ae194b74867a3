/* ref_backend.c - the device that computes everything by the definitions of ref_ops.c.
 *
 * Always built: the truth for tests, and the answer where nothing else is available.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../host_memory.h"
#include "ref_ops.h"

static AdStatus ref_open(AdBackend **out, const AdDeviceParams *params)
{
    *out = ad_host_open(&ad_ref_backend, sizeof(AdHostBackend), params);
    if (!*out)
        return AD_ERR_NOMEM;
    ad_format((*out)->about, sizeof((*out)->about), "reference loops");
    return AD_OK;
}

static void ref_close(AdBackend **be)
{
    ad_free(*be);
    *be = NULL;
}

static bool ref_supports(const AdBackend *be, AdType type)
{
    (void)be;
    return type == AD_F32 || type == AD_F16 || type == AD_BF16;
}

const AdBackendClass ad_ref_backend = {
    .name     = "ref",
    .about    = "plain loops, the definition of every operation (very slow)",
    .open     = ref_open,
    .close    = ref_close,
    .supports = ref_supports,
    .alloc    = ad_host_alloc,
    .free     = ad_host_free,
    .upload   = ad_host_upload,
    .download = ad_host_download,
    .sync     = ad_host_sync,
    .memory   = ad_host_memory,
    .pack     = ad_ref_pack,
    .ops      = &ad_ref_ops,
};
