/* test_session.c - the same bytes, whatever is done around them.
 *
 * Runs, threads, orders, chunks and neighbours may not change a clip; other words, seeds and
 * options must. On the smallest golden model, so that every case takes a fraction of a second.
 * Misuse and memory: test_session_calls.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>

#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static RenderCase small;

/* One model with one session, and room for its frames. */
typedef struct Stage {
    AdContext      *ctx;
    AdModel        *model;
    AdSession      *session;
    AdSessionParams params;
    size_t          bytes;
} Stage;

static Stage stage_on(const char *device, int threads, const RenderCase *c)
{
    Stage s = { .ctx = render_context(device, threads) };

    if (ad_model_load(s.ctx, &s.model, &c->model) < 0)
        FAIL("%s", ad_context_error(s.ctx));
    s.params = render_params(s.model, c);
    if (ad_session_create(s.model, &s.session, &s.params) < 0)
        FAIL("%s", ad_context_error(s.ctx));
    s.bytes = (size_t)s.params.width * (size_t)s.params.height * 3 * (size_t)s.params.frames;
    return s;
}

static void stage_close(Stage *s)
{
    ad_session_destroy(&s->session);
    ad_model_destroy(&s->model);
    ad_context_destroy(&s->ctx);
}

/* free() it. */
static uint8_t *clip_of(Stage *s, const AdClip *clip)
{
    uint8_t *out = malloc(s->bytes);

    if (render_clip(s->session, clip, &s->params, out) < 0)
        FAIL("%s", ad_context_error(s->ctx));
    return out;
}

/* A clip in a context, model and session of its own. */
static uint8_t *alone(const RenderCase *c, const char *device, int threads, size_t *bytes)
{
    AdContext *ctx = render_context(device, threads);
    uint8_t *out = render(ctx, c, bytes);

    if (!out)
        FAIL("%s", ad_context_error(ctx));
    ad_context_destroy(&ctx);
    return out;
}

static void same(uint8_t *a, uint8_t *b, size_t n, const char *what)
{
    size_t differ = 0;

    for (size_t i = 0; i < n; i++)
        differ += a[i] != b[i];
    free(a);
    free(b);
    if (differ)
        FAIL("%s: %zu of %zu bytes differ", what, differ, n);
}

static void other(uint8_t *a, uint8_t *b, size_t n, const char *what)
{
    bool equal = !memcmp(a, b, n);

    free(a);
    free(b);
    if (equal)
        FAIL("%s changes nothing", what);
}

/* The small clip in that precision, or the case is skipped. */
static void small_in(AdPrecision precision)
{
    if (precision == AD_PRECISION_BF16 && !render_has_bf16("cpu"))
        SKIP("this processor has no bf16");
    render_small(&small);
    small.model.precision = precision;
}

static const char *precision_name(AdPrecision p)
{
    return p == AD_PRECISION_BF16 ? "bf16" : "fp32";
}

/* ---- the same ----------------------------------------------------------------------------- */

static void a_seed_gives_the_same_bytes_again(AdPrecision precision)
{
    uint8_t *first;
    size_t n;

    small_in(precision);
    first = alone(&small, "cpu", 2, &n);
    same(first, alone(&small, "cpu", 2, &(size_t){ 0 }), n, "a second run");
}

/* A size that no number of threads divides, and a clip long enough to share out. */
static void threads_do_not_matter(AdPrecision precision)
{
    static const int counts[] = { 2, 3, 4, 7 };
    size_t n;
    uint8_t *one;

    small_in(precision);
    small.session.width     = 40;
    small.session.height    = 24;
    small.session.frames    = 5;
    small.session.scheduler = "euler_ancestral";
    for (size_t i = 0; i < AD_COUNT(counts); i++) {
        char what[32];

        one = alone(&small, "cpu", 1, &n);
        snprintf(what, sizeof(what), "%d threads", counts[i]);
        same(one, alone(&small, "cpu", counts[i], &n), n, what);
    }
}

static void decode_chunks_do_not_matter(AdPrecision precision)
{
    static const int chunks[] = { 2, 3, 4, 16 };
    size_t n;
    uint8_t *one;

    small_in(precision);
    for (size_t i = 0; i < AD_COUNT(chunks); i++) {
        small.session.decode_chunk = 1;
        one = alone(&small, "cpu", 2, &n);
        small.session.decode_chunk = chunks[i];
        same(one, alone(&small, "cpu", 2, &n), n, "a chunk");
    }
}

static void clips_one_after_the_other_are_as_alone(AdPrecision precision)
{
    Stage s;
    size_t n;

    small_in(precision);
    small.session.scheduler    = "euler_ancestral"; /* noise at every step */
    small.session.decode_chunk = 4;                 /* the last clip's frames are at hand */
    s = stage_on("cpu", 2, &small);
    for (int k = 0; k < 3; k++, small.clip.seed++)
        same(clip_of(&s, &small.clip), alone(&small, "cpu", 2, &n), s.bytes, "a clip");
    stage_close(&s);
}

static void a_session_takes_another_prompt_step_count_and_guidance(void)
{
    Stage s;
    size_t n;

    render_small(&small);
    s = stage_on("cpu", 2, &small);
    small.clip.guidance_scale = 1;                  /* no unconditional half; memory grows later */
    same(clip_of(&s, &small.clip), alone(&small, "cpu", 2, &n), s.bytes, "no guidance");
    small.clip.guidance_scale = 7.5f;
    small.clip.steps  = 5;
    small.clip.prompt = "a cat";
    same(clip_of(&s, &small.clip), alone(&small, "cpu", 2, &n), s.bytes, "guidance, more steps");
    small.clip.guidance_scale = 0;
    small.clip.steps = 1;
    small.clip.negative_prompt = "ignored";
    same(clip_of(&s, &small.clip), alone(&small, "cpu", 2, &n), s.bytes, "one step");
    stage_close(&s);
}

/* A multistep solver keeps outputs of earlier steps: the next clip may not see them. */
static void no_clip_sees_the_last_ones_history(const char *scheduler)
{
    Stage s;
    uint8_t *first;

    render_small(&small);
    small.session.scheduler = scheduler;
    small.clip.steps = 5;
    s = stage_on("cpu", 2, &small);
    first = clip_of(&s, &small.clip);
    ad_session_begin(s.session, &small.clip);       /* and one left in the middle */
    ad_session_step(s.session);
    ad_session_step(s.session);
    same(first, clip_of(&s, &small.clip), s.bytes, scheduler);
    stage_close(&s);
}

static void frames_come_in_any_order_as_often_as_wanted(int chunk)
{
    static const int order[] = { 3, 0, 2, 2, 1, 3, 0 };
    Stage s;
    uint8_t *all, *one;
    size_t frame;

    render_small(&small);
    small.session.decode_chunk = chunk;
    s = stage_on("cpu", 2, &small);
    all   = clip_of(&s, &small.clip);
    frame = s.bytes / 4;
    one   = malloc(frame);
    for (size_t i = 0; i < AD_COUNT(order); i++) {
        AdImage image = { one, 96, 32, 32 };

        memset(one, 0, frame);
        CHECK_STATUS(ad_session_decode(s.session, order[i], &image), AD_OK);
        CHECK(!memcmp(one, all + (size_t)order[i] * frame, frame));
    }
    free(all);
    free(one);
    stage_close(&s);
}

static void rows_of_a_picture_may_have_room_between_them(void)
{
    Stage s;
    uint8_t *all, *wide = malloc(32 * 101);
    AdImage image = { wide, 101, 32, 32 }, upside_down;

    render_small(&small);
    s   = stage_on("cpu", 2, &small);
    all = clip_of(&s, &small.clip);
    memset(wide, 0xaa, 32 * 101);
    CHECK_STATUS(ad_session_decode(s.session, 0, &image), AD_OK);
    for (size_t y = 0; y < 32; y++) {
        CHECK(!memcmp(wide + y * 101, all + y * 96, 96));
        for (size_t x = 96; x < 101; x++)
            CHECK_INT(wide[y * 101 + x], 0xaa);
    }
    upside_down = (AdImage){ wide + 31 * 101, -101, 32, 32 };
    CHECK_STATUS(ad_session_decode(s.session, 0, &upside_down), AD_ERR_INVALID);
    free(all);
    free(wide);
    stage_close(&s);
}

/* ---- several at once ---------------------------------------------------------------------- */

static void two_sessions_of_one_model_take_turns(void)
{
    Stage s;
    AdSession *second = NULL;
    uint8_t *a, *b;
    AdClip clip;
    AdStatus st = AD_OK;
    size_t n;

    render_small(&small);
    s = stage_on("cpu", 2, &small);
    CHECK_STATUS(ad_session_create(s.model, &second, &s.params), AD_OK);
    clip = small.clip;
    clip.seed = 99;
    CHECK_STATUS(ad_session_begin(s.session, &small.clip), AD_OK);
    CHECK_STATUS(ad_session_begin(second, &clip), AD_OK);
    while (st == AD_OK) {
        st = ad_session_step(s.session);
        CHECK_STATUS(ad_session_step(second), st);
    }
    a = malloc(s.bytes);
    b = malloc(s.bytes);
    for (int i = 0; i < 4; i++) {
        AdImage to = { a + (size_t)i * (s.bytes / 4), 96, 32, 32 }, too = to;

        too.data = b + (size_t)i * (s.bytes / 4);
        CHECK_STATUS(ad_session_decode(s.session, i, &to), AD_OK);
        CHECK_STATUS(ad_session_decode(second, i, &too), AD_OK);
    }
    same(a, alone(&small, "cpu", 2, &n), s.bytes, "the first");
    small.clip.seed = 99;
    same(b, alone(&small, "cpu", 2, &n), s.bytes, "the second");
    ad_session_destroy(&second);
    stage_close(&s);
}

typedef struct Worker { RenderCase c; uint8_t *out; size_t bytes; } Worker;

static void *work(void *opaque)
{
    Worker *w = opaque;
    AdContext *ctx = render_context("cpu", 1);

    w->out = render(ctx, &w->c, &w->bytes);
    ad_context_destroy(&ctx);
    return NULL;
}

static void contexts_in_two_threads_are_independent(void)
{
    static Worker workers[2];
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        render_small(&workers[i].c);
        workers[i].c.clip.seed = (uint64_t)i;
        workers[i].c.model.precision = i && render_has_bf16("cpu") ? AD_PRECISION_BF16
                                                                   : AD_PRECISION_FP32;
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        size_t n;

        CHECK(workers[i].out != NULL);
        same(workers[i].out, alone(&workers[i].c, "cpu", 1, &n), workers[i].bytes,
             "a thread's clip");
    }
}

/* ---- the other way round: what must matter ------------------------------------------------ */

typedef void (*Change)(RenderCase *c);

static void seed(RenderCase *c)         { c->clip.seed++; }
static void prompt(RenderCase *c)       { c->clip.prompt = "waves"; }
static void negative(RenderCase *c)     { c->clip.negative_prompt = "waves"; }
static void steps(RenderCase *c)        { c->clip.steps++; }
static void guidance(RenderCase *c)     { c->clip.guidance_scale = 3; }
static void scheduler(RenderCase *c)    { c->session.scheduler = "euler"; }
static void betas(RenderCase *c)        { c->session.beta_schedule = "scaled_linear"; }
static void spacing(RenderCase *c)      { c->session.timestep_spacing = "trailing"; }
static void prediction(RenderCase *c)   { c->session.prediction_type = "v_prediction"; }
static void offset(RenderCase *c)       { c->session.steps_offset = 9; }
static void clipping(RenderCase *c)     { c->session.clip_sample = 1; }
static void eta(RenderCase *c)          { c->session.eta = 1; }
static void clip_skip(RenderCase *c)    { c->session.clip_skip = 1; }
static void motion_norm(RenderCase *c)  { c->session.motion_norm = AD_MOTION_NORM_FRAME; }
static void generator(RenderCase *c)    { c->session.rng = AD_RNG_CUDA; }

static const struct { const char *name; Change change; } changes[] = {
    { "another seed", seed }, { "another prompt", prompt }, { "a negative prompt", negative },
    { "one step more", steps }, { "another guidance scale", guidance },
    { "another scheduler", scheduler }, { "other betas", betas }, { "another spacing", spacing },
    { "another prediction type", prediction }, { "an offset", offset }, { "clipping", clipping },
    { "eta", eta }, { "clip_skip", clip_skip }, { "motion_norm", motion_norm },
    { "the generator of CUDA", generator },
};

static void matters(size_t i)
{
    uint8_t *before;
    size_t n;

    render_small(&small);
    before = alone(&small, "cpu", 2, &n);
    changes[i].change(&small);
    other(before, alone(&small, "cpu", 2, &n), n, changes[i].name);
}

static void auto_means_what_the_file_says(void)
{
    uint8_t *before;
    size_t n;

    render_small(&small);
    small.clip.steps = 4;
    small.session.scheduler = "auto";               /* PNDM; linear betas for the adapter's sake */
    before = alone(&small, "cpu", 2, &n);
    small.session.scheduler         = "pndm";
    small.session.beta_schedule     = "linear";
    small.session.timestep_spacing  = "leading";
    small.session.steps_offset      = 1;
    small.session.use_karras_sigmas = 0;
    same(before, alone(&small, "cpu", 2, &n), n, "pndm by name");
}

/* The two devices round differently: one level, here and there. */
static void ref_gives_what_cpu_gives(void)
{
    size_t n, differ = 0;
    uint8_t *a, *b;

    render_small(&small);
    small.session.frames = 2;
    a = alone(&small, "cpu", 2, &n);
    b = alone(&small, "ref", 1, &n);
    for (size_t i = 0; i < n; i++) {
        CHECK(abs(a[i] - b[i]) <= 1);
        differ += a[i] != b[i];
    }
    CHECK(differ * 500 <= n);
    free(a);
    free(b);
}

static void noise_of_the_chosen_card_is_drawn(void)
{
    Stage s;
    AdRngState r;
    float drawn[4 * 4 * 4 * 4], latents[4 * 4 * 4 * 4];

    render_small(&small);
    small.session.rng = AD_RNG_CUDA;
    small.session.rng_gpu[0] = 1;
    small.session.rng_gpu[1] = 256;
    s = stage_on("cpu", 1, &small);
    CHECK_STATUS(ad_session_begin(s.session, &small.clip), AD_OK);
    ad_rng_seed(&r, small.clip.seed, true, 1, 256);
    ad_rng_normal(&r, drawn, AD_COUNT(drawn));
    CHECK_INT(ad_count(s.session->work.registers[AD_R_X]), AD_COUNT(drawn));
    memcpy(latents, s.session->work.registers[AD_R_X].data, sizeof(latents));
    for (size_t i = 0; i < AD_COUNT(drawn); i++)    /* [4, f, h, w] to [f, h, w, 4] */
        CHECK(latents[i % 64 * 4 + i / 64] == drawn[i]);
    stage_close(&s);
}

/* ---- main --------------------------------------------------------------------------------- */

static size_t i_;               /* outlives the longjmp of a failing case */

int main(void)
{
    static const AdPrecision precisions[] = { AD_PRECISION_FP32, AD_PRECISION_BF16 };
    static const char *const with_history[] = { "lms", "unipc", "dpmpp_2m", "pndm", "heun" };

    for (i_ = 0; i_ < 2; i_++) {
        const char *name = precision_name(precisions[i_]);

        RUN_AS(a_seed_gives_the_same_bytes_again(precisions[i_]), "%s: a seed gives the same bytes "
               "again", name);
        RUN_AS(threads_do_not_matter(precisions[i_]), "%s: threads do not matter", name);
        RUN_AS(decode_chunks_do_not_matter(precisions[i_]), "%s: decode chunks do not matter",
               name);
        RUN_AS(clips_one_after_the_other_are_as_alone(precisions[i_]), "%s: clips one after the "
               "other are as alone", name);
    }
    RUN(a_session_takes_another_prompt_step_count_and_guidance);
    for (i_ = 0; i_ < AD_COUNT(with_history); i_++)
        RUN_AS(no_clip_sees_the_last_ones_history(with_history[i_]), "no clip of %s sees the last "
               "one's history", with_history[i_]);
    for (i_ = 1; i_ < 4; i_ += 2)
        RUN_AS(frames_come_in_any_order_as_often_as_wanted((int)i_), "frames come in any order, "
               "chunks of %zu", i_);
    RUN(rows_of_a_picture_may_have_room_between_them);
    RUN(two_sessions_of_one_model_take_turns);
    RUN(contexts_in_two_threads_are_independent);
    for (i_ = 0; i_ < AD_COUNT(changes); i_++)
        RUN_AS(matters(i_), "it matters: %s", changes[i_].name);
    RUN(auto_means_what_the_file_says);
    RUN(ref_gives_what_cpu_gives);
    RUN(noise_of_the_chosen_card_is_drawn);
    return check_result();
}
