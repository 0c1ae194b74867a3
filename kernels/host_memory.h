/* host_memory.h - the memory calls shared by the backends that compute in host memory.
 *
 * ref, cpu and null put AdHostBackend first in their own struct and point their class here.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_HOST_MEMORY_H
#define AD_HOST_MEMORY_H

#include "backend.h"

typedef struct AdHostBackend {
    AdBackend base;
    uint64_t  ours, peak;       /* bytes of slabs */
} AdHostBackend;

AdStatus ad_host_alloc   (AdBackend *be, size_t bytes, void **out);
void     ad_host_free    (AdBackend *be, void *p);
AdStatus ad_host_upload  (AdBackend *be, void *dst, const void *src, size_t bytes);
AdStatus ad_host_download(AdBackend *be, void *dst, const void *src, size_t bytes);
AdStatus ad_host_sync    (AdBackend *be);
AdStatus ad_host_memory  (AdBackend *be, AdMemory *out);

/* A zeroed struct of `bytes` that begins with an AdHostBackend of this class; NULL: the sentence
 * is in params->message. */
void *ad_host_open(const AdBackendClass *cls, size_t bytes, const AdDeviceParams *params);

#endif
