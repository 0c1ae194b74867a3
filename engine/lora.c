/* lora.c - low-rank changes to weights; see lora.h.
 *
 * Called by binder.c for every tensor that is loaded, and by adapt.c. What a file's names mean is
 * told by lora_names.c.
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
        p->patches[i].down = p->patches[i].up = NULL;
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

/* ---- reading ------------------------------------------------------------------------------ */

/* alpha / rank; 1 where the file has no alpha. */
static AdStatus file_scale(AdContext *ctx, const AdTensorFile *f, const char *alpha_name,
                           int64_t rank, double *scale)
{
    const AdEntry *e = ad_tensor_file_find(f, alpha_name);
    char shape[AD_ENTRY_TEXT], quoted[AD_QUOTE_TEXT];
    float alpha;
    AdStatus st;

    if (!e)
        return AD_OK;
    ad_quote(alpha_name, strlen(alpha_name), quoted);
    if (ad_entry_count(e) != 1)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\" is %s; one number is needed",
                       f->file->path, quoted, ad_entry_shape(e, shape));
    st = ad_entry_read(ctx, f, e, &alpha);
    if (st >= 0 && !isfinite(alpha))
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\" is not finite", f->file->path, quoted);
    if (st >= 0)
        *scale *= (double)alpha / (double)rank;
    return st;
}

static AdStatus add_pair(AdContext *ctx, AdPatches *p, const AdTensorFile *f, const AdEntry *down,
                         const AdLoraName *name, double scale)
{
    const AdEntry *up = ad_tensor_file_find(f, name->up);
    char shape1[AD_ENTRY_TEXT], shape2[AD_ENTRY_TEXT], quoted[AD_QUOTE_TEXT];
    void *patches = p->patches;
    AdStatus st;

    ad_quote(down->name, strlen(down->name), quoted);
    if (!up)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.100s: \"%s\" has no partner", f->file->path, quoted);
    if (down->rank < 2 || up->rank < 2 || down->shape[0] < 1 || up->shape[1] != down->shape[0])
        return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\": %s and %s are no pair of matrices",
                       f->file->path, quoted, ad_entry_shape(down, shape1),
                       ad_entry_shape(up, shape2));
    st = file_scale(ctx, f, name->alpha, down->shape[0], &scale);
    if (st < 0)
        return st;
    if (!ad_grow(&patches, &p->room, p->count + 1, sizeof(*p->patches)))
        return ad_fail_nomem(ctx, "a LoRA");
    p->patches = patches;
    p->patches[p->count] = (AdPatch){
        .target = ad_strdup(name->target), .file = f, .down = down, .up = up, .scale = scale,
        .tensors = 2 + (ad_tensor_file_find(f, name->alpha) != NULL),
    };
    if (!p->patches[p->count].target)
        return ad_fail_nomem(ctx, "a LoRA");
    p->count++;
    return AD_OK;
}

static AdStatus open_file(AdContext *ctx, AdPatches *p, const char *path, AdTensorFile **out)
{
    void *files = p->files;
    AdStatus st = ad_tensor_file_open(ctx, out, path);

    if (st >= 0 && !ad_grow(&files, &p->file_room, p->file_count + 1, sizeof(*p->files)))
        st = ad_fail_nomem(ctx, "a LoRA");
    else
        p->files = files;
    if (st >= 0)
        p->files[p->file_count++] = *out;
    else
        ad_tensor_file_close(out);
    return st;
}

/* A file without a pair that is asked for, or with something else in it. */
static AdStatus refuse(AdContext *ctx, const AdTensorFile *f, bool motion, size_t others)
{
    const char *kind = NULL;

    for (size_t i = 0; i < f->count && !kind; i++)
        kind = ad_lora_other_kind(f->entries[i].name);
    if (kind)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: %s file; of LoRA files, those with two "
                       "matrices a layer are supported", f->file->path, kind);
    if (others && motion)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: not a motion LoRA: this is a LoRA for "
                       "pictures; give it to lora=", f->file->path);
    if (others)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: this is a motion LoRA; give it to motion_lora=",
                       f->file->path);
    return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: not a %sLoRA", f->file->path,
                   motion ? "motion " : "");
}

/* "lora=NAME HASH@SCALE", behind what is there. */
static AdStatus describe(AdContext *ctx, AdPatches *p, const AdTensorFile *f, const AdAdapter *a,
                         bool motion)
{
    size_t at = strlen(p->about);
    uint64_t hash = AD_HASH_START;
    AdStatus st = ad_hash_file(ctx, f, &hash);
    char name[96];

    ad_path_name(a->path, name, sizeof(name));
    ad_format(p->about + at, sizeof(p->about) - at, "%s%slora=%s %016" PRIx64 "@%g", at ? " " : "",
              motion ? "motion_" : "", name, hash, a->scale);
    return st;
}

/* motion: only what changes motion modules is taken. Else all, if it is not that alone. */
static AdStatus add_file(AdContext *ctx, AdPatches *p, const AdAdapter *a, bool motion)
{
    AdLoraName name;
    AdTensorFile *f = NULL;
    size_t before = p->count, wanted = 0, others = 0;
    AdStatus st = open_file(ctx, p, a->path, &f);

    for (size_t i = 0; st >= 0 && i < f->count; i++) {
        if (!motion && ad_lora_other_kind(f->entries[i].name))
            return refuse(ctx, f, motion, 0);
        if (!ad_lora_name(f->entries[i].name, &name))
            continue;
        if (name.other_encoder)
            return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a LoRA for Stable Diffusion XL", a->path);
        others += name.motion != motion;
        wanted += name.motion == motion;
        if (!motion || name.motion)
            st = add_pair(ctx, p, f, &f->entries[i], &name, a->scale);
    }
    if (st >= 0 && (!wanted || p->count == before))
        st = refuse(ctx, f, motion, others);
    if (st >= 0)
        st = describe(ctx, p, f, a, motion);
    return st;
}

AdStatus ad_patches_add(AdContext *ctx, AdPatches *p, const AdAdapterList *list, bool motion)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < list->count && st >= 0; i++)
        st = add_file(ctx, p, &list->items[i], motion);
    return st;
}

/* ---- applying ----------------------------------------------------------------------------- */

/* w[out, in] += scale * up[out, rank] down[rank, in] */
static void multiply_add(float *w, const float *up, const float *down, double scale, int64_t out,
                         int64_t rank, int64_t in)
{
    for (int64_t o = 0; o < out; o++)
        for (int64_t r = 0; r < rank; r++) {
            float factor = (float)scale * up[o * rank + r];
            const float *row = down + r * in;
            float *to = w + o * in;

            for (int64_t i = 0; i < in; i++)
                to[i] += factor * row[i];
        }
}

static AdStatus apply(AdContext *ctx, AdPatch *p, int64_t out, int64_t in, float *w)
{
    int64_t rank = p->down->shape[0];
    char shape1[AD_ENTRY_TEXT], shape2[AD_ENTRY_TEXT];
    float *down, *up;
    AdStatus st = AD_OK;

    if (ad_entry_count(p->down) != rank * in || ad_entry_count(p->up) != out * rank)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: %s and %s do not fit %.80s", p->file->file->path,
                       ad_entry_shape(p->down, shape1), ad_entry_shape(p->up, shape2), p->target);
    down = ad_alloc_array((size_t)(rank * in), sizeof(*down));
    up   = ad_alloc_array((size_t)(out * rank), sizeof(*up));
    if (!down || !up)
        st = ad_fail_nomem(ctx, "a LoRA");
    if (st >= 0) st = ad_entry_read(ctx, p->file, p->down, down);
    if (st >= 0) st = ad_entry_read(ctx, p->file, p->up, up);
    if (st >= 0) multiply_add(w, up, down, p->scale, out, rank, in);
    ad_free(down);
    ad_free(up);
    p->used = true;
    return st;
}

AdStatus ad_patches_apply(AdContext *ctx, AdPatches *p, const char *name, int rank,
                          const int64_t *shape, float *w)
{
    char flat[AD_CAP_NAME + 1];
    int64_t in = 1;
    AdStatus st = AD_OK;

    if (!ad_lora_flat(name, flat))
        return AD_OK;
    for (int i = 1; i < rank; i++)
        in *= shape[i];
    for (size_t i = 0; i < p->count && st >= 0; i++)
        if (!strcmp(p->patches[i].target, flat))
            st = apply(ctx, &p->patches[i], shape[0], in, w);
    return st;
}

bool ad_patches_touch(const AdPatches *p, const char *name)
{
    char flat[AD_CAP_NAME + 1];

    for (size_t i = ad_lora_flat(name, flat) ? 0 : p->count; i < p->count; i++)
        if (!strcmp(p->patches[i].target, flat))
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

            all++;
            used    += patch->used;
            tensors += (size_t)patch->tensors;
            if (!patch->used && !example)
                example = patch->down->name;
        }
    if (all && !used)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: fits no layer of this model", f->file->path);
    if (used < all)
        ad_log(ctx, AD_LOG_WARNING, "%.160s: applied to %zu of %zu layers; not to \"%.80s\"",
               f->file->path, used, all, ad_quote(example, strlen(example), quoted));
    else
        ad_log(ctx, AD_LOG_VERBOSE, "%.200s: applied to %zu layers", f->file->path, used);
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
