/* scratch.c - temporary files; see scratch.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#define _XOPEN_SOURCE 700       /* nftw */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scratch.h"

static char folder[64];

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static int remove_one(const char *path, const struct stat *info, int flag, struct FTW *at)
{
    (void)info, (void)flag, (void)at;
    return remove(path);
}

static void clean(void)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void scratch_remove(const char *name)
{
    nftw(scratch(name), remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch(const char *name)
{
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];

    if (!folder[0]) {
        strcpy(folder, "/tmp/animatediff-test-XXXXXX");
        if (!mkdtemp(folder))
            die("no temporary folder: %s", strerror(errno));
        atexit(clean);
    }
    snprintf(path, sizeof(paths[0]), "%s%s%s", folder, name && *name ? "/" : "", name ? name : "");
    return path;
}

/* Make the folders above a path. */
static void make_parents(const char *path)
{
    char part[512];

    for (size_t i = 1; path[i]; i++)
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            if (mkdir(part, 0777) < 0 && errno != EEXIST)
                die("%s: %s", part, strerror(errno));
        }
}

const char *scratch_write(const char *name, const void *data, size_t bytes)
{
    const char *path = scratch(name);
    FILE *f;

    make_parents(path);
    unlink(path);               /* a file system may wait for the disk when one is overwritten */
    f = fopen(path, "wb");
    if (!f || (bytes && fwrite(data, 1, bytes, f) != bytes) || fclose(f))
        die("%s: %s", path, strerror(errno));
    return path;
}

const char *scratch_text(const char *name, const char *text)
{
    return scratch_write(name, text, strlen(text));
}

void scratch_folder(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/", scratch(name));
    make_parents(path);
}

void scratch_link(const char *name, const char *to)
{
    const char *path = scratch(name);

    make_parents(path);
    unlink(path);
    if (symlink(to, path) < 0)
        die("%s: %s", path, strerror(errno));
}

char *slurp(const char *path, size_t *bytes)
{
    struct stat info;
    FILE *f = fopen(path, "rb");
    char *text;

    if (!f || fstat(fileno(f), &info) < 0)
        die("%s: %s", path, strerror(errno));
    text = calloc((size_t)info.st_size + 1, 1);
    if (!text || fread(text, 1, (size_t)info.st_size, f) != (size_t)info.st_size)
        die("%s: cannot be read", path);
    fclose(f);
    *bytes = (size_t)info.st_size;
    return text;
}

static void copy_folder(const char *name, const char *from)
{
    DIR *dir = opendir(from);
    struct dirent *d;

    if (!dir)
        die("%s: %s", from, strerror(errno));
    scratch_folder(name);
    while ((d = readdir(dir))) {
        char inner[512], outer[512];

        if (d->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof(inner), "%s/%s", name, d->d_name);
        snprintf(outer, sizeof(outer), "%s/%s", from, d->d_name);
        scratch_copy(inner, outer);
    }
    closedir(dir);
}

const char *scratch_copy(const char *name, const char *from)
{
    struct stat info;
    size_t n;
    char *text;

    if (stat(from, &info) < 0)
        die("%s: %s", from, strerror(errno));
    if (S_ISDIR(info.st_mode))
        copy_folder(name, from);
    else {
        text = slurp(from, &n);
        scratch_write(name, text, n);
        free(text);
    }
    return scratch(name);
}

/* ---- tensors by other names --------------------------------------------------------------- */

/* All of `text` with every `from` replaced; malloc. */
static char *replaced(const char *text, const char *from, const char *to)
{
    size_t n = strlen(from), room = strlen(text) + 1, count = 0;
    char *out, *at;

    for (const char *s = text; (s = strstr(s, from)); s += n)
        count++;
    at = out = malloc(room + count * (strlen(to) + 1));
    while (*text) {
        size_t piece = !strncmp(text, from, n) ? n : 1;

        at += sprintf(at, "%.*s", piece == n ? (int)strlen(to) : 1, piece == n ? to : text);
        text += piece;
    }
    *at = 0;
    return out;
}

const char *scratch_renamed(const char *name, const char *path, const char *from, const char *to)
{
    size_t bytes;
    char *all = slurp(path, &bytes), *header, *other, *out;
    uint64_t n, m;

    memcpy(&n, all, 8);
    header = calloc(n + 1, 1);
    memcpy(header, all + 8, n);
    other = replaced(header, from, to);
    m = strlen(other);
    if (!strcmp(header, other))
        die("%s: no %s", path, from);
    out = malloc(8 + m + bytes - 8 - n);
    memcpy(out, &m, 8);
    memcpy(out + 8, other, m);
    memcpy(out + 8 + m, all + 8 + n, bytes - 8 - n);
    scratch_write(name, out, 8 + m + bytes - 8 - n);
    free(all);
    free(header);
    free(other);
    free(out);
    return scratch(name);
}
