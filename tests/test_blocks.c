/* test_blocks.c - layers and small networks against diffusers and transformers.
 *
 * Weights and inputs come from a formula, outputs from tests/golden/blocks.json, made in double.
 * Every block also runs on the null backend first: what that measured is what it takes.
 * Tolerances, relative to the largest value of the output: f32 2e-5, some dozens of roundings of
 * 6e-8 in a row and sums of up to some hundred products in another order; bf16 0.02, for it rounds
 * every intermediate to 8 bits. Some cases lose more, in any implementation: norms over a few
 * nearly equal numbers. For those the table says what PyTorch in f32 and bf16 loses against its
 * own double; three times that is allowed.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "formula.h"
#include "golden.h"
#include "scratch.h"
#include "tensors.h"

static AdContext ctx;
static AdTensorFile *truth;     /* blocks.safetensors */

typedef struct Block {
    const json_t *c;            /* the case */
    AdBackend    *be;
    AdType        type;
    int           skip;         /* clip: layers left out */
    FormulaPart   part;
    AdTensor      out;
    union {
        AdResnet resnet;
        AdMotion motion;
        struct { AdNorm norm; AdLinear in, out; AdTransformer blocks[AD_DEPTH]; } spatial;
    } w;
} Block;

static AdUnetWeights unet;      /* large */
static AdUnetConfig unet_config;
static AdVaeWeights vae;
static AdVaeConfig vae_config;
static AdClipWeights clip;
static AdTextConfig text_config;

static int config(const Block *b, const char *key)
{
    json_t *value = golden_get(golden_get(b->c, "config"), key);

    return json_is_number(value) ? (int)json_number_value(value) : 0;
}

/* The case's config as a file, as its class would have saved it. */
static const char *config_file(const Block *b, const char *class_name)
{
    json_t *copy = json_copy(golden_get(b->c, "config"));

    scratch_folder("");
    json_object_set_new(copy, "_class_name", json_string(class_name));
    if (json_dump_file(copy, scratch("config.json"), 0))
        die("config.json cannot be written");
    json_decref(copy);
    return scratch("config.json");
}

/* ---- inputs ------------------------------------------------------------------------------- */

typedef struct Wave { int64_t shape[5]; int rank; float *values; } Wave;

static Wave input(const Block *b, const char *name)
{
    json_t *in = golden_get(golden_get(b->c, "inputs"), name);
    size_t n = 1;
    Wave w = { .rank = (int)golden_count(in, "shape") };

    for (int i = 0; i < w.rank; i++) {
        w.shape[i] = (int64_t)golden_at(in, "shape", (size_t)i);
        n *= (size_t)w.shape[i];
    }
    w.values = malloc(n * sizeof(float));
    if (json_object_get(in, "values"))
        for (size_t i = 0; i < n; i++)
            w.values[i] = (float)golden_at(in, "values", i);
    else
        formula_wave(w.values, n, golden_number(in, "a"), golden_number(in, "c"));
    return w;
}

/* [n, c, s] to [n, s, c], into new memory; s: all axes behind. */
static float *channels_last(const float *from, int64_t n, int64_t c, int64_t s)
{
    float *to = malloc((size_t)(n * c * s) * sizeof(float));

    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < s; p++)
                to[(i * s + p) * c + k] = from[(i * c + k) * s + p];
    return to;
}

/* Floats to a new tensor of the pass. */
static AdTensor put(AdExec *x, float *values, int64_t n, int64_t h, int64_t w, int64_t c)
{
    AdTensor t = ad_empty(x, n, h, w, c);
    void *turned = malloc(ad_bytes(t));

    ad_convert(turned, x->type, values, AD_F32, ad_count(t));
    if (t.data)
        x->backend->cls->upload(x->backend, t.data, turned, ad_bytes(t));
    free(turned);
    return t;
}

/* [n, c, h, w] of the case as [n, h, w, c] on the device. */
static AdTensor put_picture(AdExec *x, const Block *b, const char *name)
{
    Wave w = input(b, name);
    float *last = channels_last(w.values, w.shape[0], w.shape[1], w.shape[2] * w.shape[3]);
    AdTensor t = put(x, last, w.shape[0], w.shape[2], w.shape[3], w.shape[1]);

    free(w.values);
    free(last);
    return t;
}

/* [b, tokens, width] as [b, 1, tokens, width]. */
static AdTensor put_text(AdExec *x, const Block *b)
{
    Wave w = input(b, "text");
    AdTensor t = put(x, w.values, w.shape[0], 1, w.shape[1], w.shape[2]);

    free(w.values);
    return t;
}

/* ---- resnet ------------------------------------------------------------------------------- */

static void resnet_bind(AdBinder *binder, void *opaque)
{
    Block *b = opaque;
    AdResnetShape shape = { .ci = config(b, "in_channels"), .co = config(b, "out_channels"),
                            .time = config(b, "temb_channels"), .groups = config(b, "groups"),
                            .eps = (float)golden_number(golden_get(b->c, "config"), "eps") };

    ad_resnet_bind(binder, &shape, &b->w.resnet);
}

static AdTensor resnet_forward(AdExec *x, Block *b)
{
    AdTensor h = put_picture(x, b, "x"), time = { 0 };

    if (config(b, "temb_channels")) {
        Wave w = input(b, "temb");
        int64_t n = w.shape[0] * w.shape[1];

        for (int64_t i = 0; i < n; i++)             /* the block's own SiLU comes first */
            w.values[i] /= 1 + expf(-w.values[i]);
        time = put(x, w.values, 1, 1, w.shape[0], w.shape[1]);
        free(w.values);
    }
    return ad_resnet_forward(x, &b->w.resnet, h, (AdTensor){ 0 }, time, false);
}

/* ---- transformer, motion module ----------------------------------------------------------- */

static void spatial_bind(AdBinder *binder, void *opaque)
{
    Block *b = opaque;
    int c = config(b, "channels");

    ad_bind_norm(binder, "norm", c, config(b, "groups"), 1e-6f, &b->w.spatial.norm);
    ad_bind_linear(binder, "proj_in", c, c, true, &b->w.spatial.in);
    for (int i = 0; i < config(b, "layers"); i++)
        ad_transformer_bind(binder, i, c, config(b, "cross_attention_dim"), 0,
                            &b->w.spatial.blocks[i]);
    ad_bind_linear(binder, "proj_out", c, c, true, &b->w.spatial.out);
}

static AdTensor spatial_forward(AdExec *x, Block *b)
{
    AdTensor h = put_picture(x, b, "x"), states = put_text(x, b);
    AdTensor t = ad_linear(x, &b->w.spatial.in, ad_norm(x, &b->w.spatial.norm, h));

    for (int i = 0; i < config(b, "layers"); i++)
        ad_transformer_text(x, &b->w.spatial.blocks[i], t,
                            ad_linear(x, &b->w.spatial.blocks[i].kv2, states), config(b, "heads"));
    ad_linear_to(x, h, &b->w.spatial.out, t, AD_ACT_NONE, h);
    return h;
}

static void motion_bind(AdBinder *binder, void *opaque)
{
    Block *b = opaque;

    ad_motion_bind(binder, 0, config(b, "channels"), config(b, "layers"), config(b, "heads"),
                   config(b, "groups"), config(b, "max_seq_length"), &b->w.motion);
}

static AdTensor motion_forward(AdExec *x, Block *b)
{
    AdTensor h = put_picture(x, b, "x");

    ad_motion_forward(x, &b->w.motion, h, config(b, "frames"), false);
    return h;
}

/* ---- UNet --------------------------------------------------------------------------------- */

static void unet_bind(AdBinder *binder, void *opaque)
{
    (void)opaque;
    ad_unet_bind(binder, &unet_config, &unet);
}

static AdTensor put_time(AdExec *x, const Block *b)
{
    int c0 = unet_config.channels[0];
    Wave w = input(b, "timestep");
    float wave[512];
    AdTensor out = ad_empty(x, 1, 1, 1, 4 * c0);

    ad_time_sinusoid(golden_at(golden_get(golden_get(b->c, "inputs"), "timestep"), "values", 0), c0,
                     wave);
    ad_unet_time(x, &unet, put(x, wave, 1, 1, 1, c0), out);
    free(w.values);
    return out;
}

static AdTensor unet_forward(AdExec *x, Block *b)
{
    AdTensor kv[AD_TEXT_BLOCKS], states = put_text(x, b), time = put_time(x, b), latents;
    Wave w = input(b, "sample");                    /* [b, 4, f, h, w] */
    int64_t frames = w.shape[2], picture = w.shape[3] * w.shape[4];
    float *last = channels_last(w.values, w.shape[0], w.shape[1], frames * picture);

    latents = put(x, last, w.shape[0] * frames, w.shape[3], w.shape[4], w.shape[1]);
    free(w.values);
    free(last);
    for (int i = 0; i < unet.text_count; i++)
        kv[i] = ad_empty(x, states.dim[0], 1, states.dim[2], 2 * unet.text_heads_width[i]);
    ad_unet_text(x, &unet, states, kv);
    return ad_unet_forward(x, &unet, &(AdUnetInput){ .latents = latents, .time = time, .kv = kv,
                                                     .frames = (int)frames });
}

/* ---- VAE, text encoder -------------------------------------------------------------------- */

static void vae_bind(AdBinder *binder, void *opaque)
{
    (void)opaque;
    ad_vae_bind(binder, &vae_config, &vae);
}

static AdTensor vae_forward(AdExec *x, Block *b)
{
    return ad_vae_decode(x, &vae, put_picture(x, b, "x"));
}

static void clip_bind(AdBinder *binder, void *opaque)
{
    (void)opaque;
    ad_clip_bind(binder, &text_config, &clip);
}

/* Cases of 7 positions run as the first of 77: the formula gives their rows of the positional table
 * the same values, and no position sees a later one. */
static AdTensor clip_forward(AdExec *x, Block *b)
{
    AdTensor ids = ad_empty_typed(x, AD_I32, 1, 1, 1, AD_TOKENS);
    AdTensor out = ad_empty(x, 1, 1, AD_TOKENS, text_config.width);
    Wave w = input(b, "ids");
    int32_t numbers[AD_TOKENS] = { 0 };

    for (int64_t i = 0; i < w.shape[1]; i++)
        numbers[i] = (int32_t)w.values[i];
    if (ids.data)
        x->backend->cls->upload(x->backend, ids.data, numbers, sizeof(numbers));
    ad_clip_forward(x, &clip, ids, b->skip, out);
    free(w.values);
    return out;
}

/* ---- computing ---------------------------------------------------------------------------- */

typedef AdTensor (*Forward)(AdExec *x, Block *b);

static AdTensor pass(Block *b, AdBackend *be, AdArena *arena, Forward forward)
{
    AdExec x = { .backend = be, .work = arena, .type = b->type };
    AdTensor out = forward(&x, b);

    if (x.status < 0)
        FAIL("%s", x.message);
    return out;
}

/* Measured, then computed in a slab of that size; the result as floats, free() it. */
static float *compute(Block *b, Forward forward)
{
    AdDeviceParams params = { .measured = b->be };
    AdBackend *null = NULL;
    AdArena arena;
    size_t need;
    void *slab = NULL, *raw;
    float *numbers;

    CHECK_INT(ad_null_backend.open(&null, &params), AD_OK);
    ad_arena_measure(&arena);
    pass(b, null, &arena, forward);
    need = arena.peak;
    ad_arena_free(&arena);
    null->cls->close(&null);
    CHECK_INT(b->be->cls->alloc(b->be, need, &slab), AD_OK);
    ad_arena_init(&arena, slab, need);
    b->out = pass(b, b->be, &arena, forward);
    CHECK_INT(arena.peak, need);
    CHECK_INT(b->be->cls->sync(b->be), AD_OK);
    raw     = malloc(ad_bytes(b->out));
    numbers = malloc((size_t)ad_count(b->out) * sizeof(float));
    CHECK_INT(b->be->cls->download(b->be, raw, b->out.data, ad_bytes(b->out)), AD_OK);
    ad_convert(numbers, AD_F32, raw, b->type, ad_count(b->out));
    ad_arena_free(&arena);
    b->be->cls->free(b->be, slab);
    free(raw);
    return numbers;
}

/* Relative to the largest true value. */
static void compare(const Block *b, const char *output, float *found, double tolerance)
{
    const char *name = golden_text(golden_get(b->c, "outputs"), output);
    const AdEntry *e = ad_tensor_file_find(truth, name);
    int64_t n = e ? ad_entry_count(e) : 0, c = 1, front = 1;
    float *wanted = malloc((size_t)n * sizeof(float)), *last = wanted;
    double top = 0, worst = 0;

    if (!e || ad_entry_read(&ctx, truth, e, wanted) < 0)
        die("golden data: no %s", name);
    if (e->rank >= 4) {
        front = e->shape[0];
        c     = e->shape[1];
        last  = channels_last(wanted, front, c, n / c / front);
    }
    CHECK(n <= ad_count(b->out) && (e->rank == 3 || n == ad_count(b->out)));
    for (int64_t i = 0; i < n; i++) {
        top   = fmax(top, fabs(last[i]));
        worst = isnan(found[i]) ? INFINITY : fmax(worst, fabs(found[i] - (double)last[i]));
    }
    if (last != wanted)
        free(last);
    free(wanted);
    free(found);
    if (!(worst <= tolerance * top))
        FAIL("%s is %.2g of the largest value off; %.2g is allowed", output, worst / top,
             tolerance);
}

/* ---- tolerances --------------------------------------------------------------------------- */

/* The most that PyTorch loses in several orders of summing: golden_lib/losses.py for f32 (0: under
 * 1e-5). In bf16 the last four are noise: only finite numbers are asked for. */
static const struct { const char *name; double f32, bf16; } losses[] = {
    { "resnet_24_8_groups_8", 0, 0.025 },   { "transformer2d_odd_size", 0, 0.067 },
    { "motion_reference", 0, 0.05 },        { "motion_8_frames", 0, 0.068 },
    { "motion_16_frames", 0, 0.064 },       { "motion_v1_length", 0, 0.11 },
    { "motion_two_layers", 0, 0.046 },      { "vae_decode", 0, 0.064 },
    { "vae_decode_four_levels", 0, 0.22 },  { "unet_mid", 0, 0.02 },
    { "unet_no_mid", 0, 0.024 },            { "unet_odd_size", 0, 0.034 },
    { "unet_v1", 0, 0.02 },                 { "unet_four_levels_odd_size", 4.5e-5, 0.21 },
    { "clip_three_layers_quick_gelu", 0, 0.024 }, { "unet_fractional_timestep", 0, 0.011 },
    { "unet_four_levels", 1.3e-4, 1e9 },    { "unet_lists", 1.8e-3, 1e9 },
    { "unet_layers_per_level", 5e-4, 1e9 }, { "unet_three_levels", 2.7e-4, 1e9 },
};

/* Another library has an order of its own, so it may lose somewhat more than PyTorch. */
static double tolerance_of(const char *name, AdType type)
{
    double least = type == AD_F32 ? 2e-5 : 2e-2;

    for (size_t i = 0; i < AD_COUNT(losses); i++)
        if (!strcmp(losses[i].name, name))
            return fmax(least, type == AD_F32 ? 1.5 * losses[i].f32 : 3 * losses[i].bf16);
    return least;
}

/* ---- cases -------------------------------------------------------------------------------- */

static const struct Kind {
    const char *name, *prefix, *seed;
    FormulaBind bind;
    Forward     forward;
} kinds[] = {
    { "resnet", "", NULL, resnet_bind, resnet_forward },
    { "transformer2d", "", NULL, spatial_bind, spatial_forward },
    { "motion", "motion_modules.0.", NULL, motion_bind, motion_forward },
    { "unet", "", NULL, unet_bind, unet_forward },
    { "vae_decode", "", NULL, vae_bind, vae_forward },
    { "clip", "", "text_model.final_layer_norm.weight", clip_bind, clip_forward },
};

static void read_configs(Block *b, const char *kind)
{
    AdStatus st = AD_OK;

    if (!strcmp(kind, "unet"))
        st = ad_unet_config_read(&ctx, config_file(b, "UNetMotionModel"), &unet_config);
    if (!strcmp(kind, "vae_decode"))
        st = ad_vae_config_read(&ctx, config_file(b, "AutoencoderKL"), &vae_config);
    if (!strcmp(kind, "clip")) {
        json_object_set_new(golden_get(b->c, "config"), "max_position_embeddings",
                            json_integer(77));
        st = ad_text_config_read(&ctx, config_file(b, "CLIPTextModel"), &text_config);
    }
    if (st < 0)
        FAIL("%s", ctx.error);
}

static void block_is(const json_t *c, const struct Kind *kind, AdBackend *be, AdType type)
{
    static const char *const outputs[] = { "out", "skip1", "skip2" };
    Block *b = calloc(1, sizeof(*b));
    AdStatus st;

    *b = (Block){ .c = c, .be = be, .type = type };
    memset(&unet, 0, sizeof(unet));
    memset(&vae, 0, sizeof(vae));
    memset(&clip, 0, sizeof(clip));
    read_configs(b, kind->name);
    st = formula_bind(&ctx, be, type, kind->prefix, kind->seed, text_config.width, kind->bind, b,
                      &b->part);
    if (st < 0)
        FAIL("%s", ctx.error);
    for (b->skip = 0; b->skip < 3; b->skip++)
        if (json_object_get(golden_get(c, "outputs"), outputs[b->skip]))
            compare(b, outputs[b->skip], compute(b, kind->forward),
                    tolerance_of(golden_text(c, "name"), type));
    formula_free(&b->part);
    ad_unet_free(&unet);
    free(b);
}

static void all_blocks(const json_t *cases, AdBackend *be, AdType type)
{
    static size_t i, k;         /* these outlive the longjmp of a failing case */
    static const json_t *c;

    json_array_foreach((json_t *)(uintptr_t)cases, i, c)
        for (k = 0; k < AD_COUNT(kinds); k++)
            if (!strcmp(golden_text(c, "kind"), kinds[k].name))
                RUN_AS(block_is(c, &kinds[k], be, type), "%s %s: %s", be->cls->name,
                       ad_type_name(type), golden_text(c, "name"));
}

/* test_blocks [DEVICE]: all, or one */
int main(int argc, char **argv)
{
    static const struct { const char *device; AdType type; } runs[] = {
        { "ref", AD_F32 }, { "cpu", AD_F32 }, { "cpu", AD_BF16 }, { "cuda", AD_F32 },
        { "cuda", AD_BF16 },
    };
    json_t *root = golden_json("blocks.json");

    if (ad_tensor_file_open(&ctx, &truth, GOLDEN "blocks.safetensors") < 0)
        die("%s", ctx.error);
    for (size_t i = 0; i < AD_COUNT(runs); i++) {
        char why[256], message[256];
        AdBackend *be = NULL;

        if (argc > 1 && strcmp(argv[1], runs[i].device))
            continue;
        if (ad_backend_open(&be, runs[i].device, 2, why, message, sizeof(why)) < 0) {
            printf("skip - blocks on %s: %s\n", runs[i].device, message);
            continue;
        }
        if (be->cls->supports(be, runs[i].type))
            all_blocks(golden_get(root, "cases"), be, runs[i].type);
        else
            printf("skip - blocks on %s: no %s here\n", runs[i].device, ad_type_name(runs[i].type));
        be->cls->close(&be);
    }
    ad_tensor_file_close(&truth);
    json_decref(root);
    return check_result();
}
