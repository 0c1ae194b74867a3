/* test_faults.c - every call of the device fails in turn, on the stand-in.
 *
 * A clip from opening the device to its last frame, kernels left out, with the n-th call ending
 * in an error: out of memory once (freed caches and a second try may help), out of memory for good,
 * a refused argument, a lost device, a lost device that only a later wait tells. Each must end well
 * or with a status and one sentence, take no memory along, call a lost device no more, and end.
 * Calls repeat by the thousand: all of the first, then some.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include "../../engine/animatediff.h"
#include "../check.h"
#include "../render.h"
#include "../scratch.h"

static void        (*fail_at)(long n, int error, const char *how);
static long        (*calls)(void);
static const char *(*failed)(void);
static size_t      (*left)(void);
static void        (*dry_run)(int dry);
static void        (*give_back_all)(void);

/* What belongs to a lost device is left alone, so a leak sanitizer has nothing to say here. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }

static RenderCase small;
static char said[512];          /* the last run's sentence */

static void find(void *object, const char *name, void *function)
{
    void *symbol = object ? dlsym(object, name) : NULL;

    if (!symbol)
        die("test_faults: no %s: not the stand-in", name);
    memcpy(function, &symbol, sizeof(symbol));
}

static void keep_error(void *opaque, AdLogLevel level, const char *line)
{
    (void)opaque;
    if (level == AD_LOG_ERROR)
        snprintf(said, sizeof(said), "%s", line);
}

/* Everything that a program does, and everything destroyed again. */
static AdStatus whole_clip(void)
{
    static uint8_t pixels[32 * 32 * 3];
    AdContextParams params;
    AdContext *ctx = NULL;
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdStatus st;

    said[0] = 0;
    ad_context_defaults(&params);
    params.device = "cuda";
    params.log    = keep_error;
    st = ad_context_create(&ctx, &params);
    if (st >= 0)
        st = ad_model_load(ctx, &model, &small.model);
    if (st >= 0) {
        AdSessionParams p = render_params(model, &small);

        st = ad_session_create(model, &s, &p);
        if (st >= 0)
            st = render_clip(s, &small.clip, &p, pixels);
    }
    if (st < 0 && ctx)
        snprintf(said, sizeof(said), "%s", ad_context_error(ctx));
    ad_session_destroy(&s);
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
    return st;
}

static void sentence_is_right(long n, AdStatus st)
{
    size_t length = strlen(said);

    if (!length || length > 300 || strchr(said, '\n'))
        FAIL("call %ld, %s, %s: \"%s\" is no sentence", n, failed(), ad_status_name(st), said);
}

/* The n-th call fails; true: there was one. */
static bool one_run(long n, int error, const char *how)
{
    AdStatus st;
    bool lost = error >= 700;
    long after;

    fail_at(n, error, how);
    alarm(60);
    st = whole_clip();
    alarm(0);
    after = calls() - n;
    if (!failed()) {
        CHECK_STATUS(st, AD_OK);
        return false;
    }
    if (st < 0)
        sentence_is_right(n, st);
    if (!strcmp(how, "always") && st < 0 && st != AD_ERR_NOMEM && st != AD_ERR_BACKEND)
        FAIL("call %ld, %s: %s, \"%s\"", n, failed(), ad_status_name(st), said);
    if (!strcmp(how, "once") && error == 2 && !strcmp(failed(), "cudaMalloc") && st < 0)
        FAIL("call %ld: memory was there at the second try: %s", n, said);
    if (lost && st >= 0 && strcmp(how, "late"))
        FAIL("call %ld, %s: lost, and nobody says so", n, failed());
    if (lost && !strcmp(how, "once") && after > 0)
        FAIL("call %ld, %s: the lost device was called %ld times more", n, failed(), after);
    if (lost)
        give_back_all();        /* of a lost device nothing is freed */
    else if (left())
        FAIL("call %ld, %s: %zu bytes are left on the device", n, failed(), left());
    return true;
}

static void every_call(int error, const char *how)
{
    static long n;              /* outlives a failing case */
    long tried = 0;

    for (n = 1; one_run(n, error, how); n += n < 30 ? 1 : 3 + n / 5)
        tried++;
    fail_at(0, 0, "once");
    give_back_all();
    CHECK(tried > 40);
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK_INT(left(), 0);
}

int main(void)
{
    char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    void *object;

    path[n < 0 ? 0 : n] = 0;
    if (strrchr(path, '/'))
        strcpy(strrchr(path, '/'), "/libanimatediff-cuda.so");
    object = dlopen(path, RTLD_LAZY);
    find(object, "hc_fail_at", &fail_at);
    find(object, "hc_calls", &calls);
    find(object, "hc_failed", &failed);
    find(object, "hc_left", &left);
    find(object, "hc_dry_run", &dry_run);
    find(object, "hc_give_back_all", &give_back_all);
    render_small(&small);
    small.model.precision = AD_PRECISION_FP16;
    small.session.frames  = 1;
    small.clip.steps      = 1;
    dry_run(1);
    RUN_AS(every_call(2, "once"), "each device call runs out of memory once");
    RUN_AS(every_call(2, "always"), "each device call runs out of memory, and allocations stay so");
    RUN_AS(every_call(1, "once"), "each device call refuses its arguments");
    RUN_AS(every_call(700, "once"), "each device call loses the device");
    RUN_AS(every_call(719, "late"), "each device call loses the device, and a later one says so");
    return check_result();
}
