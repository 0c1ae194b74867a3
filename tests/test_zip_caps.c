/* test_zip_caps.c - how large a zip file's directory may be, and what refusing a large one costs.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "hostile.h"
#include "pickles.h"
#include "zips.h"

static AdContext ctx;

static const char pickle[] = A(TENSOR);

static AdStatus opened(const char *path)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(&ctx, &f, path);

    ad_tensor_file_close(&f);
    return st;
}

static void of_count(size_t n, size_t name, AdStatus status, const char *part)
{
    ZipWriter w = { 0 };
    static const char zeros[24];
    char text[600];

    zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
    zip_add(&w, "t/data/0", zeros, 24);
    for (size_t i = 2; i < n; i++) {
        memset(text, 'n', sizeof(text));
        snprintf(text + name - 7, sizeof(text) - name + 7, "%07zu", i);
        zip_add(&w, text, "", 0);
    }
    zip_end(&w);
    CHECK_STATUS(opened(zip_write(&w, "z.pt")), status);
    if (part)
        CHECK_CONTAINS(ctx.error, part);
}

static void a_zip_file_has_at_most_65536_entries(void)
{
    of_count(65536, 10, AD_OK, NULL);
    of_count(65537, 10, AD_ERR_FORMAT, "more than 65536 entries");
}

static void a_directory_has_at_most_8_mib(void)
{
    size_t first = 2 * 46 + 10 + 8, most = 2 + (AD_CAP_DIRECTORY - first) / (46 + 500);

    of_count(most, 500, AD_OK, NULL);
    of_count(most + 1, 500, AD_ERR_FORMAT, "a directory of more than 8 MiB");
}

static void an_entry_name_has_at_most_512_bytes(void)
{
    of_count(3, 512, AD_OK, NULL);
    of_count(3, 513, AD_ERR_FORMAT, "longer than 512 bytes");
}

/* The most there may be of everything, refused at the last look: two entries of one name. */
static void refusing_the_largest_directory_is_cheap(void)
{
    ZipWriter w = { 0 };
    char text[90];
    const char *wrong;

    zip_add(&w, "t/data.pkl", pickle, sizeof(pickle) - 1);
    for (size_t i = 1; i < AD_CAP_ZIP_ENTRIES; i++) {
        memset(text, 'n', sizeof(text));        /* in an order that is not that of the names */
        snprintf(text + 72, 10, "%08zu", i / 2 * 40503u % 65536);
        zip_add(&w, text, "", 0);
    }
    zip_end(&w);
    CHECK(w.directory_n <= AD_CAP_DIRECTORY);
    wrong = hostile_open(opened, zip_write(&w, "z.pt"));
    if (wrong)
        FAIL("%s", wrong);
}

int main(void)
{
    RUN(a_zip_file_has_at_most_65536_entries);
    RUN(a_directory_has_at_most_8_mib);
    RUN(an_entry_name_has_at_most_512_bytes);
    RUN(refusing_the_largest_directory_is_cheap);
    return check_result();
}
