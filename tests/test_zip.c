/* test_zip.c - zip files that two readers could understand differently, and broken ones.
 *
 * A right file with two entries is written, then one field changed; each field of each record is
 * tried. Every beginning of it is opened, every byte changed. Large ones: test_zip_caps.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "pickles.h"
#include "scratch.h"
#include "zips.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

static const char pickle[] = A(TENSOR);

static AdStatus opened(const char *path)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(&ctx, &f, path);
    float numbers[6];

    CHECK((st < 0) == !f);
    for (size_t i = 0; st >= 0 && i < f->count && ad_entry_count(&f->entries[i]) <= 6; i++)
        CHECK_STATUS(ad_entry_read(&ctx, f, &f->entries[i], numbers), AD_OK);
    ad_tensor_file_close(&f);
    return st;
}

static void closes_with(ZipWriter *w, AdStatus status, const char *part)
{
    CHECK_STATUS(opened(zip_write(w, "z.pt")), status);
    if (part)
        CHECK_CONTAINS(ctx.error, part);
    if (status < 0) {
        CHECK_CONTAINS(ctx.error, "z.pt: ");
        CHECK(strlen(ctx.error) <= 300);
    }
}

/* ---- one field ---------------------------------------------------------------------------- */

typedef enum Record { CENTRAL, LOCAL, DATA, END64, LOCATOR, END } Record;

#define LONG_ONES UINT64_MAX

static const struct Field {
    Record      record;
    int         entry;          /* 0: data.pkl, 1: the storage */
    size_t      at;
    int         bytes;
    uint64_t    value;
    AdStatus    status;
    const char *what, *part;
} fields[] = {
    { CENTRAL, 0, 0, 4, 0, AD_ERR_FORMAT, "signature", "a broken directory" },
    { CENTRAL, 1, 8, 2, 0x809, AD_ERR_UNSUPPORTED, "encryption", "\"t/data/0\": encrypted" },
    { CENTRAL, 1, 8, 2, 0x848, AD_ERR_UNSUPPORTED, "strong encryption", "encrypted" },
    { CENTRAL, 1, 8, 2, 0x2808, AD_ERR_UNSUPPORTED, "masked headers", "encrypted" },
    { CENTRAL, 0, 10, 2, 8, AD_ERR_UNSUPPORTED, "deflate",
      "zip entry \"t/data.pkl\": compressed; PyTorch stores plainly" },
    { CENTRAL, 1, 10, 2, 93, AD_ERR_UNSUPPORTED, "zstandard", "compressed" },
    { CENTRAL, 0, 16, 4, 1, AD_ERR_FORMAT, "checksum", "data.pkl has another checksum" },
    { CENTRAL, 1, 20, 4, 23, AD_ERR_FORMAT, "packed size", "two sizes though it is stored" },
    { CENTRAL, 1, 24, 4, 25, AD_ERR_FORMAT, "size", "two sizes though it is stored" },
    { CENTRAL, 1, 20, 8, LONG_ONES, AD_ERR_FORMAT, "markers", "a zip64 marker without its field" },
    { CENTRAL, 1, 20, 8, 0xfffffffefffffffe, AD_ERR_FORMAT, "large sizes", "beyond the file's" },
    { CENTRAL, 1, 20, 8, 0x2000000020, AD_ERR_FORMAT, "sizes a little larger",
      "a storage of 6 numbers of 4 bytes has 32 bytes of data" },
    { CENTRAL, 1, 20, 8, 0x6400000064, AD_ERR_FORMAT, "sizes into the directory", "beyond" },
    { CENTRAL, 0, 28, 2, 0, AD_ERR_FORMAT, "no name", "an entry's name that is empty" },
    { CENTRAL, 0, 28, 2, 9, AD_ERR_FORMAT, "shorter name", "a broken directory" },
    { CENTRAL, 0, 28, 2, 0xffff, AD_ERR_FORMAT, "name beyond the end", "a broken directory" },
    { CENTRAL, 1, 30, 2, 1, AD_ERR_FORMAT, "extra beyond the end", "a broken directory" },
    { CENTRAL, 1, 32, 2, 0xffff, AD_ERR_FORMAT, "comment beyond the end", "a broken directory" },
    { CENTRAL, 1, 34, 2, 1, AD_ERR_UNSUPPORTED, "disk", "in another part of the zip file" },
    { CENTRAL, 1, 42, 4, 0, AD_ERR_FORMAT, "offset of the other", "t/data" },
    { CENTRAL, 1, 42, 4, 1, AD_ERR_FORMAT, "offset into the other", "overlaps another" },
    { CENTRAL, 1, 42, 4, 0xfffffffe, AD_ERR_FORMAT, "offset beyond", "beyond the file's data" },
    { CENTRAL, 1, 42, 4, 0xffffffff, AD_ERR_FORMAT, "offset's marker", "marker without its field" },
    { CENTRAL, 0, 46, 1, 0, AD_ERR_FORMAT, "NUL in a name", "holds a NUL" },
    { CENTRAL, 1, 46, 1, 'x', AD_ERR_FORMAT, "name", "\"x/data/0\": has another name at its" },
    { LOCAL, 1, 0, 4, 0, AD_ERR_FORMAT, "own signature", "not where the directory says" },
    { LOCAL, 0, 6, 2, 0x809, AD_ERR_FORMAT, "own encryption", "at its place only" },
    { LOCAL, 0, 8, 2, 8, AD_ERR_FORMAT, "own method", "compressed or encrypted at its place" },
    { LOCAL, 1, 6, 2, 0x800, AD_ERR_FORMAT, "own sizes not behind", "another size or checksum" },
    { LOCAL, 1, 14, 4, 1, AD_ERR_FORMAT, "own checksum", "another size or checksum" },
    { LOCAL, 1, 18, 4, 24, AD_ERR_FORMAT, "one own size", "another size or checksum" },
    { LOCAL, 1, 18, 8, 0x1700000017, AD_ERR_FORMAT, "own sizes", "another size or checksum" },
    { LOCAL, 1, 18, 8, LONG_ONES, AD_ERR_FORMAT, "own markers", "another size or checksum" },
    { LOCAL, 1, 26, 2, 7, AD_ERR_FORMAT, "own name's length", "has another name at its place" },
    { LOCAL, 1, 26, 2, 0xffff, AD_ERR_FORMAT, "own name's end", "has another name at its place" },
    { LOCAL, 1, 28, 2, 0xffff, AD_ERR_FORMAT, "own extra field", "beyond the file's data" },
    { LOCAL, 1, 30, 1, 'x', AD_ERR_FORMAT, "own name", "has another name at its place" },
    { DATA, 0, 3, 1, ']', AD_ERR_FORMAT, "a byte of the pickle", "the file is damaged" },
    { END64, 0, 0, 4, 0, AD_ERR_FORMAT, "zip64 signature", "no zip64 record where" },
    { END64, 0, 4, 8, 43, AD_ERR_FORMAT, "zip64 size", "no zip64 record where its locator" },
    { END64, 0, 4, 8, LONG_ONES, AD_ERR_FORMAT, "zip64 large size", "no zip64 record where" },
    { END64, 0, 16, 4, 1, AD_ERR_UNSUPPORTED, "zip64 disk", "in several parts" },
    { END64, 0, 20, 4, 1, AD_ERR_UNSUPPORTED, "zip64 directory's disk", "in several parts" },
    { END64, 0, 24, 8, 1, AD_ERR_UNSUPPORTED, "zip64 entries here", "in several parts" },
    { END64, 0, 32, 8, 3, AD_ERR_UNSUPPORTED, "zip64 entries", "in several parts" },
    { END64, 0, 40, 8, 1, AD_ERR_FORMAT, "zip64 directory size", "its two end records disagree" },
    { END64, 0, 48, 8, 1, AD_ERR_FORMAT, "zip64 directory", "its two end records disagree" },
    { END64, 0, 48, 8, LONG_ONES, AD_ERR_FORMAT, "zip64 far directory", "end records disagree" },
    { LOCATOR, 0, 0, 4, 0, AD_ERR_FORMAT, "locator", "the directory is not where the end record" },
    { LOCATOR, 0, 4, 4, 1, AD_ERR_UNSUPPORTED, "locator's disk", "in several parts" },
    { LOCATOR, 0, 16, 4, 2, AD_ERR_UNSUPPORTED, "locator's disks", "in several parts" },
    { LOCATOR, 0, 8, 8, 0, AD_ERR_FORMAT, "locator's place", "is not in front of its locator" },
    { LOCATOR, 0, 8, 8, LONG_ONES, AD_ERR_FORMAT, "locator's far place", "not in front of its" },
    { END, 0, 0, 4, 0, AD_ERR_FORMAT, "end", "cut off, or with something behind its end" },
    { END, 0, 8, 2, 1, AD_ERR_FORMAT, "entries here", "its two end records disagree" },
    { END, 0, 10, 2, 3, AD_ERR_FORMAT, "entries", "its two end records disagree" },
    { END, 0, 12, 4, 1, AD_ERR_FORMAT, "directory size", "its two end records disagree" },
    { END, 0, 16, 4, 1, AD_ERR_FORMAT, "directory", "its two end records disagree" },
    { END, 0, 20, 2, 1, AD_ERR_FORMAT, "comment", "cut off, or with something behind its end" },
    { END, 0, 8, 4, 0xffffffff, AD_OK, "markers for entries", NULL },
    { END, 0, 12, 8, LONG_ONES, AD_OK, "markers for the directory", NULL },
    { DATA, 1, 3, 1, 1, AD_OK, "a byte of the storage", NULL },
    { CENTRAL, 0, 4, 2, 0xffff, AD_OK, "who made it", NULL },
    { CENTRAL, 0, 12, 4, 0xffffffff, AD_OK, "time", NULL },
};

static void one_field(const struct Field *f)
{
    ZipWriter w = { 0 };
    size_t places[END + 1];

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    places[CENTRAL] = w.central[f->entry];
    places[LOCAL]   = w.local[f->entry];
    places[DATA]    = w.data[f->entry];
    places[END64]   = w.end64;
    places[LOCATOR] = w.locator;
    places[END]     = w.end;
    zip_set(&w, places[f->record] + f->at, f->bytes, f->value);
    closes_with(&w, f->status, f->part);
}

/* Both counts of both records, which agree on too many. */
static void counts_beyond_the_directory_are_refused(void)
{
    static const uint64_t counts[] = { 3, 65536, 65537, 1u << 31, UINT64_MAX };

    for (size_t i = 0; i < AD_COUNT(counts); i++) {
        ZipWriter w = { 0 };

        zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
        zip_set(&w, w.end64 + 24, 8, counts[i]);
        zip_set(&w, w.end64 + 32, 8, counts[i]);
        zip_set(&w, w.end + 8, 4, 0xffffffff);
        closes_with(&w, AD_ERR_FORMAT, counts[i] <= 65536
                    ? "more entries claimed than its directory has room for"
                    : "more than 65536 entries");
    }
}

static void fewer_entries_than_there_are_is_refused(void)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    zip_set(&w, w.end64 + 24, 8, 1);
    zip_set(&w, w.end64 + 32, 8, 1);
    zip_set(&w, w.end + 8, 4, 0x10001);
    closes_with(&w, AD_ERR_FORMAT, "more in its directory than the entries it counts");
}

/* Names so long that their directory has room for a third entry, by its size. */
static void an_entry_more_than_the_directory_has_is_refused(void)
{
    ZipWriter w = { .folder = "a-folder-with-a-name-that-is-longer-than-a-header" };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    zip_set(&w, w.end64 + 24, 8, 3);
    zip_set(&w, w.end64 + 32, 8, 3);
    zip_set(&w, w.end + 8, 4, 0x30003);
    closes_with(&w, AD_ERR_FORMAT, "a broken directory");
}

/* Sums that are right only when they wrap around 2^64. */
static void a_directory_from_before_the_file_is_refused(void)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    zip_set(&w, w.end64 + 40, 8, w.end64 + 1);
    zip_set(&w, w.end64 + 48, 8, UINT64_MAX);
    zip_set(&w, w.end + 12, 8, LONG_ONES);
    closes_with(&w, AD_ERR_FORMAT, "the directory is not where the end record says");
}

static void a_zip64_record_from_before_the_file_is_refused(void)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    memmove(w.bytes + 4, w.bytes + w.locator, w.n - w.locator);     /* behind a zip's first word */
    w.n -= w.locator - 4;
    zip_set(&w, 4 + 8, 8, 4 - (uint64_t)56);
    closes_with(&w, AD_ERR_FORMAT, "the zip64 record is not in front of its locator");
}

/* The same without zip64: the records taken out; then a field of the end record changed. */
static void without_zip64(size_t at, int bytes, uint64_t value, AdStatus status, const char *part)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    memmove(w.bytes + w.end64, w.bytes + w.end, w.n - w.end);
    w.n  -= w.end - w.end64;
    w.end = w.end64;
    zip_set(&w, w.end + at, bytes, value);
    closes_with(&w, status, part);
}

static void files_without_zip64_are_read(void)
{
    static const char marker[] = "a zip64 marker without its record";

    without_zip64(0, 4, 0x06054b50, AD_OK, NULL);
    without_zip64(8, 4, 0xffffffff, AD_ERR_FORMAT, marker);
    without_zip64(12, 4, 0xffffffff, AD_ERR_FORMAT, marker);
    without_zip64(16, 4, 0xffffffff, AD_ERR_FORMAT, marker);
    without_zip64(4, 2, 1, AD_ERR_UNSUPPORTED, "in several parts");
    without_zip64(6, 2, 1, AD_ERR_UNSUPPORTED, "in several parts");
    without_zip64(8, 2, 1, AD_ERR_UNSUPPORTED, "in several parts");
    without_zip64(12, 4, 1, AD_ERR_FORMAT, "the directory is not where the end record says");
    without_zip64(16, 4, 1, AD_ERR_FORMAT, "the directory is not where the end record says");
}

/* ---- the long forms of an entry's numbers -------------------------------------------------- */

#define LONG_24 "\30\0\0\0\0\0\0\0"

static const struct Extra {
    const char *what, *bytes;
    size_t      n;
    bool        own;            /* markers in the entry's own header as well */
    AdStatus    status;
    const char *part;
} extras[] = {
    { "both sizes", BYTES("\1\0\20\0" LONG_24 LONG_24), false, AD_OK, NULL },
    { "both sizes, twice", BYTES("\1\0\20\0" LONG_24 LONG_24), true, AD_OK, NULL },
    { "behind another field", BYTES("ab\2\0..\1\0\20\0" LONG_24 LONG_24), true, AD_OK, NULL },
    { "behind an empty field", BYTES("ab\0\0\1\0\20\0" LONG_24 LONG_24), true, AD_OK, NULL },
    { "one size", BYTES("\1\0\10\0" LONG_24), false, AD_ERR_FORMAT, "without its field" },
    { "an empty field", BYTES("\1\0\0\0"), false, AD_ERR_FORMAT, "without its field" },
    { "a field of another kind", BYTES("\2\0\20\0" LONG_24 LONG_24), false, AD_ERR_FORMAT,
      "\"t/data/0\": a zip64 marker without its field" },
    { "a field beyond the end", BYTES("\1\0\21\0" LONG_24 LONG_24), false, AD_ERR_FORMAT,
      "without its field" },
    { "behind one beyond the end", BYTES("ab\377\377\1\0\20\0" LONG_24 LONG_24), false,
      AD_ERR_FORMAT, "without its field" },
    { "no whole field", BYTES("\1\0\20"), false, AD_ERR_FORMAT, "without its field" },
    { "two sizes that differ", BYTES("\1\0\20\0" LONG_24 "\31\0\0\0\0\0\0\0"), false,
      AD_ERR_FORMAT, "two sizes though it is stored plainly" },
    { "sizes beyond", BYTES("\1\0\20\0\0\0\0\0\0\0\0\200\0\0\0\0\0\0\0\200"), false,
      AD_ERR_FORMAT, "reaches beyond the file's data" },
    { "all ones", BYTES("\1\0\20\0\377\377\377\377\377\377\377\377"
      "\377\377\377\377\377\377\377\377"), false, AD_ERR_FORMAT, "reaches beyond" },
};

static void long_forms(const struct Extra *e)
{
    ZipWriter w = { 0 };
    static const char zeros[24];

    zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
    w.extra   = e->bytes;
    w.extra_n = e->n;
    zip_add(&w, "t/data/0", zeros, 24);
    zip_end(&w);
    zip_set(&w, w.central[1] + 20, 8, LONG_ONES);
    if (e->own) {
        zip_set(&w, w.local[1] + 14, 4, zip_crc(zeros, 24));
        zip_set(&w, w.local[1] + 18, 8, LONG_ONES);
    }
    closes_with(&w, e->status, e->part);
}

/* ---- entries ------------------------------------------------------------------------------ */

static void of_entries(const char *const *names, AdStatus status, const char *part)
{
    ZipWriter w = { 0 };

    for (size_t i = 0; names[i]; i++)
        if (strstr(names[i], "data.pkl"))
            zip_add(&w, names[i], pickle, sizeof(pickle) - 1);
        else
            zip_add(&w, names[i], (const char[24]){ "little" },
                    strstr(names[i], "order") ? 6 : 24);
    zip_end(&w);
    closes_with(&w, status, part);
}

#define ENTRIES(...) (const char *const[]){ __VA_ARGS__, NULL }

static void there_is_one_pickle_in_one_folder(void)
{
    of_entries(ENTRIES("t/data/0", "t/byteorder", "t/data.pkl", "t/x/y", "u/z"), AD_OK, NULL);
    of_entries(ENTRIES("t/data/0"), AD_ERR_FORMAT, "a zip file without data.pkl");
    of_entries(ENTRIES("data.pkl", "data/0"), AD_ERR_FORMAT, "a zip file without data.pkl");
    of_entries(ENTRIES("/data.pkl", "/data/0"), AD_ERR_FORMAT, "a zip file without data.pkl");
    of_entries(ENTRIES("t/data.pkl", "t/data/0", "u/data.pkl"), AD_ERR_FORMAT, "more than one");
    of_entries(ENTRIES("t/data.pkl", "t/data/0", "t/t/data.pkl"), AD_ERR_FORMAT, "more than one");
    of_entries(ENTRIES("t/u/data.pkl", "t/u/data/0"), AD_ERR_FORMAT, "not in one plain folder");
    of_entries(ENTRIES("../data.pkl", "../data/0"), AD_ERR_FORMAT, "not in one plain folder");
    of_entries(ENTRIES("/t/data.pkl", "/t/data/0"), AD_ERR_FORMAT, "not in one plain folder");
    of_entries(ENTRIES("a\\b/data.pkl", "a\\b/data/0"), AD_ERR_FORMAT, "not in one plain folder");
    of_entries(ENTRIES("t/data.pkl", "u/data/0"), AD_ERR_FORMAT, "does not have");
    of_entries(ENTRIES("t/data.pkl", "t/data/../data/0"), AD_ERR_FORMAT, "does not have");
    of_entries(ENTRIES("t/data.pkl", "t/data/0", "t/data/0"), AD_ERR_FORMAT,
               "zip entry \"t/data/0\": is there twice");
    of_entries(ENTRIES("t/data.pkl", "t/data/0", "t/data.pkl"), AD_ERR_FORMAT,
               "zip entry \"t/data.pkl\": is there twice");
}

static void of_byte_order(const char *text, AdStatus status, const char *part)
{
    ZipWriter w = { 0 };
    static const char zeros[24];

    zip_add(&w, "t/byteorder", text, strlen(text));
    zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
    zip_add(&w, "t/data/0", zeros, 24);
    zip_end(&w);
    closes_with(&w, status, part);
}

static void numbers_are_little_endian(void)
{
    of_byte_order("little", AD_OK, NULL);
    of_byte_order("big", AD_ERR_UNSUPPORTED, "numbers in another byte order");
    of_byte_order("", AD_ERR_UNSUPPORTED, "numbers in another byte order");
    of_byte_order("little\n", AD_ERR_UNSUPPORTED, "numbers in another byte order");
    of_byte_order("little and much else", AD_ERR_FORMAT, "byteorder of 20 bytes; at most 16");
}

/* The directory says that the storage is inside the first entry, where a right header of it is. */
static void an_entry_inside_another_is_refused(void)
{
    ZipWriter inner = { 0 }, w = { 0 };
    static const char zeros[24];

    zip_add(&inner, "t/data/0", zeros, 24);
    zip_add(&w, "t/first", inner.bytes, inner.n);
    zip_add(&w, "t/data/0", zeros, 24);
    zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
    zip_end(&w);
    zip_set(&w, w.central[1] + 42, 4, w.data[0]);
    free(inner.bytes);
    free(inner.directory);
    closes_with(&w, AD_ERR_FORMAT, "zip entry \"t/data/0\": overlaps another");
}

/* The storage's header, moved to where the directory begins before it or its data end. */
static void an_entry_that_reaches_into_the_directory_is_refused(void)
{
    static const char hole[100];

    for (size_t n = 4; n < 30 + 8 + 24; n++) {
        ZipWriter w = { 0 };
        size_t directory_n;

        zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
        zip_add(&w, "t/data/0", hole, 24);
        directory_n = w.directory_n;
        zip_add(&w, "t/hole", hole, sizeof(hole));
        w.directory_n = directory_n;
        w.count--;
        zip_end(&w);
        memcpy(w.bytes + w.central[0] - n, w.bytes + w.local[1], n);
        zip_set(&w, w.central[1] + 42, 4, w.central[0] - n);
        closes_with(&w, AD_ERR_FORMAT, n < 24 ? "reaches beyond the file's data"
                    : n < 30 ? "not where the directory says"
                    : n < 38 ? "has another name at its place"
                    : "reaches beyond the file's data");
    }
}

/* ---- all bytes ---------------------------------------------------------------------------- */

static void every_beginning_is_refused(void)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    for (size_t n = 0; n < w.n; n++) {
        AdStatus st = opened(scratch_write("z.pt", w.bytes, n));

        if (st != AD_ERR_FORMAT)
            FAIL("%zu of %zu bytes: %s", n, w.n, ad_status_name(st));
        if (n >= 8)
            CHECK_CONTAINS(ctx.error, "z.pt: zip file: cut off");
    }
    w.bytes[w.n++] = 0;                         /* there is room */
    closes_with(&w, AD_ERR_FORMAT, "with something behind its end");
}

/* Whatever a byte is changed to, the file is refused with a sentence or read; nothing else. */
static void every_byte_may_be_anything(void)
{
    static const unsigned char others[] = { 0x01, 0x80, 0xff, 0x55 };
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, sizeof(pickle) - 1, 24);
    for (size_t i = 0; i < w.n * AD_COUNT(others); i++) {
        unsigned char *byte = &w.bytes[i / AD_COUNT(others)];
        AdStatus st;

        *byte ^= others[i % AD_COUNT(others)];
        if (i / AD_COUNT(others) - w.data[0] < sizeof(pickle) - 1)      /* with a right checksum */
            zip_set(&w, w.central[0] + 16, 4, zip_crc(w.bytes + w.data[0], sizeof(pickle) - 1));
        st = opened(scratch_write("z.pt", w.bytes, w.n));
        if (st != AD_OK && st != AD_ERR_FORMAT && st != AD_ERR_UNSUPPORTED)
            FAIL("byte %zu as %#x: %s", i / AD_COUNT(others), *byte, ad_status_name(st));
        *byte ^= others[i % AD_COUNT(others)];
        zip_set(&w, w.central[0] + 16, 4, zip_crc(w.bytes + w.data[0], sizeof(pickle) - 1));
    }
    closes_with(&w, AD_OK, NULL);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(fields); i_++)
        RUN_AS(one_field(&fields[i_]), "%s: %s", fields[i_].status < 0 ? "refused" : "read",
               fields[i_].what);
    for (i_ = 0; i_ < AD_COUNT(extras); i_++)
        RUN_AS(long_forms(&extras[i_]), "%s: zip64 field: %s",
               extras[i_].status < 0 ? "refused" : "read", extras[i_].what);
    RUN(counts_beyond_the_directory_are_refused);
    RUN(fewer_entries_than_there_are_is_refused);
    RUN(an_entry_more_than_the_directory_has_is_refused);
    RUN(a_directory_from_before_the_file_is_refused);
    RUN(a_zip64_record_from_before_the_file_is_refused);
    RUN(files_without_zip64_are_read);
    RUN(there_is_one_pickle_in_one_folder);
    RUN(numbers_are_little_endian);
    RUN(an_entry_inside_another_is_refused);
    RUN(an_entry_that_reaches_into_the_directory_is_refused);
    RUN(every_beginning_is_refused);
    RUN(every_byte_may_be_anything);
    return check_result();
}
