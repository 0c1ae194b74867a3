/* weights.c - tensors of one part, from files and folders; see weights.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "weights.h"

void ad_weights_free(AdWeights *w)
{
    for (size_t i = 0; i < w->count; i++)
        ad_free(w->weights[i].name);
    for (size_t i = 0; i < w->file_count; i++)
        ad_tensor_file_close(&w->files[i]);
    ad_free(w->weights);
    ad_free(w->files);
    *w = (AdWeights){ 0 };
}

/* ---- hash --------------------------------------------------------------------------------- */

uint64_t ad_hash_bytes(uint64_t hash, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ ((const unsigned char *)p)[i]) * 1099511628211u;
    return hash;
}

AdStatus ad_hash_file(AdContext *ctx, const AdTensorFile *f, uint64_t *hash)
{
    enum { SAMPLES = 64, BYTES = 64 };
    unsigned char sample[BYTES];
    uint64_t data = f->file->size - 8 - f->header_bytes;
    AdStatus st = AD_OK;

    *hash = ad_hash_bytes(*hash, &f->file->size, sizeof(f->file->size));
    for (size_t i = 0; i < f->count; i++) {
        const AdEntry *e = &f->entries[i];

        *hash = ad_hash_bytes(*hash, e->name, strlen(e->name));
        *hash = ad_hash_bytes(*hash, e->shape, (size_t)e->rank * sizeof(e->shape[0]));
        *hash = ad_hash_bytes(*hash, &e->offset, sizeof(e->offset));
        if (e->stride)
            *hash = ad_hash_bytes(*hash, e->stride, (size_t)e->rank * sizeof(e->stride[0]));
    }
    for (uint64_t i = 0; i < SAMPLES && data >= BYTES && st >= 0; i++) {
        st = ad_file_read(ctx, f->file, 8 + f->header_bytes + (data - BYTES) / (SAMPLES - 1) * i,
                          sample, BYTES);
        *hash = ad_hash_bytes(*hash, sample, BYTES);
    }
    return st;
}

/* ---- adding ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const AdWeight *)a)->name, ((const AdWeight *)b)->name);
}

/* Sort, and keep the later of two weights of one name. */
static void settle(AdWeights *w)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->count; i++)       /* qsort is not stable: number by file order */
        w->weights[i].used = false;
    if (w->count)
        qsort(w->weights, w->count, sizeof(*w->weights), by_name);
    for (size_t i = 0; i < w->count; i++) {
        AdWeight *last = kept ? &w->weights[kept - 1] : NULL;

        if (!last || strcmp(last->name, w->weights[i].name)) {
            w->weights[kept++] = w->weights[i];
            continue;
        }
        for (size_t k = 0; k < w->file_count; k++)          /* which file came later? */
            if (w->files[k] == last->file || w->files[k] == w->weights[i].file) {
                AdWeight *first = w->files[k] == last->file ? last : &w->weights[i];
                AdWeight winner = first == last ? w->weights[i] : *last;

                ad_free(first->name);
                *last = winner;
                break;
            }
    }
    w->count = kept;
}

static AdStatus add_entries(AdContext *ctx, AdWeights *w, const AdTensorFile *f, AdRename rename)
{
    char name[AD_CAP_NAME + 1];
    void *weights = w->weights;

    if (f->count > AD_CAP_TENSORS - AD_MIN(w->count, AD_CAP_TENSORS))
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: with it there are more than %u tensors",
                       f->file->path, AD_CAP_TENSORS);
    if (!ad_grow(&weights, &w->room, w->count + f->count, sizeof(*w->weights)))
        return ad_fail_nomem(ctx, "names of weights");
    w->weights = weights;
    for (size_t i = 0; i < f->count; i++) {
        const char *ours = f->entries[i].name;
        char *copy;

        if (rename) {
            if (!rename(ours, name))
                continue;
            ours = name;
        }
        copy = ad_strdup(ours);
        if (!copy)
            return ad_fail_nomem(ctx, "names of weights");
        w->weights[w->count++] = (AdWeight){ .file = f, .entry = &f->entries[i], .name = copy };
    }
    settle(w);
    return AD_OK;
}

AdStatus ad_weights_add(AdContext *ctx, AdWeights *w, const char *path, AdRename rename)
{
    AdTensorFile *f = NULL;
    void *files = w->files;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    if (st >= 0 && !ad_grow(&files, &w->file_room, w->file_count + 1, sizeof(*w->files)))
        st = ad_fail_nomem(ctx, "a list of files");
    else
        w->files = files;
    if (st < 0) {
        ad_tensor_file_close(&f);
        return st;
    }
    w->files[w->file_count++] = f;
    if (!w->hash)
        w->hash = AD_HASH_START;
    st = ad_hash_file(ctx, f, &w->hash);
    return st < 0 ? st : add_entries(ctx, w, f, rename);
}

/* ---- folders ------------------------------------------------------------------------------ */

/* All shards an index names: plain file names beside it, of one kind. */
static AdStatus add_shards(AdContext *ctx, AdWeights *w, const char *folder, const char *index,
                           AdRename rename)
{
    const char *ending = strstr(strrchr(index, '/') + 1, ".bin") ? ".bin" : ".safetensors";
    size_t m = strlen(ending);
    json_t *root = NULL, *seen, *map, *value;
    const char *key, *shards[AD_CAP_SHARDS];
    size_t count = 0;
    char quoted[AD_QUOTE_TEXT];
    AdStatus st = ad_json_load(ctx, index, AD_CAP_INDEX, &root);

    if (st < 0)
        return st;
    map  = json_object_get(root, "weight_map");
    seen = json_object();                       /* names met before: an index has thousands */
    if (!seen)
        st = ad_fail_nomem(ctx, "names of shards");
    else if (!json_is_object(map) || json_object_size(map) == 0)
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.200s: no weight_map", index);
    else
        json_object_foreach(map, key, value) {
            const char *name = json_string_value(value);
            size_t n = name ? json_string_length(value) : 0;

            if (!name || !ad_name_is_plain(name, n) || n <= m || strcmp(name + n - m, ending)) {
                st = ad_fail(ctx, AD_ERR_FORMAT, "%.120s: \"%s\" is no name of a shard beside it",
                             index, ad_quote(name ? name : "", n, quoted));
                break;
            }
            if (json_object_get(seen, name))
                continue;
            if (count == AD_CAP_SHARDS) {
                st = ad_fail(ctx, AD_ERR_FORMAT, "%.200s: more than %u shards", index,
                             AD_CAP_SHARDS);
                break;
            }
            if (json_object_set_new(seen, name, json_true()) < 0) {
                st = ad_fail_nomem(ctx, "names of shards");
                break;
            }
            shards[count++] = name;
        }
    for (size_t i = 0; i < count && st >= 0; i++) {
        char *path = ad_path_join(folder, shards[i]);

        st = path ? ad_weights_add(ctx, w, path, rename) : ad_fail_nomem(ctx, "a path");
        ad_free(path);
    }
    json_decref(seen);
    json_decref(root);
    return st;
}

/* Try folder/base + ending; *found tells whether it was there. */
static AdStatus try_file(AdContext *ctx, AdWeights *w, const char *folder, const char *base,
                         const char *ending, bool index, AdRename rename, bool *found)
{
    char name[300];
    char *path;
    AdStatus st = AD_OK;

    ad_format(name, sizeof(name), "%s%s", base, ending);
    path = ad_path_join(folder, name);
    if (!path)
        return ad_fail_nomem(ctx, "a path");
    *found = ad_is_file(path);
    if (*found && index)
        st = add_shards(ctx, w, folder, path, rename);
    else if (*found)
        st = ad_weights_add(ctx, w, path, rename);
    ad_free(path);
    return st;
}

/* "base.VARIANT.safetensors" with a variant we have no name for, e.g. non_ema. */
static AdStatus try_other(AdContext *ctx, AdWeights *w, const char *folder, const char *base,
                          AdRename rename, bool *found)
{
    static const char ending[] = ".safetensors";
    size_t n = strlen(base), m = sizeof(ending) - 1;
    char best[256] = "";
    DIR *dir = opendir(folder);
    struct dirent *d;

    while (dir && (d = readdir(dir))) {
        size_t len = strlen(d->d_name);

        if (len > n + m && len < sizeof(best) && !strncmp(d->d_name, base, n) &&
            d->d_name[n] == '.' && !strcmp(d->d_name + len - m, ending) &&
            (!best[0] || strcmp(d->d_name, best) < 0))
            strcpy(best, d->d_name);
    }
    if (dir)
        closedir(dir);
    *found = false;
    return best[0] ? try_file(ctx, w, folder, best, "", false, rename, found) : AD_OK;
}

AdStatus ad_weights_add_folder(AdContext *ctx, AdWeights *w, const char *folder, const char *base,
                               AdRename rename)
{
    static const struct Try { const char *ending; bool index; } tries[] = {
        { ".safetensors.index.json", true },
        { ".safetensors", false },
        { ".safetensors.index.fp16.json", true },
        { ".safetensors.fp16.index.json", true },
        { ".fp16.safetensors", false },
    }, torch[] = {
        { ".bin.index.json", true }, { ".bin", false }, { ".fp16.bin", false },
    };
    const char *old = strcmp(base, "model") ? base : "pytorch_model";
    bool found = false;
    AdStatus st = AD_OK;

    for (size_t i = 0; i < AD_COUNT(tries) && st >= 0 && !found; i++)
        st = try_file(ctx, w, folder, base, tries[i].ending, tries[i].index, rename, &found);
    if (st >= 0 && !found)
        st = try_other(ctx, w, folder, base, rename, &found);
    for (size_t i = 0; i < AD_COUNT(torch) && st >= 0 && !found; i++)
        st = try_file(ctx, w, folder, old, torch[i].ending, torch[i].index, rename, &found);
    if (st >= 0 && !found)
        st = ad_fail(ctx, AD_ERR_NOTFOUND, "%.160s: neither %s.safetensors nor %s.bin", folder,
                     base, old);
    return st;
}

/* ---- asking ------------------------------------------------------------------------------- */

AdWeight *ad_weights_find(AdWeights *w, const char *name)
{
    AdWeight key = { .name = (char *)(uintptr_t)name };

    return w->count ? bsearch(&key, w->weights, w->count, sizeof(key), by_name) : NULL;
}

size_t ad_weights_unused(const AdWeights *w, const char **example)
{
    size_t unused = 0;

    for (size_t i = 0; i < w->count; i++)
        if (!w->weights[i].used) {
            if (!unused++)
                *example = w->weights[i].name;
        }
    return unused;
}

AdStatus ad_weights_unchanged(AdContext *ctx, const AdWeights *w)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < w->file_count && st >= 0; i++)
        st = ad_file_unchanged(ctx, w->files[i]->file);
    return st;
}
