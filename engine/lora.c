/* lora.c - low-rank changes to weights; see lora.h.
 *
 * Called by binder.c for every tensor that is loaded, and by model.c. Spellings of a pair's names
 * differ; what is in front of them is the weight's own name.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "lora.h"
#include "names.h"

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

/* ---- names -------------------------------------------------------------------------------- */

static const struct { const char *down, *up; } spellings[] = {
    { ".lora_A.weight", ".lora_B.weight" },
    { ".lora.down.weight", ".lora.up.weight" },
    { "_lora.down.weight", "_lora.up.weight" },
    { ".lora_down.weight", ".lora_up.weight" },
};

/* If the name ends as the first matrix of a pair: the other's name, and the weight's. */
static bool pair_of(const char *name, char *up, char *target)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < AD_COUNT(spellings); i++) {
        size_t m = strlen(spellings[i].down);

        if (n <= m || strcmp(name + n - m, spellings[i].down) || n + 8 > AD_CAP_NAME)
            continue;
        ad_format(up, AD_CAP_NAME + 1, "%.*s%s", (int)(n - m), name, spellings[i].up);
        ad_format(target, AD_CAP_NAME + 1, "%.*s.weight", (int)(n - m), name);
        return true;
    }
    return false;
}

/* The weight's name in our spelling; false: not a motion module's. */
static bool motion_target(char *target)
{
    char ours[AD_CAP_NAME + 1];

    ad_replace(target, ".processor", "");
    if (!strncmp(target, "unet.", 5))
        memmove(target, target + 5, strlen(target + 5) + 1);
    if (!ad_rename_motion(target, ours))
        return false;
    ad_replace(ours, ".to_out.weight", ".to_out.0.weight");
    strcpy(target, ours);
    return true;
}

/* ---- reading ------------------------------------------------------------------------------ */

static AdStatus add_pair(AdContext *ctx, AdPatches *p, const AdTensorFile *f, const AdEntry *down,
                         const AdEntry *up, const char *target, double scale)
{
    char shape1[AD_ENTRY_TEXT], shape2[AD_ENTRY_TEXT], quoted[AD_QUOTE_TEXT];
    void *patches = p->patches;

    if (down->rank < 2 || up->rank < 2 || down->shape[0] < 1 || up->shape[1] != down->shape[0])
        return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\": %s and %s are no pair of matrices",
                       f->file->path, ad_quote(down->name, strlen(down->name), quoted),
                       ad_entry_shape(down, shape1), ad_entry_shape(up, shape2));
    if (!ad_grow(&patches, &p->room, p->count + 1, sizeof(*p->patches)))
        return ad_fail_nomem(ctx, "a LoRA");
    p->patches = patches;
    p->patches[p->count] = (AdPatch){ ad_strdup(target), f, down, up, scale, false };
    if (!p->patches[p->count].target)
        return ad_fail_nomem(ctx, "a LoRA");
    p->count++;
    return AD_OK;
}

static AdStatus add_file(AdContext *ctx, AdPatches *p, const AdAdapter *a)
{
    char up_name[AD_CAP_NAME + 1], target[AD_CAP_NAME + 1], quoted[AD_QUOTE_TEXT];
    AdTensorFile *f = NULL;
    void *files = p->files;
    size_t before = p->count;
    AdStatus st = ad_tensor_file_open(ctx, &f, a->path);

    if (st >= 0 && !ad_grow(&files, &p->file_room, p->file_count + 1, sizeof(*p->files)))
        st = ad_fail_nomem(ctx, "a LoRA");
    else
        p->files = files;
    if (st < 0) {
        ad_tensor_file_close(&f);
        return st;
    }
    p->files[p->file_count++] = f;
    for (size_t i = 0; i < f->count && st >= 0; i++) {
        const AdEntry *up;

        if (!pair_of(f->entries[i].name, up_name, target) || !motion_target(target))
            continue;
        up = ad_tensor_file_find(f, up_name);
        st = up ? add_pair(ctx, p, f, &f->entries[i], up, target, a->scale)
                : ad_fail(ctx, AD_ERR_FORMAT, "%.100s: \"%s\" has no partner", a->path,
                          ad_quote(f->entries[i].name, strlen(f->entries[i].name), quoted));
    }
    if (st >= 0 && p->count == before)
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.200s: not a motion LoRA", a->path);
    return st;
}

AdStatus ad_patches_add_motion(AdContext *ctx, AdPatches *p, const AdAdapterList *list)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < list->count && st >= 0; i++)
        st = add_file(ctx, p, &list->items[i]);
    return st;
}

AdStatus ad_patches_add(AdContext *ctx, AdPatches *p, const AdAdapterList *list)
{
    (void)p;
    if (!list->count)
        return AD_OK;
    if (!ad_is_file(list->items[0].path))
        return ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: no such file", list->items[0].path);
    return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.200s: only motion_lora is supported",
                   list->items[0].path);
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
    int64_t in = 1;
    AdStatus st = AD_OK;

    for (int i = 1; i < rank; i++)
        in *= shape[i];
    for (size_t i = 0; i < p->count && st >= 0; i++)
        if (!strcmp(p->patches[i].target, name))
            st = apply(ctx, &p->patches[i], shape[0], in, w);
    return st;
}

bool ad_patches_touch(const AdPatches *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (!strcmp(p->patches[i].target, name))
            return true;
    return false;
}

AdStatus ad_patches_check(AdContext *ctx, const AdPatches *p)
{
    for (size_t k = 0; k < p->file_count; k++) {
        size_t all = 0, used = 0;

        for (size_t i = 0; i < p->count; i++)
            if (p->patches[i].file == p->files[k]) {
                all++;
                used += p->patches[i].used;
            }
        if (all && !used)
            return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: fits no layer of this model",
                           p->files[k]->file->path);
        if (used < all)
            ad_log(ctx, AD_LOG_WARNING, "%.200s: applied to %zu of %zu layers",
                   p->files[k]->file->path, used, all);
    }
    return AD_OK;
}
