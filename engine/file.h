/* file.h - reading files that may be hostile.
 *
 * Regular files only, read with pread into our own memory; a file is refused when it changed while
 * it was read. Names that come out of a file are opened only as plain names beside it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_FILE_H
#define AD_FILE_H

#include <time.h>

#include "fail.h"

typedef struct AdFile {
    int             fd;
    char           *path;
    uint64_t        size;
    struct timespec modified, changed;
} AdFile;

/* Returns owned. AD_ERR_NOTFOUND, AD_ERR_ACCESS, AD_ERR_INVALID (no regular file), AD_ERR_IO. */
AdStatus ad_file_open(AdContext *ctx, AdFile **out, const char *path);
void     ad_file_close(AdFile **file);

/* Exactly `bytes` from `offset`, or AD_ERR_IO. */
AdStatus ad_file_read(AdContext *ctx, const AdFile *file, uint64_t offset, void *out, size_t bytes);

/* AD_ERR_IO when size or times differ from those at opening. */
AdStatus ad_file_unchanged(AdContext *ctx, const AdFile *file);

/* A whole file of at most `cap` bytes, with a NUL behind it. Returns owned text. */
AdStatus ad_file_slurp(AdContext *ctx, const char *path, size_t cap, char **text, size_t *bytes);

/* A sentence for files that are no model but look like something known (empty, Git-LFS pointer,
 * web page, gzip, zip, ...), from their first bytes; NULL: nothing known. */
const char *ad_file_special(const void *head, size_t bytes);

/* Whether a path exists and is a folder / a regular file. */
bool ad_is_folder(const char *path);
bool ad_is_file(const char *path);

/* "dir/name", owned; NULL: no memory. The same with a second part: "dir/name/more". */
char *ad_path_join(const char *dir, const char *name);
char *ad_path_join2(const char *dir, const char *name, const char *more);

/* Last part of a path, trailing slashes left out; into `out` of `size` bytes. */
void ad_path_name(const char *path, char *out, size_t size);

/* Whether a name found in a file may be opened beside it: not empty, no slash, backslash or NUL,
 * not "." or "..", at most 255 bytes. */
bool ad_name_is_plain(const char *name, size_t n);

#endif
