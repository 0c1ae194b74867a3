/* test_torch_file.c - files of torch.save against the same tensors as safetensors.
 *
 * tests/golden/torch, written by torch itself. What must be refused: test_pickle.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"
#include "zips.h"

static AdContext ctx;
static size_t i_;               /* these outlive the longjmp of a failing case */
static AdTensorFile *found, *wanted;

static const char *golden_path(const char *name, const char *ending)
{
    static char path[300];

    snprintf(path, sizeof(path), GOLDEN "torch/%s%s", name, ending);
    return path;
}

static AdTensorFile *opened(const char *path)
{
    AdTensorFile *f = NULL;

    if (ad_tensor_file_open(&ctx, &f, path) < 0)
        FAIL("%s", ctx.error);
    return f;
}

/* ---- the same as safetensors -------------------------------------------------------------- */

static void same_entry(const AdEntry *e, const AdEntry *w)
{
    size_t n = (size_t)ad_entry_count(w);
    float *a = calloc(n + 1, sizeof(*a)), *b = calloc(n + 1, sizeof(*b));

    CHECK_TEXT(e->name, w->name);
    CHECK_TEXT(ad_dtype_name(e->dtype), ad_dtype_name(w->dtype));
    CHECK_INT(e->rank, w->rank);
    for (int i = 0; i < w->rank; i++)
        CHECK_INT(e->shape[i], w->shape[i]);
    CHECK_INT(e->bytes, w->bytes);
    CHECK_INT(ad_entry_count(e), n);
    CHECK_STATUS(ad_entry_read(&ctx, found, e, a), AD_OK);
    CHECK_STATUS(ad_entry_read(&ctx, wanted, w, b), AD_OK);
    for (size_t i = 0; i <= n; i++)         /* and nothing behind the last */
        if (memcmp(&a[i], &b[i], sizeof(a[i])))
            FAIL("%s: number %zu is %.9g, not %.9g", w->name, i, a[i], b[i]);
    free(a);
    free(b);
}

static void is_the_same(const char *name, const char *as)
{
    found  = opened(golden_path(name, ".pt"));
    wanted = opened(golden_path(as, ".safetensors"));
    CHECK_INT(found->count, wanted->count);
    for (size_t i = 0; i < wanted->count; i++)
        same_entry(&found->entries[i], &wanted->entries[i]);
    CHECK(ad_tensor_file_find(found, "no such") == NULL);
    CHECK(ad_tensor_file_metadata(found, "format") == NULL);
    ad_tensor_file_close(&wanted);
    CHECK_STATUS(ad_tensor_file_finish(&ctx, &found), AD_OK);
}

static void other_files_have_other_hashes(void)
{
    uint64_t a = 1, b = 1;

    found  = opened(golden_path("views", ".pt"));
    wanted = opened(golden_path("dtypes", ".pt"));
    CHECK_STATUS(ad_hash_file(&ctx, found, &a), AD_OK);
    CHECK_STATUS(ad_hash_file(&ctx, wanted, &b), AD_OK);
    CHECK(a != 1 && a != b);
    ad_tensor_file_close(&found);
    ad_tensor_file_close(&wanted);
}

/* ---- what torch writes and we do not read ------------------------------------------------- */

static const struct Refused { const char *name; AdStatus status; const char *part; } refused[] = {
    { "legacy", AD_ERR_UNSUPPORTED, "in the form of PyTorch before 1.6, which is not read" },
    { "protocol5", AD_ERR_UNSUPPORTED, "a pickle of protocol 5; 2 to 4 are read" },
    { "module", AD_ERR_FORMAT, "asks for \"torch.nn.modules.linear.Identity\", which is not" },
    { "complex", AD_ERR_FORMAT, "asks for \"torch.ComplexFloatStorage\"" },
    { "float8", AD_ERR_FORMAT, "asks for \"torch._utils._rebuild_tensor_v3\"" },
    { "sparse", AD_ERR_FORMAT, "asks for \"torch._utils._rebuild_sparse_tensor\"" },
    { "meta", AD_ERR_FORMAT, "asks for \"torch._utils._rebuild_meta_tensor_no_storage\"" },
    { "numpy", AD_ERR_FORMAT, "asks for \"numpy.ndarray\"" },
    { "script", AD_ERR_UNSUPPORTED, "compressed; PyTorch stores" },
    { "deflated", AD_ERR_UNSUPPORTED, "zip entry \"wrapped/" },
};

static void is_refused(const struct Refused *r)
{
    char file[64];

    snprintf(file, sizeof(file), "refused/%s", r->name);
    CHECK_STATUS(ad_tensor_file_open(&ctx, &found, golden_path(file, ".pt")), r->status);
    CHECK(found == NULL);
    CHECK_CONTAINS(ctx.error, r->part);
    CHECK(strlen(ctx.error) <= 300);
}

/* ---- tensors whose numbers are far apart -------------------------------------------------- */

/* Of 2 x 3 numbers: 4 bytes from row to row, 20 MiB from column to column. */
#define FAR_STORAGE (21 << 20)          /* of f32 */
static const char far_apart[] =
    "\x80\4" "}" "\x8c\3" "far" "ctorch._utils\n_rebuild_tensor_v2\n" "("
    "(" "\x8c\7" "storage" "ctorch\nFloatStorage\n" "\x8c\1" "0" "\x8c\3" "cpu"
    "J\0\0\x50\1" "tQ" "K\3" "K\2K\3\x86" "K\1" "J\0\0\x50\0" "\x86" "\x89N" "tR" "s.";

static void numbers_far_apart_are_read_one_by_one(void)
{
    float numbers[6];
    ZipWriter w = { 0 };

    zip_torch(&w, far_apart, sizeof(far_apart) - 1, (size_t)FAR_STORAGE * 4);
    for (int i = 0; i < 6; i++) {
        float value = (float)i + 0.5f;

        memcpy(w.bytes + w.data[1] + 4 * (3 + (size_t)(i / 3) + (size_t)(i % 3) * 0x500000), &value,
               4);
    }
    found = opened(zip_write(&w, "far.pt"));
    CHECK_INT(found->count, 1);
    CHECK_STATUS(ad_entry_read(&ctx, found, found->entries, numbers), AD_OK);
    for (int i = 0; i < 6; i++)
        CHECK_NEAR(numbers[i], i + 0.5, 0);
    ad_tensor_file_close(&found);
}

/* ---- main --------------------------------------------------------------------------------- */

static const struct Same { const char *name, *as; } same[] = {
    { "dtypes", "dtypes" }, { "repacked", "dtypes" }, { "views", "views" },
    { "checkpoint", "checkpoint" }, { "nested", "nested" }, { "embedding", "embedding" },
    { "wrapped", "wrapped" }, { "bare", "bare" }, { "protocol3", "protocol3" },
    { "protocol4", "protocol4" },
};

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(same); i_++)
        RUN_AS(is_the_same(same[i_].name, same[i_].as), "%s.pt has the same tensors",
               same[i_].name);
    RUN(other_files_have_other_hashes);
    for (i_ = 0; i_ < AD_COUNT(refused); i_++)
        RUN_AS(is_refused(&refused[i_]), "refused by name: %s", refused[i_].name);
    RUN(numbers_far_apart_are_read_one_by_one);
    return check_result();
}
