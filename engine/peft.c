/* peft.c - ranks and alphas from settings; see peft.h.
 *
 * To PEFT patterns are regular expressions for the end of a path, '^' before a whole one; the first
 * that fits counts. In files they are paths, and looked up as such; others are refused.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "names.h"
#include "peft.h"

enum { UNET, TEXT };

static const char *const prefixes[] = { [UNET] = "unet.", [TEXT] = "text_encoder." };

/* ---- patterns ----------------------------------------------------------------------------- */

/* A pattern's path, without '^', '$' and backslashes before points; false: it is more than that. */
static bool plain(const char *pattern, char *out, size_t size, bool *whole)
{
    size_t n = 0;

    *whole = *pattern == '^';
    for (pattern += *whole; *pattern && n + 1 < size; pattern++) {
        char c = *pattern;

        if ((c == '\\' && pattern[1] == '.') || (c == '$' && !pattern[1]))
            continue;
        if (!(c == '.' || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
              (c >= 'A' && c <= 'Z')))
            return false;
        out[n++] = c;
    }
    out[n] = 0;
    return !*pattern && n;
}

static int by_text(const void *a, const void *b)
{
    const AdPattern *x = a, *y = b;
    int order = strcmp(x->text, y->text);

    if (!order)
        order = (int)x->whole - (int)y->whole;
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

/* Sorted, and of equal ones the first. */
static void settle(AdPatterns *p)
{
    size_t kept = 0;

    if (p->count)
        qsort(p->items, p->count, sizeof(*p->items), by_text);
    for (size_t i = 0; i < p->count; i++)
        if (kept && !strcmp(p->items[kept - 1].text, p->items[i].text) &&
            p->items[kept - 1].whole == p->items[i].whole)
            ad_free(p->items[i].text);
        else
            p->items[kept++] = p->items[i];
    p->count = kept;
}

static void add_pattern(AdFields *f, const char *field, const char *pattern, const json_t *number,
                        AdPatterns *p)
{
    char text[AD_CAP_NAME + 1], quoted[AD_QUOTE_TEXT];
    void *items = p->items;
    AdPattern new = { .order = p->count, .value = json_number_value(number) };

    ad_quote(pattern, strlen(pattern), quoted);
    if (!plain(pattern, text, sizeof(text), &new.whole))
        ad_field_fail(f, AD_ERR_UNSUPPORTED, "%s: \"%.60s\" is no layer's path", field, quoted);
    else if (!json_is_number(number) || !(fabs(new.value) <= 1e6))
        ad_field_fail(f, AD_ERR_FORMAT, "%s: \"%.60s\" must have a number up to 1e6", field,
                      quoted);
    else if (!ad_grow(&items, &p->room, p->count + 1, sizeof(*p->items)))
        f->status = ad_fail_nomem(f->ctx, "a LoRA's settings");
    if (f->status < 0)
        return;
    p->items = items;
    p->items[p->count] = new;
    p->items[p->count].text = ad_strdup(text);
    if (!p->items[p->count].text)
        f->status = ad_fail_nomem(f->ctx, "a LoRA's settings");
    else
        p->count++;
}

static void read_patterns(AdFields *f, const char *field, AdPatterns *p)
{
    json_t *patterns = f->status < 0 ? NULL : json_object_get(f->root, field), *number;
    const char *pattern;

    if (patterns && !json_is_null(patterns) && !json_is_object(patterns))
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be an object", field);
    json_object_foreach(patterns, pattern, number)
        if (f->status >= 0)
            add_pattern(f, field, pattern, number, p);
    settle(p);
}

/* The first pattern for a path: each of its ends is looked up. */
static double number_of(const AdPatterns *p, const char *path, double otherwise)
{
    const AdPattern *best = NULL;

    for (const char *end = path; p->count && end; end = strchr(end, '.') ? strchr(end, '.') + 1
                                                                         : NULL)
        for (int whole = 0; whole <= (end == path); whole++) {
            size_t low = 0, high = p->count;

            while (low < high) {                    /* the first not below (end, whole) */
                size_t middle = (low + high) / 2;
                int order = strcmp(p->items[middle].text, end);

                if (order < 0 || (!order && p->items[middle].whole < whole))
                    low = middle + 1;
                else
                    high = middle;
            }
            if (low < p->count && !strcmp(p->items[low].text, end) &&
                p->items[low].whole == whole && (!best || p->items[low].order < best->order))
                best = &p->items[low];
        }
    return best ? best->value : otherwise;
}

/* ---- settings ----------------------------------------------------------------------------- */

static void read_network(AdFields *f, const char *prefix, AdPeftNetwork *n)
{
    const char *names[] = { "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern",
                            "alpha_pattern" }, *key;
    char fields[AD_COUNT(names)][48];
    json_t *value;

    json_object_foreach(f->root, key, value)
        n->there = n->there || !strncmp(key, prefix, strlen(prefix));
    for (size_t i = 0; i < AD_COUNT(names); i++)
        ad_format(fields[i], sizeof(fields[i]), "%s%s", prefix, names[i]);
    n->rank = n->alpha = 8;                         /* PEFT's own defaults */
    ad_field_float(f, fields[0], 1, AD_CAP_FIELD, &n->rank);
    ad_field_float(f, fields[1], -1e6, 1e6, &n->alpha);
    ad_field_bool(f, fields[2], &n->rooted);
    ad_field_bool(f, fields[3], &n->dora);
    read_patterns(f, fields[4], &n->ranks);
    read_patterns(f, fields[5], &n->alphas);
    for (size_t i = 0; i < n->ranks.count; i++)
        if (!(n->ranks.items[i].value >= 1))
            ad_field_fail(f, AD_ERR_FORMAT, "%s: a rank of %g", fields[4],
                          n->ranks.items[i].value);
}

/* PEFT's own file says nothing of which network it is for: the names do. */
static AdStatus read_beside(AdContext *ctx, const AdTensorFile *f, AdPeft *out)
{
    const char *path = f->file->path, *slash = strrchr(path, '/');
    char *folder = slash ? ad_strndup(path, (size_t)(slash - path)) : ad_strdup(".");
    AdFields fields = { .ctx = ctx };

    out->where = folder ? ad_path_join(folder, "adapter_config.json") : NULL;
    ad_free(folder);
    if (!out->where)
        return ad_fail_nomem(ctx, "a path");
    if (!ad_is_file(out->where))
        return AD_OK;
    fields.path   = out->where;
    fields.status = ad_json_load(ctx, out->where, AD_CAP_CONFIG, &fields.root);
    for (int i = 0; i < 2 && fields.status >= 0; i++)
        read_network(&fields, "", &out->networks[i]);
    json_decref(fields.root);
    return fields.status;
}

static AdStatus read_header(AdContext *ctx, const AdTensorFile *f, const char *text, AdPeft *out)
{
    static const char key[] = ": lora_adapter_metadata";
    size_t n = strlen(f->file->path) + sizeof(key);
    AdFields fields = { .ctx = ctx };

    out->where = ad_alloc(n);
    if (!out->where)
        return ad_fail_nomem(ctx, "a path");
    ad_format(out->where, n, "%s%s", f->file->path, key);
    fields.path   = out->where;
    fields.status = ad_json_parse(ctx, out->where, text, strlen(text), AD_CAP_CONFIG, &fields.root);
    for (int i = 0; i < 2 && fields.status >= 0; i++)
        read_network(&fields, prefixes[i], &out->networks[i]);
    json_decref(fields.root);
    return fields.status;
}

AdStatus ad_peft_read(AdContext *ctx, const AdTensorFile *f, AdPeft *out)
{
    const char *text = ad_tensor_file_metadata(f, "lora_adapter_metadata");
    AdStatus st = AD_OK;

    *out = (AdPeft){ 0 };
    if (text && *text)
        st = read_header(ctx, f, text, out);
    else if (f->count && !strncmp(f->entries[0].name, "base_model.model.", 17))
        st = read_beside(ctx, f, out);
    if (st < 0)
        ad_peft_free(out);
    return st;
}

void ad_peft_free(AdPeft *p)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            AdPatterns *patterns = k ? &p->networks[i].ranks : &p->networks[i].alphas;

            for (size_t j = 0; j < patterns->count; j++)
                ad_free(patterns->items[j].text);
            ad_free(patterns->items);
        }
    ad_free(p->where);
    *p = (AdPeft){ 0 };
}

/* ---- one layer ---------------------------------------------------------------------------- */

AdPeftLayer ad_peft_layer(const AdPeft *p, const char *layer)
{
    const AdPeftNetwork *n = &p->networks[UNET];
    AdPeftLayer out = { 0 };
    char path[AD_CAP_NAME + 1];
    size_t end;

    if (!strncmp(layer, "base_model.model.", 17))
        layer += 17;
    for (size_t i = 0; i < AD_COUNT(prefixes); i++)
        if (!strncmp(layer, prefixes[i], strlen(prefixes[i]))) {
            n = &p->networks[i];
            layer += strlen(prefixes[i]);
            break;
        }
    if (!n->there)
        return out;
    ad_format(path, sizeof(path), "%s", layer);
    ad_replace(path, ".processor", "");
    end = strlen(path);
    if (end >= 7 && end + 2 < sizeof(path) && !strcmp(path + end - 7, ".to_out"))
        strcat(path, ".0");
    out.known = true;
    out.dora  = n->dora;
    out.rank  = (int)number_of(&n->ranks, path, n->rank);
    out.scale = number_of(&n->alphas, path, n->alpha) / (n->rooted ? sqrt(out.rank) : out.rank);
    return out;
}
