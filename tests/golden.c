/* golden.c - reading tests/golden; see golden.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "golden.h"
#include "scratch.h"

json_t *golden_json(const char *name)
{
    char path[512];
    json_error_t error;
    json_t *root;

    snprintf(path, sizeof(path), GOLDEN "%s", name);
    root = json_load_file(path, 0, &error);
    if (!root)
        die("%s: %s (run it in the repository's root)", path, error.text);
    return root;
}

json_t *golden_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (!value)
        die("golden data: no field %s", key);
    return value;
}

double golden_number(const json_t *object, const char *key)
{
    json_t *value = golden_get(object, key);

    if (!json_is_number(value))
        die("golden data: %s is no number", key);
    return json_number_value(value);
}

const char *golden_text(const json_t *object, const char *key)
{
    const char *value = json_string_value(golden_get(object, key));

    if (!value)
        die("golden data: %s is no text", key);
    return value;
}

double golden_at(const json_t *object, const char *key, size_t i)
{
    return json_number_value(json_array_get(golden_get(object, key), i));
}

size_t golden_count(const json_t *object, const char *key)
{
    return json_array_size(golden_get(object, key));
}
