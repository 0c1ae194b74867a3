/* test_loader.c - from folders, indexes and lists to tensors under our own names.
 *
 * Which file of a folder is taken, what an index may name, how names are translated, and the lists
 * of adapters that options hold. Whole models: test_model.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/resource.h>

#include "../engine/internal.h"
#include "../engine/json.h"
#include "../engine/names.h"
#include "../engine/utf8.h"
#include "check.h"
#include "golden.h"
#include "hostile.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

#define BASE "diffusion_pytorch_model"

/* A file with one tensor `name` that holds one number. */
static void one_tensor(const char *file, const char *name, float value)
{
    TensorWriter w = { 0 };

    tensors_add(&w, name, "F32", 1, (int64_t[]){ 1 }, &value, sizeof(value));
    tensors_write(&w, file);
}

static float number_in(AdWeights *w, const char *name)
{
    AdWeight *found = ad_weights_find(w, name);
    float value = -1;

    if (!found)
        FAIL("no tensor %s", name);
    CHECK_STATUS(ad_entry_read(&ctx, found->file, found->entry, &value), AD_OK);
    return value;
}

static AdStatus add_folder(AdWeights *w, const char *folder)
{
    *w = (AdWeights){ 0 };
    return ad_weights_add_folder(&ctx, w, scratch(folder), BASE, NULL);
}

/* ---- which file --------------------------------------------------------------------------- */

/* Files of a folder from the one that is taken last to the one that is taken first. */
static void the_best_file_of_a_folder_is_taken(void)
{
    static const char *const files[] = {
        "pick/" BASE ".ema_only.safetensors", "pick/" BASE ".fp16.safetensors",
        "pick/" BASE ".safetensors", "pick/shard-00001.safetensors",
    };
    AdWeights w;

    CHECK_STATUS(add_folder(&w, "pick"), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ctx.error, "pick: neither " BASE ".safetensors nor " BASE ".bin");
    for (int i = 0; i < 4; i++) {
        one_tensor(files[i], "t", (float)i);
        if (i == 3)
            scratch_text("pick/" BASE ".safetensors.index.json",
                         "{\"weight_map\":{\"t\":\"shard-00001.safetensors\"}}");
        CHECK_STATUS(add_folder(&w, "pick"), AD_OK);
        CHECK(number_in(&w, "t") == (float)i);
        CHECK_INT(w.file_count, 1);
        ad_weights_free(&w);
    }
}

/* PyTorch's own files are those of checkpoint.safetensors. */
static void folders_may_have_pytorch_files(void)
{
    AdWeights w = { 0 }, wanted = { 0 };

    CHECK_STATUS(ad_weights_add(&ctx, &wanted, GOLDEN "torch/checkpoint.safetensors", NULL), AD_OK);
    scratch_copy("torch/" BASE ".bin", GOLDEN "torch/checkpoint.pt");
    CHECK_STATUS(add_folder(&w, "torch"), AD_OK);
    CHECK_INT(w.count, wanted.count);
    for (size_t i = 0; i < w.count; i++)
        CHECK_TEXT(w.weights[i].name, wanted.weights[i].name);
    ad_weights_free(&w);
    ad_weights_free(&wanted);
    one_tensor("torch/" BASE ".safetensors", "t", 7);           /* is better */
    CHECK_STATUS(add_folder(&w, "torch"), AD_OK);
    CHECK(number_in(&w, "t") == 7);
    ad_weights_free(&w);
    scratch_copy("text/pytorch_model.fp16.bin", GOLDEN "torch/bare.pt");
    CHECK_STATUS(ad_weights_add_folder(&ctx, &w, scratch("text"), "model", NULL), AD_OK);
    CHECK_INT(w.count, 1);
    ad_weights_free(&w);
    scratch_copy("text/s-1.bin", GOLDEN "torch/wrapped.pt");
    scratch_copy("text/s-2.bin", GOLDEN "torch/bare.pt");
    scratch_text("text/pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"s-1.bin\",\"b\":"
                 "\"s-2.bin\"}}");
    CHECK_STATUS(ad_weights_add_folder(&ctx, &w, scratch("text"), "model", NULL), AD_OK);
    CHECK_INT(w.file_count, 2);
    ad_weights_free(&w);
    scratch_text("text/pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"a.safetensors\"}}");
    CHECK_STATUS(ad_weights_add_folder(&ctx, &w, scratch("text"), "model", NULL), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "is no name of a shard");
    ad_weights_free(&w);
    scratch_remove("text");
    scratch_folder("text");
    CHECK_STATUS(ad_weights_add_folder(&ctx, &w, scratch("text"), "model", NULL), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ctx.error, "text: neither model.safetensors nor pytorch_model.bin");
}

static void of_other_variants_the_first_in_order_is_taken(void)
{
    AdWeights w;

    one_tensor("variants/" BASE ".non_ema.safetensors", "t", 1);
    one_tensor("variants/" BASE ".bf16.safetensors", "t", 2);
    one_tensor("variants/" BASE "2.safetensors", "t", 3);
    CHECK_STATUS(add_folder(&w, "variants"), AD_OK);
    CHECK(number_in(&w, "t") == 2);
    ad_weights_free(&w);
}

static void indexes_of_fp16_shards_have_two_spellings(void)
{
    static const char *const names[] = { BASE ".safetensors.index.fp16.json",
                                         BASE ".safetensors.fp16.index.json" };

    for (int i = 0; i < 2; i++) {
        char folder[32], path[128];
        AdWeights w;

        snprintf(folder, sizeof(folder), "spelling%d", i);
        snprintf(path, sizeof(path), "%s/a.fp16.safetensors", folder);
        one_tensor(path, "t", 5);
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        scratch_text(path, "{\"metadata\":{},\"weight_map\":{\"t\":\"a.fp16.safetensors\"}}");
        CHECK_STATUS(add_folder(&w, folder), AD_OK);
        CHECK(number_in(&w, "t") == 5);
        ad_weights_free(&w);
    }
}

/* ---- shards ------------------------------------------------------------------------------- */

static AdStatus index_says(const char *json, AdWeights *w)
{
    scratch_text("shards/" BASE ".safetensors.index.json", json);
    return add_folder(w, "shards");
}

static void all_shards_are_read(void)
{
    AdWeights w;

    one_tensor("shards/a.safetensors", "x", 1);
    one_tensor("shards/b.safetensors", "y", 2);
    CHECK_STATUS(index_says("{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\","
                            "\"z\":\"a.safetensors\"}}", &w), AD_OK);
    CHECK_INT(w.file_count, 2);
    CHECK_INT(w.count, 2);
    CHECK(number_in(&w, "x") == 1 && number_in(&w, "y") == 2);
    ad_weights_free(&w);
}

static const struct Index { const char *json; AdStatus status; const char *part; } indexes[] = {
    { "{}", AD_ERR_FORMAT, "no weight_map" },
    { "{\"weight_map\":{}}", AD_ERR_FORMAT, "no weight_map" },
    { "{\"weight_map\":[\"a.safetensors\"]}", AD_ERR_FORMAT, "no weight_map" },
    { "{\"weight_map\":{\"x\":1}}", AD_ERR_FORMAT, "is no name of a shard beside it" },
    { "{\"weight_map\":{\"x\":null}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\".safetensors\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"../a.safetensors\"}}",
      AD_ERR_FORMAT, "\"../a.safetensors\" is no" },
    { "{\"weight_map\":{\"x\":\"/etc/a.safetensors\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"sub/a.safetensors\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"sub\\\\a.safetensors\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"a.bin\"}}", AD_ERR_FORMAT, "is no name" },
    { "{\"weight_map\":{\"x\":\"a.safetensors\\u0000\"}}", AD_ERR_FORMAT, "index.json: line 1" },
    { "{\"weight_map\":{\"x\":\"\\u202ea.bin\"}}", AD_ERR_FORMAT, "\\xe2\\x80\\xae" },
    { "{\"weight_map\":{\"x\":\"c.safetensors\"}}", AD_ERR_NOTFOUND,
      "c.safetensors: no such file" },
    { "{\"weight_map\":{\"x\":\"d.safetensors\"}}", AD_ERR_INVALID, "not a regular file" },
    { "{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"a.safetensors\"}}", AD_ERR_FORMAT,
      "duplicate" },
    { "", AD_ERR_FORMAT, "an empty file" },
};

static void index_is_refused(const struct Index *i)
{
    AdWeights w;

    scratch_folder("shards/d.safetensors");
    CHECK_STATUS(index_says(i->json, &w), i->status);
    CHECK_CONTAINS(ctx.error, i->part);
    ad_weights_free(&w);
}

static AdStatus many_shards(int n)
{
    json_t *map = json_object(), *root = json_pack("{s:o}", "weight_map", map);
    AdWeights w;
    AdStatus st;

    for (int i = 0; i < n; i++) {
        char key[16], file[64];

        snprintf(key, sizeof(key), "k%d", i);
        snprintf(file, sizeof(file), "%04d.safetensors", i);
        json_object_set_new(map, key, json_string(file));
    }
    json_dump_file(root, scratch("many/" BASE ".safetensors.index.json"), 0);
    json_decref(root);
    st = add_folder(&w, "many");
    ad_weights_free(&w);
    return st;
}

static void an_index_has_at_most_16_mib(void)
{
    char *all = malloc(AD_CAP_INDEX + 2);
    AdWeights w;

    memset(all, ' ', AD_CAP_INDEX + 2);
    memcpy(all, "{\"weight_map\":{\"x\":\"a.safetensors\"}}", 36);
    one_tensor("shards/a.safetensors", "x", 1);
    all[AD_CAP_INDEX] = 0;
    CHECK_STATUS(index_says(all, &w), AD_OK);
    ad_weights_free(&w);
    all[AD_CAP_INDEX] = ' ';
    all[AD_CAP_INDEX + 1] = 0;
    CHECK_STATUS(index_says(all, &w), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "16777217 bytes; at most 16777216");
    free(all);
}

/* Each shard keeps a file open; where the system allows fewer, the message is its. */
static void an_index_names_at_most_1024_shards(void)
{
    struct rlimit files;

    scratch_folder("many");
    for (int i = 0; i < 1025; i++) {
        char file[64], name[16];

        snprintf(file, sizeof(file), "many/%04d.safetensors", i);
        snprintf(name, sizeof(name), "k%d", i);
        one_tensor(file, name, 0);
    }
    CHECK_STATUS(many_shards(1025), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "more than 1024 shards");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < 2048 ? files.rlim_max : 2048;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 1100)
        SKIP("only %llu files may be open", (unsigned long long)files.rlim_cur);
    CHECK_STATUS(many_shards(1024), AD_OK);
}

static void all_files_together_have_at_most_65536_tensors(void)
{
    AdWeights w = { 0 };
    TensorWriter a = { 0 }, b = { 0 };

    for (int i = 0; i < 40000; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        tensors_add(&a, name, "U8", 1, (int64_t[]){ 0 }, NULL, 0);
        if (i <= 25536) {
            snprintf(name, sizeof(name), "b%d", i);
            tensors_add(&b, name, "U8", 1, (int64_t[]){ 0 }, NULL, 0);
        }
    }
    CHECK_STATUS(ad_weights_add(&ctx, &w, tensors_write(&a, "a.safetensors"), NULL), AD_OK);
    CHECK_STATUS(ad_weights_add(&ctx, &w, tensors_write(&b, "b.safetensors"), NULL), AD_ERR_FORMAT);
    CHECK_CONTAINS(ctx.error, "more than 65536 tensors");
    ad_weights_free(&w);
}

/* ---- names -------------------------------------------------------------------------------- */

static void of_two_tensors_with_one_name_the_later_files_counts(void)
{
    AdWeights w = { 0 };

    for (int i = 0; i < 3; i++) {
        char file[32];

        snprintf(file, sizeof(file), "later%d.safetensors", i);
        one_tensor(file, "t", (float)i);
        CHECK_STATUS(ad_weights_add(&ctx, &w, scratch(file), NULL), AD_OK);
        CHECK_INT(w.count, 1);
        CHECK(number_in(&w, "t") == (float)i);
    }
    ad_weights_free(&w);
}

static void the_hash_follows_names_sizes_and_data(void)
{
    uint64_t hash[4];

    for (int i = 0; i < 4; i++) {
        AdWeights w = { 0 };
        TensorWriter t = { 0 };
        float data[64] = { 0 };

        data[60] = i == 1;
        tensors_add(&t, i == 2 ? "u" : "t", "F32", 1, (int64_t[]){ 64 }, data, sizeof(data));
        CHECK_STATUS(ad_weights_add(&ctx, &w, tensors_write(&t, i == 3 ? "h2" : "h"), NULL), AD_OK);
        hash[i] = w.hash;
        ad_weights_free(&w);
    }
    CHECK(hash[0] != hash[1] && hash[0] != hash[2]);
    CHECK(hash[0] == hash[3]);                      /* the file's name does not count */
}

static void unused_tensors_are_counted(void)
{
    AdWeights w = { 0 };
    TensorWriter t = { 0 };
    const char *example = NULL;

    tensors_add(&t, "a", "U8", 0, NULL, NULL, 1);
    tensors_add(&t, "b", "U8", 0, NULL, NULL, 1);
    CHECK_STATUS(ad_weights_add(&ctx, &w, tensors_write(&t, "unused"), NULL), AD_OK);
    ad_weights_find(&w, "a")->used = true;
    CHECK_INT(ad_weights_unused(&w, &example), 1);
    CHECK_TEXT(example, "b");
    CHECK(ad_weights_find(&w, "c") == NULL);
    ad_weights_free(&w);
}

static const struct Rename { AdRename rename; const char *from, *to; } renames[] = {
    { ad_rename_motion, "down_blocks.0.motion_modules.1.norm.weight",
      "down_blocks.0.motion_modules.1.norm.weight" },
    { ad_rename_motion, "module.up_blocks.0.motion_modules.1.temporal_transformer.proj_in.bias",
      "up_blocks.0.motion_modules.1.proj_in.bias" },
    { ad_rename_motion, "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
      "attention_blocks.1.to_out.0.weight",
      "down_blocks.0.motion_modules.0.transformer_blocks.0.attn2.to_out.0.weight" },
    { ad_rename_motion,
      "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.norms.1."
      "weight", "mid_block.motion_modules.0.transformer_blocks.0.norm2.weight" },
    { ad_rename_motion, "up_blocks.3.motion_modules.2.temporal_transformer.transformer_blocks.0."
      "ff_norm.bias", "up_blocks.3.motion_modules.2.transformer_blocks.0.norm3.bias" },
    { ad_rename_motion, "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
      "attention_blocks.0.pos_encoder.pe", NULL },
    { ad_rename_motion, "down_blocks.0.resnets.0.conv1.weight", NULL },
    { ad_rename_vae, "decoder.mid_block.attentions.0.query.weight",
      "decoder.mid_block.attentions.0.to_q.weight" },
    { ad_rename_vae, "decoder.mid_block.attentions.0.proj_attn.bias",
      "decoder.mid_block.attentions.0.to_out.0.bias" },
    { ad_rename_vae, "decoder.conv_in.weight", "decoder.conv_in.weight" },
    { ad_rename_vae, "post_quant_conv.bias", "post_quant_conv.bias" },
    { ad_rename_vae, "encoder.conv_in.weight", NULL }, { ad_rename_vae, "quant_conv.bias", NULL },
};

static void is_renamed(const struct Rename *r)
{
    char out[AD_CAP_NAME + 1];

    CHECK(r->rename(r->from, out) == (r->to != NULL));
    if (r->to)
        CHECK_TEXT(out, r->to);
}

static void replacing_never_leaves_the_buffer(void)
{
    char name[AD_CAP_NAME + 1];

    strcpy(name, "a.b.a");
    ad_replace(name, "a", "aa");
    CHECK_TEXT(name, "aa.b.aa");
    memset(name, 'x', AD_CAP_NAME);
    name[AD_CAP_NAME] = 0;
    ad_replace(name, "x", "xyz");                   /* no room: stays as it is */
    CHECK_INT(strlen(name), AD_CAP_NAME);
    ad_replace(name, "xx", "y");
    CHECK_INT(strlen(name), AD_CAP_NAME / 2);
}

/* ---- lists of adapters -------------------------------------------------------------------- */

static void lists_are_paths_with_scales(void)
{
    AdAdapterList list;

    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", "a@0.8|b|c/d@e/f@-1.5e1", &list), AD_OK);
    CHECK_INT(list.count, 3);
    CHECK_TEXT(list.items[0].path, "a");
    CHECK(list.items[0].scale == 0.8 && list.items[1].scale == 1 && list.items[2].scale == -15);
    CHECK_TEXT(list.items[2].path, "c/d@e/f");
    ad_adapters_free(&list);
    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", "at@home/x", &list), AD_OK);
    CHECK_TEXT(list.items[0].path, "at@home/x");
    ad_adapters_free(&list);
    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", "", &list), AD_OK);
    CHECK_INT(list.count, 0);
    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", NULL, &list), AD_OK);
}

static const struct { const char *text, *part; } bad_lists[] = {
    { "a@", "motion_lora: \"\" is no scale; path@0.8" }, { "a@x", "\"x\" is no scale" },
    { "a@1|", "an entry without a path" }, { "|a", "an entry without a path" },
    { "a||b", "an entry without a path" }, { "@1", "an entry without a path" },
    { "a@nan", "is no scale" }, { "a@inf", "is no scale" }, { "a@0x1", "is no scale" },
    { "a@1e", "is no scale" }, { "a@1 ", "is no scale" }, { "a@--1", "is no scale" },
    { "a@1,5", "is no scale" }, { "a@101", "-100 to 100" }, { "a@-1e3", "-100 to 100" },
    { "a@1e999", "" }, { "a@.", "is no scale" }, { "a@1e1000", "is no scale" },
};

static void list_is_refused(size_t i)
{
    AdAdapterList list;

    CHECK_STATUS(ad_adapters_parse(&ctx, "motion_lora", bad_lists[i].text, &list), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, bad_lists[i].part);
    CHECK(list.items == NULL && list.count == 0);
}

/* The quoted text is cut to 40 bytes, in the middle of a character; a path is shown as it is. */
static void sentences_are_text_whatever_they_quote(void)
{
    AdAdapterList list;
    AdFile *f;
    size_t bad;

    CHECK_STATUS(ad_adapters_parse(&ctx, "o", "c@123456789 123456789 123456789 123456789\xc7\x90",
                                   &list), AD_ERR_INVALID);
    CHECK(ad_utf8_valid(ctx.error, strlen(ctx.error), &bad));
    CHECK_STATUS(ad_file_open(&ctx, &f, "/no/such\x1b[2J\xff\n\xe2\x80\xae"), AD_ERR_NOTFOUND);
    CHECK_TEXT(ctx.error, "/no/such?[2J?????: no such file");
}

static void a_list_has_at_most_64_entries(void)
{
    char text[200] = "a";
    AdAdapterList list;

    for (int i = 1; i < 64; i++)
        strcat(text, "|a");
    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", text, &list), AD_OK);
    CHECK_INT(list.count, 64);
    ad_adapters_free(&list);
    strcat(text, "|a");
    CHECK_STATUS(ad_adapters_parse(&ctx, "lora", text, &list), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, "more than 64 entries");
}

/* ---- JSON that wants memory --------------------------------------------------------------- */

static const struct Hostile { const char *what, *unit; } hostile[] = {
    { "lists", "[]," }, { "objects", "{}," }, { "numbers", "1," }, { "texts", "\"\"," },
    { "brackets", "[" }, { "one text", "x" },
};

static AdStatus open_file(const char *path)
{
    json_t *root;

    return ad_json_load(&ctx, path, AD_CAP_INDEX, &root);
}

static void costs_little(const struct Hostile *h)
{
    size_t n = 0, m = strlen(h->unit), most = AD_CAP_INDEX;
    char *text = malloc(most);
    const char *why;

    n = (size_t)sprintf(text, "{\"a\":%s", *h->unit == 'x' ? "\"" : "[");
    for (; n + m <= most; n += m)
        memcpy(text + n, h->unit, m);
    why = hostile_open(open_file, scratch_write("hostile.json", text, n));
    free(text);
    if (why)
        FAIL("%s", why);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    RUN(the_best_file_of_a_folder_is_taken);
    RUN(of_other_variants_the_first_in_order_is_taken);
    RUN(folders_may_have_pytorch_files);
    RUN(indexes_of_fp16_shards_have_two_spellings);
    RUN(all_shards_are_read);
    for (i_ = 0; i_ < AD_COUNT(indexes); i_++)
        RUN_AS(index_is_refused(&indexes[i_]), "index refused: %s", indexes[i_].json);
    RUN(an_index_has_at_most_16_mib);
    RUN(an_index_names_at_most_1024_shards);
    RUN(all_files_together_have_at_most_65536_tensors);
    RUN(of_two_tensors_with_one_name_the_later_files_counts);
    RUN(the_hash_follows_names_sizes_and_data);
    RUN(unused_tensors_are_counted);
    for (i_ = 0; i_ < AD_COUNT(renames); i_++)
        RUN_AS(is_renamed(&renames[i_]), "renamed: %s", renames[i_].from);
    RUN(replacing_never_leaves_the_buffer);
    RUN(lists_are_paths_with_scales);
    for (i_ = 0; i_ < AD_COUNT(bad_lists); i_++)
        RUN_AS(list_is_refused(i_), "list refused: %s", bad_lists[i_].text);
    RUN(a_list_has_at_most_64_entries);
    RUN(sentences_are_text_whatever_they_quote);
    for (i_ = 0; i_ < AD_COUNT(hostile); i_++)
        RUN_AS(costs_little(&hostile[i_]), "16 MiB of JSON %s cost little", hostile[i_].what);
    return check_result();
}
