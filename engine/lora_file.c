/* lora_file.c - files of LoRAs become lists of changes; see lora.h.
 *
 * Called by adapt.c. What a file's names mean is told by lora_names.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "file.h"
#include "lora.h"
#include "lora_names.h"
#include "peft.h"
#include "recognize.h"
#include "weights.h"

/* ---- one change --------------------------------------------------------------------------- */

/* One number beside a layer; *value stays where the file has none. */
static AdStatus number(AdContext *ctx, AdPatch *p, const AdEntry *e, double *value)
{
    char shape[AD_ENTRY_TEXT], quoted[AD_QUOTE_TEXT];
    float f;
    AdStatus st;

    if (!e)
        return AD_OK;
    p->tensors++;
    ad_quote(e->name, strlen(e->name), quoted);
    if (ad_entry_count(e) != 1)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\" is %s; one number is needed",
                       p->file->file->path, quoted, ad_entry_shape(e, shape));
    st = ad_entry_read(ctx, p->file, e, &f);
    if (st >= 0 && !isfinite(f))
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.80s: \"%.80s\" is not finite", p->file->file->path,
                     quoted);
    if (st >= 0)
        *value = f;
    return st;
}

static const AdEntry *beside(const AdPatch *p, const AdLoraName *name, const char *suffix)
{
    char full[AD_CAP_NAME + 1];

    ad_lora_beside(p->first->name, name, suffix, full);
    return ad_tensor_file_find(p->file, full);
}

static AdStatus find_parts(AdContext *ctx, AdPatch *p, const AdLoraName *name)
{
    const AdLoraDialect *d = name->dialect;
    char quoted[AD_QUOTE_TEXT];

    for (int i = 0; i < AD_DELTA_PARTS; i++) {
        p->part[i] = d->suffix[i] ? beside(p, name, d->suffix[i]) : NULL;
        p->tensors += p->part[i] != NULL;
        if (!p->part[i] && (d->required >> i & 1))
            return ad_fail(ctx, AD_ERR_FORMAT, "%.100s: \"%s\" has no partner \"...%s\"",
                           p->file->file->path,
                           ad_quote(p->first->name, strlen(p->first->name), quoted),
                           d->suffix[i] + 1);
    }
    return AD_OK;
}

/* PEFT's magnitudes are of the outputs, whatever their shape. */
static void find_magnitude(AdPatch *p, const AdLoraName *name)
{
    static const char *const peft[] = {
        ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
        ".lora_magnitude_vector.default.weight", ".lora_magnitude_vector.default",
    };

    p->magnitude = beside(p, name, ".dora_scale");
    for (size_t i = 0; i < AD_COUNT(peft) && !p->magnitude; i++) {
        p->magnitude = beside(p, name, peft[i]);
        p->on_output = p->magnitude != NULL;
    }
    p->tensors += p->magnitude != NULL;
}

/* Where there are settings they say the scale, and whether magnitudes count. */
static AdStatus obey(AdContext *ctx, const AdPeft *peft, const AdLoraName *name, AdPatch *p)
{
    char layer[AD_CAP_NAME + 1], quoted[AD_QUOTE_TEXT];
    int64_t rank = p->first->rank ? p->first->shape[0] : 0;
    AdPeftLayer l;

    ad_lora_beside(p->first->name, name, "", layer);
    l = ad_peft_layer(peft, layer);
    if (!l.known)
        return AD_OK;
    ad_quote(layer, strlen(layer), quoted);
    if (p->kind == &ad_delta_lora && rank != l.rank)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.110s: rank %d for \"%.80s\", which has %lld",
                       peft->where, l.rank, quoted, (long long)rank);
    if (l.dora && !p->bias && !p->magnitude)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.110s: use_dora, but \"%.80s\" has no magnitudes",
                       peft->where, quoted);
    if (!l.dora && p->magnitude) {
        p->magnitude = NULL;
        p->tensors--;
    }
    p->scale = l.scale;
    return AD_OK;
}

static AdStatus keep(AdContext *ctx, AdPatches *p, const AdPatch *patch, const char *target)
{
    void *patches = p->patches;

    if (!ad_grow(&patches, &p->room, p->count + 1, sizeof(*p->patches)))
        return ad_fail_nomem(ctx, "a LoRA");
    p->patches = patches;
    p->patches[p->count] = *patch;
    p->patches[p->count].target = ad_strdup(target);
    return p->patches[p->count++].target ? AD_OK : ad_fail_nomem(ctx, "a LoRA");
}

/* A file that is being read, with the user's number and PEFT's settings. */
typedef struct Source {
    const AdTensorFile *file;
    double strength;
    AdPeft peft;
} Source;

static AdStatus add_patch(AdContext *ctx, AdPatches *p, const Source *s, const AdEntry *e,
                          const AdLoraName *name)
{
    const AdLoraDialect *d = name->dialect;
    AdPatch patch = { .bias = d->bias, .kind = d->kind, .file = s->file, .first = e,
                      .strength = s->strength, .alpha = NAN, .scale = NAN };
    double on_input = 0;
    AdStatus st = find_parts(ctx, &patch, name);

    if (st >= 0 && !d->bias) {
        find_magnitude(&patch, name);
        st = number(ctx, &patch, beside(&patch, name, ".alpha"), &patch.alpha);
        if (st >= 0)
            st = number(ctx, &patch, beside(&patch, name, ".scale"), &patch.scale);
    }
    if (st >= 0 && d->flag)
        st = number(ctx, &patch, beside(&patch, name, d->flag), &on_input);
    patch.on_input = on_input != 0;
    if (st >= 0 && d->peft)
        st = obey(ctx, &s->peft, name, &patch);
    if (st >= 0)
        st = keep(ctx, p, &patch, name->target);
    if (st >= 0 && d->kind == &ad_delta_ia3_peft) {
        patch.bias = patch.optional = true;             /* if the outputs are scaled */
        patch.tensors = 0;
        st = keep(ctx, p, &patch, name->target);
    }
    return st;
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

/* A file without a change that is asked for, or of a kind that is not supported. */
static AdStatus refuse(AdContext *ctx, const AdTensorFile *f, bool motion)
{
    const char *kind = NULL;
    AdFileKind wanted = motion ? AD_FILE_MOTION_LORA : AD_FILE_LORA;

    for (size_t i = 0; i < f->count && !kind; i++)
        kind = ad_lora_other_kind(f->entries[i].name);
    if (kind)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: %s file; this kind of LoRA is not "
                       "supported", f->file->path, kind);
    if (ad_recognize(f)->kind == wanted)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a LoRA of which no layer is complete",
                       f->file->path);
    return ad_not_in_it(ctx, f, motion ? "motion LoRA" : "LoRA for pictures");
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

/* ---- distilled models --------------------------------------------------------------------- */

/* "lcm" in a path's last part, in any case. */
static bool is_called_lcm(const char *path)
{
    char name[256];

    ad_path_name(path, name, sizeof(name));
    for (char *c = name; *c; c++)
        if ((c[0] | 0x20) == 'l' && (c[1] | 0x20) == 'c' && (c[2] | 0x20) == 'm')
            return true;
    return false;
}

/* As the published LCM-LoRAs are: of the UNet alone, its resnets and samplers too, and an alpha of
 * an eighth of the rank everywhere. */
static bool is_built_as_lcm(const AdPatch *patches, size_t count)
{
    bool times = false, samplers = false, only = count > 0;

    for (size_t i = 0; i < count && only; i++) {
        const AdPatch *p = &patches[i];

        times    = times || strstr(p->target, "time_emb_proj");
        samplers = samplers || strstr(p->target, "upsamplers_");
        only     = !ad_lora_is_text(p->target) && p->kind == &ad_delta_lora &&
                   p->first->rank >= 2 && 8 * p->alpha == (double)p->first->shape[0];
    }
    return only && times && samplers;
}

static void note_lcm(AdPatches *p, size_t before, const AdAdapter *a, const char *file)
{
    if (!*p->lcm && (is_called_lcm(a->path) || is_called_lcm(file) ||
                     is_built_as_lcm(p->patches + before, p->count - before)))
        ad_path_name(a->path, p->lcm, sizeof(p->lcm));
}

/* ---- files -------------------------------------------------------------------------------- */

/* motion: only what changes motion modules is taken. Else all, if it is not that alone. */
static AdStatus add_entries(AdContext *ctx, AdPatches *p, const Source *s, bool motion)
{
    const AdTensorFile *f = s->file;
    const AdKind *kind = ad_recognize(f);
    size_t before = p->count, wanted = 0;
    AdLoraName name;
    AdStatus st = AD_OK;

    if (kind->kind == AD_FILE_OTHER && kind->what)
        return refuse(ctx, f, motion);
    for (size_t i = 0; st >= 0 && i < f->count; i++) {
        if (ad_lora_other_kind(f->entries[i].name))
            return refuse(ctx, f, motion);
        if (!ad_lora_name(f->entries[i].name, &name))
            continue;
        if (name.other_encoder)
            return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: a LoRA for Stable Diffusion XL",
                           f->file->path);
        wanted += name.motion == motion;
        if (!motion || name.motion)
            st = add_patch(ctx, p, s, &f->entries[i], &name);
    }
    if (st >= 0 && (!wanted || p->count == before))
        st = refuse(ctx, f, motion);
    return st;
}

static AdStatus add_file(AdContext *ctx, AdPatches *p, const AdAdapter *a, bool motion)
{
    Source s = { .strength = a->scale };
    AdTensorFile *f = NULL;
    size_t before = p->count;
    char *path = NULL;
    AdStatus st = ad_adapter_file(ctx, a->path, &path);

    if (st >= 0) st = open_file(ctx, p, path, &f);
    s.file = f;
    if (st >= 0) st = ad_peft_read(ctx, f, &s.peft);
    if (st >= 0) st = add_entries(ctx, p, &s, motion);
    if (st >= 0) st = describe(ctx, p, f, a, motion);
    if (st >= 0 && !motion)
        note_lcm(p, before, a, path);
    ad_peft_free(&s.peft);
    ad_free(path);
    return st;
}

AdStatus ad_patches_add(AdContext *ctx, AdPatches *p, const AdAdapterList *list, bool motion)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < list->count && st >= 0; i++)
        st = add_file(ctx, p, &list->items[i], motion);
    return st;
}

