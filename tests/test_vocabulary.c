/* test_vocabulary.c - every way the files of a tokenizer can be written, or damaged.
 *
 * The small vocabulary of tests/golden in other spellings must give the same ids; each rule of the
 * readers is broken once.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "../engine/prompt.h"
#include "../engine/vocabulary.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

static AdContext ctx;

/* ---- spellings of a vocabulary ------------------------------------------------------------ */

/* Two tokenizers agree about marks and about all hard texts. */
static void are_equal(const AdTokenizer *a, const AdTokenizer *b)
{
    json_t *cases = golden_json("tokenizer/prompts.json"), *c;
    AdPrompt p, q;
    size_t i;

    CHECK_INT(ad_tokenizer_size(a), ad_tokenizer_size(b));
    CHECK_INT(ad_tokenizer_begin(a), ad_tokenizer_begin(b));
    CHECK_INT(ad_tokenizer_end(a), ad_tokenizer_end(b));
    CHECK_INT(ad_tokenizer_pad(a), ad_tokenizer_pad(b));
    json_array_foreach(cases, i, c) {
        CHECK_STATUS(ad_prompt_encode(&ctx, a, "prompt", golden_text(c, "text"), &p), AD_OK);
        CHECK_STATUS(ad_prompt_encode(&ctx, b, "prompt", golden_text(c, "text"), &q), AD_OK);
        CHECK(!memcmp(p.ids, q.ids, AD_TOKENS * sizeof(*p.ids)));
        ad_prompt_free(&p);
        ad_prompt_free(&q);
    }
    json_decref(cases);
}

static void loads_as_the_small_one(const char *folder)
{
    AdTokenizer *small = NULL, *t = NULL;

    if (ad_tokenizer_load(&ctx, &small, GOLDEN "tokenizer") < 0)
        die("%s", ctx.error);
    if (ad_tokenizer_load(&ctx, &t, folder) < 0)
        FAIL("%s", ctx.error);
    are_equal(small, t);
    ad_tokenizer_free(&small);
    ad_tokenizer_free(&t);
}

static void merges_alone_give_the_same_vocabulary(void)
{
    scratch_copy("derived/merges.txt", GOLDEN "tokenizer/merges.txt");
    loads_as_the_small_one(scratch("derived"));
}

/* merges.txt line by line into a list of "a b", or of ["a", "b"]. */
static json_t *merge_list(bool pairs)
{
    size_t n;
    char *text = slurp(GOLDEN "tokenizer/merges.txt", &n), *line = strtok(text, "\n");
    json_t *list = json_array();

    while ((line = strtok(NULL, "\n"))) {
        char *space = strchr(line, ' ');

        json_array_append_new(list, pairs
                                        ? json_pack("[s#, s]", line, (int)(space - line), space + 1)
                                        : json_string(line));
    }
    free(text);
    return list;
}

static void a_bundle_is_read(bool pairs)
{
    json_t *root = json_pack("{s:s, s:{s:s, s:o, s:o}}", "version", "1.0", "model", "type", "BPE",
                             "vocab", golden_json("tokenizer/vocab.json"), "merges",
                             merge_list(pairs));

    scratch_folder(pairs ? "pairs" : "bundle");
    if (json_dump_file(root, scratch(pairs ? "pairs/tokenizer.json" : "bundle/tokenizer.json"), 0))
        die("tokenizer.json cannot be written");
    json_decref(root);
    loads_as_the_small_one(scratch(pairs ? "pairs" : "bundle"));
}

/* The small merges.txt with every line end replaced, something in front and behind. */
static const char *respelled(const char *folder, const char *front, const char *eol, bool last)
{
    size_t n, at = 0;
    char *text = slurp(GOLDEN "tokenizer/merges.txt", &n), *out = malloc(2 * n + 64), name[64];

    strcpy(out, front);
    at = strlen(front);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n' && (last || i + 1 < n)) {
            strcpy(out + at, eol);
            at += strlen(eol);
        } else if (text[i] != '\n')
            out[at++] = text[i];
    }
    snprintf(name, sizeof(name), "%s/merges.txt", folder);
    scratch_write(name, out, at);
    snprintf(name, sizeof(name), "%s/vocab.json", folder);
    scratch_copy(name, GOLDEN "tokenizer/vocab.json");
    free(text);
    free(out);
    return scratch(folder);
}

static void line_ends_of_other_systems_are_fine(void)
{
    loads_as_the_small_one(respelled("crlf", "", "\r\n", true));
}

static void a_missing_last_line_end_is_fine(void)
{
    loads_as_the_small_one(respelled("no-end", "", "\n", false));
}

static void blank_lines_are_fine(void)
{
    loads_as_the_small_one(respelled("blank", "", "\n\n", true));
}

static void a_byte_order_mark_is_fine(void)
{
    loads_as_the_small_one(respelled("bom", "\xef\xbb\xbf", "\n", true));
}

static void the_padding_token_comes_from_the_config(void)
{
    static const char *const configs[] = {
        "{\"pad_token\": \"<|startoftext|>\"}",
        "{\"pad_token\": {\"content\": \"<|startoftext|>\", \"lstrip\": false}}",
    };
    AdTokenizer *t = NULL;
    AdPrompt p;

    scratch_copy("padded", GOLDEN "tokenizer");
    for (int i = 0; i < 2; i++) {
        scratch_text("padded/tokenizer_config.json", configs[i]);
        CHECK_STATUS(ad_tokenizer_load(&ctx, &t, scratch("padded")), AD_OK);
        CHECK_INT(ad_tokenizer_pad(t), ad_tokenizer_begin(t));
        CHECK_STATUS(ad_prompt_encode(&ctx, t, "prompt", "", &p), AD_OK);
        CHECK_INT(p.ids[1], ad_tokenizer_end(t));
        CHECK_INT(p.ids[2], ad_tokenizer_begin(t));
        ad_prompt_free(&p);
        ad_tokenizer_free(&t);
    }
}

/* ---- refused files ------------------------------------------------------------------------ */

static json_t *small_vocabulary(void)
{
    return golden_json("tokenizer/vocab.json");
}

static void refused(const char *folder, AdStatus status, const char *part)
{
    AdTokenizer *t = NULL;

    CHECK_STATUS(ad_tokenizer_load(&ctx, &t, scratch(folder)), status);
    CHECK(t == NULL);
    CHECK_CONTAINS(ctx.error, part);
    CHECK(strlen(ctx.error) <= 300);
}

static void accepted(const char *folder)
{
    AdTokenizer *t = NULL;

    if (ad_tokenizer_load(&ctx, &t, scratch(folder)) < 0)
        FAIL("%s", ctx.error);
    ad_tokenizer_free(&t);
}

/* Consumes the vocabulary. */
static void vocabulary_refused(json_t *vocabulary, const char *part)
{
    scratch_copy("bad/merges.txt", GOLDEN "tokenizer/merges.txt");
    if (json_dump_file(vocabulary, scratch("bad/vocab.json"), 0))
        die("vocab.json cannot be written");
    json_decref(vocabulary);
    refused("bad", AD_ERR_FORMAT, part);
}

static void ids_must_be_each_number_once(void)
{
    json_t *v = small_vocabulary();

    json_object_set_new(v, "i", json_integer(1344));
    vocabulary_refused(v, "the id of \"i\" is not a number from 0 to 1343");
    json_object_set_new(v = small_vocabulary(), "i", json_integer(-1));
    vocabulary_refused(v, "the id of \"i\"");
    json_object_set_new(v = small_vocabulary(), "i", json_integer(7));
    vocabulary_refused(v, "is not a number from 0 to 1343 that no other entry has");
    json_object_set_new(v = small_vocabulary(), "i", json_real(3));
    vocabulary_refused(v, "the id of \"i\"");
    json_object_set_new(v = small_vocabulary(), "i", json_string("3"));
    vocabulary_refused(v, "the id of \"i\"");
    json_object_set_new(v = small_vocabulary(), "i", json_integer((json_int_t)1 << 32));
    vocabulary_refused(v, "the id of \"i\"");
}

/* Take an entry out; the last id takes its place, so that the ids stay complete. */
static json_t *without(const char *entry_name)
{
    json_t *v = small_vocabulary(), *value;
    json_int_t id = json_integer_value(json_object_get(v, entry_name)), last = 1343;
    const char *key;

    json_object_del(v, entry_name);
    json_object_foreach(v, key, value)
        if (json_integer_value(value) == last && id != last) {
            json_integer_set(value, id);
            break;
        }
    return v;
}

static void bytes_and_marks_must_be_there(void)
{
    vocabulary_refused(without("!"), "the byte 0x21 has no entry");
    vocabulary_refused(without("\xc4\xa0"), "the byte 0x20 has no entry");
    vocabulary_refused(without("z</w>"), "the byte 0x7a has no entry for a word's end");
    vocabulary_refused(without("<|startoftext|>"), "no entry <|startoftext|>");
    vocabulary_refused(without("<|endoftext|>"), "no entry <|endoftext|>");
}

static void a_merge_needs_known_pieces(void)
{
    vocabulary_refused(without("ing</w>"), "merges.txt: line");
}

static json_t *with_extra(const char *key)
{
    json_t *v = small_vocabulary();

    json_object_set_new(v, key, json_integer(1344));
    return v;
}

static void entries_have_at_most_512_bytes(void)
{
    char key[514];
    json_t *v;

    memset(key, 'q', sizeof(key));
    key[513] = 0;
    vocabulary_refused(with_extra(key), "more than 512 bytes");
    key[512] = 0;
    v = with_extra(key);
    if (json_dump_file(v, scratch("bad/vocab.json"), 0))
        die("vocab.json cannot be written");
    json_decref(v);
    accepted("bad");
}

static void at_most_131072_entries(void)
{
    json_t *v = small_vocabulary();
    AdTokenizer *t = NULL;

    scratch_copy("many/merges.txt", GOLDEN "tokenizer/merges.txt");
    for (int i = 1344; i < 131073; i++) {
        char key[32];

        snprintf(key, sizeof(key), "more-%d", i);
        json_object_set_new(v, key, json_integer(i));
    }
    vocabulary_refused(json_incref(v), "131073 entries; at most 131072");
    json_object_del(v, "more-131072");
    if (json_dump_file(v, scratch("many/vocab.json"), 0))
        die("vocab.json cannot be written");
    json_decref(v);
    CHECK_STATUS(ad_tokenizer_load(&ctx, &t, scratch("many")), AD_OK);
    CHECK_INT(ad_tokenizer_size(t), 131072);
    ad_tokenizer_free(&t);
}

static void text_refused(const char *folder, const char *name, const char *text, AdStatus status,
                         const char *part)
{
    char path[64];

    scratch_copy(folder, GOLDEN "tokenizer");
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    scratch_text(path, text);
    refused(folder, status, part);
}

static void lines_that_are_no_merge_are_refused(void)
{
    text_refused("m1", "merges.txt", "#version: 0.2\ni n\nin\n", AD_ERR_FORMAT,
                 "line 3 is not two pieces");
    text_refused("m2", "merges.txt", "#version: 0.2\ni n g\n", AD_ERR_FORMAT, "line 2");
    text_refused("m3", "merges.txt", "#version: 0.2\n\n n\n", AD_ERR_FORMAT, "line 3");
    text_refused("m4", "merges.txt", "#version: 0.2\ni \n", AD_ERR_FORMAT, "line 2");
    text_refused("m5", "merges.txt", "#version: 0.2\ni n\nq zz\n", AD_ERR_FORMAT,
                 "line 3: a piece that the vocabulary lacks");
    text_refused("m6", "merges.txt", "", AD_ERR_FORMAT, "an empty file");
    text_refused("m7", "merges.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                 AD_ERR_FORMAT, "Git-LFS pointer");
    text_refused("m8", "merges.txt", "#version: 0.2\ni \xff\n", AD_ERR_FORMAT,
                 "not valid UTF-8 at byte 16");
    text_refused("m9", "merges.txt", "<!DOCTYPE html>\n", AD_ERR_FORMAT, "a web page");
    scratch_copy("m10", GOLDEN "tokenizer");
    scratch_write("m10/merges.txt", "#version: 0.2\ni n\0\n", 19);
    refused("m10", AD_ERR_FORMAT, "holds a NUL");
    scratch_write("m10/merges.txt", "\x1f\x8b\x08\0", 4);
    refused("m10", AD_ERR_FORMAT, "compressed with gzip");
}

static void no_vocabulary_is_refused(void)
{
    scratch_folder("empty");
    refused("empty", AD_ERR_NOTFOUND, "merges.txt: no such file");
    refused("nowhere", AD_ERR_NOTFOUND, "no such file");
    text_refused("v1", "vocab.json", "[1]", AD_ERR_FORMAT, "not a JSON object");
    text_refused("v2", "vocab.json", "{\"a\": 0,}", AD_ERR_FORMAT, "vocab.json: line 1");
    text_refused("v3", "vocab.json", "{\"a\": 0, \"a\": 0}", AD_ERR_FORMAT, "duplicate");
    text_refused("v4", "vocab.json", "{\"\\u0000\": 0}", AD_ERR_FORMAT, "vocab.json: line 1");
    text_refused("v5", "vocab.json", "{}", AD_ERR_FORMAT, "the byte 0x00 has no entry");
    text_refused("v6", "vocab.json", "", AD_ERR_FORMAT, "an empty file");
    text_refused("v7", "vocab.json", "version https://git-lfs.github.com/spec/v1\n", AD_ERR_FORMAT,
                 "Git-LFS pointer");
    text_refused("v8", "tokenizer_config.json", "{", AD_ERR_FORMAT, "tokenizer_config.json");
}

static void broken_bundles_are_refused(void)
{
    static const struct { const char *text, *part; } bundles[] = {
        { "{}", "no byte-pair model" }, { "{\"model\": 3}", "no byte-pair model" },
        { "{\"model\": {\"vocab\": {}}}", "no byte-pair model" },
        { "{\"model\": {\"vocab\": [], \"merges\": []}}", "no byte-pair model" },
        { "{\"model\": {\"vocab\": {}, \"merges\": []}}", "the byte 0x00" },
    };
    json_t *root;

    for (size_t i = 0; i < AD_COUNT(bundles); i++) {
        scratch_text("b/tokenizer.json", bundles[i].text);
        refused("b", AD_ERR_FORMAT, bundles[i].part);
    }
    for (int i = 0; i < 4; i++) {
        root = json_pack("{s:{s:o, s:[o]}}", "model", "vocab", small_vocabulary(), "merges",
                         i == 0 ? json_integer(1) : i == 1 ? json_string("in") :
                         i == 2 ? json_pack("[s]", "in") : json_pack("[s,i]", "i", 3));
        json_dump_file(root, scratch("b/tokenizer.json"), 0);
        json_decref(root);
        refused("b", AD_ERR_FORMAT, "merge 1 is not two pieces of text");
    }
}

static void lines_and_files_have_caps(void)
{
    size_t most = AD_CAP_MERGES;
    char *text = malloc(most + 2);

    memset(text, 'q', 2000);
    text[1024] = '\n';          /* the first line may be a title */
    scratch_copy("c1", GOLDEN "tokenizer");
    scratch_write("c1/merges.txt", text, 1025);
    accepted("c1");
    text[1024] = 'q';
    text[1025] = '\n';
    text[1026] = 0;
    text_refused("c2", "merges.txt", text, AD_ERR_FORMAT, "line 1 has more than 1024 bytes");
    memset(text, '\n', most + 1);
    scratch_copy("c3", GOLDEN "tokenizer");
    scratch_write("c3/merges.txt", text, most + 1);
    refused("c3", AD_ERR_FORMAT, "at most 8388608 are accepted");
    scratch_write("c3/merges.txt", text, most);
    accepted("c3");
    free(text);
}

/* Eight million blank lines are no merges. */
static void memory_follows_merges_not_lines(void)
{
    char *text = malloc(AD_CAP_MERGES);
    AdTokenizer *t = NULL;

    memset(text, '\n', AD_CAP_MERGES);
    scratch_copy("lines", GOLDEN "tokenizer");
    scratch_write("lines/merges.txt", text, AD_CAP_MERGES);
    free(text);
    CHECK_STATUS(ad_tokenizer_load(&ctx, &t, scratch("lines")), AD_OK);
    CHECK(t->merge_slots <= 4 * AD_CAP_VOCABULARY);
    ad_tokenizer_free(&t);
}

/* The same rule n times: each counts. */
static void same_merges(const char *file, size_t n)
{
    static const char rule[] = "i n\n";
    size_t m = strlen(rule);
    char *text = malloc(n * m);

    for (size_t i = 0; i < n; i++)
        memcpy(text + i * m, rule, m);
    scratch_write(file, text, n * m);
    free(text);
}

static void at_most_131072_merges(void)
{
    scratch_copy("rules", GOLDEN "tokenizer");
    same_merges("rules/merges.txt", AD_CAP_VOCABULARY);
    accepted("rules");
    same_merges("rules/merges.txt", AD_CAP_VOCABULARY + 1);
    refused("rules", AD_ERR_FORMAT, "more than 131072 merges");
}

/* A merge of n bytes and "q"; the vocabulary has both sides of the cap. */
static void piece_of(size_t n)
{
    char text[600] = "#version: 0.2\n";
    size_t at = strlen(text);

    memset(text + at, 'q', n);
    strcpy(text + at + n, " q\n");
    scratch_text("pieces/merges.txt", text);
}

static void pieces_have_at_most_512_bytes(void)
{
    json_t *v = small_vocabulary();
    char key[513] = "";

    memset(key, 'q', 512);
    json_object_set_new(v, key, json_integer(1344));
    key[511] = 0;
    json_object_set_new(v, key, json_integer(1345));
    scratch_folder("pieces");
    if (json_dump_file(v, scratch("pieces/vocab.json"), 0))
        die("vocab.json cannot be written");
    json_decref(v);
    piece_of(511);
    accepted("pieces");
    piece_of(512);              /* a piece, but the whole would be too long to be an entry */
    refused("pieces", AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks");
    piece_of(513);
    refused("pieces", AD_ERR_FORMAT, "line 2: a piece of more than 512 bytes");
}

/* Spaces behind a JSON file's object up to n bytes. */
static void padded(const char *file, const char *from, size_t n)
{
    size_t had;
    char *text = slurp(from, &had), *all = malloc(n);

    memset(all, ' ', n);
    memcpy(all, text, had);
    scratch_write(file, all, n);
    free(text);
    free(all);
}

static void vocabularies_have_at_most_16_mib(void)
{
    json_t *bundle = json_pack("{s:{s:o, s:o}}", "model", "vocab", small_vocabulary(), "merges",
                               merge_list(false));

    scratch_copy("large", GOLDEN "tokenizer");
    padded("large/vocab.json", GOLDEN "tokenizer/vocab.json", AD_CAP_INDEX);
    accepted("large");
    padded("large/vocab.json", GOLDEN "tokenizer/vocab.json", AD_CAP_INDEX + 1);
    refused("large", AD_ERR_FORMAT, "vocab.json: 16777217 bytes; at most 16777216");
    scratch_folder("one");
    json_dump_file(bundle, scratch("one/whole.json"), 0);
    json_decref(bundle);
    padded("one/tokenizer.json", scratch("one/whole.json"), AD_CAP_INDEX);
    accepted("one");
    padded("one/tokenizer.json", scratch("one/whole.json"), AD_CAP_INDEX + 1);
    refused("one", AD_ERR_FORMAT, "tokenizer.json: 16777217 bytes; at most 16777216");
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    RUN(merges_alone_give_the_same_vocabulary);
    RUN_AS(a_bundle_is_read(false), "a bundle with merges as texts is read");
    RUN_AS(a_bundle_is_read(true), "a bundle with merges as pairs is read");
    RUN(line_ends_of_other_systems_are_fine);
    RUN(a_missing_last_line_end_is_fine);
    RUN(blank_lines_are_fine);
    RUN(a_byte_order_mark_is_fine);
    RUN(the_padding_token_comes_from_the_config);
    RUN(ids_must_be_each_number_once);
    RUN(bytes_and_marks_must_be_there);
    RUN(a_merge_needs_known_pieces);
    RUN(entries_have_at_most_512_bytes);
    RUN(at_most_131072_entries);
    RUN(lines_that_are_no_merge_are_refused);
    RUN(no_vocabulary_is_refused);
    RUN(broken_bundles_are_refused);
    RUN(lines_and_files_have_caps);
    RUN(memory_follows_merges_not_lines);
    RUN(at_most_131072_merges);
    RUN(pieces_have_at_most_512_bytes);
    RUN(vocabularies_have_at_most_16_mib);
    return check_result();
}
