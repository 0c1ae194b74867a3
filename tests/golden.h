/* golden.h - reading tests/golden: JSON, and numbers in it. Programs run in the repository's root.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_GOLDEN_H
#define AD_GOLDEN_H

#include <jansson.h>
#include <stddef.h>

#define GOLDEN "tests/golden/"

/* A file below tests/golden; json_decref() it. */
json_t *golden_json(const char *name);

/* Fields that must be there: the program ends where one is not. */
json_t     *golden_get(const json_t *object, const char *key);
double      golden_number(const json_t *object, const char *key);
const char *golden_text(const json_t *object, const char *key);

/* Number i of a list in a field. */
double golden_at(const json_t *object, const char *key, size_t i);
size_t golden_count(const json_t *object, const char *key);

#endif
