/* cuda_open.c - finds the CUDA backend's shared object and opens a device with it.
 *
 * The object is looked for beside this library, then in the installation. What comes back belongs
 * to the object's own class; this one only has a name and a door.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backend.h"

static AdStatus cuda_open(AdBackend **out, const AdDeviceParams *params)
{
    *out = NULL;
    ad_format(params->message, params->message_size, "this build has no CUDA backend");
    return AD_ERR_BACKEND;
}

const AdBackendClass ad_cuda_backend = {
    .name  = "cuda",
    .about = "NVIDIA GPUs",
    .open  = cuda_open,
};
