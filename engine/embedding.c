/* embedding.c - textual inversion; see embedding.h.
 *
 * Called by model.c behind the text encoder's own weights.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "adapters.h"
#include "embedding.h"
#include "recognize.h"

/* ---- one file ----------------------------------------------------------------------------- */

static bool is_param(const char *name)
{
    size_t n = strlen(name);

    return !strncmp(name, "string_to_param.", 16) && n >= 17 && !strcmp(name + n - 2, ".*");
}

/* Files for two text encoders have both's; the first may be ours. */
const AdEntry *ad_embedding_find(const AdTensorFile *f)
{
    const AdEntry *found = ad_tensor_file_find(f, "emb_params");

    if (!found)
        found = ad_tensor_file_find(f, "clip_l");
    for (size_t i = 0; i < f->count && !found; i++)
        if (is_param(f->entries[i].name))
            found = &f->entries[i];
    return found || f->count != 1 ? found : &f->entries[0];
}

/* What else has vectors of this width. */
static const char *family(int64_t width)
{
    return width == 1024 ? " (Stable Diffusion 2.x)"
         : width == 1280 || width == 2048 ? " (SDXL)" : "";
}

static AdStatus check_shape(AdContext *ctx, const AdEmbeddings *e, const AdTensorFile *f,
                            const AdEntry *v)
{
    int64_t width = v->rank ? v->shape[v->rank - 1] : 0, rows = v->rank == 2 ? v->shape[0] : 1;
    char shape[AD_ENTRY_TEXT];

    if (v->rank < 1 || v->rank > 2 || rows < 1 || width < 1)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: %s are no vectors", f->file->path,
                       ad_entry_shape(v, shape));
    if (width != e->width)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: vectors of %lld numbers%s; the text encoder "
                       "has %d", f->file->path, (long long)width, family(width), e->width);
    if (rows > AD_CAP_VECTORS)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: %lld vectors; a prompt has room for %d",
                       f->file->path, (long long)rows, AD_CAP_VECTORS);
    return AD_OK;
}

static AdStatus append_rows(AdContext *ctx, AdEmbeddings *e, const AdTensorFile *f,
                            const AdEntry *v)
{
    size_t n = (size_t)ad_entry_count(v), bad = 0;
    void *rows = e->rows;
    AdStatus st;

    if (!ad_grow(&rows, &e->room, e->count + n, sizeof(*e->rows)))
        return ad_fail_nomem(ctx, "a textual inversion");
    e->rows = rows;
    st = ad_entry_read(ctx, f, v, e->rows + e->count);
    for (size_t i = 0; i < n && st >= 0; i++)
        bad += !isfinite(e->rows[e->count + i]);
    if (bad)
        ad_log(ctx, AD_LOG_WARNING, "%.200s: %zu numbers are not finite", f->file->path, bad);
    e->count += n;
    return st;
}

static AdStatus read_file(AdContext *ctx, AdEmbeddings *e, AdTokenizer *t, const char *token,
                          const char *path)
{
    AdTensorFile *f = NULL;
    const AdEntry *v = NULL;
    const AdKind *kind;
    int id = e->first + (int)(e->count / (size_t)e->width);
    char *file = NULL;
    AdStatus st = ad_adapter_file(ctx, path, &file);

    if (st >= 0) st = ad_tensor_file_open(ctx, &f, file);
    kind = st >= 0 ? ad_recognize(f) : NULL;
    if (st >= 0 && kind->what && kind->kind != AD_FILE_EMBEDDING)
        st = ad_not_in_it(ctx, f, "textual inversion");
    if (st >= 0 && !(v = ad_embedding_find(f)))
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.160s: no textual inversion in it: %zu tensors, none of "
                     "them \"emb_params\"", f->file->path, f->count);
    if (st >= 0) st = check_shape(ctx, e, f, v);
    if (st >= 0) st = ad_tokenizer_add(ctx, t, token, id, v->rank == 2 ? (int)v->shape[0] : 1);
    if (st >= 0) st = append_rows(ctx, e, f, v);
    if (st >= 0) st = ad_file_unchanged(ctx, f->file);
    ad_tensor_file_close(&f);
    ad_free(file);
    return st;
}

/* ---- the list ----------------------------------------------------------------------------- */

static void append_name(AdEmbeddings *e, const char *token)
{
    char quoted[AD_QUOTE_TEXT];
    size_t at = strlen(e->names);

    ad_format(e->names + at, sizeof(e->names) - at, "%s%s", at ? "," : "",
              ad_quote(token, strlen(token), quoted));
}

/* "token@path": the first '@' counts, a path may have others. */
static AdStatus read_entry(AdContext *ctx, AdEmbeddings *e, AdTokenizer *t, const char *s, size_t n)
{
    const char *at = memchr(s, '@', n);
    char quoted[AD_QUOTE_TEXT], *token, *path;
    AdStatus st = AD_OK;

    if (!at || at == s || at + 1 == s + n)
        return ad_fail(ctx, AD_ERR_INVALID, "embedding=%s: token@path is the form",
                       ad_quote(s, n, quoted));
    token = ad_strndup(s, (size_t)(at - s));
    path  = ad_strndup(at + 1, (size_t)(s + n - at - 1));
    if (!token || !path)
        st = ad_fail_nomem(ctx, "a textual inversion");
    if (st >= 0) st = read_file(ctx, e, t, token, path);
    if (st >= 0) append_name(e, token);
    ad_free(token);
    ad_free(path);
    return st;
}

AdStatus ad_embeddings_read(AdContext *ctx, AdEmbeddings *e, AdTokenizer *t, const char *list)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; list && *list && st >= 0; i++) {
        size_t n = strcspn(list, "|");

        if (i == AD_CAP_ADAPTERS)
            return ad_fail(ctx, AD_ERR_INVALID, "embedding: more than %u entries", AD_CAP_ADAPTERS);
        st = read_entry(ctx, e, t, list, n);
        list += n;
        if (*list == '|' && st >= 0 && !*++list)
            st = read_entry(ctx, e, t, "", 0);          /* nothing behind the last bar */
    }
    return st;
}

/* ---- the device --------------------------------------------------------------------------- */

AdStatus ad_embeddings_pack(AdContext *ctx, AdEmbeddings *e, AdBackend *be, AdType type,
                            AdTensor *out)
{
    size_t need = 0;
    AdPackArgs a = { .kind = AD_PACK_TABLE, .src = e->rows, .need = &need };
    AdStatus st;

    *out = (AdTensor){ 0 };
    if (!e->count)
        return AD_OK;
    a.w = (AdTensor){ .dim = { 1, 1, (int64_t)(e->count / (size_t)e->width), e->width },
                      .type = type };
    st = be->cls->pack(be, &a);
    if (st >= 0) st = be->cls->alloc(be, need, &e->slab);
    if (st >= 0) {
        a.need    = NULL;
        a.out     = out;
        out->data = e->slab;
        st = be->cls->pack(be, &a);
    }
    ad_free(e->rows);
    e->rows = NULL;
    return st < 0 ? ad_fail(ctx, st, "textual inversion: %s", be->message) : AD_OK;
}

void ad_embeddings_free(AdEmbeddings *e, AdBackend *be)
{
    be->cls->free(be, e->slab);
    ad_free(e->rows);
    *e = (AdEmbeddings){ 0 };
}
