/* test_lycoris.c - every kind of change to a weight, against numpy's double, PEFT and LyCORIS.
 *
 * tests/golden/loras/kinds.safetensors changes a few dozen layers, each in another way;
 * lycoris.safetensors has the weights "NAME" before and "NAME@STRENGTH" after.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "golden.h"
#include "tensors.h"

#define KINDS   GOLDEN "loras/kinds.safetensors"

/* Of the largest value; some dozens of roundings of f32 in another order, and those of the file. */
#define TOLERANCE 2e-6

static AdContext quiet;
static AdTensorFile *golden;
static AdPatches *patches;

static AdStatus take(const char *path, double strength)
{
    AdAdapter item = { (char *)path, strength };
    AdAdapterList list = { &item, 1, 1 };

    return ad_patches_add(&quiet, patches, &list, false);
}

static void add(const char *path, double strength)
{
    if (take(path, strength) < 0)
        FAIL("%s", quiet.error);
}

static void start(void)
{
    ad_patches_free(&patches);
    patches = ad_alloc(sizeof(*patches));
}

/* free() it. */
static float *numbers(const char *name, const AdEntry **e)
{
    float *v;

    *e = ad_tensor_file_find(golden, name);
    if (!*e)
        FAIL("no %s", name);
    v = malloc((size_t)(*e)->bytes);
    CHECK_STATUS(ad_entry_read(&quiet, golden, *e, v), AD_OK);
    return v;
}

static void near(const float *found, const float *wanted, int64_t n, const char *name)
{
    double largest = 0;

    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(wanted[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)found[i] - wanted[i]) <= TOLERANCE * largest))
            FAIL("%s: number %d is %.9g, not %.9g", name, (int)i, found[i], wanted[i]);
}

/* A weight before the change becomes the one after it. */
static void becomes(const char *before, const char *after)
{
    const AdEntry *e, *ignored;
    float *w = numbers(before, &e), *wanted = numbers(after, &ignored);

    if (ad_patches_apply(&quiet, patches, before, e->rank, e->shape, w) < 0)
        FAIL("%s", quiet.error);
    near(w, wanted, ad_entry_count(e), after);
    free(w), free(wanted);
}

static void all_layers_change_as_they_should(const char *strength)
{
    char after[AD_CAP_NAME];
    int layers = 0;

    start();
    add(KINDS, atof(strength));
    for (size_t i = 0; i < golden->count; i++) {
        const char *name = golden->entries[i].name;

        if (strchr(name, '@'))
            continue;
        snprintf(after, sizeof(after), "%s@%s", name, strength);
        becomes(name, after);
        layers++;
    }
    CHECK(layers > 30);
}

static void all_tensors_of_the_file_are_used(void)
{
    size_t tensors = 0;

    all_layers_change_as_they_should("1");
    for (size_t i = 0; i < patches->count; i++) {
        CHECK(patches->patches[i].used || patches->patches[i].optional);
        tensors += (size_t)patches->patches[i].tensors;
    }
    CHECK_INT(tensors, patches->files[0]->count);
}

/* Changes that only add. */
static void a_half_twice_is_the_whole(void)
{
    start();
    add(KINDS, 0.5);
    add(KINDS, 0.5);
    becomes("mid_block.resnets.1.conv1.weight", "mid_block.resnets.1.conv1.weight@1");
    becomes("conv_norm_out.bias", "conv_norm_out.bias@1");
}

static void strength_0_changes_no_bit(void)
{
    start();
    add(KINDS, 0);
    for (size_t i = 0; i < golden->count; i++) {
        const AdEntry *e;
        float *before = numbers(golden->entries[i].name, &e), *w = numbers(e->name, &e);
        bool same;

        CHECK_STATUS(ad_patches_apply(&quiet, patches, e->name, e->rank, e->shape, w), AD_OK);
        same = !memcmp(w, before, (size_t)e->bytes);
        free(before), free(w);
        if (!same)
            FAIL("%s", e->name);
    }
}

static void other_weights_stay(void)
{
    float w[4] = { 1, 2, 3, 4 };

    start();
    add(KINDS, 1);
    CHECK(!ad_patches_touch(patches, "conv_in.weight"));
    CHECK(ad_patches_touch(patches, "conv_norm_out.bias"));
    CHECK(!ad_patches_touch(patches, "mid_block.resnets.0.conv1.bias"));
    CHECK_STATUS(ad_patches_apply(&quiet, patches, "conv_in.weight", 2, (int64_t[]){ 2, 2 }, w),
                 AD_OK);
    CHECK(w[0] == 1 && w[3] == 4);
}

/* Where the inputs are scaled, the bias is not. */
static void a_bias_stays_when_inputs_are_scaled(void)
{
    float b[12] = { 1, 2, 3 };

    start();
    add(KINDS, 1);
    CHECK_STATUS(ad_patches_apply(&quiet, patches, "up_blocks.1.attentions.0.transformer_blocks.0."
                 "ff.net.2.bias", 1, (int64_t[]){ 12 }, b), AD_OK);
    CHECK(b[0] == 1 && b[1] == 2 && b[2] == 3);
}

static void a_scale_counts_more_than_alpha(void)
{
    float w[1] = { 1 }, down = 3, up = 5, alpha = 7, scale = 0.25f;
    TensorWriter t = { 0 };

    tensors_add(&t, "lora_unet_conv_in.lora_down.weight", "F32", 2, (int64_t[]){ 1, 1 }, &down, 4);
    tensors_add(&t, "lora_unet_conv_in.lora_up.weight", "F32", 2, (int64_t[]){ 1, 1 }, &up, 4);
    tensors_add(&t, "lora_unet_conv_in.alpha", "F32", 0, NULL, &alpha, 4);
    tensors_add(&t, "lora_unet_conv_in.scale", "F32", 0, NULL, &scale, 4);
    start();
    add(tensors_write(&t, "scale.safetensors"), 2);
    CHECK_STATUS(ad_patches_apply(&quiet, patches, "conv_in.weight", 2, (int64_t[]){ 1, 1 }, w),
                 AD_OK);
    CHECK_NEAR(w[0], 1 + 2 * 0.25 * 15, 0);
}

/* ---- shapes that do not go together ---------------------------------------------------------- */

typedef struct Part { const char *suffix; int rank; int64_t shape[4]; } Part;

/* Each fits a weight of [8, 6, 3, 3] but for one thing. */
static const struct { const char *what; Part parts[8]; } wrong[] = {
    { "a LoRA of another kernel", { { ".lora_down.weight", 4, { 2, 6, 1, 1 } },
                                    { ".lora_up.weight", 4, { 8, 2, 1, 1 } } } },
    { "a LoRA of two ranks", { { ".lora_down.weight", 4, { 3, 6, 3, 3 } },
                               { ".lora_up.weight", 4, { 8, 2, 1, 1 } } } },
    { "a LoRA of rank 0", { { ".lora_down.weight", 4, { 0, 6, 3, 3 } },
                            { ".lora_up.weight", 4, { 8, 0, 1, 1 } } } },
    { "a scalar for a matrix", { { ".lora_down.weight", 0, { 0 } },
                                 { ".lora_up.weight", 0, { 0 } } } },
    { "a Tucker core that is not square", { { ".lora_down.weight", 4, { 2, 6, 1, 1 } },
                                            { ".lora_up.weight", 4, { 8, 2, 1, 1 } },
                                            { ".lora_mid.weight", 4, { 2, 3, 3, 3 } } } },
    { "a magnitude of another length", { { ".lora_down.weight", 4, { 2, 6, 3, 3 } },
                                         { ".lora_up.weight", 4, { 8, 2, 1, 1 } },
                                         { ".dora_scale", 4, { 1, 8, 1, 1 } } } },
    { "a LoHa of other inputs", { { ".hada_w1_a", 2, { 8, 2 } }, { ".hada_w1_b", 2, { 2, 54 } },
                                  { ".hada_w2_a", 2, { 8, 2 } }, { ".hada_w2_b", 2, { 2, 6 } } } },
    { "one Tucker core of two", { { ".hada_w1_a", 2, { 2, 8 } }, { ".hada_w1_b", 2, { 2, 6 } },
                                  { ".hada_w2_a", 2, { 2, 8 } }, { ".hada_w2_b", 2, { 2, 6 } },
                                  { ".hada_t1", 4, { 2, 2, 3, 3 } } } },
    { "a LoKr that does not divide", { { ".lokr_w1", 2, { 3, 2 } },
                                       { ".lokr_w2", 4, { 2, 3, 3, 3 } } } },
    { "a LoKr with one factor", { { ".lokr_w1", 2, { 2, 2 } } } },
    { "a LoKr of a vector", { { ".lokr_w1", 1, { 4 } }, { ".lokr_w2", 4, { 4, 3, 3, 3 } } } },
    { "a LoKr with half a factor", { { ".lokr_w1", 2, { 2, 2 } }, { ".lokr_w2_a", 2, { 4, 2 } } } },
    { "a LoKr of two ranks", { { ".lokr_w1", 2, { 2, 2 } }, { ".lokr_w2_a", 2, { 4, 2 } },
                               { ".lokr_w2_b", 4, { 3, 3, 3, 3 } } } },
    { "a difference of another shape", { { ".diff", 4, { 8, 6, 3, 1 } } } },
    { "a turned difference", { { ".diff", 4, { 6, 8, 3, 3 } } } },
    { "an IA3 of other outputs", { { ".weight", 1, { 6 } }, { ".on_input", 0, { 0 } } } },
};

static const char *adapter(const char *file, const Part *parts)
{
    TensorWriter w = { 0 };
    char name[100];

    for (const Part *p = parts; p->suffix; p++) {
        size_t bytes = 4;

        for (int i = 0; i < p->rank; i++)
            bytes *= (size_t)p->shape[i];
        snprintf(name, sizeof(name), "lora_unet_mid_block_resnets_0_conv1%s", p->suffix);
        tensors_add(&w, name, "F32", p->rank, p->shape, NULL, bytes);
    }
    return tensors_write(&w, file);
}

static void is_refused(const char *path, const char *part)
{
    static float weight[8 * 6 * 9];
    AdStatus st;

    start();
    st = take(path, 1);
    if (st >= 0)
        st = ad_patches_apply(&quiet, patches, "mid_block.resnets.0.conv1.weight", 4,
                              (int64_t[]){ 8, 6, 3, 3 }, weight);
    CHECK_STATUS(st, AD_ERR_FORMAT);
    CHECK_CONTAINS(quiet.error, part);
}

static void shapes_must_fit(size_t i)
{
    is_refused(adapter("wrong.safetensors", wrong[i].parts),
               "does not fit mid_block_resnets_0_conv1");
}

static void missing_parts_are_named(void)
{
    is_refused(adapter("half.safetensors", (Part[]){ { ".hada_w1_a", 2, { 8, 2 } },
                       { ".hada_w1_b", 2, { 2, 54 } }, { NULL, 0, { 0 } } }), "\"...hada_w2_a\"");
    is_refused(adapter("half.safetensors", (Part[]){ { ".lokr_w1_a", 2, { 2, 2 } },
                       { NULL, 0, { 0 } } }), "\"...lokr_w1_b\"");
}

static void families_are_guessed(void)
{
    static const char layer[] = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
    static float weight[4 * 768];
    TensorWriter w = { 0 };
    char name[120];

    snprintf(name, sizeof(name), "unet.%s.lora_A.weight", layer);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ 1, 2048 }, NULL, 4 * 2048);
    snprintf(name, sizeof(name), "unet.%s.lora_B.weight", layer);
    tensors_add(&w, name, "F32", 2, (int64_t[]){ 4, 1 }, NULL, 16);
    start();
    add(tensors_write(&w, "xl.safetensors"), 1);
    snprintf(name, sizeof(name), "%s.weight", layer);
    CHECK_STATUS(ad_patches_apply(&quiet, patches, name, 2, (int64_t[]){ 4, 768 }, weight),
                 AD_ERR_FORMAT);
    CHECK_CONTAINS(quiet.error, "made for Stable Diffusion XL?");
}

static size_t i_;               /* outlives the longjmp of a failing case */

int main(void)
{
    static const char *const strengths[] = { "1", "0.7", "-0.5" };

    if (ad_tensor_file_open(&quiet, &golden, GOLDEN "lycoris.safetensors") < 0)
        return puts(quiet.error), 1;
    for (i_ = 0; i_ < AD_COUNT(strengths); i_++)
        RUN_AS(all_layers_change_as_they_should(strengths[i_]),
               "all layers change as they should, strength %s", strengths[i_]);
    RUN(all_tensors_of_the_file_are_used);
    RUN(a_half_twice_is_the_whole);
    RUN(strength_0_changes_no_bit);
    RUN(other_weights_stay);
    RUN(a_bias_stays_when_inputs_are_scaled);
    RUN(a_scale_counts_more_than_alpha);
    for (i_ = 0; i_ < AD_COUNT(wrong); i_++)
        RUN_AS(shapes_must_fit(i_), "%s is refused", wrong[i_].what);
    RUN(missing_parts_are_named);
    RUN(families_are_guessed);
    ad_patches_free(&patches);
    ad_tensor_file_close(&golden);
    return check_result();
}
