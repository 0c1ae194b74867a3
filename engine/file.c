/* file.c - careful reading; see file.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "os_read.h"

static AdStatus fail_errno(AdContext *ctx, const char *path, int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: no such file", path);
    case EACCES:
    case EPERM:
        return ad_fail(ctx, AD_ERR_ACCESS, "%.200s: may not be read", path);
    default:
        return ad_fail(ctx, AD_ERR_IO, "%.200s: %s", path, strerror(error));
    }
}

AdStatus ad_file_open(AdContext *ctx, AdFile **out, const char *path)
{
    AdFile *f = ad_alloc(sizeof(*f));
    struct stat info;
    AdStatus st = AD_OK;

    *out = NULL;
    if (!f)
        return ad_fail_nomem(ctx, "a file");
    f->fd   = -1;
    f->path = ad_strdup(path);
    if (!f->path)
        st = ad_fail_nomem(ctx, "a file name");
    if (st >= 0) {
        f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (f->fd < 0 || fstat(f->fd, &info) < 0)
            st = fail_errno(ctx, path, errno);
        else if (!S_ISREG(info.st_mode))
            st = ad_fail(ctx, AD_ERR_INVALID, "%.200s: not a regular file", path);
    }
    if (st < 0) {
        ad_file_close(&f);
        return st;
    }
    f->size     = (uint64_t)info.st_size;
    f->modified = info.st_mtim;
    f->changed  = info.st_ctim;
    *out = f;
    return AD_OK;
}

void ad_file_close(AdFile **file)
{
    AdFile *f = *file;

    *file = NULL;
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    ad_free(f->path);
    ad_free(f);
}

AdStatus ad_file_read(AdContext *ctx, const AdFile *f, uint64_t offset, void *out, size_t bytes)
{
    char *to = out;

    if (offset > f->size || bytes > f->size - offset)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %zu bytes wanted at %" PRIu64 ", the file has %"
                       PRIu64, f->path, bytes, offset, f->size);
    while (bytes > 0) {
        ptrdiff_t n = ad_os_read(f->fd, to, AD_MIN(bytes, (size_t)1 << 30), offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ad_fail(ctx, AD_ERR_IO, "%.200s: read error: %s", f->path, strerror(errno));
        if (n == 0)
            return ad_fail(ctx, AD_ERR_IO, "%.200s: ended early; it was cut while it was read",
                           f->path);
        to     += n;
        offset += (uint64_t)n;
        bytes  -= (size_t)n;
    }
    return AD_OK;
}

AdStatus ad_file_unchanged(AdContext *ctx, const AdFile *f)
{
    struct stat now;

    if (fstat(f->fd, &now) < 0)
        return fail_errno(ctx, f->path, errno);
    if ((uint64_t)now.st_size != f->size || now.st_mtim.tv_sec != f->modified.tv_sec ||
        now.st_mtim.tv_nsec != f->modified.tv_nsec || now.st_ctim.tv_sec != f->changed.tv_sec ||
        now.st_ctim.tv_nsec != f->changed.tv_nsec)
        return ad_fail(ctx, AD_ERR_IO, "%.200s: changed while it was loaded", f->path);
    return AD_OK;
}

AdStatus ad_file_slurp(AdContext *ctx, const char *path, size_t cap, char **text, size_t *bytes)
{
    AdFile *f = NULL;
    char *all = NULL;
    AdStatus st = ad_file_open(ctx, &f, path);

    *text  = NULL;
    *bytes = 0;
    if (st >= 0 && f->size > cap)
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %" PRIu64 " bytes; at most %zu are accepted",
                     path, f->size, cap);
    if (st >= 0 && !(all = ad_alloc((size_t)f->size + 1)))
        st = ad_fail_nomem(ctx, "a file's text");
    if (st >= 0)
        st = ad_file_read(ctx, f, 0, all, (size_t)f->size);
    if (st >= 0)
        st = ad_file_unchanged(ctx, f);
    if (st >= 0) {
        *text  = all;
        *bytes = (size_t)f->size;
    } else
        ad_free(all);
    ad_file_close(&f);
    return st;
}

const char *ad_file_special(const void *head, size_t bytes)
{
    static const struct { const char *start; size_t n; const char *sentence; } known[] = {
        { "version https://git-lfs", 23, "a Git-LFS pointer, not the model itself; fetch the file "
                                         "with \"git lfs pull\"" },
        { "<!DOCTYPE", 9, "a web page, not a model; the download went wrong" },
        { "<!doctype", 9, "a web page, not a model; the download went wrong" },
        { "<html", 5, "a web page, not a model; the download went wrong" },
        { "\x1f\x8b", 2, "compressed with gzip; unpack it first" },
        { "GGUF", 4, "a GGUF file, which is not supported; use safetensors" },
    };

    if (bytes == 0)
        return "an empty file";
    for (size_t i = 0; i < AD_COUNT(known); i++)
        if (bytes >= known[i].n && !memcmp(head, known[i].start, known[i].n))
            return known[i].sentence;
    return NULL;
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? info.st_mode & S_IFMT : 0;
}

bool ad_is_folder(const char *path)
{
    return mode_of(path) == S_IFDIR;
}

bool ad_is_file(const char *path)
{
    return mode_of(path) == S_IFREG;
}

char *ad_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir), m = strlen(name);
    char *path = ad_alloc(n + m + 2);

    if (path) {
        memcpy(path, dir, n);
        path[n] = '/';
        memcpy(path + n + 1, name, m);
    }
    return path;
}

char *ad_path_join2(const char *dir, const char *name, const char *more)
{
    char *first = ad_path_join(dir, name);
    char *path = first ? ad_path_join(first, more) : NULL;

    ad_free(first);
    return path;
}

void ad_path_name(const char *path, char *out, size_t size)
{
    size_t end = strlen(path), start;

    while (end > 1 && path[end - 1] == '/')
        end--;
    start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    ad_format(out, size, "%.*s", (int)AD_MIN(end - start, size - 1), path + start);
}

bool ad_name_is_plain(const char *name, size_t n)
{
    if (n == 0 || n > 255 || (n == 1 && name[0] == '.') ||
        (n == 2 && name[0] == '.' && name[1] == '.'))
        return false;
    return !memchr(name, '/', n) && !memchr(name, '\\', n) && !memchr(name, 0, n);
}
