/* test_session_calls.c - sessions used wrongly, stopped, and short of memory.
 *
 * Every refusal with its sentence; how often device memory is taken, and how much. A copy of the
 * backend's class with counting or failing entries stands in the context. Failures deep inside:
 * test_failure.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>

#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static RenderCase small;
static AdContext *ctx;
static AdModel *model;
static AdSession *session;
static AdSessionParams params;
static uint8_t frames[64 * 32 * 32 * 3];

/* ---- a backend that counts ---------------------------------------------------------------- */

static const AdBackendClass *real;
static AdBackendClass counting;
static int allocs, frees;
static int fail_alloc;          /* the n-th next one fails; 0: none */
static uint64_t free_memory;    /* what the device claims; 0: the truth */

static AdStatus counting_alloc(AdBackend *be, size_t bytes, void **out)
{
    allocs++;
    *out = NULL;
    if (fail_alloc && --fail_alloc == 0)
        return ad_backend_fail(be, AD_ERR_NOMEM, "no room on the device");
    return real->alloc(be, bytes, out);
}

static void counting_free(AdBackend *be, void *p)
{
    frees += p != NULL;
    real->free(be, p);
}

static AdStatus counting_memory(AdBackend *be, AdMemory *out)
{
    AdStatus st = real->memory(be, out);

    if (free_memory)
        out->free = free_memory;
    return st;
}

static void open_model(AdPrecision precision)
{
    render_small(&small);
    small.model.precision = precision;
    ctx      = render_context("cpu", 2);
    real     = ctx->backend->cls;
    counting = *real;
    counting.alloc  = counting_alloc;
    counting.free   = counting_free;
    counting.memory = counting_memory;
    ctx->backend->cls = &counting;
    allocs = frees = fail_alloc = 0;
    free_memory = 0;
    if (ad_model_load(ctx, &model, &small.model) < 0)
        die("%s", ad_context_error(ctx));
    params = render_params(model, &small);
}

static void close_model(void)
{
    ad_session_destroy(&session);
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
}

static AdStatus create(void)
{
    ad_session_destroy(&session);
    return ad_session_create(model, &session, &params);
}

static AdStatus whole_clip(void)
{
    return render_clip(session, &small.clip, &params, frames);
}

/* ---- memory ------------------------------------------------------------------------------- */

static void device_memory_is_taken_at_the_first_clip_only(void)
{
    CHECK_STATUS(create(), AD_OK);
    allocs = frees = 0;
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_INT(allocs, 1);
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK_INT(allocs, 1);
    for (int k = 0; k < 2; k++) {
        small.clip.seed++;
        small.clip.prompt = k ? "other words" : "";
        CHECK_STATUS(whole_clip(), AD_OK);
    }
    CHECK(allocs == 1 && frees == 0);
    ad_session_destroy(&session);
    CHECK_INT(frees, 1);
}

static void guidance_that_comes_later_takes_memory_once(void)
{
    CHECK_STATUS(create(), AD_OK);
    allocs = 0;
    small.clip.guidance_scale = 1;
    CHECK_STATUS(whole_clip(), AD_OK);
    small.clip.guidance_scale = 5;
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK_INT(allocs, 2);
    small.clip.guidance_scale = 1;
    CHECK_STATUS(whole_clip(), AD_OK);
    small.clip.guidance_scale = 5;
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK_INT(allocs, 2);
    CHECK_INT(frees, 1);
}

/* The estimate counts 25 evaluations, as a clip has by default. */
static void the_estimate_is_what_is_taken(int guidance)
{
    AdMemory before, after, estimate;

    small.clip.guidance_scale = guidance ? 7.5f : 1;
    small.clip.steps = 25;
    params.decode_chunk = 3;
    CHECK_STATUS(create(), AD_OK);
    allocs = 0;
    CHECK_STATUS(ad_session_estimate(model, &params, guidance, &estimate), AD_OK);
    CHECK_INT(allocs, 0);
    CHECK_STATUS(ad_context_memory(ctx, &before), AD_OK);
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(ad_context_memory(ctx, &after), AD_OK);
    CHECK_INT(after.ours - before.ours, estimate.ours);
    CHECK(after.peak >= after.ours);
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK_INT(session->arena.peak, estimate.ours);  /* measured to the byte */
    CHECK(guidance == 0 || estimate.ours > 100000);
}

static void a_device_without_room_says_what_helps(void)
{
    params.width = 256;
    CHECK_STATUS(create(), AD_OK);
    free_memory = 1 << 20;
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_ERR_NOMEM);
    CHECK_CONTAINS(ad_context_error(ctx), "a clip of 256x32, 4 frames needs");
    CHECK_CONTAINS(ad_context_error(ctx), "1 MiB are free");
    CHECK_CONTAINS(ad_context_error(ctx), "decode_chunk=1");
    free_memory  = 0;
    params.width = 32;
    CHECK_STATUS(create(), AD_OK);
    fail_alloc = 1;
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_ERR_NOMEM);
    CHECK_CONTAINS(ad_context_error(ctx), "no room on the device");
    CHECK_STATUS(ad_session_step(session), AD_ERR_INVALID);
    CHECK_STATUS(whole_clip(), AD_OK);              /* and then there is room */
}

/* ---- refused parameters ------------------------------------------------------------------- */

typedef struct Wrong {
    const char *what;
    void (*set)(AdSessionParams *p);
    AdStatus st;
    const char *part;
} Wrong;

static void width_0(AdSessionParams *p)      { p->width = 0; }
static void width_33(AdSessionParams *p)     { p->width = 36; }
static void height_less(AdSessionParams *p)  { p->height = -8; }
static void height_huge(AdSessionParams *p)  { p->height = 8200; }
static void frames_0(AdSessionParams *p)     { p->frames = 0; }
static void frames_33(AdSessionParams *p)    { p->frames = 33; }
static void chunk_0(AdSessionParams *p)      { p->decode_chunk = 0; }
static void chunk_huge(AdSessionParams *p)   { p->decode_chunk = 4097; }
static void skip_less(AdSessionParams *p)    { p->clip_skip = -2; }
static void skip_all(AdSessionParams *p)     { p->clip_skip = 2; }
static void eta_less(AdSessionParams *p)     { p->eta = -0.5f; }
static void eta_more(AdSessionParams *p)     { p->eta = 1.5f; }
static void eta_nan(AdSessionParams *p)      { p->eta = NAN; }
static void original_0(AdSessionParams *p)   { p->original_steps = 0; }
static void original_huge(AdSessionParams *p){ p->original_steps = 1001; }
static void sms_0(AdSessionParams *p)        { p->rng_gpu[0] = 0; }
static void threads_255(AdSessionParams *p)  { p->rng_gpu[1] = 255; }
static void scheduler_x(AdSessionParams *p)  { p->scheduler = "euler_b"; }
static void betas_x(AdSessionParams *p)      { p->beta_schedule = "cosine"; }
static void spacing_x(AdSessionParams *p)    { p->timestep_spacing = "wide"; }
static void prediction_x(AdSessionParams *p) { p->prediction_type = "noise"; }
static void offset_less(AdSessionParams *p)  { p->steps_offset = -2; }
static void offset_huge(AdSessionParams *p)  { p->steps_offset = 100000; }
static void clipping_2(AdSessionParams *p)   { p->clip_sample = 2; }
static void karras_2(AdSessionParams *p)     { p->use_karras_sigmas = -7; }
static void rng_9(AdSessionParams *p)        { p->rng = (AdRng)9; }
static void norm_9(AdSessionParams *p)       { p->motion_norm = (AdMotionNorm)9; }
static void syntax_9(AdSessionParams *p)     { p->prompt_syntax = (AdPromptSyntax)9; }

static const Wrong wrongs[] = {
    { "width 0", width_0, AD_ERR_INVALID, "size=0x32: multiples of 8 from 8 to 8192" },
    { "width 36", width_33, AD_ERR_INVALID, "the nearest is 40x32" },
    { "height -8", height_less, AD_ERR_INVALID, "size=32x-8" },
    { "height 8200", height_huge, AD_ERR_INVALID, "size=32x8200" },
    { "no frames", frames_0, AD_ERR_INVALID, "frames=0: 1 to 32" },
    { "33 frames", frames_33, AD_ERR_INVALID, "the motion module knows 32 positions" },
    { "decode_chunk 0", chunk_0, AD_ERR_INVALID, "decode_chunk=0" },
    { "decode_chunk 4097", chunk_huge, AD_ERR_INVALID, "1 to 4096" },
    { "clip_skip -2", skip_less, AD_ERR_INVALID, "clip_skip=-2" },
    { "clip_skip of all layers", skip_all, AD_ERR_INVALID, "clip_skip=2: 0 to 1" },
    { "eta -0.5", eta_less, AD_ERR_INVALID, "eta=-0.5: 0 to 1" },
    { "eta 1.5", eta_more, AD_ERR_INVALID, "eta=1.5" },
    { "eta NaN", eta_nan, AD_ERR_INVALID, "eta=" },
    { "original_steps 0", original_0, AD_ERR_INVALID, "original_steps=0: 1 to 1000" },
    { "original_steps 1001", original_huge, AD_ERR_INVALID, "original_steps=1001" },
    { "no SMs", sms_0, AD_ERR_INVALID, "rng_gpu=0x2048" },
    { "255 threads", threads_255, AD_ERR_INVALID, "at least 1x256" },
    { "an unknown scheduler", scheduler_x, AD_ERR_INVALID, "scheduler \"euler_b\" is unknown" },
    { "an unknown beta schedule", betas_x, AD_ERR_INVALID, "beta_schedule \"cosine\"" },
    { "an unknown spacing", spacing_x, AD_ERR_INVALID, "timestep_spacing \"wide\"" },
    { "an unknown prediction", prediction_x, AD_ERR_INVALID, "prediction_type \"noise\"" },
    { "steps_offset -2", offset_less, AD_ERR_INVALID, "steps_offset=-2" },
    { "steps_offset 100000", offset_huge, AD_ERR_INVALID, "steps_offset=100000: 0 to 1000" },
    { "clip_sample 2", clipping_2, AD_ERR_INVALID, "clip_sample=2" },
    { "use_karras_sigmas -7", karras_2, AD_ERR_INVALID, "use_karras_sigmas=-7" },
    { "an unknown generator", rng_9, AD_ERR_INVALID, "rng" },
    { "an unknown motion_norm", norm_9, AD_ERR_INVALID, "motion_norm" },
    { "an unknown prompt_syntax", syntax_9, AD_ERR_INVALID, "prompt_syntax" },
};

static void is_refused(const Wrong *w)
{
    AdMemory estimate = { .ours = 1 };

    params = render_params(model, &small);
    w->set(&params);
    CHECK_STATUS(create(), w->st);
    CHECK(session == NULL);
    CHECK_CONTAINS(ad_context_error(ctx), w->part);
    CHECK(strlen(ad_context_error(ctx)) <= 300);
    CHECK_STATUS(ad_session_estimate(model, &params, 1, &estimate), w->st);
    CHECK_INT(estimate.ours, 0);
}

static void the_ends_of_all_ranges_are_fine(void)
{
    params = render_params(model, &small);
    params.width = params.height = 8;
    params.frames = 32;
    params.eta = 1;
    params.clip_skip = 1;
    params.decode_chunk = 4096;
    params.rng = AD_RNG_CUDA;
    params.rng_gpu[0] = 1;
    params.rng_gpu[1] = 256;
    params.scheduler = params.beta_schedule = params.timestep_spacing = params.prediction_type =
        "auto";
    small.clip.steps = 1;
    if (create() < 0 || whole_clip() < 0)
        FAIL("%s", ad_context_error(ctx));
}

static void no_string_is_kept(void)
{
    char scheduler[16] = "euler", betas[16] = "linear", prompt[64] = "a cat", first[3072];

    params = render_params(model, &small);
    params.scheduler     = scheduler;
    params.beta_schedule = betas;
    small.clip.prompt    = prompt;
    CHECK_STATUS(create(), AD_OK);
    memset(scheduler, 'x', 15);
    memset(betas, 'x', 15);
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    memset(prompt, 'x', 63);
    while (ad_session_step(session) == AD_OK)
        ;
    CHECK_TEXT(ad_session_scheduler(session), "euler");
    CHECK_STATUS(ad_session_decode(session, 0, &(AdImage){ (uint8_t *)first, 96, 32, 32 }), AD_OK);
    strcpy(scheduler, "euler"), strcpy(betas, "linear"), strcpy(prompt, "a cat");
    memset(prompt + 5, 0, 8);
    CHECK_STATUS(create(), AD_OK);
    CHECK_STATUS(whole_clip(), AD_OK);
    CHECK(!memcmp(first, frames, sizeof(first)));
}

/* ---- refused clips ------------------------------------------------------------------------ */

static void begin_is_refused(const AdClip *clip, const char *part)
{
    CHECK_STATUS(ad_session_begin(session, clip), AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), part);
    CHECK_STATUS(ad_session_step(session), AD_ERR_INVALID);
}

static void clips_are_checked(void)
{
    AdClip good = small.clip, c;
    char *longest = calloc(65538, 1);

#define BAD(field, value, part)                                                         \
    c = good;                                                                           \
    c.field = value;                                                                    \
    begin_is_refused(&c, part)
    memset(longest, 'a', 65537);
    CHECK_STATUS(create(), AD_OK);
    BAD(seed, 1ull << 63, "seed: at most 2^63 - 1");
    BAD(steps, 0, "steps=0: 1 to 1000");
    BAD(steps, -3, "steps=-3");
    BAD(steps, 1001, "steps=1001");
    BAD(guidance_scale, -1, "guidance_scale=-1: 0 to 1000");
    BAD(guidance_scale, 1001, "guidance_scale=1001");
    BAD(guidance_scale, NAN, "guidance_scale=");
    BAD(guidance_scale, INFINITY, "guidance_scale=inf");
    BAD(prompt, "ab\xff", "prompt: not valid UTF-8 at byte 2");
    BAD(negative_prompt, "\xc3", "negative_prompt: not valid UTF-8 at byte 0");
    BAD(prompt, longest, "prompt: 65537 bytes; at most 65536");
    BAD(negative_prompt, longest, "negative_prompt: 65537 bytes");
#undef BAD
    c = good;
    c.seed = INT64_MAX;
    c.prompt = c.negative_prompt = NULL;            /* as "" */
    CHECK_STATUS(ad_session_begin(session, &c), AD_OK);
    free(longest);
}

static void steps_and_frames_have_their_time(void)
{
    AdImage image = { frames, 96, 32, 32 }, small_one = { frames, 96, 32, 31 };
    AdImage narrow = { frames, 95, 32, 32 };

    CHECK_STATUS(create(), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_ERR_INVALID);
    CHECK_TEXT(ad_context_error(ctx), "no clip in progress");
    CHECK_STATUS(ad_session_decode(session, 0, &image), AD_ERR_INVALID);
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(ad_session_decode(session, 0, &image), AD_ERR_INVALID);
    CHECK_TEXT(ad_context_error(ctx), "the clip is not finished");
    CHECK_STATUS(ad_session_step(session), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_DONE);
    CHECK_STATUS(ad_session_step(session), AD_ERR_INVALID);
    memset(frames, 7, sizeof(frames));
    CHECK_STATUS(ad_session_decode(session, -1, &image), AD_ERR_INVALID);
    CHECK_STATUS(ad_session_decode(session, 4, &image), AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), "frame 4 of 4");
    CHECK_STATUS(ad_session_decode(session, 0, &small_one), AD_ERR_INVALID);
    CHECK_CONTAINS(ad_context_error(ctx), "a picture of 32x31, stride 96, for frames of 32x32");
    CHECK_STATUS(ad_session_decode(session, 0, &narrow), AD_ERR_INVALID);
    for (size_t i = 0; i < sizeof(frames); i++)
        CHECK_INT(frames[i], 7);
    CHECK_STATUS(ad_session_decode(session, 0, &image), AD_OK);
}

static void progress_counts_evaluations(const char *scheduler, int total)
{
    int done, all;

    params = render_params(model, &small);
    params.scheduler = scheduler;
    CHECK_STATUS(create(), AD_OK);
    CHECK_TEXT(ad_session_scheduler(session), scheduler);
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    for (int i = 0; i < total; i++) {
        ad_session_progress(session, &done, &all);
        CHECK(done == i && all == total);
        CHECK_STATUS(ad_session_step(session), i + 1 < total ? AD_OK : AD_DONE);
    }
    ad_session_progress(session, &done, &all);
    CHECK(done == total && all == total);
}

/* ---- stopping ----------------------------------------------------------------------------- */

static void *cancel_soon(void *opaque)
{
    ad_session_cancel(opaque);
    return NULL;
}

static void a_cancelled_session_stays_so_until_the_next_clip(void)
{
    AdImage image = { frames, 96, 32, 32 };
    AdStatus st = AD_OK;
    pthread_t thread;

    small.clip.steps = 500;
    CHECK_STATUS(create(), AD_OK);
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_OK);
    CHECK(pthread_create(&thread, NULL, cancel_soon, session) == 0);
    for (int i = 0; i < 499 && st == AD_OK; i++)
        st = ad_session_step(session);
    pthread_join(thread, NULL);
    CHECK_STATUS(st, AD_ERR_CANCELLED);
    CHECK_STATUS(ad_session_step(session), AD_ERR_CANCELLED);
    CHECK_STATUS(ad_session_decode(session, 0, &image), AD_ERR_CANCELLED);
    small.clip.steps = 3;
    CHECK_STATUS(whole_clip(), AD_OK);
    ad_session_cancel(session);
    CHECK_STATUS(ad_session_decode(session, 0, &image), AD_ERR_CANCELLED);
    CHECK_STATUS(whole_clip(), AD_OK);
}

static void a_session_may_go_in_any_state(void)
{
    CHECK_STATUS(create(), AD_OK);
    CHECK_STATUS(create(), AD_OK);                  /* destroys the one before: only made */
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(create(), AD_OK);                  /* begun */
    CHECK_STATUS(ad_session_begin(session, &small.clip), AD_OK);
    CHECK_STATUS(ad_session_step(session), AD_OK);
    CHECK_STATUS(create(), AD_OK);                  /* in the middle */
    ad_session_cancel(session);
    CHECK_STATUS(create(), AD_OK);                  /* cancelled */
    CHECK_STATUS(whole_clip(), AD_OK);
    ad_session_destroy(&session);                   /* finished */
    CHECK(session == NULL);
}

/* ---- main --------------------------------------------------------------------------------- */

#define WITH_MODEL(call, ...)                                                           \
    do {                                                                                \
        open_model(AD_PRECISION_FP32);                                                  \
        RUN_AS(call, __VA_ARGS__);                                                      \
        close_model();                                                                  \
    } while (0)

static size_t i_;               /* outlives the longjmp of a failing case */

int main(void)
{
    WITH_MODEL(device_memory_is_taken_at_the_first_clip_only(),
               "device memory is taken at the first "
               "clip only");
    WITH_MODEL(guidance_that_comes_later_takes_memory_once(), "guidance that comes later takes "
               "memory once");
    WITH_MODEL(the_estimate_is_what_is_taken(0), "the estimate is what is taken, without guidance");
    WITH_MODEL(the_estimate_is_what_is_taken(1), "the estimate is what is taken, with guidance");
    WITH_MODEL(a_device_without_room_says_what_helps(), "a device without room says what helps");
    WITH_MODEL(the_ends_of_all_ranges_are_fine(), "the ends of all ranges are fine");
    WITH_MODEL(no_string_is_kept(), "no string is kept");
    WITH_MODEL(clips_are_checked(), "clips are checked");
    WITH_MODEL(steps_and_frames_have_their_time(), "steps and frames have their time");
    WITH_MODEL(progress_counts_evaluations("ddim", 3), "progress of ddim");
    WITH_MODEL(progress_counts_evaluations("heun", 5), "progress of heun counts evaluations");
    WITH_MODEL(progress_counts_evaluations("pndm", 4), "progress of pndm counts evaluations");
    WITH_MODEL(a_cancelled_session_stays_so_until_the_next_clip(), "a cancelled session stays so "
               "until the next clip");
    WITH_MODEL(a_session_may_go_in_any_state(), "a session may go in any state");
    open_model(AD_PRECISION_FP32);
    for (i_ = 0; i_ < AD_COUNT(wrongs); i_++)
        RUN_AS(is_refused(&wrongs[i_]), "refused: %s", wrongs[i_].what);
    close_model();
    return check_result();
}
