/* zips.c - zip files for tests; see zips.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "zips.h"

/* Bit by bit, as the definition has it. */
uint32_t zip_crc(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void *room_for(void *p, size_t *room, size_t n)
{
    if (n > *room) {
        *room = n + n / 2 + 4096;
        p = realloc(p, *room);
        if (!p)
            die("no memory");
    }
    return p;
}

static void put(ZipWriter *w, const void *data, size_t n)
{
    w->bytes = room_for(w->bytes, &w->room, w->n + n);
    if (n)
        memcpy(w->bytes + w->n, data, n);
    w->n += n;
}

static void put_number(ZipWriter *w, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++)
        put(w, &(unsigned char){ (unsigned char)(value >> 8 * i) }, 1);
}

static void numbers(ZipWriter *w, const char *widths, const uint64_t *values)
{
    for (size_t i = 0; widths[i]; i++)
        put_number(w, widths[i] - '0', values[i]);
}

void zip_add(ZipWriter *w, const char *name, const void *data, size_t n)
{
    size_t at = w->n, len = strlen(name);
    uint32_t crc = zip_crc(data, n);
    ZipWriter d = { .bytes = w->directory, .n = w->directory_n, .room = w->directory_room };

    put(w, "PK\3\4", 4);
    numbers(w, "22222444", (uint64_t[]){ 0, 0x808, 0, 0, 0, 0, 0, 0 });
    numbers(w, "22", (uint64_t[]){ len, w->extra_n });
    put(w, name, len);
    put(w, w->extra, w->extra_n);
    if (w->count < ZIP_ENTRIES) {
        w->local[w->count]   = at;
        w->data[w->count]    = w->n;
        w->central[w->count] = d.n;
    }
    put(w, data, n);
    put(w, "PK\7\10", 4);
    numbers(w, "444", (uint64_t[]){ crc, n, n });

    put(&d, "PK\1\2", 4);
    numbers(&d, "222222444", (uint64_t[]){ 0, 0, 0x808, 0, 0, 0, crc, n, n });
    numbers(&d, "2222244", (uint64_t[]){ len, w->extra_n, 0, 0, 0, 0, at });
    put(&d, name, len);
    put(&d, w->extra, w->extra_n);
    w->directory      = d.bytes;
    w->directory_n    = d.n;
    w->directory_room = d.room;
    w->count++;
}

void zip_end(ZipWriter *w)
{
    size_t at = w->n, count = w->count < 0xffff ? w->count : 0xffff;

    for (size_t i = 0; i < ZIP_ENTRIES; i++)
        w->central[i] += at;
    put(w, w->directory, w->directory_n);
    w->end64 = w->n;
    put(w, "PK\6\6", 4);
    numbers(w, "822448888", (uint64_t[]){ 44, 0, 45, 0, 0, w->count, w->count, w->directory_n,
                                          at });
    w->locator = w->n;
    put(w, "PK\6\7", 4);
    numbers(w, "484", (uint64_t[]){ 0, w->end64, 1 });
    w->end = w->n;
    put(w, "PK\5\6", 4);
    numbers(w, "2222442", (uint64_t[]){ 0, 0, count, count, w->directory_n, at, 0 });
}

void zip_set(ZipWriter *w, size_t at, int bytes, uint64_t value)
{
    for (int i = 0; i < bytes; i++)
        w->bytes[at + (size_t)i] = (unsigned char)(value >> 8 * i);
}

const char *zip_write(ZipWriter *w, const char *file)
{
    const char *path = scratch_write(file, w->bytes, w->n);

    free(w->bytes);
    free(w->directory);
    *w = (ZipWriter){ 0 };
    return path;
}

void zip_torch(ZipWriter *w, const void *pickle, size_t n, size_t storage)
{
    void *zeros = calloc(storage + 1, 1);
    char name[300];

    snprintf(name, sizeof(name), "%s/data.pkl", w->folder ? w->folder : "t");
    zip_add(w, name, pickle, n);
    snprintf(name, sizeof(name), "%s/data/0", w->folder ? w->folder : "t");
    zip_add(w, name, zeros, storage);
    zip_end(w);
    free(zeros);
}
