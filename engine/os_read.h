/* os_read.h - the one place that reads bytes from a file; tests wrap it to make reads fail.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_OS_READ_H
#define AD_OS_READ_H

#include <stddef.h>
#include <stdint.h>

/* As pread: bytes read, 0 at the end of the file, -1 with errno. */
ptrdiff_t ad_os_read(int fd, void *out, size_t bytes, uint64_t offset);

#endif
