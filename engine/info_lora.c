/* info_lora.c - what a LoRA changes, and by how much; see info.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "info.h"
#include "lora.h"
#include "lora_names.h"

enum { KINDS = 4 };

typedef struct Summary {
    size_t  unet, text, motion, biases, magnitudes, tensors;
    int64_t low, high;              /* ranks; 0: none                            */
    double  weak, strong;           /* scales; of layers that have a rank        */
    bool    alphas, settings;       /* where the scales come from                */
    bool    mid;                    /* the motion modules' middle one is changed */
    int64_t states;                 /* width of text states; 0: not told         */
    const char *kinds[KINDS];
} Summary;

static void add_kind(Summary *s, const char *name)
{
    for (int i = 0; i < KINDS; i++)
        if (!s->kinds[i] || !strcmp(s->kinds[i], name)) {
            s->kinds[i] = name;
            return;
        }
}

static void add_scale(Summary *s, const AdPatch *p)
{
    const AdEntry *down = p->kind == &ad_delta_loha ? p->part[1] : p->part[0];
    int64_t rank = down && down->rank ? down->shape[0] : 0;
    double scale = !isnan(p->scale) ? p->scale : isnan(p->alpha) ? 1 : p->alpha / (double)rank;

    if (rank < 1 || (p->kind != &ad_delta_lora && p->kind != &ad_delta_loha))
        return;
    s->weak     = s->low ? fmin(s->weak, scale) : scale;
    s->strong   = s->low ? fmax(s->strong, scale) : scale;
    s->low      = s->low ? AD_MIN(s->low, rank) : rank;
    s->high     = AD_MAX(s->high, rank);
    s->alphas   = s->alphas || !isnan(p->alpha);
    s->settings = s->settings || !isnan(p->scale);
}

static void add(Summary *s, const AdPatch *p)
{
    s->tensors += (size_t)p->tensors;
    if (p->optional)
        return;
    if (strstr(p->target, "motion_modules_")) {
        s->motion++;
        s->mid = s->mid || strstr(p->target, "mid_block");
    } else if (ad_lora_is_text(p->target))
        s->text++;
    else
        s->unet++;
    s->biases     += p->bias;
    s->magnitudes += p->magnitude != NULL;
    add_kind(s, p->kind->name);
    add_scale(s, p);
    if (p->kind == &ad_delta_lora && p->first->rank >= 2 &&
        (strstr(p->target, "attn2_to_k") || strstr(p->target, "attn2_to_v")) &&
        !strstr(p->target, "motion_modules_"))
        s->states = p->first->shape[1];
    if (p->kind == &ad_delta_lora && p->first->rank == 2 && ad_lora_is_text(p->target) &&
        strstr(p->target, "_q_proj"))
        s->states = p->first->shape[1];
}

/* "79 layers of the UNet, 12 of the text encoder; as LoRA, difference" */
static void say_kinds(const Summary *s, const AdInfoSink *sink)
{
    const struct { size_t count; const char *where; } places[] = {
        { s->unet, "the UNet" }, { s->text, "the text encoder" }, { s->motion, "motion modules" },
    };
    char text[300] = "";

    for (size_t i = 0; i < AD_COUNT(places); i++)
        if (places[i].count) {
            size_t at = strlen(text);

            ad_format(text + at, sizeof(text) - at, "%s%zu%s of %s", at ? ", " : "",
                      places[i].count, at ? "" : " layers", places[i].where);
        }
    for (int i = 0; i < KINDS && s->kinds[i]; i++) {
        size_t at = strlen(text);

        ad_format(text + at, sizeof(text) - at, "%s%s", i ? ", " : "; as ", s->kinds[i]);
    }
    ad_info_say(sink, "changes", "%s%s%s", text, s->magnitudes ? ", with magnitudes (DoRA)" : "",
                s->biases ? ", biases too" : "");
}

static void say_scale(const Summary *s, const AdInfoSink *sink)
{
    const char *from = s->settings ? "PEFT's settings" : s->alphas ? "alpha / rank" : "no alpha";
    char rank[48], scale[64];

    if (!s->low)
        return;
    ad_format(rank, sizeof(rank), s->low == s->high ? "%lld" : "%lld to %lld", (long long)s->low,
              (long long)s->high);
    ad_format(scale, sizeof(scale), s->weak == s->strong ? "%g" : "%g to %g", s->weak, s->strong);
    ad_info_say(sink, "rank", "%s; scale %s (%s)", rank, scale, from);
}

static void say_base(const Summary *s, const AdInfoSink *sink)
{
    char family[AD_INFO_FAMILY];

    if (s->motion && !s->unet && !s->text)
        ad_info_say(sink, "base", "motion modules %s", s->mid ? "v2 (it changes the middle one)"
                                                               : "v1, v2 or v3");
    else
        ad_info_say(sink, "base", "%s", ad_info_family(s->states, family));
}

AdStatus ad_info_lora(AdContext *ctx, const AdTensorFile *f, bool motion, const AdInfoSink *sink)
{
    AdAdapter one = { .path = f->file->path, .scale = 1 };
    AdAdapterList list = { .items = &one, .count = 1 };
    AdPatches *p = ad_alloc(sizeof(*p));
    Summary s = { 0 };
    AdStatus st = p ? ad_patches_add(ctx, p, &list, motion) : ad_fail_nomem(ctx, "a LoRA");

    for (size_t i = 0; st >= 0 && i < p->count; i++)
        add(&s, &p->patches[i]);
    if (st >= 0) {
        say_base(&s, sink);
        say_kinds(&s, sink);
        say_scale(&s, sink);
        if (*p->lcm)
            ad_info_say(sink, "use", "scheduler=lcm, 4 to 8 steps, guidance_scale 1 to 2 (an "
                        "LCM-LoRA)");
        ad_info_ignored(sink, f->count - AD_MIN(s.tensors, f->count), "");
    }
    ad_patches_free(&p);
    return st;
}
