/* adapters.c - lists of adapters; see adapters.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <math.h>
#include <string.h>

#include "adapters.h"
#include "caps.h"
#include "file.h"

bool ad_parse_number(const char *s, size_t n, double *value)
{
    bool minus = n && *s == '-', digits = false, point = false;
    double mantissa = 0;
    int places = 0, exponent = 0;
    size_t i = n && (*s == '-' || *s == '+');

    for (; i < n && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9')); i++) {
        if (s[i] == '.') {
            if (point)
                return false;
            point = true;
        } else {
            mantissa = mantissa * 10 + (s[i] - '0');
            places += point;
            digits  = true;
        }
    }
    if (digits && i < n && (s[i] == 'e' || s[i] == 'E')) {
        bool negative = ++i < n && s[i] == '-';

        i += i < n && (s[i] == '-' || s[i] == '+');
        if (i >= n || n - i > 3)
            return false;
        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
            exponent = exponent * 10 + (s[i] - '0');
        exponent = negative ? -exponent : exponent;
    }
    *value = (minus ? -1 : 1) * mantissa * pow(10, exponent - places);
    return digits && i == n && isfinite(*value);
}

void ad_adapters_free(AdAdapterList *list)
{
    for (size_t i = 0; i < list->count; i++)
        ad_free(list->items[i].path);
    ad_free(list->items);
    *list = (AdAdapterList){ 0 };
}

static AdStatus add(AdContext *ctx, const char *option, const char *s, size_t n,
                    AdAdapterList *list)
{
    char quoted[AD_QUOTE_TEXT], entry[AD_QUOTE_TEXT];
    void *items = list->items;
    AdAdapter a = { .scale = 1 };
    size_t at = n;

    while (at > 0 && s[at - 1] != '@' && s[at - 1] != '/')
        at--;
    if (at > 0 && s[at - 1] == '@') {               /* an '@' in a folder's name is none */
        if (!ad_parse_number(s + at, n - at, &a.scale))
            return ad_fail(ctx, AD_ERR_INVALID, "%s: \"%.40s\" is no scale; path@0.8 is the form, "
                           "not %.160s", option, ad_quote(s + at, n - at, quoted),
                           ad_quote(s, n, entry));
        if (!(fabs(a.scale) <= 100))
            return ad_fail(ctx, AD_ERR_INVALID, "%s: scale %g; -100 to 100 are allowed", option,
                           a.scale);
        n = at - 1;
    }
    if (n == 0)
        return ad_fail(ctx, AD_ERR_INVALID, "%s: an entry without a path", option);
    if (list->count == AD_CAP_ADAPTERS)
        return ad_fail(ctx, AD_ERR_INVALID, "%s: more than %u entries", option, AD_CAP_ADAPTERS);
    if (!ad_grow(&items, &list->room, list->count + 1, sizeof(*list->items)))
        return ad_fail_nomem(ctx, "a list of adapters");
    list->items = items;
    a.path = ad_strndup(s, n);
    if (!a.path)
        return ad_fail_nomem(ctx, "a list of adapters");
    list->items[list->count++] = a;
    return AD_OK;
}

AdStatus ad_adapters_parse(AdContext *ctx, const char *option, const char *text,
                           AdAdapterList *list)
{
    AdStatus st = AD_OK;

    *list = (AdAdapterList){ 0 };
    while (text && *text && st >= 0) {
        size_t n = strcspn(text, "|");

        st = add(ctx, option, text, n, list);
        text += n;
        if (*text == '|' && st >= 0 && !*++text)
            st = ad_fail(ctx, AD_ERR_INVALID, "%s: an entry without a path", option);
    }
    if (st < 0)
        ad_adapters_free(list);
    return st;
}

/* ---- folders ------------------------------------------------------------------------------ */

/* How gladly a folder's file is taken for its weights; 0: it is none. Other endings only where
 * there is no safetensors file. */
static int liking(const char *name)
{
    static const char *const endings[] = { ".bin", ".safetensors" };
    static const char *const stems[] = {
        "diffusion_pytorch_model", "learned_embeds", "pytorch_lora_weights",
    };
    size_t n = strlen(name), stem = 0, end = AD_COUNT(endings);

    while (end-- > 0)
        if (n > strlen(endings[end]) && !strcmp(name + n - strlen(endings[end]), endings[end]))
            break;
    if (end >= AD_COUNT(endings) || strstr(name, "scheduler") || strstr(name, "optimizer") ||
        strstr(name, "checkpoint"))
        return 0;
    n -= strlen(endings[end]);
    for (size_t i = 0; i < AD_COUNT(stems); i++)
        if (n >= strlen(stems[i]) && !strncmp(name + n - strlen(stems[i]), stems[i],
                                              strlen(stems[i])))
            stem = i + 1;
    return 1 + (int)(end * (AD_COUNT(stems) + 1) + stem);
}

void ad_folder_weights(const char *folder, char *best, size_t size, bool *several)
{
    DIR *dir = opendir(folder);
    struct dirent *d;
    int most = 0;

    *best    = 0;
    *several = false;
    while (dir && (d = readdir(dir))) {
        int how = liking(d->d_name);

        if (!how || how < most || strlen(d->d_name) >= size)
            continue;
        *several = how == most;
        if (how > most || strcmp(d->d_name, best) < 0)
            strcpy(best, d->d_name);
        most = how;
    }
    if (dir)
        closedir(dir);
}

AdStatus ad_adapter_file(AdContext *ctx, const char *path, char **file)
{
    char best[256], quoted[AD_QUOTE_TEXT], *index;
    bool several, model;

    if (!ad_is_folder(path)) {
        *file = ad_strdup(path);
        return *file ? AD_OK : ad_fail_nomem(ctx, "a path");
    }
    *file = NULL;
    index = ad_path_join(path, "model_index.json");
    if (!index)
        return ad_fail_nomem(ctx, "a path");
    model = ad_is_file(index);
    ad_free(index);
    if (model)
        return ad_fail(ctx, AD_ERR_INVALID, "%.200s: this is the folder of a whole model; give it "
                       "to model=", path);
    ad_folder_weights(path, best, sizeof(best), &several);
    if (several)
        return ad_fail(ctx, AD_ERR_INVALID, "%.160s: a folder with several files of weights; name "
                       "one, e.g. \"%s\"", path, ad_quote(best, strlen(best), quoted));
    if (!*best)
        return ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: a folder without a file of weights "
                       "(safetensors)", path);
    *file = ad_path_join(path, best);
    return *file ? AD_OK : ad_fail_nomem(ctx, "a path");
}
