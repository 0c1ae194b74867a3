/* test_safetensors.c - the strict reader of safetensors headers.
 *
 * What two readers could understand differently is refused; what cannot be misunderstood is read,
 * however it is written. Caps are tried just below and just above. Values: test_tensor_file.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "hostile.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

#define ENTRY "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

/* ---- accepted ----------------------------------------------------------------------------- */

static const struct Accepted {
    const char *what, *header;
    size_t      data;
    const char *name;           /* a tensor that must be there; NULL: none */
    int         rank;
    int64_t     count;
} accepted[] = {
    { "an ordinary entry", "{\"a\":" ENTRY "}", 8, "a", 1, 2 },
    { "no tensors at all", "{}", 0, NULL, 0, 0 },
    { "white space anywhere", " \t\r\n{ \"a\" : { \"dtype\" :\t\"F32\" , \"shape\" : [ 2 ] ,\n"
      "\"data_offsets\" : [ 0 , 8 ] } }  \n", 8, "a", 1, 2 },
    { "fields in another order", "{\"a\":{\"data_offsets\":[0,8],\"shape\":[2],\"dtype\":\"F32\"}}",
      8, "a", 1, 2 },
    { "tensors in another order than their data",
      "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},\"a\":" ENTRY "}", 12, "b",
      1, 1 },
    { "a scalar", "{\"a\":{\"dtype\":\"I16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2, "a", 0, 1 },
    { "an empty tensor", "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,0,2],\"data_offsets\":[0,0]}}", 0,
      "a", 3, 0 },
    { "empty tensors between others",
      "{\"a\":" ENTRY ",\"e\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[8,8]},"
      "\"f\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}", 9, "e", 1, 0 },
    { "unaligned data", "{\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
      "\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[3,11]}}", 11, "a", 1, 1 },
    { "unknown fields of any kind", "{\"a\":{\"x\":[1,-2.5e-3,{\"y\":null}],\"dtype\":\"F32\","
      "\"z\":\"t\",\"shape\":[2],\"w\":true,\"data_offsets\":[0,8],\"v\":{},\"u\":[],\"n\":-0}}", 8,
      "a", 1, 2 },
    { "metadata null", "{\"__metadata__\":null,\"a\":" ENTRY "}", 8, "a", 1, 2 },
    { "metadata", "{\"a\":" ENTRY ",\"__metadata__\":{\"format\":\"pt\",\"\":\"\"}}", 8, "a",
      1, 2 },
    { "escapes in keys and field names", "{\"\\u0061\\/b\\n\":{\"\\u0064type\":\"F\\u00332\","
      "\"sh\\u0061pe\":[2],\"data_offsets\":[0,8]}}", 8, "a/b\n", 1, 2 },
    { "a surrogate pair", "{\"\\ud83d\\ude00\":" ENTRY "}", 8, "\xf0\x9f\x98\x80", 1, 2 },
    { "a name in UTF-8", "{\"\xc3\xa9\":" ENTRY "}", 8, "\xc3\xa9", 1, 2 },
    { "eight axes",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,2,1,1,1,1],\"data_offsets\":[0,8]}}",
      8, "a", 8, 2 },
    { "the longest axis", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483647,0],\"data_offsets\":"
      "[0,0]}}", 0, "a", 2, 0 },
};

static AdStatus open_raw(const char *header, size_t n, size_t data, AdTensorFile **f)
{
    return ad_tensor_file_open(&ctx, f, tensors_raw("t.safetensors", header, n, data));
}

static void is_accepted(const struct Accepted *a)
{
    AdTensorFile *f = NULL;
    const AdEntry *e;

    if (open_raw(a->header, strlen(a->header), a->data, &f) < 0)
        FAIL("%s", ctx.error);
    if (a->name) {
        e = ad_tensor_file_find(f, a->name);
        CHECK(e != NULL);
        CHECK_INT(e->rank, a->rank);
        CHECK_INT(ad_entry_count(e), a->count);
    } else
        CHECK(ad_tensor_file_find(f, "a") == NULL);
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &f), AD_OK);
    CHECK(f == NULL);
}

static void metadata_can_be_asked_for(void)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"k\\u0061\":\"v\\\"\"}}";
    AdTensorFile *f = NULL;

    CHECK_STATUS(open_raw(header, strlen(header), 0, &f), AD_OK);
    CHECK_TEXT(ad_tensor_file_metadata(f, "format"), "pt");
    CHECK_TEXT(ad_tensor_file_metadata(f, "ka"), "v\"");
    CHECK(ad_tensor_file_metadata(f, "other") == NULL);
    ad_tensor_file_close(&f);
}

/* ---- refused ------------------------------------------------------------------------------ */

#define WITH(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define EXTRA(text) \
    "{\"a\":{\"x\":" text ",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

static const struct Refused {
    const char *header;
    size_t      data;
    const char *part;
} refused[] = {
    /* not one JSON object */
    { "[]", 0, "an object is needed" }, { "null", 0, "an object is needed" },
    { "\"a\"", 0, "an object is needed" }, { "   ", 0, "an object is needed" },
    { "{", 0, "a key is needed" }, { "{\"a\":" ENTRY, 8, "end of an object" },
    { "\xef\xbb\xbf{}", 0, "an object is needed" },
    { "{}{}", 0, "text behind the header's object" }, { "{}x", 0, "text behind" },
    { "{\"a\":" ENTRY ",}", 8, "a key is needed" }, { "{,\"a\":" ENTRY "}", 8, "a key is needed" },
    { "{\"a\" " ENTRY "}", 8, "a colon is needed" }, { "{a:" ENTRY "}", 8, "a key is needed" },
    { "{/* */\"a\":" ENTRY "}", 8, "a key is needed" },
    { "{\"a\":" ENTRY " \"b\":" ENTRY "}", 8, "a comma or the end of an object" },
    { "{'a':" ENTRY "}", 8, "a key is needed" },
    /* strings */
    { "{\"a\nb\":" ENTRY "}", 8, "a control byte" },
    { "{\"a\x01\":" ENTRY "}", 8, "a control byte" },
    { "{\"a\xff\":" ENTRY "}", 8, "not valid UTF-8" },
    { "{\"\xc0\xaf\":" ENTRY "}", 8, "not valid UTF-8" },
    { "{\"\xed\xa0\x80\":" ENTRY "}", 8, "not valid UTF-8" },
    { "{\"a\\ud800\":" ENTRY "}", 8, "half of a surrogate pair" },
    { "{\"a\\ud800\\u0041\":" ENTRY "}", 8, "half of a surrogate pair" },
    { "{\"a\\udc00\":" ENTRY "}", 8, "half of a surrogate pair" },
    { "{\"a\\x41\":" ENTRY "}", 8, "an unknown escape" },
    { "{\"a\\u00g0\":" ENTRY "}", 8, "escape" },
    { "{\"a", 0, "a string without an end" }, { "{\"a\\", 0, "an unknown escape" },
    { "{\"a\\u00", 0, "an unknown escape" },
    /* keys */
    { "{\"a\":" ENTRY ",\"a\":" ENTRY "}", 8, "the same key twice" },
    { "{\"a\":" ENTRY ",\"\\u0061\":" ENTRY "}", 8, "the same key twice" },
    { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
      "the same key twice" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"sh\\u0061pe\":[2]}}",
      8, "" },
    { EXTRA("{\"k\":1,\"k\":2}"), 8, "the same key twice" },
    { "{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}", 0, "the same key twice" },
    { "{\"__metadata__\":null,\"__metadata__\":null}", 0, "the same key twice" },
    { "{\"\":" ENTRY "}", 8, "empty" }, { "{\"a\\u0000b\":" ENTRY "}", 8, "holds a NUL" },
    { "{\"__metadata__\":{\"a\\u0000b\":\"1\"}}", 0, "NUL" },
    { "{\"__metadata__\":{\"a\":1}}", 0, "metadata values must be strings" },
    { "{\"__metadata__\":[]}", 0, "an object is needed" },
    { "{\"__metadata__\":\"x\"}", 0, "an object is needed" },
    { "{\"__metadata__\":nul}", 0, "a value is needed" },
    /* entries */
    { "{\"a\":1}", 0, "an object is needed" }, { "{\"a\":null}", 0, "an object is needed" },
    { "{\"a\":{}}", 0, "an entry needs dtype, shape and data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "an entry needs" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "an entry needs" },
    { "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "an entry needs" },
    { WITH("\"C64\"", "[1]", "[0,8]"), 8, "dtype \"C64\" is not supported" },
    { WITH("\"f32\"", "[2]", "[0,8]"), 8, "dtype \"f32\" is not supported; F32, F16" },
    { WITH("\"F4\"", "[2]", "[0,1]"), 1, "is not supported" },
    { WITH("32", "[2]", "[0,8]"), 8, "a dtype must be a string" },
    { WITH("\"F32\"", "2", "[0,8]"), 8, "a shape must be an array" },
    { WITH("\"F32\"", "{}", "[0,8]"), 8, "a shape must be an array" },
    { WITH("\"F32\"", "[2", "[0,8]"), 8, "a whole number without" },
    { WITH("\"F32\"", "[2,]", "[0,8]"), 8, "a whole number without" },
    { WITH("\"F32\"", "[2 2]", "[0,8]"), 8, "a comma or the end of a shape" },
    /* numbers in another spelling */
    { WITH("\"F32\"", "[2.0]", "[0,8]"), 8, "without sign, point or exponent" },
    { WITH("\"F32\"", "[2e0]", "[0,8]"), 8, "without sign, point or exponent" },
    { WITH("\"F32\"", "[-2]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[-0]", "[0,0]"), 0, "without sign" },
    { WITH("\"F32\"", "[+2]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[02]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[\"2\"]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[true]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[null]", "[0,8]"), 8, "without sign" },
    { WITH("\"F32\"", "[0x2]", "[0,8]"), 8, "a comma or the end" },
    { WITH("\"F32\"", "[2]", "[0,9223372036854775808]"), 8, "2^63 or more" },
    { WITH("\"F32\"", "[2]", "[0,99999999999999999999]"), 8, "2^63 or more" },
    { WITH("\"F32\"", "[2]", "[0,8.0]"), 8, "without sign" },
    /* offsets */
    { WITH("\"F32\"", "[2]", "[0]"), 8, "data_offsets needs two numbers" },
    { WITH("\"F32\"", "[2]", "[]"), 8, "without sign" },
    { WITH("\"F32\"", "[2]", "[0,8,8]"), 8, "no more" },
    { WITH("\"F32\"", "[2]", "8"), 8, "data_offsets must be an array" },
    { WITH("\"F32\"", "[2]", "[8,0]"), 8, "cut off or its header is wrong" },
    { WITH("\"F32\"", "[2]", "[0,8]"), 7, "from byte 0 to 8 of 7" },
    { WITH("\"F32\"", "[2]", "[0,9223372036854775807]"), 8, "cut off" },
    { WITH("\"F32\"", "[3]", "[0,8]"), 8, "12 bytes by its shape has 8 bytes" },
    { WITH("\"F32\"", "[0]", "[0,8]"), 8, "0 bytes by its shape has 8" },
    { WITH("\"F32\"", "[2]", "[0,0]"), 0, "8 bytes by its shape has 0" },
    { WITH("\"F32\"", "[]", "[0,8]"), 8, "4 bytes by its shape" },
    /* shapes */
    { WITH("\"F32\"", "[1,1,1,1,2,1,1,1,1]", "[0,8]"), 8, "more than 8 axes" },
    { WITH("\"F32\"", "[2147483648]", "[0,8]"), 8, "an axis of 2^31" },
    { WITH("\"F32\"", "[2147483648,0]", "[0,0]"), 0, "an axis of 2^31" },
    { WITH("\"F32\"", "[2147483647,2147483647,2147483647]", "[0,8]"), 8, "overflows" },
    { WITH("\"F32\"", "[2147483647,2147483647,2147483647,0]", "[0,0]"), 0, "overflows" },
    { WITH("\"F64\"", "[2147483647,1073741824,0]", "[0,0]"), 0, "overflows" },
    /* tiling */
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "a hole at byte" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12, "a hole at byte" },
    { "{\"a\":" ENTRY ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
      "overlaps at byte" },
    { "{\"a\":" ENTRY ",\"b\":" ENTRY "}", 8, "overlaps at byte" },
    { "{\"a\":" ENTRY ",\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8,
      "overlaps at byte" },
    { "{\"a\":" ENTRY "}", 9, "1 bytes behind the last tensor" },
    { "{}", 5, "5 bytes behind the last tensor" },
    /* values nobody asked for must be JSON as well */
    { EXTRA("NaN"), 8, "a value is needed" }, { EXTRA("Infinity"), 8, "a value is needed" },
    { EXTRA("tru"), 8, "a value is needed" }, { EXTRA("01"), 8, "a comma or the end" },
    { EXTRA("1."), 8, "a value is needed" }, { EXTRA(".5"), 8, "a value is needed" },
    { EXTRA("+1"), 8, "a value is needed" }, { EXTRA("1e"), 8, "a value is needed" },
    { EXTRA("-"), 8, "a value is needed" }, { EXTRA("[1,]"), 8, "a value is needed" },
    { EXTRA("[1 2]"), 8, "a comma or the end of an array" }, { EXTRA("{\"b\" 1}"), 8, "a colon" },
    { EXTRA("\"\t\""), 8, "a control byte" }, { EXTRA("//\n1"), 8, "a value is needed" },
};

static void is_refused(const struct Refused *r)
{
    AdTensorFile *f = NULL;

    CHECK_STATUS(open_raw(r->header, strlen(r->header), r->data, &f), AD_ERR_FORMAT);
    CHECK(f == NULL);
    CHECK_CONTAINS(ctx.error, r->part);
    CHECK_CONTAINS(ctx.error, "t.safetensors: ");
    CHECK(strlen(ctx.error) <= 300);
}

/* ---- sizes that lie ----------------------------------------------------------------------- */

static void claimed(uint64_t claim, const char *header, AdStatus status)
{
    char all[64] = { 0 };
    AdTensorFile *f = NULL;

    for (int i = 0; i < 8; i++)
        all[i] = (char)(claim >> 8 * i);
    strcpy(all + 8, header);
    CHECK_STATUS(ad_tensor_file_open(&ctx, &f, scratch_write("l.safetensors", all,
                                                             8 + strlen(header))), status);
    ad_tensor_file_close(&f);
}

static void a_header_must_lie_within_the_file(void)
{
    claimed(2, "{}", AD_OK);
    claimed(0, "{}", AD_ERR_FORMAT);
    claimed(1, "{}", AD_ERR_FORMAT);
    claimed(3, "{}", AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "header of 3 bytes in a file of 10");
    claimed((uint64_t)AD_CAP_HEADER + 1, "{}", AD_ERR_FORMAT);
    claimed(UINT64_MAX, "{}", AD_ERR_FORMAT);
    claimed((uint64_t)1 << 63, "{}", AD_ERR_FORMAT);
    claimed(UINT64_MAX - 7, "{}", AD_ERR_FORMAT);       /* 8 more wrap around */
}

/* A header of n bytes: an object and spaces. */
static AdStatus spaced_header(size_t n)
{
    char *header = malloc(n);
    AdTensorFile *f = NULL;
    AdStatus st;

    memset(header, ' ', n);
    memcpy(header, "{}", 2);
    st = open_raw(header, n, 0, &f);
    ad_tensor_file_close(&f);
    free(header);
    return st;
}

static void a_header_has_at_most_16_mib(void)
{
    CHECK_STATUS(spaced_header(AD_CAP_HEADER), AD_OK);
    CHECK_STATUS(spaced_header(AD_CAP_HEADER + 1), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "at most 16777216");
}

static AdStatus many_tensors(size_t n)
{
    TensorWriter w = { 0 };
    AdTensorFile *f = NULL;
    AdStatus st;

    for (size_t i = 0; i < n; i++) {
        char name[32];

        snprintf(name, sizeof(name), "t%zu", i);
        tensors_add(&w, name, "U8", 0, NULL, NULL, 1);
    }
    st = ad_tensor_file_open(&ctx, &f, tensors_write(&w, "many.safetensors"));
    ad_tensor_file_close(&f);
    return st;
}

static void a_file_has_at_most_65536_tensors(void)
{
    CHECK_STATUS(many_tensors(65536), AD_OK);
    CHECK_STATUS(many_tensors(65537), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "more than 65536 tensors");
}

static AdStatus long_name(size_t n)
{
    char name[600] = "";
    TensorWriter w = { 0 };
    AdTensorFile *f = NULL;
    AdStatus st;

    memset(name, 'n', n);
    tensors_add(&w, name, "U8", 1, (int64_t[]){ 1 }, NULL, 1);
    st = ad_tensor_file_open(&ctx, &f, tensors_write(&w, "name.safetensors"));
    ad_tensor_file_close(&f);
    return st;
}

static void a_name_has_at_most_512_bytes(void)
{
    CHECK_STATUS(long_name(512), AD_OK);
    CHECK_STATUS(long_name(513), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "longer than 512 bytes");
}

/* An unknown field with n brackets inside each other; the entry itself is two deep. */
static AdStatus nested(int n)
{
    char header[256] = "{\"a\":{\"x\":";
    AdTensorFile *f = NULL;
    AdStatus st;

    for (int i = 0; i < n; i++)
        strcat(header, "[");
    for (int i = 0; i < n; i++)
        strcat(header, "]");
    strcat(header, ",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");
    st = open_raw(header, strlen(header), 8, &f);
    ad_tensor_file_close(&f);
    return st;
}

static void nesting_ends_at_32(void)
{
    CHECK_STATUS(nested(30), AD_OK);
    CHECK_STATUS(nested(31), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "nested too deeply");
}

/* ---- work that a hostile header may cause ------------------------------------------------- */

/* start, then `unit` as often as fits into 16 MiB. */
static const struct Hostile { const char *what, *start, *unit; } hostile[] = {
    { "brackets", "{\"a\":{\"x\":", "[" },
    { "objects", "{\"a\":{\"x\":", "{\"b\":" },
    { "one string", "{\"", "s" },
    { "escapes", "{\"", "\\u0061" },
    { "numbers", "{\"a\":{\"x\":[0", ",0" },
    { "digits", "{\"a\":{\"shape\":[", "1" },
    { "keys in an unknown object", "{\"a\":{\"x\":{\"\":0", ",\"\":0" },
    { "metadata", "{\"__metadata__\":{\"\":\"\"", ",\"\":\"\"" },
    { "tensors", "{\"\":{}", ",\"b\":{}" },
    { "white space", "{", " " },
    { "axes", "{\"a\":{\"shape\":[1", ",1" },
};

static AdStatus open_file(const char *path)
{
    AdTensorFile *f = NULL;

    return ad_tensor_file_open(&ctx, &f, path);
}

static void costs_little(const struct Hostile *h)
{
    size_t n = strlen(h->start), m = strlen(h->unit), most = AD_CAP_HEADER;
    char *header = malloc(most);
    const char *why;

    memcpy(header, h->start, n);
    for (; n + m <= most; n += m)
        memcpy(header + n, h->unit, m);
    why = hostile_open(open_file, tensors_raw("hostile.safetensors", header, n, 0));
    free(header);
    if (why)
        FAIL("%s", why);
}

/* Every prefix and every changed byte of a good header: refused or read, never a crash. */
static void no_damaged_header_does_harm(void)
{
    static const char good[] = "{\"__metadata__\":{\"f\":\"pt\"},\"a\\u0062\":{\"dtype\":\"F16\","
                               "\"shape\":[1,2],\"data_offsets\":[0,4],\"x\":[{\"y\":-1.5e2}]}}";
    static const char bytes[] = "\"\\{}[],:0-9e.u \x01\x7f\xc3\xff";
    char header[sizeof(good)];
    AdTensorFile *f = NULL;
    size_t n = strlen(good);

    for (size_t i = 1; i < n; i++) {
        CHECK_STATUS(open_raw(good, i, 4, &f), AD_ERR_FORMAT);
        for (size_t k = 0; k < sizeof(bytes); k++) {
            AdStatus st;

            memcpy(header, good, sizeof(good));
            header[i] = bytes[k];
            st = open_raw(header, n, 4, &f);
            CHECK(st == AD_OK || st == AD_ERR_FORMAT);
            ad_tensor_file_close(&f);
        }
    }
}

/* ---- main --------------------------------------------------------------------------------- */

#define EACH(array, function, text, ...)                                                \
    for (i_ = 0; i_ < AD_COUNT(array); i_++)                                            \
        RUN_AS(function(&(array)[i_]), text, __VA_ARGS__);

int main(void)
{
    char quoted[AD_QUOTE_TEXT];

    EACH(accepted, is_accepted, "accepted: %s", accepted[i_].what)
    RUN(metadata_can_be_asked_for);
    EACH(refused, is_refused, "refused: %s", ad_quote(refused[i_].header,
                                                       strlen(refused[i_].header), quoted))
    RUN(a_header_must_lie_within_the_file);
    RUN(a_header_has_at_most_16_mib);
    RUN(a_file_has_at_most_65536_tensors);
    RUN(a_name_has_at_most_512_bytes);
    RUN(nesting_ends_at_32);
    EACH(hostile, costs_little, "16 MiB of %s cost little", hostile[i_].what)
    RUN(no_damaged_header_does_harm);
    return check_result();
}
