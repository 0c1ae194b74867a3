/* failing.c - see failing.h. The linker puts these in the place of the library's own.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "failing.h"

struct FailingCalls failing;

void *__real_ad_alloc_raw(size_t bytes);
void *__wrap_ad_alloc_raw(size_t bytes);
void  __real_ad_free(void *p);
void  __wrap_ad_free(void *p);
ptrdiff_t __real_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset);
ptrdiff_t __wrap_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset);

static bool fails_now(void)
{
    bool now = failing.countdown > 0 && --failing.countdown == 0;

    if (failing.on_call)
        failing.on_call();
    failing.fired = failing.fired || now;
    return now;
}

void *__wrap_ad_alloc_raw(size_t bytes)
{
    void *p = failing.kind == ALLOCATION && fails_now() ? NULL : __real_ad_alloc_raw(bytes);

    failing.blocks += p != NULL;
    return p;
}

void __wrap_ad_free(void *p)
{
    failing.blocks -= p != NULL;
    __real_ad_free(p);
}

ptrdiff_t __wrap_ad_os_read(int fd, void *out, size_t bytes, uint64_t offset)
{
    if (failing.kind <= ALLOCATION || !fails_now())
        return __real_ad_os_read(fd, out, bytes, offset);
    if (failing.kind == READ_ERROR || failing.kind == READ_INTERRUPTED) {
        errno = failing.kind == READ_ERROR ? EIO : EINTR;
        return -1;
    }
    return failing.kind == READ_END
               ? 0 : __real_ad_os_read(fd, out, bytes / 2 ? bytes / 2 : 1, offset);
}
