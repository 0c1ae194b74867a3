/* test_hostile_adapters.c - LoRA files and textual inversions that must not be taken, each with its
 * sentence.
 *
 * A file is written as text: "NAME DTYPE AXIS,AXIS=VALUE; ..." ("-" for no axis; all numbers of a
 * tensor are the value, or 0). LoRA files are applied to four weights that stand for a model's.
 * What the right ones compute: test_lora.c, test_lycoris.c, test_embedding.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/embedding.h"
#include "../engine/internal.h"
#include "../engine/lora.h"
#include "check.h"
#include "golden.h"
#include "hostile.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

/* ---- files as text ------------------------------------------------------------------------ */

static const struct { const char *name; size_t bytes; } dtypes[] = {
    { "F32", 4 }, { "F16", 2 }, { "BF16", 2 }, { "F64", 8 }, { "I64", 8 }, { "BOOL", 1 },
    { "F8_E4M3", 1 },
};

static size_t bytes_of(const char *dtype)
{
    for (size_t i = 0; i < AD_COUNT(dtypes); i++)
        if (!strcmp(dtype, dtypes[i].name))
            return dtypes[i].bytes;
    die("%s: no type of these tests", dtype);
    return 0;
}

/* One tensor: "NAME DTYPE 2,16=1.5". */
static void add_tensor(TensorWriter *w, const char *text, size_t n)
{
    char one[700], name[600], dtype[16], shape[80], *at = shape;
    int64_t dim[16], count = 1;
    int rank = 0;
    float value = 0, *numbers;
    char *equals;

    snprintf(one, sizeof(one), "%.*s", (int)n, text);
    if (sscanf(one, " %599s %15s %79s", name, dtype, shape) != 3)
        die("%s: no tensor", one);
    equals = strchr(shape, '=');
    if (equals) {
        *equals = 0;
        value   = (float)atof(equals + 1);
    }
    for (; *at && *at != '-'; at += *at == ',') {
        dim[rank] = strtoll(at, &at, 10);
        count *= dim[rank++];
    }
    numbers = calloc((size_t)count + 1, 8);
    for (int64_t i = 0; value != 0 && i < count; i++)
        numbers[i] = value;
    tensors_add(w, name, dtype, rank, dim, numbers, (size_t)count * bytes_of(dtype));
    free(numbers);
}

static const char *write_file(const char *file, const char *text)
{
    TensorWriter w = { 0 };

    while (*text) {
        size_t n = strcspn(text, ";");

        add_tensor(&w, text, n);
        text += n + (text[n] == ';');
    }
    return tensors_write(&w, file);
}

/* ---- LoRA --------------------------------------------------------------------------------- */

#define LINEAR  "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
#define CONV    "lora_unet_down_blocks_0_resnets_0_conv1"
#define CROSS   "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
#define MOTION  "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q"
#define PAIR(name, down, up) name ".lora_down.weight F32 " down "; " name ".lora_up.weight F32 " up
#define GOOD    PAIR(LINEAR, "2,16", "16,2")
#define LOHA(a, b, c, d) LINEAR ".hada_w1_a F32 " a ";" LINEAR ".hada_w1_b F32 " b ";" \
                         LINEAR ".hada_w2_a F32 " c ";" LINEAR ".hada_w2_b F32 " d

static const struct Weight { const char *name; int rank; int64_t shape[4]; } weights[] = {
    { "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight", 2, { 16, 16 } },
    { "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 2, { 16, 768 } },
    { "down_blocks.0.resnets.0.conv1.weight", 4, { 16, 8, 3, 3 } },
    { "down_blocks.0.resnets.0.conv1.bias", 1, { 16 } },
    { "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.weight", 2, { 16, 16 } },
};

/* Read, apply to all weights, look what was used: as the binder does. */
static AdStatus apply(const char *path, bool motion)
{
    static float w[16 * 768];
    AdPatches *p = calloc(1, sizeof(*p));
    AdAdapter a = { (char *)(uintptr_t)path, 1 };
    AdAdapterList list = { &a, 1, 1 };
    AdStatus st = ad_patches_add(&ctx, p, &list, motion);

    for (size_t i = 0; i < AD_COUNT(weights) && st >= 0; i++)
        st = ad_patches_apply(&ctx, p, weights[i].name, weights[i].rank, weights[i].shape, w);
    if (st >= 0)
        st = ad_patches_check(&ctx, p);
    ad_patches_free(&p);
    return st;
}

typedef struct File {
    const char *what, *text;
    AdStatus    status;
    const char *part;
} File;

static const File loras[] = {
    /* parts that are missing */
    { "no tensors", "", AD_ERR_FORMAT, "no LoRA for pictures in it" },
    { "other tensors", "a F32 4,4;b F32 4", AD_ERR_FORMAT, "no LoRA for pictures in it" },
    { "down alone", LINEAR ".lora_down.weight F32 2,16", AD_ERR_FORMAT,
      "has no partner \"...lora_up.weight\"" },
    { "up alone", LINEAR ".lora_up.weight F32 16,2", AD_ERR_FORMAT,
      "a LoRA of which no layer is complete" },
    { "A alone", LINEAR ".lora_A.weight F32 2,16", AD_ERR_FORMAT, "partner \"...lora_B.weight\"" },
    { "A and another's B", LINEAR ".lora_A.weight F32 2,16; " CONV ".lora_B.weight F32 16,2",
      AD_ERR_FORMAT, "partner \"...lora_B.weight\"" },
    { "alpha alone", LINEAR ".alpha F32 -", AD_ERR_FORMAT,
      "a LoRA of which no layer is complete" },
    { "a partner of another dialect", LINEAR ".lora_A.weight F32 2,16; " LINEAR
      ".lora_up.weight F32 16,2", AD_ERR_FORMAT, "partner \"...lora_B.weight\"" },
    { "a magnitude alone", LINEAR ".dora_scale F32 16,1", AD_ERR_FORMAT,
      "a LoRA of which no layer is complete" },
    { "half a LoHa", LINEAR ".hada_w1_a F32 16,2", AD_ERR_FORMAT, "partner \"...hada_w1_b\"" },
    { "three quarters of a LoHa", LINEAR ".hada_w1_a F32 16,2; " LINEAR ".hada_w1_b F32 2,16; "
      LINEAR ".hada_w2_a F32 16,2", AD_ERR_FORMAT, "partner \"...hada_w2_b\"" },
    { "half a LoKr", LINEAR ".lokr_w1_a F32 4,2", AD_ERR_FORMAT, "partner \"...lokr_w1_b\"" },
    { "IA3 without numbers", LINEAR ".on_input BOOL -", AD_ERR_FORMAT, "partner \"...weight\"" },
    /* shapes */
    { "a rank of 0", PAIR(LINEAR, "0,16", "16,0"), AD_ERR_FORMAT,
      "LoRA of shape [0, 16], [16, 0] does not fit" },
    { "a rank of 2^31 - 1", PAIR(LINEAR, "2147483647,0", "16,2"), AD_ERR_FORMAT, "does not fit" },
    { "ranks that differ", PAIR(LINEAR, "2,16", "16,3"), AD_ERR_FORMAT,
      "LoRA of shape [2, 16], [16, 3] does not fit" },
    { "ranks that differ, as many numbers", PAIR(LINEAR, "2,16", "2,16"), AD_ERR_FORMAT,
      "does not fit" },
    { "one input more", PAIR(LINEAR, "2,17", "16,2"), AD_ERR_FORMAT, "does not fit" },
    { "one output more", PAIR(LINEAR, "2,16", "17,2"), AD_ERR_FORMAT, "does not fit" },
    { "no axes", PAIR(LINEAR, "-", "-"), AD_ERR_FORMAT, "LoRA of shape [], [] does not fit" },
    { "one axis", PAIR(LINEAR, "16", "16"), AD_ERR_FORMAT, "does not fit" },
    { "an empty one", PAIR(LINEAR, "2,0", "16,2"), AD_ERR_FORMAT, "does not fit" },
    { "another text encoder's width", PAIR(CROSS, "2,1024", "16,2"), AD_ERR_FORMAT,
      "(made for Stable Diffusion 2.x?)" },
    { "another family's width", PAIR(CROSS, "2,2048", "16,2"), AD_ERR_FORMAT,
      "(made for Stable Diffusion XL?)" },
    { "a kernel of another size", PAIR(CONV, "2,8,5,5", "16,2,1,1"), AD_ERR_FORMAT,
      "LoRA of shape [2, 8, 5, 5], [16, 2, 1, 1] does not fit" },
    { "no kernel", PAIR(CONV, "2,8", "16,2"), AD_ERR_FORMAT, "does not fit" },
    { "a core of another rank", PAIR(CONV, "2,8", "16,2") ";" CONV ".lora_mid.weight F32 3,3,3,3",
      AD_ERR_FORMAT, "LoRA of shape [2, 8], [16, 2], [3, 3, 3, 3] does not fit" },
    { "a core that is flat", PAIR(CONV, "2,8", "16,2") ";" CONV ".lora_mid.weight F32 2,18",
      AD_ERR_FORMAT, "does not fit" },
    { "a core without an axis", PAIR(CONV, "2,8", "16,2") ";" CONV ".lora_mid.weight F32 36",
      AD_ERR_FORMAT, "does not fit" },
    { "a core and a whole kernel", PAIR(CONV, "2,8,3,3", "16,2") ";" CONV
      ".lora_mid.weight F32 2,2,3,3", AD_ERR_FORMAT, "does not fit" },
    { "a LoHa whose halves differ", LOHA("16,2", "2,16", "16,2", "2,15"), AD_ERR_FORMAT,
      "LoHa of shape [16, 2], [2, 16], [16, 2] does not fit" },
    { "a LoHa without rank", LOHA("16,0", "0,16", "16,2", "2,16"), AD_ERR_FORMAT, "LoHa of" },
    { "a LoHa of scalars", LOHA("-", "-", "-", "-"), AD_ERR_FORMAT, "LoHa of shape [], [], []" },
    { "a LoHa with one core", LOHA("2,16", "2,16", "2,16", "2,16") ";" LINEAR
      ".hada_t1 F32 2,2,1,1", AD_ERR_FORMAT, "LoHa of shape" },
    { "a LoHa with cores of another rank", LOHA("2,16", "2,16", "2,16", "2,16") ";" LINEAR
      ".hada_t1 F32 3,3,1,1;" LINEAR ".hada_t2 F32 3,3,1,1", AD_ERR_FORMAT, "LoHa of shape" },
    { "half a Kronecker product", LINEAR ".lokr_w1 F32 4,4", AD_ERR_FORMAT,
      "LoKr of shape [4, 4] does not fit" },
    { "a Kronecker factor of nothing", LINEAR ".lokr_w1 F32 0,0;" LINEAR ".lokr_w2 F32 4,4",
      AD_ERR_FORMAT, "LoKr of shape [0, 0], [4, 4] does not fit" },
    { "a Kronecker factor of no axes", LINEAR ".lokr_w1 F32 -;" LINEAR ".lokr_w2 F32 16,16",
      AD_ERR_FORMAT, "LoKr of shape [], [16, 16] does not fit" },
    { "a Kronecker factor that divides nothing", LINEAR ".lokr_w1 F32 3,4;" LINEAR
      ".lokr_w2 F32 4,4", AD_ERR_FORMAT, "LoKr of shape" },
    { "Kronecker factors too large", LINEAR ".lokr_w1 F32 4,4;" LINEAR ".lokr_w2 F32 8,8",
      AD_ERR_FORMAT, "LoKr of shape" },
    { "a Kronecker factor with half a pair", LINEAR ".lokr_w1 F32 4,4;" LINEAR
      ".lokr_w2_a F32 4,2", AD_ERR_FORMAT, "LoKr of shape" },
    { "Kronecker pairs of different ranks", LINEAR ".lokr_w1_a F32 4,2;" LINEAR
      ".lokr_w1_b F32 3,4;" LINEAR ".lokr_w2 F32 4,4", AD_ERR_FORMAT, "LoKr of shape" },
    { "a Kronecker pair of scalars", LINEAR ".lokr_w1_a F32 -;" LINEAR ".lokr_w1_b F32 -;" LINEAR
      ".lokr_w2 F32 4,4", AD_ERR_FORMAT, "LoKr of shape" },
    { "a Kronecker core of another rank", LINEAR ".lokr_w1 F32 4,4;" LINEAR ".lokr_w2_a F32 2,4;"
      LINEAR ".lokr_w2_b F32 2,4;" LINEAR ".lokr_t2 F32 3,3,1,1", AD_ERR_FORMAT, "LoKr of shape" },
    { "a difference of another shape", LINEAR ".diff F32 16,15", AD_ERR_FORMAT,
      "difference of shape [16, 15] does not fit" },
    { "a difference turned", CONV ".diff F32 8,16,3,3", AD_ERR_FORMAT, "difference of shape" },
    { "a difference of one number", LINEAR ".diff F32 -", AD_ERR_FORMAT, "difference of shape []" },
    { "a bias too long", CONV ".diff_b F32 17", AD_ERR_FORMAT, "difference of shape [17]" },
    { "a norm's bias too short", CONV ".b_norm F32 15", AD_ERR_FORMAT, "difference of shape [15]" },
    { "a norm's weight of a kernel", CONV ".w_norm F32 16", AD_ERR_FORMAT, "difference of shape" },
    { "factors too many", LINEAR ".on_input BOOL -;" LINEAR ".weight F32 17", AD_ERR_FORMAT,
      "IA3 of shape [17] does not fit" },
    { "factors of the inputs, as many as outputs", CONV ".on_input F32 -=1;" CONV ".weight F32 16",
      AD_ERR_FORMAT, "IA3 of shape [16] does not fit" },
    { "PEFT's factors too many", LINEAR ".ia3_l F32 17,1", AD_ERR_FORMAT, "IA3 of shape [17, 1]" },
    { "PEFT's factors, none", LINEAR ".ia3_l F32 0", AD_ERR_FORMAT, "IA3 of shape [0]" },
    { "magnitudes too many", GOOD ";" LINEAR ".dora_scale F32 17,1", AD_ERR_FORMAT,
      "LoRA of shape [2, 16], [16, 2] does not fit" },
    { "no magnitude", GOOD ";" LINEAR ".dora_scale F32 0", AD_ERR_FORMAT, "does not fit" },
    { "PEFT's magnitudes too few", GOOD ";" LINEAR ".lora_magnitude_vector F32 15", AD_ERR_FORMAT,
      "does not fit" },
    /* numbers beside them */
    { "alpha not a number", GOOD ";" LINEAR ".alpha F32 -=nan", AD_ERR_FORMAT, "is not finite" },
    { "alpha infinite", GOOD ";" LINEAR ".alpha F32 -=inf", AD_ERR_FORMAT, "is not finite" },
    { "two alphas", GOOD ";" LINEAR ".alpha F32 2", AD_ERR_FORMAT,
      "is [2]; one number is needed" },
    { "no alpha in it", GOOD ";" LINEAR ".alpha F32 0", AD_ERR_FORMAT, "is [0]; one number" },
    { "scale not a number", GOOD ";" LINEAR ".scale F32 -=-nan", AD_ERR_FORMAT, "is not finite" },
    { "two scales", GOOD ";" LINEAR ".scale F32 1,2", AD_ERR_FORMAT, "is [1, 2]; one number" },
    { "on_input not a number", LINEAR ".on_input F32 -=nan;" LINEAR ".weight F32 16", AD_ERR_FORMAT,
      "is not finite" },
    /* for something else */
    { "of SDXL's second text encoder", PAIR("lora_te2_text_model_encoder_layers_0_mlp_fc1", "2,16",
      "16,2"), AD_ERR_FORMAT, "a LoRA for Stable Diffusion XL" },
    { "the same in diffusers' words", "text_encoder_2.text_model.encoder.layers.0.mlp.fc1."
      "lora_linear_layer.down.weight F32 2,16; text_encoder_2.text_model.encoder.layers.0.mlp.fc1."
      "lora_linear_layer.up.weight F32 16,2", AD_ERR_FORMAT, "a LoRA for Stable Diffusion XL" },
    { "OFT", GOOD ";lora_unet_conv_in.oft_blocks F32 4,2,2", AD_ERR_UNSUPPORTED, "an OFT file" },
    { "OFT by PEFT", "unet.conv_in.oft_R.weight F32 4,2", AD_ERR_UNSUPPORTED, "an OFT file" },
    { "GLoRA", LINEAR ".a1.weight F32 2,2", AD_ERR_UNSUPPORTED, "a GLoRA file" },
    { "a sparse remainder", GOOD ";" LINEAR ".bias_indices I64 1,2", AD_ERR_UNSUPPORTED,
      "a LoRA with a sparse remainder" },
    { "layers of no model", PAIR("lora_unet_up_blocks_9_attentions_0_proj_in", "2,16", "16,2"),
      AD_ERR_FORMAT, "fits no layer of this model" },
    { "a motion LoRA", PAIR(MOTION, "2,16", "16,2"), AD_ERR_FORMAT,
      "this is a motion LoRA; give it to motion_lora=" },
    /* names */
    { "a suffix without a layer", ".lora_down.weight F32 2,16;.lora_up.weight F32 16,2",
      AD_ERR_FORMAT, "a LoRA of which no layer is complete" },
    { "a prefix alone", PAIR("lora_unet_", "2,16", "16,2"), AD_ERR_FORMAT, "fits no layer" },
    { "numbers of 20 digits", PAIR("lora_unet_input_blocks_99999999999999999999_1_proj_in", "2,16",
      "16,2"), AD_ERR_FORMAT, "fits no layer" },
    { "negative numbers", PAIR("lora_unet_output_blocks_-1_-1_conv", "2,16", "16,2"),
      AD_ERR_FORMAT, "fits no layer" },
    { "no numbers", PAIR("lora_unet_input_blocks__", "2,16", "16,2"), AD_ERR_FORMAT, "no layer" },
    { "a middle block of no kind", PAIR("lora_unet_middle_block_3_proj_in", "2,16", "16,2"),
      AD_ERR_FORMAT, "fits no layer" },
    { "an end that is cut", PAIR("lora_unet_middle_block_1", "2,16", "16,2"), AD_ERR_FORMAT,
      "fits no layer" },
    { "dots alone", PAIR("....", "2,16", "16,2"), AD_ERR_FORMAT, "fits no layer" },
    { "signs that turn the line around", "\xe2\x80\xaeq.lora_A.weight F32 2,16", AD_ERR_FORMAT,
      "\"\\xe2\\x80\\xaeq.lora_A.weight\" has no partner" },
    /* taken */
    { NULL, GOOD, AD_OK, NULL },
    { NULL, PAIR(LINEAR, "100,16", "16,100"), AD_OK, NULL },        /* a rank above the widths */
    { NULL, PAIR(LINEAR, "2,16,1,1", "16,2,1,1"), AD_OK, NULL },    /* a linear layer as 1 x 1 */
    { NULL, PAIR(CONV, "2,8,3,3", "16,2,1,1"), AD_OK, NULL },
    { NULL, PAIR(CONV, "2,8", "16,2") ";" CONV ".lora_mid.weight F32 2,2,3,3", AD_OK, NULL },
    { NULL, GOOD ";" LINEAR ".alpha F16 -", AD_OK, NULL },
    { NULL, GOOD ";" LINEAR ".alpha I64 1,1", AD_OK, NULL },
    { NULL, GOOD ";" LINEAR ".dora_scale F32 16,1", AD_OK, NULL },
    { NULL, GOOD ";" LINEAR ".dora_scale F32 1,16", AD_OK, NULL },
    { NULL, LINEAR ".lora_A.weight F8_E4M3 2,16;" LINEAR ".lora_B.weight BF16 16,2", AD_OK, NULL },
    { NULL, PAIR(LINEAR, "2,16=nan", "16,2=inf"), AD_OK, NULL },    /* the model's check warns */
    { NULL, LOHA("2,16", "2,16", "2,16", "2,16") ";" LINEAR ".hada_t1 F32 2,2,1,1;" LINEAR
      ".hada_t2 F32 2,2,1,1", AD_OK, NULL },
    { NULL, LINEAR ".lokr_w1 F32 4,4;" LINEAR ".lokr_w2 F32 4,4", AD_OK, NULL },
    { NULL, LINEAR ".on_input BOOL -;" LINEAR ".weight F32 16", AD_OK, NULL },
};

static void judge(const File *f, const char *path, AdStatus st)
{
    CHECK_STATUS(st, f->status);
    if (st >= 0)
        return;
    CHECK_CONTAINS(ctx.error, f->part);
    CHECK_CONTAINS(ctx.error, path);
    CHECK(strlen(ctx.error) <= 300);
}

static void lora(const File *f)
{
    const char *path = write_file("l.safetensors", f->text);

    judge(f, path, apply(path, false));
}

static const File motion_loras[] = {
    { "no tensors", "", AD_ERR_FORMAT, "no motion LoRA in it" },
    { "a LoRA for pictures", GOOD, AD_ERR_FORMAT,
      "no motion LoRA in it; this is a LoRA; give it to lora=" },
    { "up alone", MOTION ".lora_up.weight F32 16,2", AD_ERR_FORMAT,
      "a LoRA of which no layer is complete" },
    { "without a partner", MOTION ".lora_A.weight F32 2,16", AD_ERR_FORMAT, "has no partner" },
    { "ranks that differ", PAIR(MOTION, "2,16", "16,3"), AD_ERR_FORMAT, "does not fit" },
    { "no such module", PAIR("up_blocks.7.motion_modules.0.transformer_blocks.0.attn1.to_q", "2,16",
      "16,2"), AD_ERR_FORMAT, "fits no layer of this model" },
    { "a number of 20 digits", PAIR("down_blocks.0.motion_modules.99999999999999999999."
      "transformer_blocks.0.attn1.to_q", "2,16", "16,2"), AD_ERR_FORMAT, "fits no layer" },
    { "OFT", MOTION ".oft_blocks F32 4,2,2", AD_ERR_UNSUPPORTED, "an OFT file" },
    { NULL, PAIR(MOTION, "2,16", "16,2"), AD_OK, NULL },
    { NULL, PAIR(MOTION, "2,16", "16,2") ";" GOOD, AD_OK, NULL },
};

static void motion_lora(const File *f)
{
    const char *path = write_file("m.safetensors", f->text);

    judge(f, path, apply(path, true));
}

/* The longest names there may be; what is put in their place might be longer. */
static void long_names_are_no_layers(void)
{
    char name[AD_CAP_NAME + 1], text[3000];

    for (size_t n = AD_CAP_NAME - 80; n <= AD_CAP_NAME; n++) {
        memset(name, 'n', n);
        memcpy(name, "lora_te_", 8);
        for (size_t i = 8; i + 21 < n; i += 5)
            memcpy(name + i, ".to_q", 5);
        name[n - 17] = 0;
        snprintf(text, sizeof(text), "%s.lora_down.weight F32 2,16; %s.lora_up.weight F32 16,2",
                 name, name);
        CHECK_STATUS(apply(write_file("n.safetensors", text), false), AD_ERR_FORMAT);
        CHECK_CONTAINS(ctx.error, n + 64 > AD_CAP_NAME ? "no layer is complete"
                                                        : "fits no layer");
    }
}

static AdStatus open_lora(const char *path)
{
    return apply(path, false);
}

/* As many layers as a file can have, none of which is the model's; half of them without partners
 * comes last. */
static void refusing_many_layers_is_cheap(void)
{
    TensorWriter w = { 0 };
    char name[200];
    const char *wrong;

    for (int i = 0; i < (int)AD_CAP_TENSORS - 1; i++) {
        snprintf(name, sizeof(name), "_%0150d.lora_%s.weight", i / 2, i % 2 ? "B" : "A");
        tensors_add(&w, name, "F32", 2, (int64_t[]){ 1, 1 }, NULL, 4);
    }
    wrong = hostile_open(open_lora, tensors_write(&w, "many.safetensors"));
    if (wrong)
        FAIL("%s", wrong);
}

/* ---- textual inversions ------------------------------------------------------------------- */

static const File vectors[] = {
    { "no tensors", "", AD_ERR_FORMAT, "0 tensors, none of them \"emb_params\"" },
    { "two, none of them named so", "a F32 1,32; b F32 1,32", AD_ERR_FORMAT, "2 tensors, none" },
    { "a checkpoint", "conv_in.weight F32 4,4,3,3; conv_in.bias F32 4", AD_ERR_FORMAT,
      "2 tensors, none of them" },
    { "the key without its star", "string_to_param.x F32 32; b F32 32", AD_ERR_FORMAT,
      "2 tensors, none of them" },
    { "the star alone", "string_to_param.* F32 31; b F32 32", AD_ERR_FORMAT, "vectors of 31" },
    { "the named one wrong, another right", "emb_params F32 31; v F32 32", AD_ERR_FORMAT,
      "vectors of 31 numbers; the text encoder has 32" },
    { "one number", "v F32 -", AD_ERR_FORMAT, "[] are no vectors" },
    { "no numbers", "v F32 0", AD_ERR_FORMAT, "[0] are no vectors" },
    { "no vectors", "v F32 0,32", AD_ERR_FORMAT, "[0, 32] are no vectors" },
    { "vectors of nothing", "v F32 2,0", AD_ERR_FORMAT, "[2, 0] are no vectors" },
    { "three axes", "v F32 1,1,32", AD_ERR_FORMAT, "[1, 1, 32] are no vectors" },
    { "eight axes", "v F32 1,1,1,1,1,1,1,32", AD_ERR_FORMAT, "are no vectors" },
    { "turned", "v F32 32,2", AD_ERR_FORMAT, "vectors of 2 numbers; the text encoder has 32" },
    { "of Stable Diffusion 1.x", "v F32 768", AD_ERR_FORMAT, "vectors of 768 numbers; the" },
    { "of Stable Diffusion 2.x", "v F32 1024", AD_ERR_FORMAT, "(Stable Diffusion 2.x)" },
    { "of SDXL", "v F32 1,1280", AD_ERR_FORMAT, "(SDXL)" },
    { "of SDXL's other encoder", "emb_params F32 1,2048; clip_l F32 1,768", AD_ERR_FORMAT,
      "vectors of 2048 numbers (SDXL)" },
    { "an axis of 2^31 - 1", "v F32 2147483647,0", AD_ERR_FORMAT, "are no vectors" },
    { "76 vectors", "v F32 76,32", AD_ERR_FORMAT, "76 vectors; a prompt has room for 75" },
    { "a LoRA", GOOD, AD_ERR_FORMAT, "this is a LoRA; give it to lora=" },
    { NULL, "v F32 75,32", AD_OK, NULL },
    { NULL, "anything F8_E4M3 32", AD_OK, NULL },
    { NULL, "v F32 1,32=nan", AD_OK, NULL },                        /* a warning */
    { NULL, "string_to_param.* F64 2,32; other F32 1,1", AD_OK, NULL },
    { NULL, "clip_g F32 2,40; emb_params F16 2,32", AD_OK, NULL },
};

static AdStatus taught(const char *list)
{
    AdTokenizer *t = NULL;
    AdEmbeddings e = { .width = 32, .first = 1344 };
    AdStatus st;

    if (ad_tokenizer_load(&ctx, &t, GOLDEN "tokenizer") < 0)
        die("%s", ctx.error);
    st = ad_embeddings_read(&ctx, &e, t, list);
    ad_free(e.rows);
    ad_tokenizer_free(&t);
    return st;
}

static void embedding(const File *f)
{
    const char *path = write_file("e.safetensors", f->text);
    char list[300];

    snprintf(list, sizeof(list), "<x>@%s", path);
    judge(f, path, taught(list));
}

static const struct Token { const char *token; AdStatus status; const char *part; } tokens[] = {
    { "", AD_ERR_INVALID, "token@path is the form" },
    { "\xff", AD_ERR_INVALID, "a token must be UTF-8 text of 1 to 512 bytes" },
    { "\xed\xa0\x80", AD_ERR_INVALID, "a token must be UTF-8 text" },
    { "a\xc3", AD_ERR_INVALID, "a token must be UTF-8 text" },
    { "a", AD_ERR_INVALID, "\"a\" is in the vocabulary already" },
    { "a</w>", AD_ERR_INVALID, "\"a</w>\" is in the vocabulary already" },
    { "<|endoftext|>", AD_ERR_INVALID, "embedding=<: token@path is the form" },
    { "<x>", AD_OK, NULL }, { " ", AD_OK, NULL }, { "\xc4\xb0", AD_OK, NULL },
    { "\xe2\x80\x8b", AD_OK, NULL }, { "\n\n", AD_OK, NULL },
};

static void token(const struct Token *t)
{
    char list[1100];

    snprintf(list, sizeof(list), "%s@%s", t->token, write_file("e.safetensors", "v F32 2,32"));
    CHECK_STATUS(taught(list), t->status);
    if (t->part)
        CHECK_CONTAINS(ctx.error, t->part);
}

static void tokens_have_at_most_512_bytes(void)
{
    char word[AD_CAP_TOKEN + 2];

    memset(word, 'q', sizeof(word));
    word[AD_CAP_TOKEN + 1] = 0;
    token(&(struct Token){ word, AD_ERR_INVALID, "UTF-8 text of 1 to 512 bytes" });
    word[AD_CAP_TOKEN] = 0;
    token(&(struct Token){ word, AD_OK, NULL });
}

/* ---- main --------------------------------------------------------------------------------- */

#define EACH(files, function)                                                           \
    for (i_ = 0; i_ < AD_COUNT(files); i_++)                                            \
        RUN_AS(function(&(files)[i_]), "%s %s: %s", #function,                          \
               (files)[i_].what ? "refused" : "taken",                                  \
               (files)[i_].what ? (files)[i_].what : (files)[i_].text);

int main(void)
{
    char quoted[AD_QUOTE_TEXT];

    EACH(loras, lora)
    EACH(motion_loras, motion_lora)
    RUN(long_names_are_no_layers);
    RUN(refusing_many_layers_is_cheap);
    EACH(vectors, embedding)
    for (i_ = 0; i_ < AD_COUNT(tokens); i_++)
        RUN_AS(token(&tokens[i_]), "token %s: \"%s\"", tokens[i_].part ? "refused" : "taken",
               ad_quote(tokens[i_].token, strlen(tokens[i_].token), quoted));
    RUN(tokens_have_at_most_512_bytes);
    return check_result();
}
