/* formula.c - weights from a formula; see formula.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formula.h"
#include "scratch.h"
#include "tensors.h"

static const char *front = "";  /* of the part being bound; a rename function has no argument */

static bool put_in_front(const char *name, char *out)
{
    snprintf(out, AD_CAP_NAME + 1, "%s%s", front, name);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const AdWeight *)a)->name, ((const AdWeight *)b)->name);
}

/* A wish: a weight without a file. */
static void wish(AdWeights *w, const char *name, size_t n, const AdEntry *shape)
{
    AdEntry *e = malloc(sizeof(*e));
    void *weights = w->weights;

    if (!e || !ad_grow(&weights, &w->room, w->count + 1, sizeof(*w->weights)))
        die("no memory");
    *e = *shape;
    w->weights = weights;
    w->weights[w->count++] = (AdWeight){ .entry = e, .name = ad_strndup(name, n) };
}

/* `"NAME" missing, [2, 3] needed` at s? Then the wish is kept and the text behind it returned. */
static const char *read_complaint(AdWeights *w, const char *s)
{
    const char *end = *s == '"' ? strchr(s + 1, '"') : NULL, *dims;
    AdEntry shape = { 0 };
    char *rest;

    if (!end || strncmp(end, "\" missing, [", 12))
        return NULL;
    for (dims = end + 12; shape.rank < 4; dims = rest + 2) {
        shape.shape[shape.rank++] = strtoll(dims, &rest, 10);
        if (*rest != ',')
            break;
    }
    if (strncmp(rest, "] needed", 8))               /* cut off: it comes again */
        return NULL;
    wish(w, s + 1, (size_t)(end - s - 1), &shape);
    return rest + 8 + 2 * (rest[8] == ',');
}

/* All tensors a bind function asks for; on a backend that has no plans to make. */
static void collect(AdContext *ctx, AdType type, FormulaBind bind, void *opaque, AdWeights *w)
{
    AdBackend *be = NULL;
    AdBinder b;
    size_t before;

    if (ad_null_backend.open(&be, &(AdDeviceParams){ 0 }) < 0)
        die("no null backend");
    do {
        before = w->count;
        if (w->count)
            qsort(w->weights, w->count, sizeof(*w->weights), by_name);
        ad_binder_init(&b, ctx, be, w, type);
        bind(&b, opaque);
        for (const char *s = b.first; s; )
            s = read_complaint(w, s);
        ad_binder_free(&b);
    } while (w->count > before);
    be->cls->close(&be);
    if (b.complaints)
        die("the binder's complaints are not understood: %s", b.first);
}

static const char *write_file(AdWeights *w)
{
    TensorWriter file = { 0 };
    size_t n = strlen(front);

    for (size_t i = 0; i < w->count; i++) {
        const char *name = w->weights[i].name;

        tensors_add_formula(&file, strncmp(name, front, n) ? name : name + n,
                            w->weights[i].entry->rank, w->weights[i].entry->shape);
        free((void *)(uintptr_t)w->weights[i].entry);
    }
    return tensors_write(&file, "formula.safetensors");
}

static AdStatus load(AdContext *ctx, AdBackend *be, AdType type, AdWeights *w, FormulaBind bind,
                     void *opaque, FormulaPart *out)
{
    AdBinder b;
    AdStatus st;

    ad_binder_init(&b, ctx, be, w, type);
    bind(&b, opaque);
    st = ad_binder_check(&b, "part");
    if (st >= 0) st = ad_binder_start_loading(&b, &out->slab);
    if (st >= 0) {
        bind(&b, opaque);
        st = b.status;
    }
    ad_binder_free(&b);
    return st;
}

AdStatus formula_bind(AdContext *ctx, AdBackend *be, AdType type, const char *prefix,
                      const char *seed, int64_t width, FormulaBind bind, void *opaque,
                      FormulaPart *out)
{
    AdWeights wishes = { 0 }, w = { 0 };
    AdStatus st;

    *out  = (FormulaPart){ .backend = be };
    front = prefix;
    if (seed)
        wish(&wishes, seed, strlen(seed), &(AdEntry){ .rank = 1, .shape = { width } });
    collect(ctx, type, bind, opaque, &wishes);
    out->tensors = (int)wishes.count;
    st = ad_weights_add(ctx, &w, write_file(&wishes), put_in_front);
    ad_weights_free(&wishes);
    if (st >= 0)
        st = load(ctx, be, type, &w, bind, opaque, out);
    ad_weights_free(&w);
    return st;
}

void formula_free(FormulaPart *part)
{
    if (part->backend)
        part->backend->cls->free(part->backend, part->slab);
    *part = (FormulaPart){ 0 };
}
