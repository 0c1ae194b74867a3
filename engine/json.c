/* json.c - checked fields of small JSON files; see json.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "json.h"

/* What a text would become: a tree takes up to a hundred times the memory of its text. */
typedef struct Census { int depth, deepest, objects, lists, commas, keys; } Census;

/* Bytes of the tree, as measured with jansson 2.14, the text, and its words in the tree. Keys count
 * for more than they take: each is hashed, which costs time. */
static size_t tree_bytes(const Census *c, size_t n)
{
    return 240 * (size_t)c->objects + 144 * (size_t)c->lists + 192 * (size_t)c->keys +
           72 * (size_t)c->commas + 2 * n;
}

static Census census(const char *s, size_t n)
{
    Census c = { 0 };
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                in_string = false;
        } else if (s[i] == '"')
            in_string = true;
        else if (s[i] == '{' || s[i] == '[') {
            c.depth++;
            c.objects += s[i] == '{';
            c.lists   += s[i] == '[';
            c.deepest = AD_MAX(c.deepest, c.depth);
        } else if (s[i] == '}' || s[i] == ']')
            c.depth--;
        else {
            c.commas += s[i] == ',';
            c.keys   += s[i] == ':';
        }
    }
    return c;
}

/* -Infinity and Infinity outside strings become null. */
static void blank_infinities(char *s, size_t n)
{
    static const char *const words[] = { "-Infinity", "Infinity" };
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        if (in_string && s[i] == '\\')
            i++;
        else if (s[i] == '"')
            in_string = !in_string;
        for (size_t k = 0; k < AD_COUNT(words) && !in_string; k++) {
            size_t m = strlen(words[k]);

            if (n - i < m || memcmp(s + i, words[k], m))
                continue;
            memset(s + i, ' ', m);
            memcpy(s + i, "null", 4);
            break;
        }
    }
}

/* jansson says so rarely: mostly it gives up without a word, and a string that it cannot keep looks
 * to it as if it were not there (test_failure_json.c). */
static bool no_memory(const json_error_t *error)
{
    return !error->text[0] || json_error_code(error) == json_error_out_of_memory;
}

static AdStatus parse(AdContext *ctx, const char *path, const char *text, size_t n, json_t **root)
{
    json_error_t error;
    char quoted[AD_QUOTE_TEXT];
    const char *special = ad_file_special(text, n);
    Census c = census(text, n);

    if (special)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %s", path, special);
    if (c.deepest > AD_CAP_DEPTH)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: nested more than %d deep", path, AD_CAP_DEPTH);
    if (c.commas > AD_CAP_VALUES || c.objects + c.lists > AD_CAP_CONTAINERS)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: more than %d values or %d lists and objects",
                       path, AD_CAP_VALUES, AD_CAP_CONTAINERS);
    if (tree_bytes(&c, n) > AD_CAP_TREE)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: so many values and keys that they would take "
                       "more than %u MiB", path, AD_CAP_TREE >> 20);
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!*root && no_memory(&error))
        return ad_fail_nomem(ctx, "a JSON file");
    if (!*root)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.150s: line %d: %s", path, error.line,
                       ad_quote(error.text, strlen(error.text), quoted));
    if (json_is_object(*root))
        return AD_OK;
    json_decref(*root);
    *root = NULL;
    return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: not a JSON object", path);
}

static AdStatus load(AdContext *ctx, const char *path, size_t cap, bool python, json_t **root)
{
    char *text;
    size_t n;
    AdStatus st = ad_file_slurp(ctx, path, cap, &text, &n);

    *root = NULL;
    if (st < 0)
        return st;
    if (python)
        blank_infinities(text, n);
    st = parse(ctx, path, text, n, root);
    ad_free(text);
    return st;
}

AdStatus ad_json_parse(AdContext *ctx, const char *where, const char *text, size_t n, size_t cap,
                       json_t **root)
{
    *root = NULL;
    if (n > cap)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %zu bytes; at most %zu are accepted", where, n,
                       cap);
    return parse(ctx, where, text, n, root);
}

AdStatus ad_json_load(AdContext *ctx, const char *path, size_t cap, json_t **root)
{
    return load(ctx, path, cap, false, root);
}

AdStatus ad_json_load_python(AdContext *ctx, const char *path, size_t cap, json_t **root)
{
    return load(ctx, path, cap, true, root);
}

AdStatus ad_field_fail(AdFields *f, AdStatus status, const char *format, ...)
{
    char sentence[200];
    va_list args;

    va_start(args, format);
    ad_vformat(sentence, sizeof(sentence), format, args);
    va_end(args);
    if (f->status >= 0)
        f->status = ad_fail(f->ctx, status, "%.120s: %s", f->path, sentence);
    return f->status;
}

/* The field's value, NULL when it is absent or null or something failed before. */
static json_t *get(AdFields *f, const char *name)
{
    json_t *value = f->status < 0 ? NULL : json_object_get(f->root, name);

    return value && !json_is_null(value) ? value : NULL;
}

static bool whole(const json_t *value, int low, int high, int *out)
{
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || n < low || n > high)
        return false;
    *out = (int)n;
    return true;
}

void ad_field_int(AdFields *f, const char *name, int low, int high, int *value)
{
    json_t *v = get(f, name);

    if (v && !whole(v, low, high, value))
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a whole number from %d to %d", name, low, high);
}

void ad_field_float(AdFields *f, const char *name, double low, double high, double *value)
{
    json_t *v = get(f, name);

    if (!v)
        return;
    if (!json_is_number(v) || !(json_number_value(v) >= low && json_number_value(v) <= high))
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a number from %g to %g", name, low, high);
    else
        *value = json_number_value(v);
}

void ad_field_bool(AdFields *f, const char *name, bool *value)
{
    json_t *v = get(f, name);

    if (v && !json_is_boolean(v))
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be true or false", name);
    else if (v)
        *value = json_is_true(v);
}

void ad_field_ints(AdFields *f, const char *name, int low, int high, int *values, int n)
{
    json_t *v = get(f, name);
    int one = 0;

    if (!v)
        return;
    if (json_is_array(v) && json_array_size(v) == (size_t)n) {
        for (int i = 0; i < n; i++)
            if (!whole(json_array_get(v, (size_t)i), low, high, &values[i]))
                ad_field_fail(f, AD_ERR_FORMAT, "%s must hold whole numbers from %d to %d", name,
                              low, high);
    } else if (whole(v, low, high, &one)) {
        for (int i = 0; i < n; i++)
            values[i] = one;
    } else
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a number from %d to %d or a list of %d of them",
                      name, low, high, n);
}

void ad_field_text(AdFields *f, const char *name, char *value, size_t size)
{
    json_t *v = get(f, name);

    if (!v)
        return;
    if (!json_is_string(v) || json_string_length(v) >= size)
        ad_field_fail(f, AD_ERR_FORMAT, "%s must be a text of at most %zu bytes", name, size - 1);
    else
        strcpy(value, json_string_value(v));
}

void ad_field_must_be(AdFields *f, const char *name, const char *allowed)
{
    json_t *v = get(f, name);
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char quoted[AD_QUOTE_TEXT];
    json_free_t release;

    json_get_alloc_funcs(NULL, &release);           /* the program around us may have set its own */
    if (v && !text && f->status >= 0)
        f->status = ad_fail_nomem(f->ctx, "a field");
    if (text && strcmp(text, allowed))
        ad_field_fail(f, AD_ERR_UNSUPPORTED, "%s is %s; only %s is supported", name,
                      ad_quote(text, strlen(text), quoted), allowed);
    release(text);
}
