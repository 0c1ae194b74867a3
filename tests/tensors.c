/* tensors.c - writing safetensors files; see tensors.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "tensors.h"

static void *grown(void *p, size_t *room, size_t need)
{
    if (need <= *room)
        return p;
    *room = need + need / 2 + 256;
    p = realloc(p, *room);
    if (!p)
        die("no memory");
    return p;
}

static void put(TensorWriter *w, const char *text)
{
    size_t n = strlen(text);

    w->header = grown(w->header, &w->header_room, w->header_bytes + n + 1);
    memcpy(w->header + w->header_bytes, text, n + 1);
    w->header_bytes += n;
}

void tensors_add(TensorWriter *w, const char *name, const char *dtype, int rank,
                 const int64_t *shape, const void *data, size_t bytes)
{
    char text[256];

    put(w, w->header_bytes ? ",\"" : "{\"");
    put(w, name);
    snprintf(text, sizeof(text), "\":{\"dtype\":\"%s\",\"shape\":[", dtype);
    put(w, text);
    for (int i = 0; i < rank; i++) {
        snprintf(text, sizeof(text), "%s%" PRId64, i ? "," : "", shape[i]);
        put(w, text);
    }
    snprintf(text, sizeof(text), "],\"data_offsets\":[%zu,%zu]}", w->bytes, w->bytes + bytes);
    put(w, text);
    w->data = grown(w->data, &w->room, w->bytes + bytes);
    if (bytes && data)
        memcpy(w->data + w->bytes, data, bytes);
    else if (bytes)
        memset(w->data + w->bytes, 0, bytes);
    w->bytes += bytes;
}

void tensors_add_formula(TensorWriter *w, const char *name, int rank, const int64_t *shape)
{
    size_t count = 1, n = strlen(name);
    uint32_t hash = 2166136261u;
    double inner = 1, phi;
    bool weight = n >= 7 && !strcmp(name + n - 7, ".weight");
    float *values;

    for (int i = 0; i < rank; i++) {
        count *= (size_t)shape[i];
        inner *= i ? (double)shape[i] : 1;
    }
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    phi = 0.01 * (hash % 1000);
    values = grown(NULL, &(size_t){ 0 }, count * sizeof(*values));
    for (size_t i = 0; i < count; i++) {
        double s = sin(0.37 * (double)i + phi);

        values[i] = (float)(rank > 1 ? s / sqrt(inner) : weight ? 1 + 0.1 * s : 0.05 * s);
    }
    tensors_add(w, name, "F32", rank, shape, values, count * sizeof(*values));
    free(values);
}

const char *tensors_raw(const char *file, const char *header, size_t header_bytes,
                        size_t data_bytes)
{
    char *all = calloc(8 + header_bytes + data_bytes, 1);
    const char *path;

    if (!all)
        die("no memory");
    for (int i = 0; i < 8; i++)
        all[i] = (char)((uint64_t)header_bytes >> 8 * i);
    memcpy(all + 8, header, header_bytes);
    path = scratch_write(file, all, 8 + header_bytes + data_bytes);
    free(all);
    return path;
}

const char *tensors_write(TensorWriter *w, const char *file)
{
    size_t n;
    char *all;
    const char *path;

    put(w, w->header_bytes ? "}" : "{}");
    n = 8 + w->header_bytes;
    all = calloc(n + w->bytes, 1);
    if (!all)
        die("no memory");
    for (int i = 0; i < 8; i++)
        all[i] = (char)((uint64_t)w->header_bytes >> 8 * i);
    memcpy(all + 8, w->header, w->header_bytes);
    if (w->bytes)
        memcpy(all + n, w->data, w->bytes);
    path = scratch_write(file, all, n + w->bytes);
    free(all);
    free(w->header);
    free(w->data);
    *w = (TensorWriter){ 0 };
    return path;
}

void formula_wave(float *out, size_t n, double a, double c)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)sin(a * (double)i + c);
}
