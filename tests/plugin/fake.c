/* fake.c - CUDA backends that are none, for test_cuda_open.
 *
 * Compiled once for each FAKE_...: of another interface, with other structs, without the symbol,
 * without a GPU, and one that opens.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "plugin.h"

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const AdCudaPlugin ad_cuda_plugin;

#ifdef FAKE_SYMBOL
int ad_another_symbol;
#else
static void fake_close(AdBackend **be)
{
    free(*be);
    *be = NULL;
}

static AdStatus fake_open(AdBackend **out, const AdDeviceParams *params);

static const AdBackendClass fake_class = {
    .name = "cuda", .about = "a fake", .open = fake_open, .close = fake_close,
};

static AdStatus fake_open(AdBackend **out, const AdDeviceParams *params)
{
    *out = NULL;
#ifdef FAKE_REFUSES
    snprintf(params->message, params->message_size, "no NVIDIA GPU: the driver sees none");
    return AD_ERR_BACKEND;
#else
    *out = calloc(1, sizeof(**out));
    (*out)->cls = &fake_class;
    snprintf((*out)->about, sizeof((*out)->about), "fake (cuda:%d)", params->index);
    return AD_OK;
#endif
}

#ifdef FAKE_ABI
enum { ABI = AD_BACKEND_ABI + 1 };
#else
enum { ABI = AD_BACKEND_ABI };
#endif
#ifdef FAKE_SIZES
enum { SIZES = AD_CUDA_PLUGIN_SIZES + 8 };
#else
enum { SIZES = AD_CUDA_PLUGIN_SIZES };
#endif

const AdCudaPlugin ad_cuda_plugin = { ABI, SIZES, &fake_class };
#endif
