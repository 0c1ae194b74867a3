/* cuda_open.c - finds the CUDA backend's shared object and opens a device with it.
 *
 * The object is looked for beside this library and in its installation; ad_cuda_open_from takes
 * other folders, for tests. What comes back belongs to the object's own class; this one only has a
 * name and a door. An object is never unloaded: the driver's threads may still be in its code.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE             /* dladdr */
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "plugin.h"

#ifndef AD_LIBDIR
#define AD_LIBDIR "/usr/local/lib/animatediff"
#endif

/* ---- where -------------------------------------------------------------------------------- */

/* The folder of the file that this code was loaded from, the library or a program that holds it;
 * "" when it cannot be told. */
static void own_folder(char out[PATH_MAX])
{
    Dl_info info;
    char *slash = NULL;

    if (dladdr(&ad_cuda_backend, &info) && info.dli_fname && strchr(info.dli_fname, '/'))
        slash = realpath(info.dli_fname, out) ? strrchr(out, '/') : NULL;
    else {                      /* a program that was found by PATH */
        ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

        out[n < 0 ? 0 : n] = 0;
        slash = strrchr(out, '/');
    }
    *(slash ? slash : out) = 0;
}

/* The first folder's object that exists; false: none. */
static bool find(const char *const *folders, char path[PATH_MAX])
{
    for (; *folders; folders++) {
        if (**folders != '/' || strlen(*folders) + sizeof("/" AD_CUDA_PLUGIN_FILE) > PATH_MAX)
            continue;
        ad_format(path, PATH_MAX, "%s/" AD_CUDA_PLUGIN_FILE, *folders);
        if (!access(path, F_OK))
            return true;
    }
    return false;
}

/* ---- what --------------------------------------------------------------------------------- */

/* The end of a path: where it does not fit into a sentence, that part tells most. */
static const char *shown(const char *path)
{
    size_t n = strlen(path);

    return n > 90 ? path + n - 90 : path;
}

/* dlerror without the path in front, which the sentence has already. */
static const char *reason(const char *path)
{
    const char *why = dlerror();
    size_t n = strlen(path);

    if (!why)
        return "";
    return !strncmp(why, path, n) && !strncmp(why + n, ": ", 2) ? why + n + 2 : why;
}

static const AdCudaPlugin *load(const char *path, char *message, size_t size)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const AdCudaPlugin *plugin = object ? dlsym(object, AD_CUDA_PLUGIN_NAME) : NULL;

    if (!object) {
        ad_format(message, size, "%s cannot be loaded: %.140s", shown(path), reason(path));
    } else if (!plugin) {
        ad_format(message, size, "%s is no CUDA backend of animatediff", shown(path));
    } else if (plugin->abi != AD_BACKEND_ABI || plugin->sizes != AD_CUDA_PLUGIN_SIZES) {
        ad_format(message, size, "%s is of another version than the library; install both from "
                  "one build", shown(path));
        plugin = NULL;
    }
    return plugin;
}

AdStatus ad_cuda_open_from(const char *const *folders, AdBackend **out,
                           const AdDeviceParams *params)
{
    char path[PATH_MAX];
    const AdCudaPlugin *plugin;

    *out = NULL;
    if (!find(folders, path)) {
        ad_format(params->message, params->message_size, "the CUDA backend is not installed ("
                  AD_CUDA_PLUGIN_FILE " is neither beside the library nor in %.100s)", AD_LIBDIR);
        return AD_ERR_BACKEND;
    }
    plugin = load(path, params->message, params->message_size);
    return plugin ? plugin->cls->open(out, params) : AD_ERR_BACKEND;
}

/* Beside the library; in PREFIX/lib/animatediff, wherever the prefix was moved to; in the lib
 * beside the bin of a program that holds the library; where PREFIX was configured. */
static AdStatus cuda_open(AdBackend **out, const AdDeviceParams *params)
{
    char own[PATH_MAX], below[PATH_MAX + 16] = "", beside[PATH_MAX + 16] = "";
    const char *const folders[] = { own, below, beside, AD_LIBDIR, NULL };

    own_folder(own);
    if (*own) {
        ad_format(below, sizeof(below), "%s/animatediff", own);
        ad_format(beside, sizeof(beside), "%s/../lib", own);
    }
    return ad_cuda_open_from(folders, out, params);
}

const AdBackendClass ad_cuda_backend = {
    .name  = "cuda",
    .about = "NVIDIA GPUs",
    .open  = cuda_open,
};
