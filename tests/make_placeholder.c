/* make_placeholder.c - the default model of a tree without a trained one: random weights.
 *
 *     make_placeholder FOLDER
 *
 * Called by the Makefile's target `model`. A diffusers AnimateDiffPipeline folder of less than a
 * megabyte, native 128x128; model_index.json says "_placeholder", and the loader then warns that
 * the frames will be noise. Tensor names are written down beside the loops that the published
 * classes have. The same bytes on every machine: numbers come from an integer generator.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../kernels/tensor.h"

enum { LEVELS = 3, CONTEXT = 32, TOKENS = 77, FRAMES = 32, VAE_LEVELS = 4, TIME = 64 };
static const int channels[LEVELS] = { 16, 32, 32 }, vae_channels[VAE_LEVELS] = { 8, 16, 16, 16 };

static const char *const merges[][2] = { { "t", "h" }, { "th", "e</w>" } };
enum { MERGES = 2, VOCABULARY = 512 + MERGES + 2 };

/* ---- files -------------------------------------------------------------------------------- */

static const char *folder;

static void die(const char *path)
{
    fprintf(stderr, "make_placeholder: %s: %s\n", path, strerror(errno));
    exit(1);
}

static FILE *create(const char *part, const char *name)
{
    char path[4096];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", folder, part);
    if (mkdir(path, 0777) && errno != EEXIST)
        die(path);
    snprintf(path, sizeof(path), "%s/%s/%s", folder, part, name);
    f = fopen(path, "wb");
    if (!f)
        die(path);
    return f;
}

static void put(const char *part, const char *name, const char *text)
{
    FILE *f = create(part, name);

    fputs(text, f);
    if (fclose(f))
        die(name);
}

/* ---- one safetensors file ----------------------------------------------------------------- */

static struct {
    char     header[1 << 18];
    uint16_t data[1 << 20];
    size_t   length, count;     /* bytes of the header, elements */
    uint64_t state;             /* of the generator */
} out;

/* Steele, Lea, Flood 2014: SplitMix. -1 ... 1 */
static double draw(void)
{
    uint64_t z = out.state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)(int64_t)(z ^ z >> 31) / 9223372036854775808.0;
}

static void push(double value)
{
    float x = (float)value;

    if (out.count == AD_COUNT(out.data))
        exit(2);
    ad_convert(&out.data[out.count++], AD_F16, &x, AD_F32, 1);
}

/* "prefix.name" in the header, its numbers to come. */
static void entry(const char *prefix, const char *name, int rank, const int *shape)
{
    size_t n = 1;

    for (int i = 0; i < rank; i++)
        n *= (size_t)shape[i];
    out.length += (size_t)sprintf(out.header + out.length,
                                  "%s\"%s%s%s\":{\"dtype\":\"F16\",\"shape\":[",
                                  out.length > 1 ? "," : "", prefix, *prefix ? "." : "", name);
    for (int i = 0; i < rank; i++)
        out.length += (size_t)sprintf(out.header + out.length, "%s%d", i ? "," : "", shape[i]);
    out.length += (size_t)sprintf(out.header + out.length, "],\"data_offsets\":[%zu,%zu]}",
                                  2 * out.count, 2 * (out.count + n));
}

/* Uniform numbers of variance size^2 / fan-in. */
static void matrix(const char *prefix, const char *name, int rank, const int *shape, double size)
{
    int fan_in = 1, n = shape[0];

    for (int i = 1; i < rank; i++)
        fan_in *= shape[i];
    entry(prefix, name, rank, shape);
    for (int i = 0; i < n * fan_in; i++)
        push(draw() * size * sqrt(3.0 / fan_in));
}

static void constant(const char *prefix, const char *name, int n, double value)
{
    entry(prefix, name, 1, &n);
    for (int i = 0; i < n; i++)
        push(value);
}

static void save(const char *part, const char *name)
{
    FILE *f = create(part, name);
    unsigned char length[8];

    out.length += (size_t)sprintf(out.header + out.length, "}");
    while (out.length % 8)
        out.header[out.length++] = ' ';
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)out.length >> 8 * i);
    fwrite(length, 1, 8, f);
    fwrite(out.header, 1, out.length, f);
    fwrite(out.data, 2, out.count, f);
    if (fclose(f))
        die(name);
}

static void start(uint64_t seed)
{
    out.header[0] = '{';
    out.length    = 1;
    out.count     = 0;
    out.state     = seed;
}

/* ---- layers ------------------------------------------------------------------------------- */

typedef struct Name { char text[256]; } Name;

static Name named(const char *format, ...)
{
    Name n;
    va_list args;

    va_start(args, format);
    vsnprintf(n.text, sizeof(n.text), format, args);
    va_end(args);
    return n;
}

/* prefix.part */
static Name of(Name prefix, const char *part)
{
    return named("%.180s.%.60s", prefix.text, part);
}

static void norm(Name p, int c)
{
    constant(p.text, "weight", c, 1);
    constant(p.text, "bias", c, 0);
}

static void linear(Name p, int in, int to, int bias)
{
    matrix(p.text, "weight", 2, (int[]){ to, in }, 1);
    if (bias)
        constant(p.text, "bias", to, 0);
}

static void conv(Name p, int in, int to, int k, double size)
{
    matrix(p.text, "weight", 4, (int[]){ to, in, k, k }, size);
    constant(p.text, "bias", to, 0);
}

/* time: width of the time vector, 0 in the VAE */
static void resnet(Name p, int in, int to, int time)
{
    norm(of(p, "norm1"), in);
    conv(of(p, "conv1"), in, to, 3, 1);
    if (time)
        linear(of(p, "time_emb_proj"), time, to, 1);
    norm(of(p, "norm2"), to);
    conv(of(p, "conv2"), to, to, 3, 1);
    if (in != to)
        conv(of(p, "conv_shortcut"), in, to, 1, 1);
}

static void attention(Name p, int c, int context, int bias)
{
    linear(of(p, "to_q"), c, c, bias);
    linear(of(p, "to_k"), context, c, bias);
    linear(of(p, "to_v"), context, c, bias);
    linear(of(p, "to_out.0"), c, c, 1);
}

/* A block of two attentions and a feed-forward; context 0: both look along the frames. */
static void transformer(Name p, int c, int context)
{
    norm(of(p, "norm1"), c);
    attention(of(p, "attn1"), c, c, 0);
    norm(of(p, "norm2"), c);
    attention(of(p, "attn2"), c, context ? context : c, 0);
    norm(of(p, "norm3"), c);
    linear(of(p, "ff.net.0.proj"), c, 8 * c, 1);
    linear(of(p, "ff.net.2"), 4 * c, c, 1);
}

static void spatial(Name p, int c)
{
    norm(of(p, "norm"), c);
    conv(of(p, "proj_in"), c, c, 1, 1);
    transformer(of(p, "transformer_blocks.0"), c, CONTEXT);
    conv(of(p, "proj_out"), c, c, 1, 1);
}

/* Vaswani et al. 2017, section 3.5 */
static void positions(Name p, int c)
{
    entry(p.text, "pos_embed.pe", 3, (int[]){ 1, FRAMES, c });
    for (int f = 0; f < FRAMES; f++)
        for (int i = 0; i < c; i++) {
            double angle = f * pow(10000, -(double)(i / 2 * 2) / c);

            push(i % 2 ? cos(angle) : sin(angle));
        }
}

static void motion(Name p, int c)
{
    norm(of(p, "norm"), c);
    linear(of(p, "proj_in"), c, c, 1);
    positions(of(p, "transformer_blocks.0"), c);
    transformer(of(p, "transformer_blocks.0"), c, 0);
    linear(of(p, "proj_out"), c, c, 1);
}

/* ---- parts -------------------------------------------------------------------------------- */

static void unet_down(void)
{
    for (int i = 0; i < LEVELS; i++) {
        Name p = named("down_blocks.%d", i);

        resnet(of(p, "resnets.0"), channels[i ? i - 1 : 0], channels[i], TIME);
        if (i < LEVELS - 1) {
            spatial(of(p, "attentions.0"), channels[i]);
            conv(of(p, "downsamplers.0.conv"), channels[i], channels[i], 3, 1);
        }
    }
}

static void unet_up(void)
{
    for (int i = 0; i < LEVELS; i++) {
        Name p = named("up_blocks.%d", i);
        int c = channels[LEVELS - 1 - i], before = i ? channels[LEVELS - i] : c;
        int last = channels[AD_MAX(LEVELS - 2 - i, 0)];

        resnet(of(p, "resnets.0"), before + c, c, TIME);
        resnet(of(p, "resnets.1"), c + last, c, TIME);
        if (i > 0) {
            spatial(of(p, "attentions.0"), c);
            spatial(of(p, "attentions.1"), c);
        }
        if (i < LEVELS - 1)
            conv(of(p, "upsamplers.0.conv"), c, c, 3, 1);
    }
}

static void unet(void)
{
    int top = channels[LEVELS - 1];

    start(1);
    conv(named("conv_in"), 4, channels[0], 3, 1);
    linear(named("time_embedding.linear_1"), channels[0], TIME, 1);
    linear(named("time_embedding.linear_2"), TIME, TIME, 1);
    unet_down();
    resnet(named("mid_block.resnets.0"), top, top, TIME);
    spatial(named("mid_block.attentions.0"), top);
    resnet(named("mid_block.resnets.1"), top, top, TIME);
    unet_up();
    norm(named("conv_norm_out"), channels[0]);
    conv(named("conv_out"), channels[0], 4, 3, 1);
    save("unet", "diffusion_pytorch_model.safetensors");
    put("unet", "config.json",
        "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 16, \"in_channels\": 4,\n"
        " \"out_channels\": 4, \"block_out_channels\": [16, 32, 32], \"layers_per_block\": 1,\n"
        " \"cross_attention_dim\": 32, \"attention_head_dim\": 2, \"norm_num_groups\": 8,\n"
        " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\",\n"
        "  \"DownBlock2D\"],\n"
        " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"]}\n");
}

static void motion_adapter(void)
{
    start(2);
    for (int i = 0; i < LEVELS; i++)
        motion(named("down_blocks.%d.motion_modules.0", i), channels[i]);
    motion(named("mid_block.motion_modules.0"), channels[LEVELS - 1]);
    for (int i = 0; i < LEVELS; i++)
        for (int k = 0; k < 2; k++)
            motion(named("up_blocks.%d.motion_modules.%d", i, k), channels[LEVELS - 1 - i]);
    save("motion_adapter", "diffusion_pytorch_model.safetensors");
    put("motion_adapter", "config.json",
        "{\"_class_name\": \"MotionAdapter\", \"block_out_channels\": [16, 32, 32],\n"
        " \"motion_layers_per_block\": 1, \"motion_mid_block_layers_per_block\": 1,\n"
        " \"motion_num_attention_heads\": 4, \"motion_norm_num_groups\": 8,\n"
        " \"motion_max_seq_length\": 32, \"use_motion_mid_block\": true}\n");
}

static void vae_middle(Name p, int c)
{
    resnet(of(p, "resnets.0"), c, c, 0);
    norm(of(p, "attentions.0.group_norm"), c);
    attention(of(p, "attentions.0"), c, c, 1);
    resnet(of(p, "resnets.1"), c, c, 0);
}

static void vae(void)
{
    const int *c = vae_channels, top = c[VAE_LEVELS - 1];

    start(3);
    conv(named("encoder.conv_in"), 3, c[0], 3, 1);
    for (int i = 0; i < VAE_LEVELS; i++) {
        resnet(named("encoder.down_blocks.%d.resnets.0", i), c[i ? i - 1 : 0], c[i], 0);
        if (i < VAE_LEVELS - 1)
            conv(named("encoder.down_blocks.%d.downsamplers.0.conv", i), c[i], c[i], 3, 1);
    }
    vae_middle(named("encoder.mid_block"), top);
    norm(named("encoder.conv_norm_out"), top);
    conv(named("encoder.conv_out"), top, 8, 3, 1);
    conv(named("quant_conv"), 8, 8, 1, 1);

    conv(named("post_quant_conv"), 4, 4, 1, 1);
    conv(named("decoder.conv_in"), 4, top, 3, 1);
    vae_middle(named("decoder.mid_block"), top);
    for (int i = 0; i < VAE_LEVELS; i++) {
        int to = c[VAE_LEVELS - 1 - i], in = i ? c[VAE_LEVELS - i] : top;

        resnet(named("decoder.up_blocks.%d.resnets.0", i), in, to, 0);
        resnet(named("decoder.up_blocks.%d.resnets.1", i), to, to, 0);
        if (i < VAE_LEVELS - 1)
            conv(named("decoder.up_blocks.%d.upsamplers.0.conv", i), to, to, 3, 1);
    }
    norm(named("decoder.conv_norm_out"), c[0]);
    conv(named("decoder.conv_out"), c[0], 3, 3, 0.6);       /* few pixels are clipped */
    save("vae", "diffusion_pytorch_model.safetensors");
    put("vae", "config.json",
        "{\"_class_name\": \"AutoencoderKL\", \"in_channels\": 3, \"out_channels\": 3,\n"
        " \"latent_channels\": 4, \"sample_size\": 128, \"block_out_channels\": [8, 16, 16, 16],\n"
        " \"layers_per_block\": 1, \"norm_num_groups\": 4, \"scaling_factor\": 0.18215,\n"
        " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\",\n"
        "  \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],\n"
        " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\",\n"
        "  \"UpDecoderBlock2D\"]}\n");
}

static void text_encoder(void)
{
    Name layer = named("text_model.encoder.layers.0");
    int c = CONTEXT;

    start(4);
    /* Larger than usual: else the layers behind would hardly hear what the words are. */
    matrix("text_model.embeddings", "token_embedding.weight", 2, (int[]){ VOCABULARY, c }, 4);
    matrix("text_model.embeddings", "position_embedding.weight", 2, (int[]){ TOKENS, c }, 1);
    norm(of(layer, "layer_norm1"), c);
    linear(of(layer, "self_attn.q_proj"), c, c, 1);
    linear(of(layer, "self_attn.k_proj"), c, c, 1);
    linear(of(layer, "self_attn.v_proj"), c, c, 1);
    linear(of(layer, "self_attn.out_proj"), c, c, 1);
    norm(of(layer, "layer_norm2"), c);
    linear(of(layer, "mlp.fc1"), c, 4 * c, 1);
    linear(of(layer, "mlp.fc2"), 4 * c, c, 1);
    norm(named("text_model.final_layer_norm"), c);
    save("text_encoder", "model.safetensors");
    put("text_encoder", "config.json",
        "{\"architectures\": [\"CLIPTextModel\"], \"model_type\": \"clip_text_model\",\n"
        " \"vocab_size\": 516, \"hidden_size\": 32, \"intermediate_size\": 128,\n"
        " \"projection_dim\": 32, \"num_hidden_layers\": 1, \"num_attention_heads\": 2,\n"
        " \"max_position_embeddings\": 77, \"hidden_act\": \"quick_gelu\",\n"
        " \"bos_token_id\": 514, \"eos_token_id\": 515, \"pad_token_id\": 515}\n");
}

/* ---- tokenizer ---------------------------------------------------------------------------- */

/* The printable character that stands for a byte in a vocabulary, as JSON. */
static void byte_character(FILE *f, int byte)
{
    int next = 256, code = byte;

    for (int b = 0; b <= byte; b++) {
        int printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

        code = printable ? b : next++;
    }
    if (code == '"' || code == '\\')
        fputc('\\', f);
    if (code < 128)
        fputc(code, f);
    else
        fprintf(f, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
}

static void tokenizer(void)
{
    FILE *f = create("tokenizer", "vocab.json");
    int id = 0;

    for (int whole = 0; whole < 2; whole++)
        for (int b = 0; b < 256; b++) {
            fputs(id ? ", \"" : "{\"", f);
            byte_character(f, b);
            fprintf(f, "%s\": %d", whole ? "</w>" : "", id++);
        }
    for (int i = 0; i < MERGES; i++)
        fprintf(f, ", \"%s%s\": %d", merges[i][0], merges[i][1], id++);
    fprintf(f, ", \"<|startoftext|>\": %d, \"<|endoftext|>\": %d}\n", id, id + 1);
    if (fclose(f))
        die("vocab.json");
    f = create("tokenizer", "merges.txt");
    fputs("#version: 0.2\n", f);
    for (int i = 0; i < MERGES; i++)
        fprintf(f, "%s %s\n", merges[i][0], merges[i][1]);
    if (fclose(f))
        die("merges.txt");
    put("tokenizer", "tokenizer_config.json",
        "{\"tokenizer_class\": \"CLIPTokenizer\", \"model_max_length\": 77,\n"
        " \"errors\": \"replace\", \"bos_token\": \"<|startoftext|>\",\n"
        " \"eos_token\": \"<|endoftext|>\", \"pad_token\": \"<|endoftext|>\",\n"
        " \"unk_token\": \"<|endoftext|>\"}\n");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_placeholder FOLDER\n");
        return 2;
    }
    folder = argv[1];
    if (mkdir(folder, 0777) && errno != EEXIST)
        die(folder);
    unet();
    motion_adapter();
    vae();
    text_encoder();
    tokenizer();
    put("scheduler", "scheduler_config.json",
        "{\"_class_name\": \"EulerDiscreteScheduler\", \"num_train_timesteps\": 1000,\n"
        " \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"linear\",\n"
        " \"prediction_type\": \"epsilon\", \"timestep_spacing\": \"linspace\",\n"
        " \"steps_offset\": 1}\n");
    /* Last: a folder without it is not taken for a model. */
    put(".", "model_index.json",
        "{\"_class_name\": \"AnimateDiffPipeline\", \"_diffusers_version\": \"0.37.1\",\n"
        " \"_placeholder\": true, \"feature_extractor\": [null, null],\n"
        " \"image_encoder\": [null, null],\n"
        " \"motion_adapter\": [\"diffusers\", \"MotionAdapter\"],\n"
        " \"scheduler\": [\"diffusers\", \"EulerDiscreteScheduler\"],\n"
        " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],\n"
        " \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],\n"
        " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],\n"
        " \"vae\": [\"diffusers\", \"AutoencoderKL\"]}\n");
    return 0;
}
