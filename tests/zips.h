/* zips.h - writing zip files as PyTorch does, right ones and, field by field, wrong ones.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_ZIPS_H
#define AD_ZIPS_H

#include <stddef.h>
#include <stdint.h>

#define ZIP_ENTRIES 8           /* of which the places are kept; there may be more */

typedef struct ZipWriter {      /* zero: an empty file */
    unsigned char *bytes, *directory;
    size_t n, room, directory_n, directory_room, count;
    size_t local[ZIP_ENTRIES], data[ZIP_ENTRIES];   /* places of headers and data in the file */
    size_t central[ZIP_ENTRIES];    /* after zip_end() in the file, before in the directory */
    size_t end64, locator, end;
    const char *folder;         /* of zip_torch(); NULL: "t" */
    const void *extra;          /* field of the next entries, in both of their headers */
    size_t extra_n;
} ZipWriter;

/* An entry with sizes behind its data, as PyTorch writes. */
void zip_add(ZipWriter *w, const char *name, const void *data, size_t n);

/* The directory and the end records. */
void zip_end(ZipWriter *w);

/* Change a number of `bytes` bytes at a place. */
void zip_set(ZipWriter *w, size_t at, int bytes, uint64_t value);

/* Write it as a scratch file, forget everything, return the path. */
const char *zip_write(ZipWriter *w, const char *file);

/* FOLDER/data.pkl and FOLDER/data/0 with `storage` zeros, ended. */
void zip_torch(ZipWriter *w, const void *pickle, size_t n, size_t storage);

uint32_t zip_crc(const void *data, size_t n);

#endif
