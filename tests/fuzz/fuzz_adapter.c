/* fuzz_adapter.c - tensors of any names and shapes, given to all that takes files of tensors.
 *
 * The first byte says what the file is given to. The rest describes one that is right in itself, as
 * records of: a name behind its length, or two numbers of a name that means something; type and
 * rank; axes, as numbers of some sizes. So names and shapes are varied, not the syntax
 * (fuzz_safetensors.c).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../../engine/config_tensors.h"
#include "../../engine/embedding.h"
#include "../../engine/lora.h"
#include "../../engine/motion_file.h"
#include "../../engine/names.h"
#include "../../engine/recognize.h"
#include "../../engine/vocabulary.h"
#include "../golden.h"
#include "fuzz.h"

enum { RECORDS = 24, AXES = 5, NAME = 200, DATA = 1 << 16 };

/* ---- the file ----------------------------------------------------------------------------- */

static unsigned char file[8 + RECORDS * (NAME + 200) + DATA];

static const struct { const char *name; size_t bytes; } dtypes[] = {
    { "F32", 4 }, { "F16", 2 }, { "BF16", 2 }, { "F64", 8 }, { "I64", 8 }, { "BOOL", 1 },
};

/* Names that mean something, so that shapes are met beside each other: a layer and what it has. */
static const char *const layers[] = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_down_blocks_0_resnets_0_conv1", "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q",
    "model.diffusion_model.input_blocks.0.0", "string_to_param",
};
static const char *const suffixes[] = {
    ".lora_down.weight", ".lora_up.weight", ".lora_mid.weight", ".alpha", ".scale", ".dora_scale",
    ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", ".hada_w1_a", ".hada_w1_b",
    ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2", ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b",
    ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2", ".diff", ".diff_b", ".w_norm", ".b_norm",
    ".on_input", ".weight", ".ia3_l", ".*", ".bias",
};

/* Characters that JSON takes as they are. */
static char plain(uint8_t c)
{
    return c < ' ' || c >= 0x7f || c == '"' || c == '\\' ? '_' : (char)c;
}

/* The name at data[0 ... n), n >= 2; how many bytes say it, 0: none. */
static size_t add_name(const uint8_t *data, size_t n, char *header, size_t *at)
{
    size_t length = data[0];

    if (length >= NAME) {
        *at += (size_t)sprintf(header + *at, "%s%s", layers[(length - NAME) % AD_COUNT(layers)],
                               suffixes[data[1] % AD_COUNT(suffixes)]);
        return 2;
    }
    for (size_t i = 0; i < length && length < n; i++)
        header[(*at)++] = plain(data[1 + i]);
    return length && length < n ? 1 + length : 0;
}

/* One record at data[0 ... n); how much of it was used, 0: all is done. */
static size_t add(const uint8_t *data, size_t n, char *header, size_t *at, size_t *bytes)
{
    static const int axes[] = { 16, 8, 2, 1, 3, 4, 0, 32, 17, 15, 9, 76, 5, 30, 75, 7 };
    size_t used, count = 1, type, start = *at;
    int rank;

    if (n < 2 + AXES)
        return 0;
    *at += (size_t)sprintf(header + *at, "%c\"", *at ? ',' : '{');
    used = add_name(data, n, header, at);
    if (!used || n < used + 1 + AXES) {
        *at = start;
        return 0;
    }
    type = data[used] % AD_COUNT(dtypes);
    rank = data[used++] / AD_COUNT(dtypes) % (AXES + 1);
    *at += (size_t)sprintf(header + *at, "\":{\"dtype\":\"%s\",\"shape\":[", dtypes[type].name);
    for (int i = 0; i < rank; i++) {
        int axis = axes[data[used++] % AD_COUNT(axes)];

        *at += (size_t)sprintf(header + *at, "%s%d", i ? "," : "", axis);
        count *= (size_t)axis;
    }
    count *= dtypes[type].bytes;
    *at += (size_t)sprintf(header + *at, "],\"data_offsets\":[%zu,%zu]}", *bytes, *bytes + count);
    *bytes += count;
    return used;
}

/* NULL: there is no room for such large tensors. */
static const char *written(const uint8_t *data, size_t n)
{
    char *header = (char *)file + 8;
    size_t at = 0, bytes = 0, used;

    for (int i = 0; i < RECORDS && (used = add(data, n, header, &at, &bytes)); i++) {
        data += used;
        n    -= used;
        if (bytes > DATA)
            return NULL;
    }
    at += (size_t)sprintf(header + at, "%s}", at ? "" : "{");
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)at >> 8 * i);
    for (size_t i = 0; i < bytes; i++)
        file[8 + at + i] = i < n ? data[i] : 0;
    return fuzz_file(0, file, 8 + at + bytes);
}

/* ---- what takes it ------------------------------------------------------------------------ */

static void as_lora(const char *path, bool motion)
{
    static const struct { const char *name; int rank; int64_t shape[4]; } weights[] = {
        { "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight", 2, { 16, 16 } },
        { "down_blocks.0.resnets.0.conv1.weight", 4, { 16, 8, 3, 3 } },
        { "down_blocks.0.resnets.0.conv1.bias", 1, { 16 } },
        { "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.weight", 2, { 16, 16 } },
        { "text_model.encoder.layers.0.mlp.fc1.weight", 2, { 32, 8 } },
    };
    static float w[16 * 8 * 9];
    AdAdapter a = { (char *)(uintptr_t)path, 0.5 };
    AdAdapterList list = { &a, 1, 1 };
    AdPatches *p = ad_alloc(sizeof(*p));
    AdStatus st = ad_patches_add(&fuzz_ctx, p, &list, motion);

    for (size_t i = 0; i < AD_COUNT(weights) && st >= 0; i++) {
        memset(w, 0, sizeof(w));
        st = ad_patches_apply(&fuzz_ctx, p, weights[i].name, weights[i].rank, weights[i].shape, w);
    }
    if (st >= 0)
        st = ad_patches_check(&fuzz_ctx, p);
    fuzz_status(st);
    ad_patches_free(&p);
}

static void as_embedding(const char *path)
{
    static AdTokenizer *t;
    AdEmbeddings e = { .width = 32 };
    char list[100];
    size_t words;

    if (!t)
        FUZZ_CHECK(ad_tokenizer_load(&fuzz_ctx, &t, GOLDEN "tokenizer") == AD_OK);
    e.first = ad_tokenizer_size(t);
    words   = t->word_count;
    snprintf(list, sizeof(list), "<x>@%s", path);
    fuzz_status(ad_embeddings_read(&fuzz_ctx, &e, t, list));
    FUZZ_CHECK(e.count % 32 == 0);
    while (t->word_count > words)               /* forget it: loading anew takes longer */
        ad_free(t->words[--t->word_count].text);
    ad_free(e.rows);
}

static void as_part(const char *path, AdRename rename)
{
    AdWeights w = { 0 };
    AdTextConfig text;
    AdUnetConfig unet;
    AdVaeConfig vae;
    AdStatus st = ad_weights_add(&fuzz_ctx, &w, path, rename);

    fuzz_status(st);
    if (st >= 0) {
        fuzz_status(ad_text_config_derive(&fuzz_ctx, path, &w, &text));
        fuzz_status(ad_unet_config_derive(&fuzz_ctx, path, &w, &unet));
        fuzz_status(ad_vae_config_derive(&fuzz_ctx, path, &w, &vae));
    }
    ad_weights_free(&w);
}

static void as_motion(const char *path)
{
    AdTensorFile *f = NULL;
    AdUnetConfig c;
    AdMotionFile m;

    FUZZ_CHECK(ad_tensor_file_open(&fuzz_ctx, &f, path) == AD_OK);
    ad_unet_config_sd15(&c);
    fuzz_status(ad_motion_file_describe(&fuzz_ctx, f, &c, &m));
    FUZZ_CHECK(ad_tensor_file_finish(&fuzz_ctx, &f) == AD_OK);
}

static void as_model(const char *path)
{
    AdCheckpoint checkpoint;
    bool prefixed;

    fuzz_status(ad_checkpoint_look(&fuzz_ctx, path, &checkpoint));
    fuzz_status(ad_vae_file_look(&fuzz_ctx, path, &prefixed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const AdRename renames[] = {
        NULL, ad_rename_motion, ad_rename_vae, ad_rename_ldm_unet, ad_rename_ldm_vae,
        ad_rename_ldm_text,
    };
    const char *path = n ? written(data + 1, n - 1) : NULL;

    if (!path || fuzz_tensors(path) < 0)                /* names that are there twice */
        return 0;
    switch (data[0] % 16) {
    case 0: case 1: case 2: case 3: as_lora(path, false); break;
    case 4:  as_lora(path, true); break;
    case 5:  as_embedding(path); break;
    case 6:  as_motion(path); break;
    case 7:  as_model(path); break;
    default: as_part(path, renames[data[0] % AD_COUNT(renames)]);
    }
    return 0;
}
