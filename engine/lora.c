/* lora.c - changes to weights, applied; see lora.h.
 *
 * Called by binder.c for every tensor that is loaded, and by adapt.c. What changes is read from
 * files by lora_file.c; what is done to a weight is in lycoris.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "file.h"
#include "lora.h"
#include "lora_names.h"
#include "weights.h"

void ad_patches_close(AdPatches *p)
{
    for (size_t i = 0; i < p->file_count; i++)
        ad_tensor_file_close(&p->files[i]);
    for (size_t i = 0; i < p->count; i++) {
        p->patches[i].file = NULL;
        p->patches[i].first = p->patches[i].magnitude = NULL;
        memset(p->patches[i].part, 0, sizeof(p->patches[i].part));
    }
    ad_free(p->files);
    p->files = NULL;
    p->file_count = p->file_room = 0;
}

void ad_patches_free(AdPatches **patches)
{
    AdPatches *p = *patches;

    *patches = NULL;
    if (!p)
        return;
    ad_patches_close(p);
    for (size_t i = 0; i < p->count; i++)
        ad_free(p->patches[i].target);
    ad_free(p->patches);
    ad_free(p);
}

/* ---- applying ----------------------------------------------------------------------------- */

static AdStatus misfit(AdContext *ctx, const AdPatch *p)
{
    char shapes[3 * AD_ENTRY_TEXT] = "", shape[AD_ENTRY_TEXT];
    int64_t inputs = p->first->rank == 2 ? p->first->shape[1] : 0;
    bool cross = strstr(p->target, "attn2_to_k") || strstr(p->target, "attn2_to_v");
    const char *family = !cross ? "" : inputs == 1024 ? " (made for Stable Diffusion 2.x?)" :
                         inputs == 2048 ? " (made for Stable Diffusion XL?)" : "";

    for (int i = 0, n = 0; i < AD_DELTA_PARTS && n < 3; i++)
        if (p->part[i]) {
            size_t at = strlen(shapes);

            ad_format(shapes + at, sizeof(shapes) - at, "%s%.40s", n++ ? ", " : "",
                      ad_entry_shape(p->part[i], shape));
        }
    return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: %s of shape %s does not fit %.80s%s",
                   p->file->file->path, p->kind->name, shapes, p->target, family);
}

/* The numbers of an entry; NULL and a status where that fails. free() them. */
static float *read_all(AdContext *ctx, const AdPatch *p, const AdEntry *e, AdStatus *st)
{
    float *v = ad_alloc_array((size_t)ad_entry_count(e), sizeof(*v));

    *st = v ? ad_entry_read(ctx, p->file, e, v) : ad_fail_nomem(ctx, "a LoRA");
    if (*st < 0) {
        ad_free(v);
        return NULL;
    }
    return v;
}

static void describe_parts(const AdPatch *p, AdDelta *d)
{
    for (int i = 0; i < AD_DELTA_PARTS; i++)
        if (p->part[i]) {
            d->part[i].there = true;
            d->part[i].rank  = p->part[i]->rank;
            d->part[i].count = ad_entry_count(p->part[i]);
            memcpy(d->part[i].dim, p->part[i]->shape, sizeof(d->part[i].dim));
        }
}

/* Which axis the magnitudes belong to: [out], [out, 1, ...] or [1, in, ...]. False: neither. */
static bool magnitude_fits(const AdPatch *p, const AdDelta *d, bool *on_input)
{
    const AdEntry *e = p->magnitude;
    int64_t n = ad_entry_count(e);

    *on_input = !p->on_output && e->rank > 1 && e->shape[0] == 1 && d->out != 1;
    return n == (*on_input ? d->in : d->out);
}

static AdStatus apply(AdContext *ctx, AdPatch *p, AdDelta *d, float *w)
{
    float *v[AD_DELTA_PARTS] = { NULL }, *lengths = NULL;
    AdMagnitude magnitude = { 0 };
    AdStatus st = AD_OK;

    describe_parts(p, d);
    if (!d->kind->fits(d) || (p->magnitude && !magnitude_fits(p, d, &magnitude.on_input)))
        return p->optional ? AD_OK : misfit(ctx, p);
    d->scale = !isnan(p->scale) ? p->scale : isnan(p->alpha) || !d->rank ? 1 :
               p->alpha / (double)d->rank;
    for (int i = 0; i < AD_DELTA_PARTS && st >= 0; i++)
        if (p->part[i])
            d->part[i].v = v[i] = read_all(ctx, p, p->part[i], &st);
    if (p->magnitude && st >= 0)
        magnitude.v = lengths = read_all(ctx, p, p->magnitude, &st);
    if (st >= 0 && ad_delta_add(d, p->strength, &magnitude, w) < 0)
        st = ad_fail_nomem(ctx, "a LoRA");
    for (int i = 0; i < AD_DELTA_PARTS; i++)
        ad_free(v[i]);
    ad_free(lengths);
    p->used = true;
    return st;
}

AdStatus ad_patches_apply(AdContext *ctx, AdPatches *p, const char *name, int rank,
                          const int64_t *shape, float *w)
{
    char flat[AD_CAP_NAME + 1];
    bool bias;
    AdStatus st = AD_OK;

    if (!ad_lora_flat(name, flat, &bias))
        return AD_OK;
    for (size_t i = 0; i < p->count && st >= 0; i++) {
        AdPatch *patch = &p->patches[i];
        AdDelta d = { .kind = patch->kind, .out = shape[0], .in = rank > 1 ? shape[1] : 1,
                      .positions = 1, .on_input = patch->on_input };

        for (int k = 2; k < rank; k++)
            d.positions *= shape[k];
        if (patch->bias == bias && !strcmp(patch->target, flat))
            st = apply(ctx, patch, &d, w);
    }
    return st;
}

bool ad_patches_touch(const AdPatches *p, const char *name)
{
    char flat[AD_CAP_NAME + 1];
    bool bias = false;

    for (size_t i = ad_lora_flat(name, flat, &bias) ? 0 : p->count; i < p->count; i++)
        if (p->patches[i].bias == bias && !strcmp(p->patches[i].target, flat))
            return true;
    return false;
}

bool ad_patches_touch_part(const AdPatches *p, bool text)
{
    for (size_t i = 0; i < p->count; i++)
        if (ad_lora_is_text(p->patches[i].target) == text)
            return true;
    return false;
}

/* Say what of one file was taken. */
static AdStatus check_file(AdContext *ctx, const AdPatches *p, const AdTensorFile *f)
{
    size_t all = 0, used = 0, tensors = 0;
    const char *example = NULL;
    char quoted[AD_QUOTE_TEXT];

    for (size_t i = 0; i < p->count; i++)
        if (p->patches[i].file == f) {
            const AdPatch *patch = &p->patches[i];

            all     += patch->used || !patch->optional;
            used    += patch->used;
            tensors += (size_t)patch->tensors;
            if (!patch->used && !patch->optional && !example)
                example = patch->first->name;
        }
    if (all && !used)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: fits no layer of this model", f->file->path);
    if (used < all)
        ad_log(ctx, AD_LOG_WARNING, "%.160s: applied to %zu of %zu weights; not to \"%.80s\"",
               f->file->path, used, all, ad_quote(example, strlen(example), quoted));
    else
        ad_log(ctx, AD_LOG_VERBOSE, "%.200s: applied to %zu weights", f->file->path, used);
    if (tensors < f->count)
        ad_log(ctx, AD_LOG_WARNING, "%.200s: %zu of %zu tensors are not used", f->file->path,
               f->count - tensors, f->count);
    return AD_OK;
}

AdStatus ad_patches_check(AdContext *ctx, const AdPatches *p)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < p->file_count && st >= 0; i++)
        st = check_file(ctx, p, p->files[i]);
    return st;
}
