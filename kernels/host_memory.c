/* host_memory.c - slabs in host memory; see host_memory.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host_memory.h"

/* In front of every slab, so that free can count. */
typedef struct Header {
    void  *allocation;
    size_t bytes;
} Header;

static Header *header_of(void *slab)
{
    return (Header *)(void *)((char *)slab - AD_ALIGN);
}

AdStatus ad_host_alloc(AdBackend *be, size_t bytes, void **out)
{
    AdHostBackend *host = (AdHostBackend *)be;
    void *p = bytes < SIZE_MAX - 2 * AD_ARENA_ALIGN ? ad_alloc_raw(bytes + 2 * AD_ARENA_ALIGN)
                                                    : NULL;
    *out = NULL;
    if (!p)
        return ad_backend_fail(be, AD_ERR_NOMEM, "%zu MiB of memory are not to be had",
                               bytes >> 20);
    *out = (void *)ad_round_up((uintptr_t)p + AD_ALIGN, AD_ARENA_ALIGN);
    *header_of(*out) = (Header){ p, bytes };
    host->ours += bytes;
    host->peak = AD_MAX(host->peak, host->ours);
    return AD_OK;
}

void ad_host_free(AdBackend *be, void *slab)
{
    if (!slab)
        return;
    ((AdHostBackend *)be)->ours -= header_of(slab)->bytes;
    ad_free(header_of(slab)->allocation);
}

AdStatus ad_host_upload(AdBackend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    memcpy(dst, src, bytes);
    return AD_OK;
}

AdStatus ad_host_download(AdBackend *be, void *dst, const void *src, size_t bytes)
{
    return ad_host_upload(be, dst, src, bytes);
}

AdStatus ad_host_sync(AdBackend *be)
{
    (void)be;
    return AD_OK;
}

/* A line of /proc/meminfo in bytes, 0 if it is not there. */
static uint64_t meminfo(const char *name)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;
    size_t n = strlen(name);

    while (f && !kib && fgets(line, sizeof(line), f))
        if (!strncmp(line, name, n) && line[n] == ':')
            kib = strtoull(line + n + 1, NULL, 10);
    if (f)
        fclose(f);
    return (uint64_t)kib << 10;
}

AdStatus ad_host_memory(AdBackend *be, AdMemory *out)
{
    const AdHostBackend *host = (const AdHostBackend *)be;

    *out = (AdMemory){ .total = meminfo("MemTotal"), .free = meminfo("MemAvailable"),
                       .ours = host->ours, .peak = host->peak };
    return AD_OK;
}

void *ad_host_open(const AdBackendClass *cls, size_t bytes, const AdDeviceParams *params)
{
    AdHostBackend *host = ad_alloc(bytes);

    if (!host) {
        if (params->message)
            ad_format(params->message, params->message_size, "no memory for the %s backend",
                      cls->name);
        return NULL;
    }
    host->base.cls     = cls;
    host->base.fastest = AD_F32;
    return host;
}
