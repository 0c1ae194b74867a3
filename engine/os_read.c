/* os_read.c - pread, alone in a file so that a test can put another in its place at link time.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <unistd.h>

#include "os_read.h"

ptrdiff_t ad_os_read(int fd, void *out, size_t bytes, uint64_t offset)
{
    return pread(fd, out, bytes, (off_t)offset);
}
