/* zip.c - the directory of a zip file, read strictly; see zip.h.
 *
 * Called by torch_file.c. The directory decides; every entry's own header must say the same. Holes
 * between entries are fine (PyTorch aligns data and writes sizes once more behind it).
 * Format: PKWARE's APPNOTE.TXT 6.3.10; PyTorch always adds the records of zip64.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "zip.h"

enum {
    END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, CENTRAL_BYTES = 46, LOCAL_BYTES = 30,
    ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13, SIZES_BEHIND = 1 << 3, EXTRA_ZIP64 = 1,
};

/* Where the directory is, and how many entries it has. */
typedef struct Directory { uint64_t offset, bytes, count, end; } Directory;

static AdStatus wrong(AdContext *ctx, const AdZip *z, const char *what)
{
    return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: zip file: %s", z->file->path, what);
}

/* About one entry, by its name. */
static AdStatus wrong_entry(AdContext *ctx, const AdZip *z, const AdZipEntry *e, AdStatus status,
                            const char *what)
{
    char quoted[AD_QUOTE_TEXT];

    return ad_fail(ctx, status, "%.100s: zip entry \"%s\": %s", z->file->path,
                   ad_quote(e->name, AD_MIN(e->name_bytes, 60), quoted), what);
}

/* A number of 2, 4 or 8 bytes, the lowest first. */
static uint64_t number(const unsigned char *p, int bytes)
{
    uint64_t value = 0;

    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static bool signed_by(const unsigned char *p, const char *two)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == (unsigned char)two[0] &&
           p[3] == (unsigned char)two[1];
}

/* ---- the end of the file ------------------------------------------------------------------ */

/* A field of the short record that is not the long record's is its marker: all ones. */
static bool agree(const unsigned char *p, int bytes, uint64_t value)
{
    uint64_t n = number(p, bytes), marker = bytes == 2 ? UINT16_MAX : UINT32_MAX;

    return n == value || n == marker;
}

/* The long record, in front of its locator at `at`; `end` is the short one. */
static AdStatus read_end64(AdContext *ctx, AdZip *z, const unsigned char *locator, uint64_t at,
                           const unsigned char *end, Directory *d)
{
    unsigned char p[END64_BYTES] = { 0 };
    uint64_t from = number(locator + 8, 8);
    AdStatus st;

    if (number(locator + 4, 4) != 0 || number(locator + 16, 4) > 1)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.200s: zip file: in several parts",
                       z->file->path);
    if (at < END64_BYTES || from != at - END64_BYTES)
        return wrong(ctx, z, "the zip64 record is not in front of its locator");
    st = ad_file_read(ctx, z->file, from, p, sizeof(p));
    if (st < 0)
        return st;
    d->offset = number(p + 48, 8);
    d->bytes  = number(p + 40, 8);
    d->count  = number(p + 32, 8);
    d->end    = from;
    if (!signed_by(p, "\6\6") || number(p + 4, 8) != END64_BYTES - 12)
        return wrong(ctx, z, "no zip64 record where its locator says");
    if (number(p + 16, 4) || number(p + 20, 4) || number(p + 24, 8) != d->count)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.200s: zip file: in several parts",
                       z->file->path);
    if (!agree(end + 8, 2, d->count) || !agree(end + 10, 2, d->count) ||
        !agree(end + 12, 4, d->bytes) || !agree(end + 16, 4, d->offset))
        return wrong(ctx, z, "its two end records disagree");
    return AD_OK;
}

static AdStatus read_end(AdContext *ctx, AdZip *z, Directory *d)
{
    unsigned char p[LOCATOR_BYTES + END_BYTES] = { 0 }, *end = p + LOCATOR_BYTES;
    uint64_t size = z->file->size, at;
    AdStatus st;

    if (size < sizeof(p))
        return wrong(ctx, z, "cut off");
    at = size - END_BYTES;
    st = ad_file_read(ctx, z->file, size - sizeof(p), p, sizeof(p));
    if (st < 0)
        return st;
    if (!signed_by(end, "\5\6") || number(end + 20, 2))
        return wrong(ctx, z, "cut off, or with something behind its end");
    if (signed_by(p, "\6\7"))
        return read_end64(ctx, z, p, at - LOCATOR_BYTES, end, d);
    d->offset = number(end + 16, 4);
    d->bytes  = number(end + 12, 4);
    d->count  = number(end + 10, 2);
    d->end    = at;
    if (number(end + 4, 2) || number(end + 6, 2) || number(end + 8, 2) != d->count)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.200s: zip file: in several parts",
                       z->file->path);
    if (d->offset == UINT32_MAX || d->bytes == UINT32_MAX || d->count == UINT16_MAX)
        return wrong(ctx, z, "a zip64 marker without its record");
    return AD_OK;
}

static AdStatus check_directory(AdContext *ctx, const AdZip *z, const Directory *d)
{
    if (d->offset > d->end || d->bytes != d->end - d->offset)
        return wrong(ctx, z, "the directory is not where the end record says");
    if (d->count > AD_CAP_ZIP_ENTRIES)
        return wrong(ctx, z, "more than 65536 entries");
    if (d->bytes > AD_CAP_DIRECTORY)
        return wrong(ctx, z, "a directory of more than 8 MiB");
    if (d->count > d->bytes / CENTRAL_BYTES)
        return wrong(ctx, z, "more entries claimed than its directory has room for");
    return AD_OK;
}

/* ---- entries ------------------------------------------------------------------------------ */

/* The long forms of those of the three values that are markers, in their fixed order. */
static bool long_forms(const unsigned char *extra, size_t n, uint64_t *values[3])
{
    const unsigned char *p = NULL;
    size_t left = 0;

    while (n >= 4 && !p) {
        size_t bytes = (size_t)number(extra + 2, 2);

        if (bytes > n - 4)
            break;
        if (number(extra, 2) == EXTRA_ZIP64) {
            p    = extra + 4;
            left = bytes;
        }
        extra += 4 + bytes;
        n     -= 4 + bytes;
    }
    for (int i = 0; i < 3; i++) {
        if (!values[i] || *values[i] != UINT32_MAX)
            continue;
        if (left < 8)
            return false;
        *values[i] = number(p, 8);
        p    += 8;
        left -= 8;
    }
    return true;
}

static AdStatus read_central(AdContext *ctx, AdZip *z, const unsigned char **at, size_t *left,
                             const Directory *d, AdZipEntry *e)
{
    const unsigned char *p = *at;
    size_t name, extra, comment;
    uint64_t packed;

    if (*left < CENTRAL_BYTES || !signed_by(p, "\1\2"))
        return wrong(ctx, z, "a broken directory");
    name    = (size_t)number(p + 28, 2);
    extra   = (size_t)number(p + 30, 2);
    comment = (size_t)number(p + 32, 2);
    if (name + extra + comment > *left - CENTRAL_BYTES)
        return wrong(ctx, z, "a broken directory");
    *e = (AdZipEntry){ .name = (const char *)p + CENTRAL_BYTES, .name_bytes = (uint32_t)name,
                       .crc = (uint32_t)number(p + 16, 4), .bytes = number(p + 24, 4),
                       .offset = number(p + 42, 4) };
    packed = number(p + 20, 4);
    *at   += CENTRAL_BYTES + name + extra + comment;
    *left -= CENTRAL_BYTES + name + extra + comment;
    if (name == 0 || name > AD_CAP_NAME || memchr(e->name, 0, name))
        return wrong(ctx, z, "an entry's name that is empty, longer than 512 bytes or holds a NUL");
    if (number(p + 8, 2) & ENCRYPTED)
        return wrong_entry(ctx, z, e, AD_ERR_UNSUPPORTED, "encrypted");
    if (number(p + 10, 2))
        return wrong_entry(ctx, z, e, AD_ERR_UNSUPPORTED, "compressed; PyTorch stores plainly");
    if (number(p + 34, 2))
        return wrong_entry(ctx, z, e, AD_ERR_UNSUPPORTED, "in another part of the zip file");
    if (!long_forms(p + CENTRAL_BYTES + name, extra,
                    (uint64_t *[]){ &e->bytes, &packed, &e->offset }))
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "a zip64 marker without its field");
    if (packed != e->bytes)
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "two sizes though it is stored plainly");
    if (e->offset > d->offset || e->bytes > d->offset - e->offset)
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "reaches beyond the file's data");
    return AD_OK;
}

/* Whether the entry's own header gives its checksum and sizes, or leaves them for behind the data
 * (as PyTorch does). */
static bool same_sizes(const AdZipEntry *e, const unsigned char *p, const unsigned char *extra,
                       size_t n)
{
    uint64_t crc = number(p + 14, 4), packed = number(p + 18, 4), bytes = number(p + 22, 4);
    bool behind = number(p + 6, 2) & SIZES_BEHIND;

    if (behind && crc == 0 && packed == 0 && bytes == 0)
        return true;
    return long_forms(extra, n, (uint64_t *[]){ &bytes, &packed, NULL }) && crc == e->crc &&
           packed == e->bytes && bytes == e->bytes;
}

/* The entry's own header; e->offset moves on to its data. */
static AdStatus read_local(AdContext *ctx, AdZip *z, const Directory *d, AdZipEntry *e)
{
    enum { EXTRA = 1024 };          /* the part looked at; the rest is padding */
    unsigned char p[LOCAL_BYTES + AD_CAP_NAME + EXTRA];
    size_t n = (size_t)AD_MIN(d->offset - e->offset, (uint64_t)sizeof(p)), name, extra, head;
    AdStatus st = ad_file_read(ctx, z->file, e->offset, p, n);

    if (st < 0)
        return st;
    if (n < LOCAL_BYTES || !signed_by(p, "\3\4"))
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "not where the directory says");
    name  = (size_t)number(p + 26, 2);
    extra = (size_t)number(p + 28, 2);
    head  = LOCAL_BYTES + name + extra;
    if (name != e->name_bytes || n < LOCAL_BYTES + name || memcmp(p + LOCAL_BYTES, e->name, name))
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "has another name at its place");
    if (number(p + 6, 2) & ENCRYPTED || number(p + 8, 2))
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "compressed or encrypted at its place only");
    if (head > d->offset - e->offset || e->bytes > d->offset - e->offset - head)
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "reaches beyond the file's data");
    if (!same_sizes(e, p, p + LOCAL_BYTES + name, AD_MIN(extra, n - LOCAL_BYTES - name)))
        return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "has another size or checksum at its place");
    e->offset += head;
    return AD_OK;
}

/* ---- order -------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const AdZipEntry *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int by_name(const void *a, const void *b)
{
    const AdZipEntry *x = a, *y = b;
    int order = memcmp(x->name, y->name, AD_MIN(x->name_bytes, y->name_bytes));

    return order ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

/* By their headers' places, while e->offset is still that: none reaches into the next. */
static AdStatus read_locals(AdContext *ctx, AdZip *z, const Directory *d)
{
    AdStatus st = AD_OK;
    uint64_t end = 0;

    if (z->count)
        qsort(z->entries, z->count, sizeof(*z->entries), by_place);
    for (size_t i = 0; i < z->count && st >= 0; i++) {
        AdZipEntry *e = &z->entries[i];

        if (e->offset < end)
            return wrong_entry(ctx, z, e, AD_ERR_FORMAT, "overlaps another");
        st  = read_local(ctx, z, d, e);
        end = e->offset + e->bytes;
    }
    return st;
}

static AdStatus sort_names(AdContext *ctx, AdZip *z)
{
    if (z->count)
        qsort(z->entries, z->count, sizeof(*z->entries), by_name);
    for (size_t i = 1; i < z->count; i++)
        if (!by_name(&z->entries[i - 1], &z->entries[i]))
            return wrong_entry(ctx, z, &z->entries[i], AD_ERR_FORMAT, "is there twice");
    return AD_OK;
}

/* ---- entry points ------------------------------------------------------------------------- */

AdStatus ad_zip_open(AdContext *ctx, AdZip *z, const AdFile *file)
{
    Directory d = { 0 };
    const unsigned char *p;
    size_t left;
    AdStatus st;

    *z = (AdZip){ .file = file };
    st = read_end(ctx, z, &d);
    if (st >= 0) st = check_directory(ctx, z, &d);
    if (st < 0)
        return st;
    z->directory = ad_alloc_raw((size_t)d.bytes);
    z->entries   = ad_alloc_array((size_t)d.count, sizeof(*z->entries));
    if (!z->directory || !z->entries)
        return ad_fail_nomem(ctx, "a zip file's directory");
    st   = ad_file_read(ctx, file, d.offset, z->directory, (size_t)d.bytes);
    p    = z->directory;
    left = (size_t)d.bytes;
    for (; z->count < d.count && st >= 0; z->count++)
        st = read_central(ctx, z, &p, &left, &d, &z->entries[z->count]);
    if (st >= 0 && left)
        st = wrong(ctx, z, "more in its directory than the entries it counts");
    if (st >= 0) st = read_locals(ctx, z, &d);
    return st >= 0 ? sort_names(ctx, z) : st;
}

void ad_zip_close(AdZip *z)
{
    ad_free(z->directory);
    ad_free(z->entries);
    *z = (AdZip){ 0 };
}

const AdZipEntry *ad_zip_find(const AdZip *z, const char *name, size_t n)
{
    AdZipEntry key = { .name = name, .name_bytes = (uint32_t)n };

    return z->count ? bsearch(&key, z->entries, z->count, sizeof(key), by_name) : NULL;
}

/* CRC-32 with the polynomial of zip, reflected, four bits at a time. */
static uint32_t checksum(const char *p, size_t n)
{
    uint32_t table[16], crc = UINT32_MAX;

    for (uint32_t i = 0; i < 16; i++) {
        table[i] = i;
        for (int k = 0; k < 4; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        crc  = crc >> 4 ^ table[crc & 15];
        crc  = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

AdStatus ad_zip_read(AdContext *ctx, const AdZip *z, const AdZipEntry *e, const char *what,
                     size_t cap, char **bytes)
{
    AdStatus st = AD_OK;

    *bytes = NULL;
    if (e->bytes > cap)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %s of %" PRIu64 " bytes; at most %zu are "
                       "accepted", z->file->path, what, e->bytes, cap);
    *bytes = ad_alloc_raw((size_t)e->bytes + 1);
    if (!*bytes)
        return ad_fail_nomem(ctx, what);
    st = ad_file_read(ctx, z->file, e->offset, *bytes, (size_t)e->bytes);
    (*bytes)[e->bytes] = 0;
    if (st >= 0 && checksum(*bytes, (size_t)e->bytes) != e->crc)
        st = ad_fail(ctx, AD_ERR_FORMAT, "%.200s: %s has another checksum than the zip file says: "
                     "the file is damaged", z->file->path, what);
    return st;
}
