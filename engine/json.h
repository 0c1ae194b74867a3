/* json.h - small JSON files, through jansson, with every field's type and range checked.
 *
 * Used for configs, indexes and vocabularies; never for a safetensors header.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_JSON_H
#define AD_JSON_H

#include <jansson.h>

#include "caps.h"
#include "fail.h"

/* A file of at most `cap` bytes that holds one JSON object, nested at most AD_CAP_DEPTH deep,
 * without duplicate keys. *root is owned (json_decref). */
AdStatus ad_json_load(AdContext *ctx, const char *path, size_t cap, json_t **root);

/* The same for a text in memory; where: for messages. */
AdStatus ad_json_parse(AdContext *ctx, const char *where, const char *text, size_t n, size_t cap,
                       json_t **root);

/* The same for a file in which Python may have written -Infinity, which JSON does not have: it is
 * read as null. Every saved DPM-Solver has one. */
AdStatus ad_json_load_python(AdContext *ctx, const char *path, size_t cap, json_t **root);

/* A reader of fields with a sticky error: after the first failure the calls do nothing. */
typedef struct AdFields {
    AdContext  *ctx;
    const char *path;           /* for messages */
    json_t     *root;
    AdStatus    status;
} AdFields;

/* Whole number in [low, high]; absent or null: *value stays. */
void ad_field_int(AdFields *f, const char *name, int low, int high, int *value);
void ad_field_float(AdFields *f, const char *name, double low, double high, double *value);
void ad_field_bool(AdFields *f, const char *name, bool *value);

/* One number for all, or a list of exactly n numbers, each in [low, high]. */
void ad_field_ints(AdFields *f, const char *name, int low, int high, int *values, int n);

/* Text of at most size - 1 bytes. */
void ad_field_text(AdFields *f, const char *name, char *value, size_t size);

/* The field must be absent, null, or what it is in every model of the family. */
void ad_field_must_be(AdFields *f, const char *name, const char *allowed);

AdStatus ad_field_fail(AdFields *f, AdStatus status, const char *format, ...) AD_PRINTF(3, 4);

#endif
