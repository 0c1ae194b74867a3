/* bench_session.c - where the time of a clip goes.
 *
 * Loads a model, computes some denoising steps and decodes some frames, and prints seconds per
 * step and frame, memory, and the time of every kind of operation and shape. The operations of the
 * backend are timed from outside: its class is replaced by one that looks at the clock.
 *
 * Usage: bench_session MODEL ADAPTER SIZE PRECISION STEPS [DEVICE [LORA MOTION_LORA]]
 * With LoRAs the time is taken that other lists of them cost while the model stays loaded.
 * BENCH_FRAMES=n: frames of the clip, not the model's own; BENCH_AGAIN=n: repetitions on a GPU.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "../engine/model.h"

#define MOST 512

typedef struct Row {
    char   name[96];
    double seconds, work;   /* work: floating point operations, or bytes when memory-bound */
    long   calls;
    bool   bytes;
} Row;

typedef struct Rows {
    Row rows[MOST];
    int count;
} Rows;

static const AdBackendClass *real;
static int again;               /* repetitions on a device; 0: it is the host */
static Rows profile, quickest;  /* of the step or frame being computed, and of the quickest one */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add(const char *name, double seconds, double work, bool bytes)
{
    int i = 0;

    while (i < profile.count && strcmp(profile.rows[i].name, name))
        i++;
    if (i == MOST)
        return;
    if (i == profile.count) {
        profile.rows[i] = (Row){ 0 };
        profile.count++;
        snprintf(profile.rows[i].name, sizeof(profile.rows[i].name), "%s", name);
        profile.rows[i].bytes = bytes;
    }
    profile.rows[i].seconds += seconds;
    profile.rows[i].work    += work;
    profile.rows[i].calls++;
}

#define DIM(t) (int)(t).dim[0], (int)(t).dim[1], (int)(t).dim[2], (int)(t).dim[3]

/* Of a device that computes later an operation is done once, and then timed many times in a row. */
#define TIMED(op, Args, asked, work, in_bytes, ...)                                     \
    static AdStatus timed_##op(AdBackend *be, const Args *a)                            \
    {                                                                                   \
        double start = now();                                                           \
        AdStatus st = real->ops->op(be, a);                                     \
        char name[96];                                                                  \
                                                                                        \
        if (asked)                                                                      \
            return st;                                                                  \
        if (again) {                                                                    \
            real->sync(be);                                                             \
            start = now();                                                              \
            for (int i = 0; i < again && st >= 0; i++)                                  \
                st = real->ops->op(be, a);                                              \
            real->sync(be);                                                             \
            start = now() - (now() - start) / again;                                    \
        }                                                                               \
        snprintf(name, sizeof(name), #op " " __VA_ARGS__);                              \
        add(name, now() - start, work, in_bytes);                                       \
        return st;                                                                      \
    }

TIMED(gather, AdGatherArgs, false, 0, true, "%s", "")
TIMED(linear, AdLinearArgs, a->scratch.need,
      2.0 * (double)ad_rows(a->x) * (double)a->w.dim[2] * (double)a->w.dim[3], false,
      "%d x %d -> %d%s%s", (int)ad_rows(a->x), (int)a->x.dim[3], (int)a->out.dim[3],
      a->act == AD_ACT_GEGLU ? " geglu" : "", a->residual.data ? " +r" : "")
TIMED(conv2d, AdConvArgs, a->scratch.need,
      2.0 * (double)ad_rows(a->out) * (double)ad_count(a->w), false,
      "%d x %dx%d %d -> %d k%d%s%s", DIM(a->x), (int)a->out.dim[3], (int)a->w.dim[1],
      a->stride == 2 ? " /2" : "", a->residual.data ? " +r" : "")
TIMED(norm, AdNormArgs, a->scratch.need, (double)(ad_bytes(a->x) + ad_bytes(a->out)), true,
      "%s %d x %dx%d %d%s%s", a->groups ? "group" : "layer", DIM(a->x), a->x2.data ? " +x2" : "",
      a->silu ? " silu" : "")
TIMED(attention, AdAttentionArgs, a->scratch.need,
      4.0 * (double)(a->batch0 * a->batch1 * a->heads) * a->queries * a->keys * a->head_width,
      false, "%d x %d x %d, %d keys, %d queries, d %d", (int)a->batch0, (int)a->batch1, a->heads,
      a->keys, a->queries, a->head_width)
TIMED(activate, AdActArgs, false, (double)(2 * ad_bytes(a->x)), true, "%d", (int)ad_count(a->x))
TIMED(upsample, AdUpsampleArgs, false, (double)(ad_bytes(a->x) + ad_bytes(a->out)), true,
      "%d x %dx%d %d", DIM(a->out))
TIMED(lincomb, AdLincombArgs, false, (double)ad_bytes(a->out) * (a->count + 1), true, "%d of %d",
      (int)ad_count(a->out), a->count)
TIMED(to_rgb, AdRgbArgs, false, (double)ad_bytes(a->x), true, "%d", (int)ad_count(a->x))
TIMED(nonfinite, AdNonfiniteArgs, false, (double)ad_bytes(a->x), true, "%d", (int)ad_count(a->x))

static const AdOps timed_ops = {
    .gather = timed_gather, .linear = timed_linear, .conv2d = timed_conv2d, .norm = timed_norm,
    .attention = timed_attention, .activate = timed_activate, .upsample = timed_upsample,
    .lincomb = timed_lincomb, .to_rgb = timed_to_rgb, .nonfinite = timed_nonfinite,
};

static int by_time(const void *a, const void *b)
{
    double x = ((const Row *)a)->seconds, y = ((const Row *)b)->seconds;

    return (x < y) - (x > y);
}

/* Sums per kind of operation, then the shapes that cost most. */
static void print_profile(const char *title)
{
    Row kinds[16] = { 0 };
    int kind_count = 0;
    double all = 0;

    for (int i = 0; i < quickest.count; i++) {
        const Row *r = &quickest.rows[i];
        size_t n = strcspn(r->name, " ");
        int k = 0;

        while (k < kind_count && (strncmp(kinds[k].name, r->name, n) || kinds[k].name[n]))
            k++;
        if (k == kind_count)
            snprintf(kinds[kind_count++].name, n + 1, "%s", r->name);
        kinds[k].seconds += r->seconds;
        kinds[k].calls   += r->calls;
        all += r->seconds;
    }
    qsort(kinds, (size_t)kind_count, sizeof(*kinds), by_time);
    qsort(quickest.rows, (size_t)quickest.count, sizeof(*quickest.rows), by_time);
    printf("\n%s: %.3f s in operations\n", title, all);
    for (int i = 0; i < kind_count; i++)
        printf("  %-44s %8.1f ms %5ld calls %5.1f %%\n", kinds[i].name,
               1e3 * kinds[i].seconds, kinds[i].calls,
               100 * kinds[i].seconds / all);
    for (int i = 0; i < quickest.count && i < 80; i++) {
        const Row *r = &quickest.rows[i];

        printf("    %-58s %8.1f ms %4ld calls %8.1f %s\n", r->name, 1e3 * r->seconds,
               r->calls, 1e-9 * r->work / r->seconds, r->bytes ? "GB/s" : "GFLOP/s");
    }
}

static double part_start, part_best;

static void begin_part(void)
{
    profile.count = 0;
    part_start = now();
}

static void end_part(const char *what, int i)
{
    double seconds = now() - part_start;

    printf("%s %d: %.3f s\n", what, i + 1, seconds);
    if (i == 0 || seconds < part_best) {
        part_best = seconds;
        quickest  = profile;
    }
}

static void print_line(void *opaque, AdLogLevel level, const char *line)
{
    (void)opaque;
    if (level <= AD_LOG_INFO)
        fprintf(stderr, "%s\n", line);
}

static double peak_gb(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss * 1024 / 1e9;
}

/* Seconds of all threads. */
static double worked(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Reading and packing while a clip may be computed, then what the next clip waits for. */
static int adapt(AdModel *m, const char *what, const char *lora, const char *motion_lora)
{
    double start = now(), work = worked(), ready, waiting = 0;

    if (ad_model_adapt(m, lora, motion_lora) < 0)
        return -1;
    ready = now();
    work  = worked() - work;
    for (size_t i = 0; m->next && i < m->next->changes.count; i++)
        waiting += 1e-9 * (double)m->next->changes.items[i].bytes;
    printf("%s: %.2f s to make ready (%.2f s of processor time, %.2f GB wait), ", what,
           ready - start, work, waiting);
    if (ad_model_take_adaptation(m) < 0)
        return -1;
    printf("%.3f s at the next clip\n", now() - ready);
    return 0;
}

static int adapt_often(AdModel *m, const char *lora, const char *motion_lora)
{
    char half[600];

    snprintf(half, sizeof(half), "%s@0.5", motion_lora);
    for (int i = 0; i < 3; i++)
        if (adapt(m, "a motion LoRA", NULL, motion_lora) < 0 ||
            adapt(m, "another scale", NULL, half) < 0 ||
            adapt(m, "and a LoRA", lora, half) < 0 || adapt(m, "none", NULL, NULL) < 0)
            return -1;
    return 0;
}

int main(int argc, char **argv)
{
    AdContextParams cp;
    AdModelParams mp;
    AdSessionParams sp;
    AdClip clip;
    AdContext *ctx = NULL;
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdBackendClass timed;
    int size, steps, frames = 3;
    double start = now();
    uint8_t *picture;

    if (argc < 6) {
        fprintf(stderr, "usage: bench_session MODEL ADAPTER SIZE PRECISION STEPS [DEVICE ...]\n");
        return 2;
    }
    size  = atoi(argv[3]);
    steps = atoi(argv[5]);
    ad_context_defaults(&cp);
    cp.device = argc > 6 ? argv[6] : "cpu";
    cp.log    = print_line;
    ad_model_defaults(&mp);
    mp.model          = argv[1];
    mp.motion_adapter = *argv[2] ? argv[2] : NULL;
    mp.precision      = !strcmp(argv[4], "fp32") ? AD_PRECISION_FP32
                      : !strcmp(argv[4], "fp16") ? AD_PRECISION_FP16 : AD_PRECISION_BF16;
    if (!strncmp(cp.device, "cuda", 4))
        again = getenv("BENCH_AGAIN") ? atoi(getenv("BENCH_AGAIN")) : 40;
    if (ad_context_create(&ctx, &cp) < 0 || ad_model_load(ctx, &model, &mp) < 0)
        return 1;
    printf("%s, %s: loaded in %.1f s, peak %.2f GB\n", ctx->backend->about, argv[4],
           now() - start, peak_gb());
    if (argc > 8 && adapt_often(model, argv[7], argv[8]) < 0)
        return 1;
    if (steps < 1)
        return 0;
    ad_session_defaults(model, &sp);
    sp.width = sp.height = size;
    sp.scheduler = "ddim";
    sp.frames    = getenv("BENCH_FRAMES") ? atoi(getenv("BENCH_FRAMES")) : sp.frames;
    frames       = sp.frames < frames ? sp.frames : frames;
    if (ad_session_create(model, &s, &sp) < 0)
        return 1;
    timed = *ctx->backend->cls;
    real  = ctx->backend->cls;
    timed.ops = &timed_ops;
    ctx->backend->cls = &timed;
    ad_clip_defaults(&clip);
    clip.prompt = "a red ball rolling left";
    clip.steps  = steps;
    start = now();
    if (ad_session_begin(s, &clip) < 0)
        return 1;
    printf("begin %.2f s, work memory %.2f GB\n", now() - start, (double)s->slab_bytes / 1e9);
    for (int i = 0; i < steps; i++) {
        begin_part();
        if (ad_session_step(s) < 0)
            return 1;
        end_part("step", i);
    }
    print_profile("quickest step");
    picture = malloc((size_t)size * (size_t)size * 3);
    for (int i = 0; i < frames; i++) {
        AdImage image = { picture, 3 * size, size, size };

        begin_part();
        if (ad_session_decode(s, i, &image) < 0)
            return 1;
        end_part("frame", i);
    }
    print_profile("quickest frame");
    printf("peak %.2f GB\n", peak_gb());
    free(picture);
    ad_session_destroy(&s);
    ctx->backend->cls = real;
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
    return 0;
}
