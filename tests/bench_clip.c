/* bench_clip.c - how long a clip takes, through the public API and without looking inside.
 *
 * One line of JSON: loading, the first clip, then the median step, whole clip and frame of two
 * more, and memory. Random weights are as good as any: speed does not depend on them.
 *
 * Usage: bench_clip MODEL ADAPTER SIZE PRECISION STEPS GUIDANCE [DEVICE [FRAMES]]
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../engine/animatediff.h"

enum { CLIPS = 3, MOST = 1024 };        /* clips, frames of them */

static double steps[CLIPS], frames[MOST], clips[CLIPS];
static int frame_count;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *numbers, int n)
{
    qsort(numbers, (size_t)n, sizeof(*numbers), by_size);
    return n ? numbers[n / 2] : 0;
}

static void print_line(void *opaque, AdLogLevel level, const char *line)
{
    (void)opaque;
    if (level <= AD_LOG_WARNING)
        fprintf(stderr, "%s\n", line);
}

/* One clip, decoded. A device may still be busy when a step returns; the last one waits for all,
 * so a step is their mean. */
static AdStatus one_clip(AdSession *s, const AdClip *clip, const AdSessionParams *p,
                         uint8_t *pixels, int which)
{
    double start = now(), last, t;
    AdStatus st = ad_session_begin(s, clip);
    int done = 0, total = 1;

    last = now();
    while (st == AD_OK)
        st = ad_session_step(s);
    ad_session_progress(s, &done, &total);
    steps[which] = (now() - last) / total;
    last = now();
    for (int i = 0; i < p->frames && st >= 0; i++) {
        AdImage image = { pixels, 3 * p->width, p->width, p->height };

        st   = ad_session_decode(s, i, &image);
        t    = now();
        if (which && frame_count < MOST)
            frames[frame_count++] = t - last;
        last = t;
    }
    clips[which] = now() - start;
    return st;
}

static AdPrecision precision_of(const char *name)
{
    return !strcmp(name, "fp32") ? AD_PRECISION_FP32 : !strcmp(name, "fp16") ? AD_PRECISION_FP16
         : !strcmp(name, "bf16") ? AD_PRECISION_BF16 : AD_PRECISION_AUTO;
}

static void print_result(AdContext *ctx, const AdModel *model, char **argv, double loaded)
{
    AdModelInfo info;
    AdMemory memory = { 0 };

    ad_model_info(model, &info);
    ad_context_memory(ctx, &memory);
    printf("{\"device\": \"%s\", \"size\": %s, \"precision\": \"%s\", \"steps\": %s, "
           "\"guidance\": %s, \"load_s\": %.2f, ", info.device, argv[3], info.precision, argv[5],
           argv[6], loaded);
    printf("\"first_clip_s\": %.3f, \"clip_s\": %.4f, \"step_ms\": %.3f, \"frame_ms\": %.3f, "
           "\"peak_gb\": %.3f}\n", clips[0], median(clips + 1, CLIPS - 1),
           1e3 * median(steps + 1, CLIPS - 1), 1e3 * median(frames, frame_count),
           (double)memory.peak / 1e9);
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
    AdStatus st;
    double start = now(), loaded;
    uint8_t *pixels;

    if (argc == 1)              /* make bench: without a model there is nothing to time */
        return 0;
    if (argc < 7) {
        fprintf(stderr, "usage: bench_clip MODEL ADAPTER SIZE PRECISION STEPS GUIDANCE "
                "[DEVICE [FRAMES]]\n");
        return 2;
    }
    ad_context_defaults(&cp);
    cp.device = argc > 7 ? argv[7] : "auto";
    cp.log    = print_line;
    ad_model_defaults(&mp);
    mp.model          = argv[1];
    mp.motion_adapter = *argv[2] ? argv[2] : NULL;
    mp.precision      = precision_of(argv[4]);
    if (ad_context_create(&ctx, &cp) < 0 || ad_model_load(ctx, &model, &mp) < 0)
        return 1;
    loaded = now() - start;
    ad_session_defaults(model, &sp);
    sp.width = sp.height = atoi(argv[3]);
    sp.scheduler = "ddim";
    sp.frames    = argc > 8 ? atoi(argv[8]) : sp.frames;
    ad_clip_defaults(&clip);
    clip.prompt         = "a red ball rolling left";
    clip.steps          = atoi(argv[5]);
    clip.guidance_scale = strtof(argv[6], NULL);
    pixels = malloc((size_t)sp.width * (size_t)sp.height * 3);
    st     = pixels ? ad_session_create(model, &s, &sp) : AD_ERR_NOMEM;
    for (int i = 0; i < CLIPS && st >= 0; i++)
        st = one_clip(s, &clip, &sp, pixels, i);
    if (st >= 0)
        print_result(ctx, model, argv, loaded);
    else
        fprintf(stderr, "bench_clip: %s\n", ad_context_error(ctx));
    free(pixels);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
    return st < 0;
}
