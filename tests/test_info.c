/* test_info.c - what animatediff-info says of files and folders.
 *
 * Files are the golden ones and small ones made here. The program around it: info.sh.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "../engine/info.h"
#include "../engine/internal.h"
#include "check.h"
#include "golden.h"
#include "published.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static char said[1 << 16];
static size_t i_;               /* outlives the longjmp of a failing case */

static void keep(void *opaque, const char *text)
{
    size_t at = strlen(said);

    (void)opaque;
    snprintf(said + at, sizeof(said) - at, "%s\n", text);
}

static AdStatus info(const char *path)
{
    const AdInfoSink sink = { keep, NULL };

    said[0] = 0;
    return ad_info(&ctx, path, &sink);
}

/* A line of it: the word, and how the text goes. */
static void line_is(const char *word, const char *text)
{
    char line[600];

    snprintf(line, sizeof(line), "\n  %-15s %s\n", word, text);
    if (!strstr(said, line))
        FAIL("no line \"%s %s\" in: %.300s", word, text, said);
}

static const struct Told { const char *path, *lines[7][2]; } told[] = {
    { "loras/pan.safetensors", {
        { "is", "a motion LoRA; give it to motion_lora=" },
        { "holds", "112 tensors, 11264 numbers, F32" },
        { "base", "motion modules v2 (it changes the middle one)" },
        { "changes", "56 layers of motion modules; as LoRA" },
        { "rank", "4; scale 1 (no alpha)" }, { "ignored", "nothing" } } },
    { "loras/pan-original.ckpt", {
        { "is", "a motion LoRA; give it to motion_lora=" },
        { "changes", "56 layers of motion modules; as LoRA" } } },
    { "loras/kohya.safetensors", {
        { "is", "a LoRA; give it to lora=" }, { "holds", "273 tensors, 41627 numbers, F16" },
        { "base", "a model with text states of width 32" },
        { "changes", "79 layers of the UNet, 12 of the text encoder; as LoRA" },
        { "rank", "4; scale 0.5 (alpha / rank)" }, { "ignored", "nothing" } } },
    { "loras/settings.safetensors", {
        { "is", "a LoRA of pictures and motion modules; give it to lora=" },
        { "rank", "1 to 4; scale -0.75 to 6 (PEFT's settings)" }, { "ignored", "nothing" } } },
    { "loras/domain.ckpt", {
        { "is", "a LoRA; give it to lora=" }, { "changes", "32 layers of the UNet; as LoRA" } } },
    { "models/single.safetensors", {
        { "is", "a Stable Diffusion 1.x model; give it to model=" },
        { "holds", "506 tensors, 1042999 numbers, F16 (498), I32 (1), F32 (6), I64 (1)" },
        { "base", "Stable Diffusion 1.x" }, { "parts", "UNet, text encoder, VAE" },
        { "needs", "a tokenizer (beside it, or tokenizer=), motion_adapter=" },
        { "ignored", "3 tensors of averages (EMA), 4 of training, 0 unknown" } } },
    { "models/single-bare.ckpt", {
        { "parts", "UNet, text encoder" },
        { "needs", "a tokenizer (beside it, or tokenizer=), motion_adapter=, vae=" } } },
    { "models/single-motion.safetensors", {
        { "is", "a motion module; give it to motion_adapter=" },
        { "base", "a model of its own (2 levels)" },
        { "version", "v2; clips of up to 32 frames; linear betas" },
        { "ignored", "22 tensors (positional tables are computed)" } } },
    { "models/v1-motion-original.ckpt", {
        { "version", "v1; clips of up to 24 frames; linear betas" },
        { "ignored", "18 tensors (positional tables are computed)" } } },
    { "models/single-vae.safetensors", {
        { "is", "a VAE; give it to vae=" },
        { "base", "4 latent channels: Stable Diffusion 1.x and 2.x (XL's look the same)" },
        { "ignored", "72 tensors (of the encoder, of training)" } } },
    { "embeddings/two.pt", {
        { "is", "a textual inversion; give it to embedding=" },
        { "holds", "1 tensor, 64 numbers, F32" },
        { "base", "a model with text states of width 32" },
        { "vectors", "2, as embedding=WORD@PATH" }, { "ignored", "nothing" } } },
    { "blocks.safetensors", { { "is", "nothing that is known here" } } },
    { "models/plain", {
        { "is", "a model in a folder; give it to model=" },
        { "base", "a model with text states of width 32; 4 input channels" },
        { "motion", "none: give some to motion_adapter=" },
        { "unet", "208 tensors, 203204 numbers, F32" },
        { "text_encoder", "36 tensors, 70944 numbers, F32" },
        { "vae", "180 tensors, 81215 numbers, F32" } } },
    { "models/saved", {
        { "motion", "it has motion modules" }, { "unet", "601 tensors, 308612 numbers, F16" } } },
    { "models/plain-motion", { { "is", "a motion module; give it to motion_adapter=" } } },
};

static void is_told(const struct Told *t)
{
    char path[200], first[220];

    snprintf(path, sizeof(path), GOLDEN "%s", t->path);
    if (info(path) < 0)
        FAIL("%s", ctx.error);
    snprintf(first, sizeof(first), "%s", path);
    CHECK(!strncmp(said, first, strlen(first)));
    for (size_t i = 0; i < AD_COUNT(t->lines) && t->lines[i][0]; i++)
        line_is(t->lines[i][0], t->lines[i][1]);
}

/* ---- made here ---------------------------------------------------------------------------- */

static const char *file_of(const char *name, const char *tensor, int rank, int64_t a, int64_t b)
{
    TensorWriter w = { 0 };

    tensors_add(&w, tensor, "F16", rank, (int64_t[]){ a, b, 1, 1 }, NULL,
                (size_t)(2 * a * (rank > 1 ? b : 1)));
    return tensors_write(&w, name);
}

static void bases_are_told_by_widths(void)
{
    static const struct { int64_t width; const char *base; } widths[] = {
        { 768, "Stable Diffusion 1.x" }, { 1024, "Stable Diffusion 2.x (not supported)" },
        { 1280, "Stable Diffusion XL (not supported)" },
        { 2048, "Stable Diffusion XL (not supported)" },
    };

    for (size_t i = 0; i < AD_COUNT(widths); i++) {
        TensorWriter w = { 0 };

        CHECK_STATUS(info(file_of("e.safetensors", "emb_params", 2, 3, widths[i].width)), AD_OK);
        line_is("base", widths[i].base);
        tensors_add(&w, "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k."
                    "lora_down.weight", "F16", 2, (int64_t[]){ 4, widths[i].width }, NULL,
                    (size_t)(8 * widths[i].width));
        tensors_add(&w, "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up."
                    "weight", "F16", 2, (int64_t[]){ 1280, 4 }, NULL, 8 * 1280);
        CHECK_STATUS(info(tensors_write(&w, "l.safetensors")), AD_OK);
        line_is("base", widths[i].base);
    }
}

static void what_is_not_supported_is_said(void)
{
    CHECK_STATUS(info(file_of("x.safetensors", "control_model.input_blocks.0.0.weight", 4, 3, 2)),
                 AD_OK);
    line_is("is", "a ControlNet (not supported)");
    CHECK_STATUS(info(file_of("x.safetensors", "down_blocks.0.motion_modules.0.norm.weight", 1, 3,
                              1)), AD_OK);
    line_is("version", "AnimateLCM (no positional tables); clips of up to 64 frames; linear betas");
    line_is("use", "scheduler=lcm, 4 to 8 steps, guidance_scale 1 to 2, and its LoRA");
    CHECK_STATUS(info(scratch_renamed("in.safetensors", GOLDEN "models/single.safetensors",
                                      "[32,4,3,3]", "[128,9,1,1]")), AD_OK);
    CHECK_CONTAINS(said, "  refused         ");
    CHECK_CONTAINS(said, "an inpainting model (9 input channels)");
    CHECK_STATUS(info(file_of("vae.safetensors", "decoder.mid.x", 1, 3, 1)), AD_OK);
    line_is("base", "0 latent channels: another family (not supported)");
}

static void a_folder_of_files_is_gone_through(void)
{
    scratch_copy("many/b.safetensors", GOLDEN "loras/zoom.safetensors");
    scratch_copy("many/a.pt", GOLDEN "embeddings/two.pt");
    scratch_text("many/notes.txt", "no weights");
    CHECK_STATUS(info(scratch("many")), AD_OK);
    CHECK_CONTAINS(said, "a.pt\n  is              a textual inversion");
    CHECK_CONTAINS(strstr(said, "a.pt"), "b.safetensors\n  is              a motion LoRA");
    CHECK(!strstr(said, "notes"));
    scratch_text("many/a0.ckpt", "<html>");
    CHECK_STATUS(info(scratch("many")), AD_ERR_FORMAT);
    CHECK_CONTAINS(said, "a0.ckpt: a web page, not a model");
    CHECK_CONTAINS(said, "b.safetensors\n");
    scratch_folder("hollow");
    CHECK_STATUS(info(scratch("hollow")), AD_ERR_NOTFOUND);
    CHECK_CONTAINS(ctx.error, "hollow: neither a model's folder nor one with files of weights");
}

static void names_cannot_steer_a_terminal(void)
{
    scratch_copy("esc/\033[2Jx.safetensors", GOLDEN "loras/zoom.safetensors");
    CHECK_STATUS(info(scratch("esc")), AD_OK);
    CHECK(!strchr(said, '\033'));
    CHECK_CONTAINS(said, "esc/?[2Jx.safetensors\n");
}

static void damaged_files_are_refused(void)
{
    static const struct { const char *text, *sentence; } wrong[] = {
        { "", "an empty file" }, { "<html>", "a web page" }, { "PK\3\4", "d.bin: " },
        { "12345678{}", "d.bin: " }, { "\x80\2}q\0.", "d.bin: " },
    };

    for (size_t i = 0; i < AD_COUNT(wrong); i++) {
        CHECK_STATUS(info(scratch_text("d.bin", wrong[i].text)) >= 0, false);
        CHECK_CONTAINS(ctx.error, wrong[i].sentence);
        CHECK_TEXT(said, "");
    }
    CHECK_STATUS(info(scratch("nowhere")), AD_ERR_NOTFOUND);
}

/* 2 GB, of which only the header is looked at. */
static void a_large_file_takes_no_time(void)
{
    const char *path = published_checkpoint("sd15.safetensors");
    clock_t start = clock();

    CHECK_STATUS(info(path), AD_OK);
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 0.5);
    line_is("base", "Stable Diffusion 1.x");
    line_is("holds", "1131 tensors, 1066235384 numbers, F16");
    scratch_remove("sd15.safetensors");
}

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(told); i_++)
        RUN_AS(is_told(&told[i_]), "told: %s", told[i_].path);
    RUN(bases_are_told_by_widths);
    RUN(what_is_not_supported_is_said);
    RUN(a_folder_of_files_is_gone_through);
    RUN(names_cannot_steer_a_terminal);
    RUN(damaged_files_are_refused);
    RUN(a_large_file_takes_no_time);
    return check_result();
}
