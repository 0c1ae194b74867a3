/* test_failure_files.c - memory that ends and reads that fail while a file's tensors are read.
 *
 * As test_failure.c, one reader at a time: the n-th call fails, for n = 1, 2, ... until a run gets
 * through. Each run must end with a status and leave nothing behind.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "../engine/internal.h"
#include "../engine/os_read.h"
#include "../engine/peft.h"
#include "check.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

static long countdown, blocks;          /* this many calls from now fails; not freed */
static enum { NOTHING, ALLOCATION, READ_ERROR, READ_END, READ_HALF } kind;
static bool fired;

void *__real_ad_alloc_raw(size_t bytes);
void *__wrap_ad_alloc_raw(size_t bytes);
void  __real_ad_free(void *p);
void  __wrap_ad_free(void *p);
ptrdiff_t __real_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset);
ptrdiff_t __wrap_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset);

static bool fails_now(void)
{
    bool now = countdown > 0 && --countdown == 0;

    fired = fired || now;
    return now;
}

void *__wrap_ad_alloc_raw(size_t bytes)
{
    void *p = kind == ALLOCATION && fails_now() ? NULL : __real_ad_alloc_raw(bytes);

    blocks += p != NULL;
    return p;
}

void __wrap_ad_free(void *p)
{
    blocks -= p != NULL;
    __real_ad_free(p);
}

ptrdiff_t __wrap_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset)
{
    if (kind <= ALLOCATION || !fails_now())
        return __real_ad_os_read(fd, out, bytes, offset);
    if (kind == READ_ERROR) {
        errno = EIO;
        return -1;
    }
    return kind == READ_END ? 0 : __real_ad_os_read(fd, out, bytes / 2 ? bytes / 2 : 1, offset);
}

/* Open the file and read its tensors. */
static AdStatus deed(const char *path)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(&ctx, &f, path);
    static float numbers[1024];
    AdPeft peft = { 0 };

    for (size_t i = 0; st >= 0 && i < f->count; i++) {
        CHECK((size_t)ad_entry_count(&f->entries[i]) <= AD_COUNT(numbers));
        st = ad_entry_read(&ctx, f, &f->entries[i], numbers);
    }
    if (st >= 0) st = ad_peft_read(&ctx, f, &peft);
    ad_peft_free(&peft);
    ad_tensor_file_close(&f);
    return st;
}

static void fails_everywhere(const char *path, int what, AdStatus wanted)
{
    long before = blocks;

    for (long n = 1; ; n++) {
        AdStatus st;

        kind      = what;
        countdown = n;
        fired     = false;
        st        = deed(path);
        kind      = NOTHING;
        CHECK_INT(blocks, before);
        if (!fired) {
            CHECK_STATUS(st, AD_OK);
            CHECK(n > 5);
            return;
        }
        CHECK_STATUS(st, wanted);
        CHECK_STATUS(deed(path), AD_OK);
    }
}

int main(void)
{
    static const char *const files[] = {
        "torch/views.pt", "loras/zoom.safetensors", "loras/settings.safetensors",
    };

    for (i_ = 0; i_ < AD_COUNT(files); i_++) {
        char path[100];

        snprintf(path, sizeof(path), "tests/golden/%s", files[i_]);
        RUN_AS(fails_everywhere(path, ALLOCATION, AD_ERR_NOMEM), "%s, every allocation", files[i_]);
        RUN_AS(fails_everywhere(path, READ_ERROR, AD_ERR_IO), "%s, every read in error", files[i_]);
        RUN_AS(fails_everywhere(path, READ_END, AD_ERR_IO), "%s, every read at the end of its file",
               files[i_]);
        RUN_AS(fails_everywhere(path, READ_HALF, AD_OK), "%s, every read cut short: it is read on",
               files[i_]);
    }
    return check_result();
}
