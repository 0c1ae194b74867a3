/* fuzz.c - files in memory and what must hold; see fuzz.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE             /* memfd_create */
#include <sys/mman.h>
#include <unistd.h>

#include "../../engine/utf8.h"
#include "../scratch.h"
#include "fuzz.h"

AdContext fuzz_ctx;

void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: not so: %s (%s)\n", file, line, condition, fuzz_ctx.error);
    abort();
}

/* ---- files -------------------------------------------------------------------------------- */

static struct Slot { int fd; char path[64]; } slots[FUZZ_SLOTS];

static struct Slot *slot_of(int i)
{
    struct Slot *s = &slots[i];

    if (!s->path[0]) {
        s->fd = memfd_create("fuzz", MFD_CLOEXEC);
        FUZZ_CHECK(s->fd >= 0);
        snprintf(s->path, sizeof(s->path), "/proc/%d/fd/%d", (int)getpid(), s->fd);
    }
    return s;
}

const char *fuzz_file(int slot, const void *data, size_t n)
{
    struct Slot *s = slot_of(slot);

    FUZZ_CHECK(ftruncate(s->fd, (off_t)n) == 0);
    FUZZ_CHECK(pwrite(s->fd, data, n, 0) == (ssize_t)n);
    return s->path;
}

const char *fuzz_folder(const char *name, int slot)
{
    static char folder[512];
    char path[600];

    if (!folder[0]) {
        scratch_folder("files");
        snprintf(folder, sizeof(folder), "%s", scratch("files"));
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    unlink(path);
    if (slot >= 0)
        FUZZ_CHECK(symlink(slot_of(slot)->path, path) == 0);
    return folder;
}

/* ---- what must hold ----------------------------------------------------------------------- */

void fuzz_status(AdStatus st)
{
    size_t n = strlen(fuzz_ctx.error), bad = 0;

    if (st >= 0)
        return;
    FUZZ_CHECK(st == AD_ERR_FORMAT || st == AD_ERR_UNSUPPORTED || st == AD_ERR_INVALID);
    FUZZ_CHECK(n > 0 && n <= 300);
    FUZZ_CHECK(ad_utf8_valid(fuzz_ctx.error, n, &bad));
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK((unsigned char)fuzz_ctx.error[i] >= ' ' && fuzz_ctx.error[i] != 0x7f);
    fuzz_ctx.error[0] = 0;
}

static void check_entry(const AdTensorFile *f, const AdEntry *e)
{
    uint64_t size = ad_dtype_bytes(e->dtype), count = 1, reach = 0;

    FUZZ_CHECK(e->rank >= 0 && e->rank <= AD_CAP_RANK);
    FUZZ_CHECK(e->name[0] && strlen(e->name) <= AD_CAP_NAME);
    FUZZ_CHECK(ad_tensor_file_find(f, e->name) == e);
    for (int i = 0; i < e->rank; i++) {
        FUZZ_CHECK(e->shape[i] >= 0 && e->shape[i] <= AD_CAP_AXIS);
        count *= (uint64_t)e->shape[i];
        if (e->stride && e->shape[i])
            reach += (uint64_t)(e->shape[i] - 1) * (uint64_t)e->stride[i];
    }
    FUZZ_CHECK(e->bytes == count * size);
    FUZZ_CHECK(e->offset <= f->file->size);
    if (count)
        FUZZ_CHECK((e->stride ? (reach + 1) * size : e->bytes) <= f->file->size - e->offset);
}

AdStatus fuzz_tensors(const char *path)
{
    static float numbers[4096];
    AdTensorFile *f = NULL;
    uint64_t bytes = 0;
    AdStatus st = ad_tensor_file_open(&fuzz_ctx, &f, path);

    FUZZ_CHECK((st < 0) == !f);
    fuzz_status(st);
    for (size_t i = 0; f && i < f->count; i++) {
        const AdEntry *e = &f->entries[i];
        char shape[AD_ENTRY_TEXT];

        check_entry(f, e);
        bytes += e->bytes;
        FUZZ_CHECK(strlen(ad_entry_shape(e, shape)) < AD_ENTRY_TEXT);
        if (ad_entry_count(e) <= (int64_t)AD_COUNT(numbers) && i < 64)
            FUZZ_CHECK(ad_entry_read(&fuzz_ctx, f, e, numbers) == AD_OK);
    }
    if (f && f->header_bytes)                           /* safetensors: no hole, no byte twice */
        FUZZ_CHECK(bytes == f->file->size - 8 - f->header_bytes);
    for (size_t i = 0; f && i < f->metadata_count; i++)
        FUZZ_CHECK(ad_tensor_file_metadata(f, f->metadata[i].key) != NULL);
    ad_tensor_file_close(&f);
    return st;
}
