/* render.c - golden models and clips; see render.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/internal.h"
#include "render.h"
#include "scratch.h"

/* Counted by threads that render at the same time as well: short lines, and nobody reads then. */
static _Thread_local char lines[4096];

static void keep_line(void *opaque, AdLogLevel level, const char *line)
{
    size_t n = strlen(lines);

    (void)opaque, (void)level;
    snprintf(lines + n, sizeof(lines) - n, "%s\n", line);
}

const char *render_log(void)
{
    static _Thread_local char copy[sizeof(lines)];

    memcpy(copy, lines, sizeof(copy));
    lines[0] = 0;
    return copy;
}

AdContext *render_context(const char *device, int threads)
{
    AdContextParams params;
    AdContext *ctx = NULL;

    ad_context_defaults(&params);
    params.device  = device;
    params.threads = threads;
    params.log     = keep_line;
    if (ad_context_create(&ctx, &params) < 0)
        die("no context for %s: %s", device, render_log());
    render_log();
    return ctx;
}

bool render_has_bf16(const char *device)
{
    AdContext *ctx = render_context(device, 1);
    bool has = ctx->backend->cls->supports(ctx->backend, AD_BF16);

    ad_context_destroy(&ctx);
    return has;
}

/* ---- cases -------------------------------------------------------------------------------- */

static char *text_room(RenderCase *c)
{
    if (c->texts == 12)
        die("too many strings in a case");
    return c->text[c->texts++];
}

static const char *keep(RenderCase *c, const char *text)
{
    char *room = text_room(c);

    snprintf(room, sizeof(c->text[0]), "%s", text);
    return room;
}

/* Every part of "a@1|b" below tests/golden. */
static const char *keep_paths(RenderCase *c, const char *list)
{
    char *room = text_room(c), *at = room;

    for (; *list; list += strcspn(list, "|"), list += *list == '|')
        at += sprintf(at, "%s" GOLDEN "%.*s", at == room ? "" : "|", (int)strcspn(list, "|"), list);
    return room;
}

/* Every path of "token@a|token2@b" below tests/golden. */
static const char *keep_tokens(RenderCase *c, const char *list)
{
    char *room = text_room(c), *at = room;

    for (; *list; list += strcspn(list, "|"), list += *list == '|') {
        int token = (int)strcspn(list, "@") + 1, all = (int)strcspn(list, "|");

        at += sprintf(at, "%s%.*s" GOLDEN "%.*s", at == room ? "" : "|", token, list, all - token,
                      list + token);
    }
    return room;
}

static void start(RenderCase *c)
{
    memset(c, 0, sizeof(*c));
    ad_model_defaults(&c->model);
    ad_clip_defaults(&c->clip);
    c->model.precision = AD_PRECISION_FP32;
    c->session = (AdSessionParams){ .steps_offset = AD_AUTO, .clip_sample = AD_AUTO,
                                    .use_karras_sigmas = AD_AUTO, .eta = AD_AUTO,
                                    .clip_skip = AD_AUTO, .original_steps = 50,
                                    .rng_gpu = { 132, 2048 }, .decode_chunk = 1 };
}

void render_small(RenderCase *c)
{
    start(c);
    c->model.model          = keep_paths(c, "models/plain");
    c->model.motion_adapter = keep_paths(c, "models/plain-motion");
    c->session.width        = c->session.height = 32;
    c->session.frames       = 4;
    c->session.scheduler    = "ddim";
    c->clip.prompt          = "a red ball rolling left";
    c->clip.steps           = 3;
    c->clip.seed            = 5;
}

static int whole(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

static void set_option(RenderCase *c, const char *key, const char *value)
{
    AdSessionParams *p = &c->session;

#define IS(name) (!strcmp(key, name))
    if (IS("model"))                    c->model.model = keep_paths(c, value);
    else if (IS("motion_adapter"))      c->model.motion_adapter = keep_paths(c, value);
    else if (IS("vae"))                 c->model.vae = keep_paths(c, value);
    else if (IS("tokenizer"))           c->model.tokenizer = keep_paths(c, value);
    else if (IS("motion_lora"))         c->model.motion_lora = keep_paths(c, value);
    else if (IS("lora"))                c->model.lora = keep_paths(c, value);
    else if (IS("embedding"))           c->model.embedding = keep_tokens(c, value);
    else if (IS("prompt"))              c->clip.prompt = keep(c, value);
    else if (IS("negative_prompt"))     c->clip.negative_prompt = keep(c, value);
    else if (IS("steps"))               c->clip.steps = whole(value);
    else if (IS("seed"))                c->clip.seed = strtoull(value, NULL, 10);
    else if (IS("guidance_scale"))      c->clip.guidance_scale = strtof(value, NULL);
    else if (IS("scheduler"))           p->scheduler = keep(c, value);
    else if (IS("beta_schedule"))       p->beta_schedule = keep(c, value);
    else if (IS("timestep_spacing"))    p->timestep_spacing = keep(c, value);
    else if (IS("prediction_type"))     p->prediction_type = keep(c, value);
    else if (IS("steps_offset"))        p->steps_offset = whole(value);
    else if (IS("clip_sample"))         p->clip_sample = whole(value);
    else if (IS("use_karras_sigmas"))   p->use_karras_sigmas = whole(value);
    else if (IS("eta"))                 p->eta = strtof(value, NULL);
    else if (IS("clip_skip"))           p->clip_skip = whole(value);
    else if (IS("prompt_syntax"))
        p->prompt_syntax = !strcmp(value, "weighted") ? AD_PROMPT_WEIGHTED : AD_PROMPT_PLAIN;
    else if (IS("original_steps"))      p->original_steps = whole(value);
    else if (IS("frames"))              p->frames = whole(value);
    else if (IS("size")) {
        p->width  = whole(value);
        p->height = whole(strchr(value, 'x') + 1);
    } else
        die("clips.json: option %s is not known here", key);
#undef IS
}

void render_options(const json_t *options, RenderCase *c)
{
    const char *key;
    json_t *value;

    start(c);
    json_object_foreach((json_t *)(uintptr_t)options, key, value)
        set_option(c, key, json_string_value(value));
}

/* ---- rendering ---------------------------------------------------------------------------- */

AdSessionParams render_params(const AdModel *model, const RenderCase *c)
{
    AdSessionParams own, p = c->session;

    ad_session_defaults(model, &own);
    if (!p.width) {
        p.width  = own.width;
        p.height = own.height;
    }
    if (!p.frames)
        p.frames = own.frames;
    return p;
}

AdStatus render_clip(AdSession *s, const AdClip *clip, const AdSessionParams *p, uint8_t *out)
{
    AdStatus st = ad_session_begin(s, clip);
    size_t frame = (size_t)p->width * (size_t)p->height * 3;

    if (st >= 0)
        while ((st = ad_session_step(s)) == AD_OK)
            ;
    for (int i = 0; i < p->frames && st >= 0; i++) {
        AdImage image = { out + (size_t)i * frame, 3 * p->width, p->width, p->height };

        st = ad_session_decode(s, i, &image);
    }
    return st < 0 ? st : AD_OK;
}

uint8_t *render(AdContext *ctx, const RenderCase *c, size_t *bytes)
{
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdSessionParams p;
    uint8_t *out = NULL;
    AdStatus st = ad_model_load(ctx, &model, &c->model);

    if (st >= 0) {
        p  = render_params(model, c);
        st = ad_session_create(model, &s, &p);
    }
    if (st >= 0) {
        *bytes = (size_t)p.width * (size_t)p.height * 3 * (size_t)p.frames;
        out = malloc(*bytes);
        st  = render_clip(s, &c->clip, &p, out);
    }
    if (st < 0) {
        free(out);
        out = NULL;
    }
    ad_session_destroy(&s);
    ad_model_destroy(&model);
    return out;
}
