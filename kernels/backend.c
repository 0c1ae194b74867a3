/* backend.c - which devices this build has, and how a name becomes one.
 *
 * The only file with a feature #if. The CUDA backend is a shared object of its own, opened at run
 * time, so that one program works with and without a driver.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "backend.h"

#if AD_HAVE_DNNL
#define CPU_BACKEND &ad_cpu_backend,
#else
#define CPU_BACKEND
#endif

const AdBackendClass *const ad_backends[] = {
    CPU_BACKEND
    &ad_cuda_backend,
    &ad_ref_backend,
    &ad_null_backend,
    NULL
};

AdStatus ad_backend_fail(AdBackend *be, AdStatus status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ad_vformat(be->message, sizeof(be->message), format, args);
    va_end(args);
    return status;
}

/* null is no device to compute on, and cannot be chosen. */
static const AdBackendClass *find(const char *name, size_t length)
{
    for (int i = 0; ad_backends[i] && ad_backends[i] != &ad_null_backend; i++)
        if (strlen(ad_backends[i]->name) == length && !memcmp(ad_backends[i]->name, name, length))
            return ad_backends[i];
    return NULL;
}

/* "cuda:1" -> its class and 1; false when it is no device name. */
static bool parse(const char *device, const AdBackendClass **cls, int *index)
{
    size_t length = strcspn(device, ":");
    const char *digits = device[length] ? device + length + 1 : "0";
    size_t n = strspn(digits, "0123456789");

    *cls = find(device, length);
    if (!*cls || !n || n > 4 || digits[n] || (device[length] && strcmp((*cls)->name, "cuda")))
        return false;
    *index = (int)strtol(digits, NULL, 10);
    return true;
}

AdStatus ad_backend_open(AdBackend **out, const char *device, int threads, char *why,
                         char *message, size_t size)
{
    AdDeviceParams params = { .threads = threads, .message = message, .message_size = size };
    const AdBackendClass *cls;

    *out = NULL;
    why[0] = message[0] = 0;
    if (threads < 0) {
        ad_format(message, size, "threads=%d: 0 (all) or a number of threads is allowed", threads);
        return AD_ERR_INVALID;
    }
    if (!strcmp(device, "auto")) {
        if (ad_cuda_backend.open(out, &params) == AD_OK)
            return AD_OK;
        ad_format(why, size, "%s", message);
        message[0] = 0;
        return ad_backends[0]->open(out, &params);
    }
    if (!parse(device, &cls, &params.index)) {
        ad_format(message, size, "device \"%.40s\" is unknown; allowed are auto, cpu, cuda, cuda:N",
                  device);
        return AD_ERR_INVALID;
    }
    return cls->open(out, &params);
}
