/* test_hostile_text.c - JSON and tokenizer files that must not be taken, each with its sentence;
 * and right ones, cut and changed byte by byte.
 *
 * Fields of configs one by one: test_config.c, test_scheduler_rules.c; spellings of vocabularies
 * and their caps: test_vocabulary.c; whole models: test_model.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/config.h"
#include "../engine/internal.h"
#include "../engine/json.h"
#include "../engine/prompt.h"
#include "check.h"
#include "golden.h"
#include "hostile.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

/* ---- files of a tokenizer ----------------------------------------------------------------- */

#define TEXT(s) s, sizeof(s) - 1
#define MERGES  "merges.txt"
#define VOCAB   "vocab.json"
#define BUNDLE  "tokenizer.json"
#define CONFIG  "tokenizer_config.json"
#define LINES(s) TEXT("#version: 0.2\n" s)
#define MODEL(s) TEXT("{\"model\":" s "}")

static const struct File {
    const char *name, *text;    /* in the place of a right tokenizer's file */
    size_t      n;
    AdStatus    status;
    const char *part;
} files[] = {
    { MERGES, TEXT(""), AD_ERR_FORMAT, "merges.txt: an empty file" },
    { MERGES, LINES("i\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES("i n\ni n g\n"), AD_ERR_FORMAT, "line 3 is not two pieces" },
    { MERGES, LINES("i  n\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES(" i n\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES("i n \n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES("i\tn\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES(" \n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES("i\xc2\xa0n\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, LINES("\ri n\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("i n\r\r\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("q zz\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("zz q\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("q q\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("i</w> n\n"), AD_ERR_FORMAT, "line 2: a piece that the vocabulary lacks" },
    { MERGES, LINES("<|startoftext|> <|endoftext|>\n"), AD_ERR_FORMAT, "the vocabulary lacks" },
    { MERGES, LINES("#version: 0.2\n"), AD_ERR_FORMAT, "the vocabulary lacks" },
    { MERGES, LINES("i n\0\n"), AD_ERR_FORMAT, "holds a NUL" },
    { MERGES, TEXT("\0"), AD_ERR_FORMAT, "holds a NUL" },
    { MERGES, LINES("i \xff\n"), AD_ERR_FORMAT, "not valid UTF-8 at byte 16" },
    { MERGES, LINES("i \xc0\x80\n"), AD_ERR_FORMAT, "not valid UTF-8 at byte 16" },
    { MERGES, LINES("i \xed\xa0\x80\n"), AD_ERR_FORMAT, "not valid UTF-8 at byte 16" },
    { MERGES, LINES("i \xf4\x90\x80\x80\n"), AD_ERR_FORMAT, "not valid UTF-8 at byte 16" },
    { MERGES, LINES("i \xe2\x82"), AD_ERR_FORMAT, "not valid UTF-8 at byte 16" },
    { MERGES, TEXT("\xff\xfe#\0v\0"), AD_ERR_FORMAT, "not valid UTF-8 at byte 0" },
    { MERGES, TEXT("\xef\xbb\xbf\xef\xbb\xbf\ni n\n\xef\xbb\xbfi n\n"), AD_ERR_FORMAT,
      "line 3: a piece that the vocabulary lacks" },
    { MERGES, TEXT("{\"a\":1}\n{}\n"), AD_ERR_FORMAT, "line 2 is not two pieces" },
    { MERGES, TEXT("<!DOCTYPE html>\n"), AD_ERR_FORMAT, "a web page" },
    { MERGES, TEXT("\x1f\x8b\x08"), AD_ERR_FORMAT, "compressed with gzip" },
    { MERGES, TEXT("version https://git-lfs.github.com/spec/v1\n"), AD_ERR_FORMAT, "Git-LFS" },

    { VOCAB, TEXT(""), AD_ERR_FORMAT, "vocab.json: an empty file" },
    { VOCAB, TEXT("null"), AD_ERR_FORMAT, "vocab.json: line 1" },
    { VOCAB, TEXT("[]"), AD_ERR_FORMAT, "not a JSON object" },
    { VOCAB, TEXT("{}"), AD_ERR_FORMAT, "the byte 0x00 has no entry" },
    { VOCAB, TEXT("{\"!\":0}"), AD_ERR_FORMAT, "the byte 0x00 has no entry" },
    { VOCAB, TEXT("{\"!\":1}"), AD_ERR_FORMAT, "the id of \"!\" is not a number from 0 to 0" },
    { VOCAB, TEXT("{\"!\":-1}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":0.0}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":true}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":null}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":[0]}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":{}}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":\"0\"}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":4294967296}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":9223372036854775807}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { VOCAB, TEXT("{\"!\":9223372036854775808}"), AD_ERR_FORMAT, "vocab.json: line 1" },
    { VOCAB, TEXT("{\"!\":0,\"\\u0021\":1}"), AD_ERR_FORMAT, "duplicate" },
    { VOCAB, TEXT("{\"a\\u0000\":0}"), AD_ERR_FORMAT, "vocab.json: line 1" },
    { VOCAB, TEXT("{\"\\ud800\":0}"), AD_ERR_FORMAT, "vocab.json: line 1" },
    { VOCAB, TEXT("{\"!\":1,\"\xe2\x80\xae\":5}"), AD_ERR_FORMAT, "\"\\xe2\\x80\\xae\"" },

    { BUNDLE, TEXT("{}"), AD_ERR_FORMAT, "no byte-pair model with vocab and merges" },
    { BUNDLE, MODEL("null"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("[]"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("{\"vocab\":{}}"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("{\"merges\":[]}"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("{\"vocab\":[[\"a\",0]],\"merges\":[]}"), AD_ERR_FORMAT, "no byte-pair" },
    { BUNDLE, MODEL("{\"vocab\":{},\"merges\":{}}"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("{\"vocab\":{},\"merges\":\"i n\"}"), AD_ERR_FORMAT, "no byte-pair model" },
    { BUNDLE, MODEL("{\"vocab\":{\"!\":7},\"merges\":[]}"), AD_ERR_FORMAT, "the id of \"!\"" },
    { BUNDLE, MODEL("{\"vocab\":{},\"merges\":[[]]}"), AD_ERR_FORMAT, "the byte 0x00" },
    { BUNDLE, TEXT("{\"model\":{\"vocab\":{}"), AD_ERR_FORMAT, "tokenizer.json: line 1" },

    { CONFIG, TEXT(""), AD_ERR_FORMAT, "tokenizer_config.json: an empty file" },
    { CONFIG, TEXT("[]"), AD_ERR_FORMAT, "tokenizer_config.json: not a JSON object" },
    { CONFIG, TEXT("{\"pad_token\":\"!\""), AD_ERR_FORMAT, "tokenizer_config.json: line 1" },
    { CONFIG, TEXT("{\"pad_token\":\"\\u0000\"}"), AD_ERR_FORMAT, "tokenizer_config.json: line 1" },
    { CONFIG, TEXT("{\"pad_token\":3}"), AD_OK, NULL },         /* what is no text says nothing */
    { CONFIG, TEXT("{\"pad_token\":{\"content\":3}}"), AD_OK, NULL },
    { CONFIG, TEXT("{\"pad_token\":\"no such entry\"}"), AD_OK, NULL },
    { CONFIG, TEXT("{\"pad_token\":[\"!\"]}"), AD_OK, NULL },
    { MERGES, TEXT("\n"), AD_OK, NULL },
    { MERGES, TEXT("title\n"), AD_OK, NULL },
    { MERGES, TEXT("#version: 0.2"), AD_OK, NULL },
    { MERGES, LINES("i n\ni n\n"), AD_OK, NULL },
};

static AdStatus tokenizer_of(const char *folder)
{
    AdTokenizer *t = NULL;
    AdPrompt p;
    AdStatus st = ad_tokenizer_load(&ctx, &t, folder);

    CHECK((st < 0) == !t);
    if (t) {
        CHECK_STATUS(ad_prompt_encode(&ctx, t, "prompt", "singing in the rain", &p), AD_OK);
        for (int i = 0; i < AD_TOKENS; i++)
            CHECK(p.ids[i] >= 0 && p.ids[i] < ad_tokenizer_size(t));
        ad_prompt_free(&p);
    }
    ad_tokenizer_free(&t);
    return st;
}

static void tokenizer(const struct File *f)
{
    char path[64];

    scratch_copy("t", GOLDEN "tokenizer");
    if (!strcmp(f->name, BUNDLE))
        scratch_remove("t/" MERGES);
    snprintf(path, sizeof(path), "t/%s", f->name);
    scratch_write(path, f->text, f->n);
    CHECK_STATUS(tokenizer_of(scratch("t")), f->status);
    if (f->part)
        CHECK_CONTAINS(ctx.error, f->part);
    CHECK(strlen(ctx.error) <= 300);
    scratch_remove("t");
}

/* ---- right files, damaged ----------------------------------------------------------------- */

static AdUnetConfig unet;

static AdStatus read_text(const char *path)
{
    AdTextConfig c;

    return ad_text_config_read(&ctx, path, &c);
}

static AdStatus read_unet(const char *path)
{
    return ad_unet_config_read(&ctx, path, &unet);
}

static AdStatus read_motion(const char *path)
{
    ad_unet_config_sd15(&unet);
    return ad_motion_config_read(&ctx, path, &unet);
}

static AdStatus read_vae(const char *path)
{
    AdVaeConfig c;

    return ad_vae_config_read(&ctx, path, &c);
}

static AdStatus read_scheduler(const char *path)
{
    AdSchedulerConfig c;

    return ad_scheduler_config_read(&ctx, path, &c);
}

/* The file is merges.txt of a folder that has nothing else. */
static AdStatus read_merges(const char *path)
{
    char folder[128];

    snprintf(folder, sizeof(folder), "%.*s", (int)(strlen(path) - strlen("/merges.txt")), path);
    return tokenizer_of(folder);
}

static AdStatus read_vocabulary(const char *path)
{
    char folder[128];

    snprintf(folder, sizeof(folder), "%.*s", (int)(strlen(path) - strlen("/vocab.json")), path);
    return tokenizer_of(folder);
}

static const struct Damaged {
    const char *what, *golden, *name;
    AdStatus  (*read)(const char *path);
    size_t      step;           /* how far apart the places are, in a large file */
} damaged[] = {
    { "text encoder's config", "models/plain/text_encoder/config.json", "config.json", read_text,
      2 },
    { "UNet's config", "models/plain/unet/config.json", "config.json", read_unet, 5 },
    { "motion UNet's config", "models/saved/unet/config.json", "config.json", read_unet, 5 },
    { "motion adapter's config", "models/plain-motion/config.json", "config.json", read_motion, 2 },
    { "VAE's config", "models/plain/vae/config.json", "config.json", read_vae, 3 },
    { "scheduler's config", "models/plain/scheduler/scheduler_config.json", "scheduler_config.json",
      read_scheduler, 1 },
    { "merges", "tokenizer/merges.txt", "merges/merges.txt", read_merges, 197 },
    { "vocabulary", "tokenizer/vocab.json", "vocab/vocab.json", read_vocabulary, 397 },
};

static void is_read_or_refused(const struct Damaged *d, const char *text, size_t n)
{
    AdStatus st = d->read(scratch_write(d->name, text, n));

    if (st != AD_OK && st != AD_ERR_FORMAT && st != AD_ERR_UNSUPPORTED)
        FAIL("%s: %s", ad_status_name(st), ctx.error);
    CHECK(strlen(ctx.error) <= 300);
}

static void damaged_file(const struct Damaged *d)
{
    static const char others[] = "\"{],-9 \x01\xff";
    char path[128], *text;
    size_t n;

    scratch_copy("vocab", GOLDEN "tokenizer");
    snprintf(path, sizeof(path), GOLDEN "%s", d->golden);
    text = slurp(path, &n);
    for (size_t i = 0; i < n; i += d->step) {
        char kept = text[i];

        is_read_or_refused(d, text, i);
        for (size_t k = 0; k < sizeof(others) - 1; k += d->step > 10 ? 3 : 1) {
            text[i] = others[k];
            is_read_or_refused(d, text, n);
        }
        text[i] = kept;
    }
    free(text);
}

/* ---- what JSON costs ---------------------------------------------------------------------- */

/* As many values as are taken, in the forms that take the most memory; the end is missing. The
 * largest tokenizer.json has as many keys and pairs as AD_CAP_VOCABULARY. */
static const struct Costly { const char *what, *start, *unit; size_t count; } costly[] = {
    { "keys", "{", "\"%07zu\":1,", 285000 },
    { "more keys", "{", "\"%07zu\":1,", AD_CAP_VALUES },
    { "keys of texts", "{", "\"%06zu\":\"abcdefgh\",", 265000 },
    { "keys with lists of texts", "{", "\"%zu\":[\"ab\",\"cd\",\"ef\"],", 130000 },
    { "fractions", "{\"a\":[", "%zu.5e3,", AD_CAP_VALUES },
    { "texts", "{\"a\":[", "\"%016zu\",", AD_CAP_VALUES },
    { "long texts", "{\"a\":[", "\"%0200zu\",", AD_CAP_VALUES },
    { "objects of one key", "{\"a\":[", "{\"%zu\":1},", AD_CAP_CONTAINERS - 2 },
    { "objects with texts between them", "{\"a\":[", "{\"%zu\":\"ab\"},\"cd\",\"ef\",", 115000 },
    { "pairs of texts", "{\"a\":[", "[\"a%zu\",\"b\"],", AD_CAP_CONTAINERS - 2 },
};

static AdStatus open_json(const char *path)
{
    json_t *root;

    return ad_json_load(&ctx, path, AD_CAP_INDEX, &root);
}

static void costs_little(const struct Costly *c)
{
    char *text = malloc(AD_CAP_INDEX + 64);
    size_t n = (size_t)sprintf(text, "%s", c->start);
    const char *why;

    for (size_t i = 0; i < c->count && n < AD_CAP_INDEX - 256; i++)
        n += (size_t)sprintf(text + n, c->unit, i);
    why = hostile_open(open_json, scratch_write("hostile.json", text, n));
    free(text);
    if (why)
        FAIL("%s", why);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    char quoted[AD_QUOTE_TEXT];

    for (i_ = 0; i_ < AD_COUNT(files); i_++)
        RUN_AS(tokenizer(&files[i_]), "%s %s: \"%s\"", files[i_].name,
               files[i_].part ? "refused" : "taken", ad_quote(files[i_].text, files[i_].n, quoted));
    for (i_ = 0; i_ < AD_COUNT(damaged); i_++)
        RUN_AS(damaged_file(&damaged[i_]), "a damaged %s is read or refused", damaged[i_].what);
    for (i_ = 0; i_ < AD_COUNT(costly); i_++)
        RUN_AS(costs_little(&costly[i_]), "JSON of too many %s costs little", costly[i_].what);
    return check_result();
}
