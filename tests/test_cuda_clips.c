/* test_cuda_clips.c - whole clips on a CUDA device against the CPU's.
 *
 *     test_cuda_clips [CLIPS]         how many clips the last case renders in a row; 2
 *
 * Without a GPU all is skipped; tests/cuda_host.sh runs the same program with the stand-in, and
 * then every piece of the clip's slab is unwritten again when it is taken again: a read of what an
 * earlier layer left there ends the program.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static RenderCase small;
static const char *host = "cpu";        /* "ref" where there is no oneDNN */

/* ---- memory that is used again -------------------------------------------------------------- */

static void (*forget)(void *, size_t);  /* the stand-in's; NULL with a real device */
static long taken;

void *__wrap_ad_arena_take(AdArena *a, size_t bytes, size_t *missing);
void *__real_ad_arena_take(AdArena *a, size_t bytes, size_t *missing);

void *__wrap_ad_arena_take(AdArena *a, size_t bytes, size_t *missing)
{
    void *p = __real_ad_arena_take(a, bytes, missing);

    if (p && forget && a->size < SIZE_MAX / 2) {        /* not while measuring */
        forget(p, bytes);
        taken++;
    }
    return p;
}

static void find_forget(void)
{
    char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    void *object, *symbol = NULL;

    path[n < 0 ? 0 : n] = 0;
    if (strrchr(path, '/'))
        strcpy(strrchr(path, '/'), "/libanimatediff-cuda.so");
    object = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (object)
        symbol = dlsym(object, "hc_forget");
    memcpy(&forget, &symbol, sizeof(forget));
}

/* ---- clips ---------------------------------------------------------------------------------- */

static uint8_t *clip_on(const char *device, AdPrecision precision, size_t *bytes)
{
    AdContext *ctx = render_context(device, 2);
    RenderCase c = small;
    uint8_t *out;

    c.model.precision = precision;
    out = render(ctx, &c, bytes);
    if (!out)
        FAIL("%s: %s", device, ad_context_error(ctx));
    ad_context_destroy(&ctx);
    return out;
}

/* One level off, here and there: another order of sums. */
static void fp32_gives_what_the_cpu_gives(void)
{
    size_t n = 0, differ = 0;
    uint8_t *found = clip_on("cuda", AD_PRECISION_FP32, &n);
    uint8_t *wanted = clip_on(host, AD_PRECISION_FP32, &n);

    for (size_t i = 0; i < n; i++) {
        CHECK(abs(found[i] - wanted[i]) <= 1);
        differ += found[i] != wanted[i];
    }
    free(found);
    free(wanted);
    if (differ * 500 > n)
        FAIL("%zu of %zu bytes differ", differ, n);
}

/* The same 30 dB that are asked of the CPU's bf16 (tests/README.md). */
static void sixteen_bits_are_near(AdPrecision precision)
{
    AdContext *ctx = render_context("cuda", 1);
    bool has = ctx->backend->cls->supports(ctx->backend, precision == AD_PRECISION_BF16 ? AD_BF16
                                                                                        : AD_F16);
    size_t n = 0;
    uint8_t *found, *wanted;
    double squares = 0, psnr;

    ad_context_destroy(&ctx);
    if (!has)
        SKIP("this card does not compute in it");
    found  = clip_on("cuda", precision, &n);
    wanted = clip_on(host, AD_PRECISION_FP32, &n);
    for (size_t i = 0; i < n; i++)
        squares += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    psnr = 10 * log10(255.0 * 255.0 * (double)n / fmax(squares, 1e-9));
    free(found);
    free(wanted);
    if (psnr < 30)
        FAIL("%.1f dB", psnr);
}

static void the_same_seed_gives_the_same_bytes(void)
{
    size_t n = 0;
    uint8_t *a = clip_on("cuda", AD_PRECISION_AUTO, &n);
    uint8_t *b = clip_on("cuda", AD_PRECISION_AUTO, &n);
    bool same = !memcmp(a, b, n);

    free(a);
    free(b);
    CHECK(same);
}

static uint64_t device_memory(AdContext *ctx)
{
    AdMemory m = { 0 };

    CHECK_STATUS(ad_context_memory(ctx, &m), AD_OK);
    return m.ours;
}

/* Each with a seed of its own; the first one's comes back at the end, and must be the same clip. */
static void many_clips(AdContext *ctx, AdSession *s, const AdSessionParams *p, int clips)
{
    size_t n = (size_t)p->frames * (size_t)p->width * (size_t)p->height * 3;
    uint8_t *first = malloc(n), *other = malloc(n);
    uint64_t ours = 0;

    for (int i = 0; i < clips; i++) {
        small.clip.seed = 5 + (uint64_t)(i + 1) % (uint64_t)clips;
        if (render_clip(s, &small.clip, p, i ? other : first) < 0)
            FAIL("clip %d: %s", i, ad_context_error(ctx));
        if (i == 0)
            ours = device_memory(ctx);
        CHECK_INT(device_memory(ctx), ours);
    }
    small.clip.seed = 6;
    CHECK_STATUS(render_clip(s, &small.clip, p, other), AD_OK);
    CHECK(!memcmp(first, other, n));
    CHECK_INT(device_memory(ctx), ours);
    free(first);
    free(other);
}

static void clips_leave_no_memory_behind(int clips)
{
    AdContext *ctx = render_context("cuda", 1);
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdSessionParams p;
    uint64_t before = device_memory(ctx);

    CHECK_STATUS(ad_model_load(ctx, &model, &small.model), AD_OK);
    p = render_params(model, &small);
    CHECK_STATUS(ad_session_create(model, &s, &p), AD_OK);
    many_clips(ctx, s, &p, clips);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
    CHECK_INT(device_memory(ctx), before);
    ad_context_destroy(&ctx);
}

int main(int argc, char **argv)
{
    int clips = argc > 1 ? atoi(argv[1]) : 2;
    AdContextParams params;
    AdContext *ctx = NULL;

    ad_context_defaults(&params);
    params.device = "cuda";
    if (ad_context_create(&ctx, &params) < 0) {
        printf("skip - clips on cuda: no device\n");
        return 0;
    }
    ad_context_destroy(&ctx);
    find_forget();
    params.device = host;
    if (ad_context_create(&ctx, &params) < 0)
        host = "ref";
    ad_context_destroy(&ctx);
    render_small(&small);
    small.session.frames = 2;
    small.clip.steps     = 2;
    RUN_AS(fp32_gives_what_the_cpu_gives(), "a clip on cuda in fp32 is the cpu's");
    RUN_AS(sixteen_bits_are_near(AD_PRECISION_FP16), "a clip on cuda in fp16 is near it");
    RUN_AS(sixteen_bits_are_near(AD_PRECISION_BF16), "a clip on cuda in bf16 is near it");
    RUN_AS(the_same_seed_gives_the_same_bytes(), "the same seed on cuda gives the same bytes");
    RUN_AS(clips_leave_no_memory_behind(clips), "%d clips on cuda leave no memory behind", clips);
    if (forget)
        RUN_AS(CHECK(taken > 1000), "the clip's slab was unwritten whenever it was taken");
    return check_result();
}
