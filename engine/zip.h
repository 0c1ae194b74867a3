/* zip.h - the entries of a zip file, as PyTorch writes it: stored plainly, nothing else.
 *
 * Names are data and never become paths. Where two readers could find different bytes (duplicate
 * or overlapping entries, headers that disagree), the file is refused.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_ZIP_H
#define AD_ZIP_H

#include "caps.h"
#include "file.h"

typedef struct AdZipEntry {
    const char *name;               /* in the directory's memory; no NUL behind it */
    uint32_t    name_bytes, crc;
    uint64_t    offset, bytes;      /* its data in the file */
} AdZipEntry;

typedef struct AdZip {
    const AdFile  *file;            /* borrowed */
    unsigned char *directory;
    AdZipEntry    *entries;         /* sorted by name */
    size_t         count;
} AdZip;

/* Read and check the directory and every entry's own header. AD_ERR_FORMAT; AD_ERR_UNSUPPORTED:
 * compressed, encrypted or in several parts. Whatever comes back, ad_zip_close() is due. */
AdStatus ad_zip_open(AdContext *ctx, AdZip *zip, const AdFile *file);
void     ad_zip_close(AdZip *zip);

/* NULL: no such name. */
const AdZipEntry *ad_zip_find(const AdZip *zip, const char *name, size_t n);

/* All bytes of an entry, compared with its checksum; `what` names it in sentences. Returns owned
 * memory, with a NUL behind. */
AdStatus ad_zip_read(AdContext *ctx, const AdZip *zip, const AdZipEntry *entry, const char *what,
                     size_t cap, char **bytes);

#endif
