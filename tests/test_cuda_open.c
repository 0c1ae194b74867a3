/* test_cuda_open.c - the CUDA backend's shared object: found, refused, absent.
 *
 * Needs no GPU and no toolkit: the objects are fakes that the Makefile builds from
 * tests/plugin/fake.c into build/tests/plugin/KIND.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "../engine/animatediff.h"
#include "../kernels/plugin.h"
#include "check.h"
#include "scratch.h"

static char message[256];

/* build/tests/plugin/KIND, from where this program lies. */
static const char *folder(const char *kind)
{
    static char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (n < 0)
        die("/proc/self/exe cannot be read");
    path[n] = 0;
    sprintf(strrchr(path, '/'), "/plugin/%s", kind);
    return path;
}

static AdStatus opened(AdBackend **be, const char *first, const char *second)
{
    const char *const folders[] = { first, second, NULL };
    AdDeviceParams params = { .index = 3, .message = message, .message_size = sizeof(message) };

    message[0] = 0;
    return ad_cuda_open_from(folders, be, &params);
}

static void refused(const char *first, const char *second, const char *part)
{
    AdBackend *be = (AdBackend *)message;

    CHECK_STATUS(opened(&be, first, second), AD_ERR_BACKEND);
    CHECK(!be);
    CHECK_CONTAINS(message, part);
    CHECK(strlen(message) < sizeof(message) - 1);
}

static void an_object_of_this_version_is_used(void)
{
    AdBackend *be = NULL;

    CHECK_STATUS(opened(&be, folder("works"), "/nowhere"), AD_OK);
    CHECK_CONTAINS(be->about, "fake (cuda:3)");
    be->cls->close(&be);
    CHECK_STATUS(opened(&be, "/nowhere", folder("works")), AD_OK);
    be->cls->close(&be);
}

static void no_object_is_a_sentence(void)
{
    refused("/nowhere", scratch(NULL), "libanimatediff-cuda.so is neither beside the library nor");
    refused("", "relative/folder", "is not installed");
}

static void an_object_of_another_version_is_not_called(void)
{
    refused(folder("abi"), "", "is of another version than the library");
    refused(folder("sizes"), "", "is of another version than the library");
}

static void another_library_of_that_name_is_refused(void)
{
    refused(folder("symbol"), "", "is no CUDA backend of animatediff");
}

static void a_file_that_is_no_library_is_refused(void)
{
    refused(scratch_write("text/" AD_CUDA_PLUGIN_FILE, "no library\n", 11) ? scratch("text") : "",
            folder("works"), "cannot be loaded: ");
    scratch_folder("folder/" AD_CUDA_PLUGIN_FILE);
    refused(scratch("folder"), "", "cannot be loaded: ");
}

static void a_long_path_leaves_room_for_the_reason(void)
{
    char name[240];

    memset(name, 'x', 200);
    strcpy(name + 200, "/" AD_CUDA_PLUGIN_FILE);
    scratch_write(name, "no library\n", 11);
    name[200] = 0;
    refused(scratch(name), "", "/" AD_CUDA_PLUGIN_FILE " cannot be loaded: ");
}

static void what_the_object_says_is_passed_on(void)
{
    refused(folder("refuses"), "", "no NVIDIA GPU: the driver sees none");
}

/* ---- the device option -------------------------------------------------------------------- */

static char logged[512];

static void keep_line(void *opaque, AdLogLevel level, const char *line)
{
    (void)opaque;
    if (level <= AD_LOG_INFO)
        snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%s\n", line);
}

static AdStatus context(AdContext **ctx, const char *device)
{
    AdContextParams params;

    ad_context_defaults(&params);
    params.device = device;
    params.log    = keep_line;
    logged[0] = 0;
    return ad_context_create(ctx, &params);
}

/* Whatever this machine has: auto always opens, cuda opens too or gives auto's reason. */
static void auto_says_in_one_line_why_it_took_the_cpu(void)
{
    AdContext *ctx = NULL;
    char line[512];

    CHECK_STATUS(context(&ctx, "auto"), AD_OK);
    ad_context_destroy(&ctx);
    if (!logged[0]) {
        CHECK_STATUS(context(&ctx, "cuda"), AD_OK);
        ad_context_destroy(&ctx);
        SKIP("CUDA works here");
    }
    CHECK_CONTAINS(logged, "device auto: CUDA is not used: ");
    CHECK(strchr(logged, '\n') == logged + strlen(logged) - 1);
    strcpy(line, logged + strlen("device auto: CUDA is not used: "));
    CHECK_STATUS(context(&ctx, "cuda"), AD_ERR_BACKEND);
    CHECK_CONTAINS(logged, line);
    CHECK_STATUS(context(&ctx, "cuda:0"), AD_ERR_BACKEND);
    CHECK_CONTAINS(logged, line);
}

int main(void)
{
    RUN(an_object_of_this_version_is_used);
    RUN(no_object_is_a_sentence);
    RUN(an_object_of_another_version_is_not_called);
    RUN(another_library_of_that_name_is_refused);
    RUN(a_file_that_is_no_library_is_refused);
    RUN(a_long_path_leaves_room_for_the_reason);
    RUN(what_the_object_says_is_passed_on);
    RUN(auto_says_in_one_line_why_it_took_the_cpu);
    return check_result();
}
