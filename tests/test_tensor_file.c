/* test_tensor_file.c - opening files that may be anything, and reading their numbers exactly.
 *
 * Types are checked against arithmetic of their own (ldexp on the fields of the bits), all patterns
 * of the small ones.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "../engine/internal.h"
#include "check.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

/* ---- numbers ------------------------------------------------------------------------------ */

/* A float of `mantissa` and `exponent` bits under a sign; finite: all ones is no infinity but, with
 * a full mantissa, the one NaN. */
static double small_float(uint32_t bits, int exponent, int mantissa, bool finite)
{
    int bias = (1 << (exponent - 1)) - 1, top = (1 << exponent) - 1;
    int e = (int)(bits >> mantissa) & top, m = (int)bits & ((1 << mantissa) - 1);
    double sign = bits >> (exponent + mantissa) & 1 ? -1 : 1;

    if (e == top && (!finite || m == (1 << mantissa) - 1))
        return m ? NAN : sign * INFINITY;
    return sign * (e ? ldexp(m + (1 << mantissa), e - bias - mantissa)
                     : ldexp(m, 1 - bias - mantissa));
}

static void same_float(float found, double wanted, uint32_t bits)
{
    bool same =
        isnan(wanted) ? isnan(found) : found == wanted && !signbit(found) == !signbit(wanted);

    if (!same)
        FAIL("%#x is %.9g, not %.9g", (unsigned)bits, found, wanted);
}

/* One tensor of n numbers, read; free() it. */
static float *read_back(const char *dtype, const void *data, size_t n, size_t size)
{
    TensorWriter w = { 0 };
    AdTensorFile *f = NULL;
    float *out = malloc(n * sizeof(*out));
    const AdEntry *e;

    tensors_add(&w, "u", "U8", 1, (int64_t[]){ 1 }, NULL, 1);      /* the rest is not aligned */
    tensors_add(&w, "t", dtype, 1, (int64_t[]){ (int64_t)n }, data, n * size);
    CHECK_STATUS(ad_tensor_file_open(&ctx, &f, tensors_write(&w, "numbers.safetensors")), AD_OK);
    e = ad_tensor_file_find(f, "t");
    CHECK(e != NULL);
    CHECK_INT(ad_entry_count(e), n);
    CHECK_STATUS(ad_entry_read(&ctx, f, e, out), AD_OK);
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_OK);
    return out;
}

static const struct Format { const char *dtype; int size, exponent, mantissa; bool finite; }
formats[] = {
    { "F16", 2, 5, 10, false }, { "BF16", 2, 8, 7, false }, { "F8_E5M2", 1, 5, 2, false },
    { "F8_E4M3", 1, 4, 3, true },
};

static void every_pattern_is_read(const struct Format *format)
{
    uint32_t n = format->size == 1 ? 256 : 65536;
    unsigned char *data = malloc((size_t)n * 2);
    float *found;

    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < format->size; k++)
            data[i * (uint32_t)format->size + (uint32_t)k] = (unsigned char)(i >> 8 * k);
    found = read_back(format->dtype, data, n, (size_t)format->size);
    for (uint32_t i = 0; i < n; i++)
        same_float(found[i], small_float(i, format->exponent, format->mantissa, format->finite), i);
    free(data);
    free(found);
}

/* Bit patterns of a wide type, each as the float nearest to it. */
static void wide_numbers_are_rounded_once(void)
{
    static const double doubles[] = { 0, -0.0, 1, -1.5, 1e-46, 3.4028236e38, 1e39, 16777217,
                                      0.1, 1 + 1e-9, INFINITY };
    static const int64_t longs[] = { 0, -1, 16777217, INT64_MIN, INT64_MAX, -9007199254740993 };
    static const uint64_t unsigneds[] = { 0, 1, 16777217, UINT64_MAX, 1ull << 63 };
    static const int32_t ints[] = { 0, -1, 16777217, INT32_MIN, INT32_MAX };
    static const uint32_t words[] = { 0, 1, 16777219, UINT32_MAX };
    float *found;

#define EACH(dtype, values)                                                             \
    found = read_back(dtype, values, AD_COUNT(values), sizeof((values)[0]));            \
    for (size_t i = 0; i < AD_COUNT(values); i++)                                       \
        same_float(found[i], (float)(values)[i], (uint32_t)i);                          \
    free(found);
    EACH("F64", doubles)
    EACH("I64", longs)
    EACH("U64", unsigneds)
    EACH("I32", ints)
    EACH("U32", words)
#undef EACH
}

static void small_integers_and_truth_are_read(void)
{
    static const unsigned char bytes[] = { 0, 1, 127, 128, 255 };
    static const int16_t shorts[] = { 0, -1, 32767, -32768 };
    float *u8 = read_back("U8", bytes, 5, 1), *i8 = read_back("I8", bytes, 5, 1);
    float *truth = read_back("BOOL", bytes, 2, 1);
    float *i16 = read_back("I16", shorts, 4, 2), *u16 = read_back("U16", shorts, 4, 2);

    for (int i = 0; i < 5; i++) {
        CHECK(u8[i] == bytes[i]);
        CHECK(i8[i] == (bytes[i] < 128 ? bytes[i] : bytes[i] - 256));
    }
    for (int i = 0; i < 4; i++) {
        CHECK(i16[i] == shorts[i]);
        CHECK(u16[i] == (uint16_t)shorts[i]);
    }
    CHECK(truth[0] == 0 && truth[1] == 1);
    free(u8), free(i8), free(truth), free(i16), free(u16);
}

static void floats_keep_every_bit(void)
{
    static const uint32_t bits[] = { 0, 0x80000000u, 1, 0x7f800000u, 0xff800000u, 0x7fc00001u,
                                     0x3f800001u, 0x00800000u, 0x7f7fffffu };
    float *found = read_back("F32", bits, AD_COUNT(bits), 4);

    CHECK(!memcmp(found, bits, sizeof(bits)));
    free(found);
}

/* More than one piece of a megabyte, in a type that is converted. */
static void long_tensors_are_read_piece_by_piece(void)
{
    enum { N = 1500001 };
    int16_t *numbers = malloc(N * sizeof(*numbers));
    float *found;

    for (int i = 0; i < N; i++)
        numbers[i] = (int16_t)(i * 31);
    found = read_back("I16", numbers, N, 2);
    for (int i = 0; i < N; i++)
        if (found[i] != numbers[i])
            FAIL("number %d is %g, not %d", i, found[i], numbers[i]);
    free(numbers);
    free(found);
}

/* A sparse file: offsets need 64 bits. */
static void a_tensor_behind_five_gigabytes_is_read(void)
{
    static const char header[] = "{\"big\":{\"dtype\":\"U8\",\"shape\":[3,1789569707],"
        "\"data_offsets\":[0,5368709121]},\"t\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[5368709121,5368709125]}}";
    const char *path = tensors_raw("sparse.safetensors", header, strlen(header), 0);
    off_t at = (off_t)(8 + strlen(header)) + 5368709121;
    float value = 1.25f, found = 0;
    int fd = open(path, O_WRONLY);
    bool written = fd >= 0 && pwrite(fd, &value, 4, at) == 4;
    AdTensorFile *f = NULL;

    close(fd);
    if (!written)
        SKIP("no sparse file of 5 GiB can be made here");
    CHECK_STATUS(ad_tensor_file_open(&ctx, &f, path), AD_OK);
    CHECK_STATUS(ad_entry_read(&ctx, f, ad_tensor_file_find(f, "t"), &found), AD_OK);
    CHECK(found == value);
    ad_tensor_file_close(&f);
    unlink(path);
}

static void shapes_are_written_for_people(void)
{
    AdEntry e = { .rank = 4, .shape = { 320, 4, 3, 3 } }, most = { .rank = 8 };
    char text[AD_ENTRY_TEXT];

    CHECK_TEXT(ad_entry_shape(&e, text), "[320, 4, 3, 3]");
    CHECK_TEXT(ad_entry_shape(&(AdEntry){ 0 }, text), "[]");
    for (int i = 0; i < 8; i++)
        most.shape[i] = INT32_MAX;
    CHECK_INT(strlen(ad_entry_shape(&most, text)), 8 * 10 + 7 * 2 + 2);
}

/* ---- files that are something else -------------------------------------------------------- */

static const struct Other {
    const char *what, *start;
    size_t bytes;
    AdStatus status;
    const char *part;
} others[] = {
    { "an empty file", "", 0, AD_ERR_FORMAT, "an empty file" },
    { "seven bytes", "1234567", 7, AD_ERR_FORMAT, "7 bytes are too few" },
    { "a Git-LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", 64,
      AD_ERR_FORMAT, "git lfs pull" },
    { "a web page", "<!DOCTYPE html><html>", 21, AD_ERR_FORMAT, "a web page, not a model" },
    { "a web page in small letters", "<!doctype html>", 15, AD_ERR_FORMAT, "a web page" },
    { "a web page without a type", "<html><body>", 12, AD_ERR_FORMAT, "a web page" },
    { "a gzip file", "\x1f\x8b\x08\0\0\0\0\0\0\3", 10, AD_ERR_FORMAT, "gzip" },
    { "a GGUF file", "GGUF\3\0\0\0\0\0\0\0", 12, AD_ERR_FORMAT, "GGUF" },
    { "the beginning of a zip file", "PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0", 16, AD_ERR_FORMAT,
      "zip file: cut off" },
    { "a bare pickle", "\x80\2}q\0X\1\0\0\0as.", 14, AD_ERR_UNSUPPORTED, "a bare pickle" },
    { "a safetensors file that begins like a pickle", "\x80\2\0\0\0\0\0\0{}", 10,
      AD_ERR_FORMAT, "not a safetensors file, or cut off: header of 640 bytes" },
    { "text", "{\"a\": 1, \"b\": 2}", 16, AD_ERR_FORMAT, "not a safetensors file" },
};

static void is_named(const struct Other *o)
{
    AdTensorFile *f = NULL;

    CHECK_STATUS(ad_tensor_file_open(&ctx, &f, scratch_write("other", o->start, o->bytes)),
                 o->status);
    CHECK_CONTAINS(ctx.error, o->part);
    CHECK_CONTAINS(ctx.error, "other: ");
}

static void only_regular_files_are_opened(void)
{
    AdFile *f = NULL;
    const char *fifo = scratch("fifo");

    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("missing")), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ctx.error, "missing: no such file");
    CHECK_STATUS(ad_file_open(&ctx, &f, ""), AD_ERR_NOTFOUND);
    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("")), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, "not a regular file");
    CHECK_STATUS(ad_file_open(&ctx, &f, "/dev/zero"), AD_ERR_INVALID);
    if (mkfifo(fifo, 0600) < 0)
        FAIL("no FIFO: %s", strerror(errno));
    alarm(30);                                      /* a reader that waits is ended */
    CHECK_STATUS(ad_file_open(&ctx, &f, fifo), AD_ERR_INVALID);
    alarm(0);
    CHECK(f == NULL);
    scratch_text("plain", "x");
    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("plain/below")), AD_ERR_NOTFOUND);
}

static void programs_started_meanwhile_do_not_inherit_files(void)
{
    AdFile *f = NULL;

    CHECK_STATUS(ad_file_open(&ctx, &f, scratch_text("private", "x")), AD_OK);
    CHECK(fcntl(f->fd, F_GETFD) & FD_CLOEXEC);
    ad_file_close(&f);
}

static void links_of_the_user_are_followed(void)
{
    AdFile *f = NULL;

    scratch_text("blobs/b1", "12345");
    scratch_link("snapshot/model", "../blobs/b1");
    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("snapshot/model")), AD_OK);
    CHECK_INT(f->size, 5);
    ad_file_close(&f);
    scratch_link("snapshot/dangling", "../blobs/b2");
    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("snapshot/dangling")), AD_ERR_NOTFOUND);
    scratch_link("snapshot/loop", "loop");
    CHECK_STATUS(ad_file_open(&ctx, &f, scratch("snapshot/loop")), AD_ERR_IO);
}

static void a_file_that_may_not_be_read_says_so(void)
{
    const char *path = scratch_text("secret", "x");
    AdFile *f = NULL;
    AdStatus st;

    CHECK(chmod(path, 0) == 0 && chmod(scratch(""), 0755) == 0);
    if (geteuid() == 0 && seteuid(65534) < 0)       /* root reads everything */
        SKIP("everything may be read here");
    st = ad_file_open(&ctx, &f, path);
    if (getuid() == 0 && seteuid(0) < 0)
        FAIL("the test lost its rights");
    CHECK_STATUS(st, AD_ERR_ACCESS);
    CHECK_CONTAINS(ctx.error, "secret: may not be read");
}

/* ---- files that change -------------------------------------------------------------------- */

static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

static AdTensorFile *opened(const char **path)
{
    AdTensorFile *f = NULL;

    *path = tensors_raw("changing.safetensors", header, strlen(header), 8);
    CHECK_STATUS(ad_tensor_file_open(&ctx, &f, *path), AD_OK);
    return f;
}

static void nothing_is_read_beyond_the_end(void)
{
    AdFile *f = NULL;
    char bytes[8];

    CHECK_STATUS(ad_file_open(&ctx, &f, scratch_write("ten", "0123456789", 10)), AD_OK);
    CHECK_STATUS(ad_file_read(&ctx, f, 2, bytes, 8), AD_OK);
    CHECK(!memcmp(bytes, "23456789", 8));
    CHECK_STATUS(ad_file_read(&ctx, f, 10, bytes, 0), AD_OK);
    CHECK_STATUS(ad_file_read(&ctx, f, 3, bytes, 8), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "ten: 8 bytes wanted at 3, the file has 10");
    CHECK_STATUS(ad_file_read(&ctx, f, 11, bytes, 0), AD_ERR_FORMAT);
    CHECK_STATUS(ad_file_read(&ctx, f, UINT64_MAX - 3, bytes, 8), AD_ERR_FORMAT);
    ad_file_close(&f);
}

static void a_file_that_grew_while_loading_is_refused(void)
{
    const char *path;
    AdTensorFile *f = opened(&path);

    CHECK(truncate(path, (off_t)(8 + strlen(header) + 9)) == 0);
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_ERR_IO);
    CHECK(f == NULL);
    CHECK_CONTAINS(ctx.error, "changed while it was loaded");
}

static void a_file_that_was_cut_while_loading_is_refused(void)
{
    const char *path;
    AdTensorFile *f = opened(&path);
    float numbers[2];

    CHECK(truncate(path, (off_t)(8 + strlen(header) + 3)) == 0);
    CHECK_STATUS(ad_entry_read(&ctx, f, ad_tensor_file_find(f, "a"), numbers), AD_ERR_IO);
    CHECK_CONTAINS(ctx.error, "ended early");
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_ERR_IO);
}

static void a_file_written_to_while_loading_is_refused(void)
{
    const char *path;
    AdTensorFile *f = opened(&path);
    struct timeval past[2] = { { 1000000000, 0 }, { 1000000000, 0 } };

    CHECK(utimes(path, past) == 0);                 /* as if written at another time */
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_ERR_IO);
}

static void a_file_replaced_while_loading_is_the_old_one(void)
{
    const char *path;
    AdTensorFile *f = opened(&path);
    float numbers[2] = { 1, 1 };

    rename(scratch_text("new", "something else"), path);
    CHECK_STATUS(ad_entry_read(&ctx, f, ad_tensor_file_find(f, "a"), numbers), AD_OK);
    CHECK(numbers[0] == 0 && numbers[1] == 0);
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_ERR_IO);   /* its links changed */
}

static void slurped_text_has_a_cap(void)
{
    const char *path = scratch_text("text", "0123456789");
    char *text = NULL;
    size_t n = 0;

    CHECK_STATUS(ad_file_slurp(&ctx, path, 10, &text, &n), AD_OK);
    CHECK_INT(n, 10);
    CHECK_TEXT(text, "0123456789");
    ad_free(text);
    CHECK_STATUS(ad_file_slurp(&ctx, path, 9, &text, &n), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "10 bytes; at most 9 are accepted");
    CHECK(text == NULL);
}

static void names_from_files_are_plain(void)
{
    char longest[257];

    memset(longest, 'n', sizeof(longest));
    CHECK(ad_name_is_plain("model-00001-of-00002.safetensors", 32));
    CHECK(ad_name_is_plain("...", 3));
    CHECK(ad_name_is_plain(longest, 255) && !ad_name_is_plain(longest, 256));
    CHECK(!ad_name_is_plain("", 0) && !ad_name_is_plain(".", 1) && !ad_name_is_plain("..", 2));
    CHECK(!ad_name_is_plain("a/b", 3) && !ad_name_is_plain("/b", 2) &&
          !ad_name_is_plain("a\\b", 3));
    CHECK(!ad_name_is_plain("a\0b", 3));
}

static void the_last_part_of_a_path_is_its_name(void)
{
    char name[8];

    ad_path_name("/models/v1-5", name, sizeof(name));
    CHECK_TEXT(name, "v1-5");
    ad_path_name("models/v1-5///", name, sizeof(name));
    CHECK_TEXT(name, "v1-5");
    ad_path_name("long-name-of-a-model", name, sizeof(name));
    CHECK_TEXT(name, "long-na");
    ad_path_name("/", name, sizeof(name));
    CHECK(strlen(name) <= 1);
    ad_path_name("", name, sizeof(name));
    CHECK_TEXT(name, "");
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(formats); i_++)
        RUN_AS(every_pattern_is_read(&formats[i_]), "every pattern of %s", formats[i_].dtype);
    RUN(wide_numbers_are_rounded_once);
    RUN(small_integers_and_truth_are_read);
    RUN(floats_keep_every_bit);
    RUN(long_tensors_are_read_piece_by_piece);
    RUN(a_tensor_behind_five_gigabytes_is_read);
    RUN(shapes_are_written_for_people);
    for (i_ = 0; i_ < AD_COUNT(others); i_++)
        RUN_AS(is_named(&others[i_]), "named: %s", others[i_].what);
    RUN(only_regular_files_are_opened);
    RUN(programs_started_meanwhile_do_not_inherit_files);
    RUN(links_of_the_user_are_followed);
    RUN(a_file_that_may_not_be_read_says_so);
    RUN(nothing_is_read_beyond_the_end);
    RUN(a_file_that_grew_while_loading_is_refused);
    RUN(a_file_that_was_cut_while_loading_is_refused);
    RUN(a_file_written_to_while_loading_is_refused);
    RUN(a_file_replaced_while_loading_is_the_old_one);
    RUN(slurped_text_has_a_cap);
    RUN(names_from_files_are_plain);
    RUN(the_last_part_of_a_path_is_its_name);
    return check_result();
}
