/* plugin.h - the one symbol that libanimatediff-cuda.so shows.
 *
 * kernels/cuda_open.c opens the object, compares the numbers and only then touches the class: an
 * object of another version is refused, not called.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PLUGIN_H
#define AD_PLUGIN_H

#include <stdint.h>

#include "backend.h"

#define AD_CUDA_PLUGIN_FILE "libanimatediff-cuda.so"
#define AD_CUDA_PLUGIN_NAME "ad_cuda_plugin"

/* Sizes of structs that both sides know: a change that forgot AD_BACKEND_ABI shows here. */
#define AD_CUDA_PLUGIN_SIZES                                                            \
    (sizeof(AdBackend) * 31 + sizeof(AdBackendClass) * 7 + sizeof(AdOps) * 5 +          \
     sizeof(AdLinearArgs) + sizeof(AdConvArgs) + sizeof(AdNormArgs) + sizeof(AdAttentionArgs))

typedef struct AdCudaPlugin {
    uint64_t abi, sizes;
    const AdBackendClass *cls;
} AdCudaPlugin;

/* The same as opening ad_cuda_backend, with the object looked for in these folders (absolute, the
 * last one NULL). The sentence goes to params->message. */
AdStatus ad_cuda_open_from(const char *const *folders, AdBackend **out,
                           const AdDeviceParams *params);

#endif
