/* session.c - the story: prompt, tokens, text states, noise, steps, frames. Read this first.
 *
 * Everything a clip needs on the device lies in one slab, whose size a pass on the null backend
 * tells beforehand; after the first clip nothing is allocated any more.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "model.h"
#include "prompt.h"
#include "weighting.h"

/* ---- sizes -------------------------------------------------------------------------------- */

static int latent_scale(const AdModel *m)
{
    return 1 << (m->vae_config.levels - 1);
}

static int latent_height(const AdSession *s)
{
    return s->params.height / latent_scale(s->model);
}

static int latent_width(const AdSession *s)
{
    return s->params.width / latent_scale(s->model);
}

static size_t latent_count(const AdSession *s)
{
    return (size_t)s->params.frames * (size_t)latent_height(s) * (size_t)latent_width(s) * 4;
}

static size_t frame_bytes(const AdSession *s)
{
    return (size_t)s->params.width * (size_t)s->params.height * 3;
}

/* ---- failing ------------------------------------------------------------------------------ */

/* What a pass left in exec, as the session's failure; `where` goes in front. */
static AdStatus pass_result(AdSession *s, const char *where)
{
    AdStatus st = s->exec.status;

    return st < 0 ? ad_fail(s->model->ctx, st, "%s: %s", where, s->exec.message) : AD_OK;
}

static bool stopping(AdSession *s)
{
    return atomic_load(&s->cancelled) || ad_stopping(s->model->ctx);
}

static AdStatus cancelled(AdSession *s)
{
    return ad_fail(s->model->ctx, AD_ERR_CANCELLED, "stopped");
}

static AdStatus upload(AdSession *s, AdTensor to, const void *from)
{
    AdBackend *be = s->exec.backend;
    AdStatus st = to.data ? be->cls->upload(be, to.data, from, ad_bytes(to)) : AD_OK;

    return st < 0 ? ad_exec_fail(&s->exec, st, "%s", be->message) : st;
}

/* ---- the passes --------------------------------------------------------------------------- */

/* Take what lives as long as a clip, always in this order. */
static void work_take(AdSession *s)
{
    const AdModel *m = s->model;
    AdExec *x = &s->exec;
    AdWork *w = &s->work;
    int h = latent_height(s), wide = latent_width(s), f = s->params.frames;
    int64_t tokens = (int64_t)s->chunks * AD_TOKENS;

    for (int r = 0; r < AD_REGISTERS; r++)
        w->registers[r] = ad_empty_typed(x, AD_F32, f, h, wide, 4);
    w->latents = ad_empty(x, (int64_t)s->halves * f, h, wide, 4);
    w->ids     = ad_empty_typed(x, AD_I32, 1, 1, 1, tokens);
    w->count   = ad_empty_typed(x, AD_I32, 1, 1, 1, 1);
    w->times   = ad_empty(x, 1, 1, s->schedule.evals, 4 * m->unet_config.channels[0]);
    w->states  = ad_empty(x, s->halves, 1, tokens, m->text_config.width);
    w->pixels  = ad_empty_typed(x, AD_U8, s->params.decode_chunk, s->params.height,
                                s->params.width, 3);
    for (int i = 0; i < m->unet.text_count; i++)
        w->kv[i] = ad_empty(x, s->halves, 1, tokens, 2 * m->unet.text_heads_width[i]);
}

/* One prompt to its half of the states. The negative prompt is always encoded in full, whatever
 * clip_skip says: as diffusers. */
static void encode_pass(AdSession *s, const AdPrompt *prompt, int half, int skip)
{
    AdTensor out = ad_slice(s->work.states, half, 1);

    upload(s, s->work.ids, prompt->ids);
    ad_clip_forward(&s->exec, &s->model->text, s->work.ids, skip, out);
    if (prompt->weights)
        ad_weigh_states(&s->exec, out, prompt->weights);
}

/* Time vectors of every evaluation, in one go. */
static void time_pass(AdSession *s)
{
    int c = s->model->unet_config.channels[0], n = s->schedule.evals;
    AdMark m = ad_mark(&s->exec);
    AdTensor sinusoids = ad_empty(&s->exec, 1, 1, n, c);
    float *wave = ad_alloc_array((size_t)n * (size_t)c, sizeof(*wave));

    if (!wave)
        ad_exec_fail(&s->exec, AD_ERR_NOMEM, "no memory for timesteps");
    for (int i = 0; i < n && wave; i++) {
        AdRow row;                              /* two-stage schedulers know more than steps */

        ad_schedule_row(&s->schedule, i, &row);
        ad_time_sinusoid(row.timestep, c, wave + (size_t)i * (size_t)c);
    }
    if (wave) {
        ad_convert(wave, s->exec.type, wave, AD_F32, (int64_t)n * c);   /* never grows */
        upload(s, sinusoids, wave);
    }
    ad_unet_time(&s->exec, &s->model->unet, sinusoids, s->work.times);
    ad_release(&s->exec, m);
    ad_free(wave);
}

static void text_pass(AdSession *s)
{
    ad_unet_text(&s->exec, &s->model->unet, s->work.states, s->work.kv);
}

/* The model's output for evaluation i, guidance applied, to its register. */
static void model_pass(AdSession *s, int i, double input_scale)
{
    AdExec *x = &s->exec;
    AdWork *w = &s->work;
    int f = s->params.frames;
    float scale = (float)input_scale, g = s->guidance_scale, mix[2] = { 1 - g, g }, one = 1;
    AdMark m = ad_mark(x);
    AdTensor out;

    ad_lincomb(x, w->latents, &scale, &w->registers[AD_R_X], 1, 0);     /* to every half */
    out = ad_unet_forward(x, &s->model->unet, &(AdUnetInput){
        .latents = w->latents, .frames = f, .kv = w->kv,
        .time = ad_view(ad_slice(ad_view(w->times, s->schedule.evals, 1, 1, w->times.dim[3]), i, 1),
                        1, 1, 1, w->times.dim[3]),
        .norm_per_frame = s->params.motion_norm == AD_MOTION_NORM_FRAME,
    });
    if (s->halves == 2)         /* Ho, Salimans 2022, arXiv 2207.12598: u + g * (c - u) */
        ad_lincomb(x, w->registers[AD_R_MODEL], mix,
                   (AdTensor[]){ ad_slice(out, 0, f), ad_slice(out, f, f) }, 2, 0);
    else
        ad_lincomb(x, w->registers[AD_R_MODEL], &one, &out, 1, 0);
    ad_release(x, m);
}

/* Apply a scheduler's row to the registers. */
static void update_pass(AdSession *s, const AdRow *row)
{
    AdTensor *r = s->work.registers;

    if (row->push) {            /* the oldest one's place is free for the newest */
        AdTensor oldest = r[AD_R_H3];

        memmove(&r[AD_R_H1], &r[AD_R_H0], 3 * sizeof(*r));
        r[AD_R_H0] = oldest;
    }
    for (int i = 0; i < row->count; i++) {
        const AdAssign *a = &row->assign[i];
        AdTensor from[AD_REGISTERS];
        float coef[AD_REGISTERS];
        int n = 0;

        for (int k = 0; k < AD_REGISTERS; k++)
            if (a->coef[k] != 0) {
                from[n]   = r[k];
                coef[n++] = (float)a->coef[k];
            }
        ad_lincomb(&s->exec, r[a->to], coef, from, n, (float)a->clamp);
    }
}

/* Frames first ... first + count - 1 to work.pixels; *count_bad gets the non-finite ones. */
static void decode_pass(AdSession *s, int first, int count)
{
    AdExec *x = &s->exec;
    float scale = (float)(1 / s->model->vae_config.scaling_factor);
    AdTensor latents = ad_slice(s->work.registers[AD_R_X], first, count);
    AdMark m = ad_mark(x);
    AdTensor z = ad_empty_like(x, latents, 4), out;

    ad_lincomb(x, z, &scale, &latents, 1, 0);
    out = ad_vae_decode(x, &s->model->vae, z);
    ad_nonfinite(x, s->work.count, out);
    ad_to_rgb(x, ad_slice(s->work.pixels, 0, count), out);
    ad_release(x, m);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* The same passes on the null backend: how many bytes a clip takes. */
static AdStatus measure(AdSession *s, size_t *bytes)
{
    static int32_t zeros[AD_TOKENS];
    AdPrompt empty = { .ids = zeros, .chunks = 1 };      /* nothing is read here */
    AdDeviceParams params = { .measured = s->model->ctx->backend };
    AdSession *dry = ad_alloc(sizeof(*dry));
    AdBackend *null = NULL;
    AdStatus st = AD_OK;

    if (!dry || ad_null_backend.open(&null, &params) < 0) {
        ad_free(dry);
        return ad_fail_nomem(s->model->ctx, "measuring");
    }
    *dry = *s;
    ad_arena_measure(&dry->arena);
    dry->exec = (AdExec){ .backend = null, .work = &dry->arena, .type = s->model->type };
    work_take(dry);
    encode_pass(dry, &empty, 0, 0);
    time_pass(dry);
    text_pass(dry);
    model_pass(dry, 0, 1);
    decode_pass(dry, 0, s->params.decode_chunk);
    *bytes = dry->arena.peak;
    st = pass_result(dry, "measuring memory");
    ad_arena_free(&dry->arena);
    null->cls->close(&null);
    ad_free(dry);
    return st;
}

static void slab_free(AdSession *s)
{
    AdBackend *be = s->model->ctx->backend;

    ad_arena_free(&s->arena);
    be->cls->free(be, s->slab);
    s->slab = NULL;
    s->slab_bytes = 0;
}

/* Room for a clip with the present numbers of halves, chunks and evaluations. */
static AdStatus slab_make(AdSession *s)
{
    AdContext *ctx = s->model->ctx;
    AdBackend *be = ctx->backend;
    AdMemory memory = { 0 };
    size_t bytes = 0;
    AdStatus st = measure(s, &bytes);

    if (st < 0 || bytes <= s->slab_bytes)
        return st;
    slab_free(s);
    be->cls->memory(be, &memory);
    if (memory.free && bytes > memory.free)
        return ad_fail(ctx, AD_ERR_NOMEM,
                       "a clip of %dx%d, %d frames needs %zu MiB, %" PRIu64 " MiB "
                       "are free; a smaller size, fewer frames or decode_chunk=1 help",
                       s->params.width, s->params.height, s->params.frames, bytes >> 20,
                       memory.free >> 20);
    st = be->cls->alloc(be, bytes, &s->slab);
    if (st < 0)
        return ad_fail(ctx, st, "a clip of %dx%d, %d frames: %s", s->params.width,
                       s->params.height, s->params.frames, be->message);
    s->slab_bytes = bytes;
    return AD_OK;
}

/* ---- life --------------------------------------------------------------------------------- */

void ad_clip_defaults(AdClip *clip)
{
    *clip = (AdClip){ .prompt = "", .negative_prompt = "", .steps = 25, .guidance_scale = 7.5f };
}

static AdStatus check_params(AdModel *m, const AdSessionParams *p)
{
    AdContext *ctx = m->ctx;
    int step = AD_MAX(8, latent_scale(m));

    if (p->width < step || p->height < step || p->width > 8192 || p->height > 8192 ||
        p->width % step || p->height % step)
        return ad_fail(ctx, AD_ERR_INVALID, "size=%dx%d: multiples of %d from %d to 8192 are "
                       "allowed; the nearest is %dx%d", p->width, p->height, step, step,
                       AD_MAX((p->width + step / 2) / step, 1) * step,
                       AD_MAX((p->height + step / 2) / step, 1) * step);
    if (p->frames < 1 || p->frames > m->info.max_frames)
        return ad_fail(ctx, AD_ERR_INVALID, "frames=%d: 1 to %d are allowed; the motion module "
                       "knows %d positions", p->frames, m->info.max_frames, m->info.max_frames);
    if (p->decode_chunk < 1 || p->decode_chunk > 4096)
        return ad_fail(ctx, AD_ERR_INVALID, "decode_chunk=%d: 1 to 4096 are allowed",
                       p->decode_chunk);
    if (p->clip_skip != AD_AUTO && (p->clip_skip < 0 || p->clip_skip >= m->text_config.layers))
        return ad_fail(ctx, AD_ERR_INVALID, "clip_skip=%d: 0 to %d are allowed", p->clip_skip,
                       m->text_config.layers - 1);
    if (p->eta != AD_AUTO && !(p->eta >= 0 && p->eta <= 1))
        return ad_fail(ctx, AD_ERR_INVALID, "eta=%g: 0 to 1 are allowed", p->eta);
    if (p->original_steps < 1 || p->original_steps > AD_MAX_STEPS)
        return ad_fail(ctx, AD_ERR_INVALID, "original_steps=%d: 1 to %d are allowed",
                       p->original_steps, AD_MAX_STEPS);
    if (p->steps_offset != AD_AUTO && (p->steps_offset < 0 || p->steps_offset > 1000))
        return ad_fail(ctx, AD_ERR_INVALID, "steps_offset=%d: 0 to 1000 are allowed",
                       p->steps_offset);
    if (p->clip_sample < AD_AUTO || p->clip_sample > 1)
        return ad_fail(ctx, AD_ERR_INVALID, "clip_sample=%d: 0 and 1 are allowed", p->clip_sample);
    if (p->use_karras_sigmas < AD_AUTO || p->use_karras_sigmas > 1)
        return ad_fail(ctx, AD_ERR_INVALID, "use_karras_sigmas=%d: 0 and 1 are allowed",
                       p->use_karras_sigmas);
    if ((unsigned)p->rng > AD_RNG_CUDA || (unsigned)p->motion_norm > AD_MOTION_NORM_FRAME ||
        (unsigned)p->prompt_syntax > AD_PROMPT_WEIGHTED)
        return ad_fail(ctx, AD_ERR_INVALID, "rng=%d, motion_norm=%d, prompt_syntax=%d: 0 and 1 are "
                       "allowed", (int)p->rng, (int)p->motion_norm, (int)p->prompt_syntax);
    if (p->rng_gpu[0] < 1 || p->rng_gpu[0] > 65536 || p->rng_gpu[1] < 256 || p->rng_gpu[1] > 65536)
        return ad_fail(ctx, AD_ERR_INVALID, "rng_gpu=%dx%d: SMs x threads per SM, at least 1x256",
                       p->rng_gpu[0], p->rng_gpu[1]);
    return AD_OK;
}

static void set_text(char *to, size_t size, const char *from)
{
    if (from && strcmp(from, "auto"))
        ad_format(to, size, "%s", from);
}

static AdStatus choose_scheduler(AdSession *s, const AdSessionParams *p)
{
    AdSchedulerConfig o;

    ad_scheduler_config_absent(&o);
    set_text(o.beta_schedule, sizeof(o.beta_schedule),
             p->beta_schedule && strcmp(p->beta_schedule, "auto") ? p->beta_schedule
                                                                   : s->model->motion_betas);
    set_text(o.timestep_spacing, sizeof(o.timestep_spacing), p->timestep_spacing);
    set_text(o.prediction_type, sizeof(o.prediction_type), p->prediction_type);
    o.steps_offset      = p->steps_offset;
    o.clip_sample       = p->clip_sample;
    o.use_karras_sigmas = p->use_karras_sigmas;
    o.original_steps    = p->original_steps;
    o.eta               = p->eta;
    return ad_scheduler_setup(s->model->ctx, p->scheduler, &s->model->scheduler_config, &o,
                              &s->setup);
}

AdStatus ad_session_create(AdModel *model, AdSession **out, const AdSessionParams *params)
{
    AdContext *ctx = model->ctx;
    AdSession *s = ad_alloc(sizeof(*s));
    AdStatus st = s ? check_params(model, params) : ad_fail_nomem(ctx, "a session");

    *out = NULL;
    if (st >= 0) {
        s->model  = model;
        s->params = *params;
        s->params.decode_chunk = AD_MIN(params->decode_chunk, params->frames);
        s->chunk  = -1;
        st = choose_scheduler(s, params);
        s->params.scheduler = s->params.beta_schedule = NULL;
        s->params.timestep_spacing = s->params.prediction_type = NULL;
    }
    if (st >= 0) {
        s->noise  = ad_alloc_array(latent_count(s), sizeof(float));
        s->drawn  = ad_alloc_array(latent_count(s), sizeof(float));
        s->pixels = ad_alloc_array((size_t)s->params.decode_chunk, frame_bytes(s));
        if (!s->noise || !s->drawn || !s->pixels)
            st = ad_fail_nomem(ctx, "a session");
    }
    if (st < 0)
        ad_session_destroy(&s);
    *out = s;
    return st;
}

void ad_session_destroy(AdSession **session)
{
    AdSession *s = *session;

    *session = NULL;
    if (!s)
        return;
    if (s->model)
        slab_free(s);
    ad_free(s->noise);
    ad_free(s->drawn);
    ad_free(s->pixels);
    ad_free(s);
}

void ad_session_defaults(const AdModel *model, AdSessionParams *p)
{
    *p = (AdSessionParams){
        .width = model->info.width, .height = model->info.height,
        .frames = AD_MIN(16, model->info.max_frames),
        .steps_offset = AD_AUTO, .clip_sample = AD_AUTO, .use_karras_sigmas = AD_AUTO,
        .eta = AD_AUTO, .clip_skip = AD_AUTO, .original_steps = 50, .rng_gpu = { 132, 2048 },
        .decode_chunk = 1,
    };
}

AdStatus ad_session_estimate(AdModel *model, const AdSessionParams *params, int guidance,
                             AdMemory *out)
{
    AdSession *s = NULL;
    size_t bytes = 0;
    AdStatus st = ad_session_create(model, &s, params);

    *out = (AdMemory){ 0 };
    if (st >= 0)
        st = ad_schedule_make(model->ctx, &s->setup, AD_MIN(25, s->setup.config.train_steps),
                              &s->schedule);
    if (st >= 0) {
        s->halves = guidance ? 2 : 1;
        s->chunks = 1;
        st = measure(s, &bytes);
        out->ours = bytes;
    }
    ad_session_destroy(&s);
    return st;
}

const char *ad_session_scheduler(const AdSession *s)
{
    return s->setup.kind->name;
}

void ad_session_cancel(AdSession *s)
{
    atomic_store(&s->cancelled, true);
}

void ad_session_progress(const AdSession *s, int *done, int *total)
{
    *done  = s->step;
    *total = s->schedule.evals;
}

/* ---- a clip ------------------------------------------------------------------------------- */

/* The next noise of the clip's stream. Torch draws [4, f, h, w]; the device wants [f, h, w, 4]. */
static void draw_noise(AdSession *s, float scale)
{
    size_t plane = (size_t)latent_height(s) * (size_t)latent_width(s);
    size_t all = plane * (size_t)s->params.frames;

    ad_rng_normal(&s->rng, s->drawn, 4 * all);
    for (size_t i = 0; i < all; i++)
        for (size_t c = 0; c < 4; c++)
            s->noise[4 * i + c] = s->drawn[c * all + i] * scale;
}

static AdStatus check_clip(AdSession *s, const AdClip *clip)
{
    AdContext *ctx = s->model->ctx;

    if (clip->seed > INT64_MAX)
        return ad_fail(ctx, AD_ERR_INVALID, "seed: at most 2^63 - 1 is allowed");
    if (!(clip->guidance_scale >= 0 && clip->guidance_scale <= 1000))
        return ad_fail(ctx, AD_ERR_INVALID, "guidance_scale=%g: 0 to 1000 are allowed",
                       clip->guidance_scale);
    return AD_OK;
}

/* Text states, then keys and values of all text attentions. */
static AdStatus encode(AdSession *s, const AdPrompt *prompt, const AdPrompt *negative)
{
    int skip = s->params.clip_skip == AD_AUTO ? 0 : s->params.clip_skip;

    if (s->halves == 2)
        encode_pass(s, negative, 0, 0);
    encode_pass(s, prompt, s->halves - 1, skip);
    time_pass(s);
    text_pass(s);
    return pass_result(s, "text encoder");
}

static AdStatus start(AdSession *s, const AdClip *clip, const AdPrompt *prompt,
                      const AdPrompt *negative)
{
    AdStatus st = slab_make(s);

    if (st < 0)
        return st;
    ad_arena_free(&s->arena);
    ad_arena_init(&s->arena, s->slab, s->slab_bytes);
    s->exec = (AdExec){ .backend = s->model->ctx->backend, .work = &s->arena,
                        .type = s->model->type };
    work_take(s);
    st = encode(s, prompt, negative);
    if (st >= 0) {
        ad_rng_seed(&s->rng, clip->seed, s->params.rng == AD_RNG_CUDA, s->params.rng_gpu[0],
                    s->params.rng_gpu[1]);
        draw_noise(s, (float)s->schedule.init_scale);
        upload(s, s->work.registers[AD_R_X], s->noise);
        st = pass_result(s, "first noise");
    }
    return st;
}

static AdStatus encode_text(AdSession *s, const char *which, const char *text, AdPrompt *out)
{
    AdModel *m = s->model;

    text = text ? text : "";
    return s->params.prompt_syntax == AD_PROMPT_WEIGHTED
               ? ad_prompt_encode_weighted(m->ctx, m->tokenizer, which, text, out)
               : ad_prompt_encode(m->ctx, m->tokenizer, which, text, out);
}

/* Both prompts to ids. Where both are used they get as many chunks as the longer one has. */
static AdStatus read_prompts(AdSession *s, const AdClip *clip, AdPrompt *prompt, AdPrompt *negative)
{
    AdModel *m = s->model;
    AdStatus st = encode_text(s, "prompt", clip->prompt, prompt);

    if (st >= 0) st = encode_text(s, "negative_prompt", clip->negative_prompt, negative);
    s->halves = clip->guidance_scale > 1 ? 2 : 1;
    s->chunks = s->halves == 2 ? AD_MAX(prompt->chunks, negative->chunks) : prompt->chunks;
    if (st >= 0) st = ad_prompt_extend(m->ctx, m->tokenizer, s->chunks, prompt);
    if (st >= 0) st = ad_prompt_extend(m->ctx, m->tokenizer, s->chunks, negative);
    return st;
}

/* An LCM-LoRA makes another kind of model, which is good at few steps only. Said once. */
static void advise(AdSession *s, const AdClip *clip)
{
    AdPatches *p = s->model->now.patches;

    if (!*p->lcm || p->advised || (!strcmp(s->setup.kind->name, "lcm") && clip->steps <= 12 &&
                                   clip->guidance_scale <= 2.5f))
        return;
    p->advised = true;
    ad_log(s->model->ctx, AD_LOG_WARNING, "%s is an LCM-LoRA, made for scheduler=lcm, 4 to 8 "
           "steps, guidance_scale 1 to 2; here are scheduler=%s, %d steps, guidance_scale %g",
           p->lcm, s->setup.kind->name, clip->steps, clip->guidance_scale);
}

AdStatus ad_session_begin(AdSession *s, const AdClip *clip)
{
    AdContext *ctx = s->model->ctx;
    AdPrompt prompt = { 0 }, negative = { 0 };
    AdStatus st = check_clip(s, clip);

    atomic_store(&s->cancelled, false);
    s->running = s->finished = false;
    s->step  = 0;
    s->chunk = -1;
    if (st >= 0) st = ad_schedule_make(ctx, &s->setup, clip->steps, &s->schedule);
    if (st >= 0) st = read_prompts(s, clip, &prompt, &negative);
    if (st >= 0) {
        s->seed           = clip->seed;
        s->guidance_scale = clip->guidance_scale;
        st = stopping(s) ? cancelled(s) : ad_model_take_adaptation(s->model);
        if (st >= 0) advise(s, clip);
        if (st >= 0) st = start(s, clip, &prompt, &negative);
    }
    s->running = st >= 0;
    ad_prompt_free(&prompt);
    ad_prompt_free(&negative);
    return st;
}

/* Non-finite numbers in a tensor become a failure that names the place. */
static AdStatus check_count(AdSession *s, const char *where, int number)
{
    AdBackend *be = s->exec.backend;
    int32_t bad = 0;
    AdStatus st = pass_result(s, where);

    if (st >= 0 && (st = be->cls->download(be, &bad, s->work.count.data, sizeof(bad))) < 0)
        return ad_fail(s->model->ctx, st, "%s: %s", where, be->message);
    if (st >= 0 && bad)
        st = ad_fail(s->model->ctx, AD_ERR_NUMERIC, "%s %d: %d numbers are not finite; "
                     "precision=fp32 or another scheduler may help", where, number, (int)bad);
    return st;
}

AdStatus ad_session_step(AdSession *s)
{
    AdRow row;
    AdStatus st;
    bool last = s->step + 1 == s->schedule.evals;

    if (atomic_load(&s->cancelled) || (s->running && stopping(s))) {
        s->running = false;
        return cancelled(s);
    }
    if (!s->running)
        return ad_fail(s->model->ctx, AD_ERR_INVALID, "no clip in progress");
    ad_schedule_row(&s->schedule, s->step, &row);
    model_pass(s, s->step, row.input_scale);
    if (row.noise) {
        draw_noise(s, 1);
        upload(s, s->work.registers[AD_R_NOISE], s->noise);
    }
    update_pass(s, &row);
    if (last)
        ad_nonfinite(&s->exec, s->work.count, s->work.registers[AD_R_X]);
    st = last ? check_count(s, "denoising step", s->step + 1) : pass_result(s, "denoising");
    if (st < 0) {
        s->running = false;
        return st;
    }
    s->step++;
    s->running  = !last;
    s->finished = last;
    return last ? AD_DONE : AD_OK;
}

static AdStatus decode_chunk(AdSession *s, int chunk)
{
    AdBackend *be = s->exec.backend;
    int first = chunk * s->params.decode_chunk;
    int count = AD_MIN(s->params.decode_chunk, s->params.frames - first);
    AdStatus st;

    s->chunk = -1;
    decode_pass(s, first, count);
    st = check_count(s, "decoding frame", first);
    if (st >= 0 && (st = be->cls->download(be, s->pixels, s->work.pixels.data,
                                           (size_t)count * frame_bytes(s))) < 0)
        st = ad_fail(s->model->ctx, st, "decoding: %s", be->message);
    if (st >= 0)
        s->chunk = chunk;
    return st;
}

AdStatus ad_session_decode(AdSession *s, int frame, AdImage *out)
{
    AdContext *ctx = s->model->ctx;
    size_t row = (size_t)s->params.width * 3;
    const uint8_t *from;

    if (atomic_load(&s->cancelled))
        return cancelled(s);
    if (!s->finished)
        return ad_fail(ctx, AD_ERR_INVALID, "the clip is not finished");
    if (frame < 0 || frame >= s->params.frames)
        return ad_fail(ctx, AD_ERR_INVALID, "frame %d of %d", frame, s->params.frames);
    if (out->width != s->params.width || out->height != s->params.height ||
        out->stride < (ptrdiff_t)row)
        return ad_fail(ctx, AD_ERR_INVALID, "a picture of %dx%d, stride %td, for frames of %dx%d",
                       out->width, out->height, out->stride, s->params.width, s->params.height);
    if (stopping(s))
        return cancelled(s);
    if (s->chunk != frame / s->params.decode_chunk) {
        AdStatus st = decode_chunk(s, frame / s->params.decode_chunk);

        if (st < 0)
            return st;
    }
    from = s->pixels + (size_t)(frame % s->params.decode_chunk) * frame_bytes(s);
    for (int y = 0; y < s->params.height; y++)
        memcpy(out->data + y * out->stride, from + (size_t)y * row, row);
    return AD_OK;
}
