/* info.c - what a file or folder of weights is; see info.h.
 *
 * recognize.c says what, here is told how large, for which base, and what is of no use in it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters.h"
#include "info.h"
#include "internal.h"
#include "json.h"
#include "motion_file.h"
#include "names.h"
#include "recognize.h"
#include "weights.h"

void ad_info_say(const AdInfoSink *sink, const char *word, const char *format, ...)
{
    char text[512], line[600];
    va_list args;

    va_start(args, format);
    ad_vformat(text, sizeof(text), format, args);
    va_end(args);
    ad_format(line, sizeof(line), "  %-15s %s", word, text);
    sink->line(sink->opaque, line);
}

void ad_info_ignored(const AdInfoSink *sink, size_t tensors, const char *why)
{
    if (tensors)
        ad_info_say(sink, "ignored", "%zu tensor%s%s", tensors, tensors == 1 ? "" : "s", why);
    else
        ad_info_say(sink, "ignored", "nothing");
}

const char *ad_info_family(int64_t width, char *out)
{
    switch (width) {
    case 0:    return "not told by the tensors";
    case 768:  return "Stable Diffusion 1.x";
    case 1024: return "Stable Diffusion 2.x (not supported)";
    case 1280:
    case 2048: return "Stable Diffusion XL (not supported)";
    }
    ad_format(out, AD_INFO_FAMILY, "a model with text states of width %lld", (long long)width);
    return out;
}

/* A file's name may hold anything; a terminal must not obey it. */
static void say_path(const char *path, const AdInfoSink *sink)
{
    char line[600];

    ad_format(line, sizeof(line), "%s", path);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    sink->line(sink->opaque, line);
}

/* ---- how large ---------------------------------------------------------------------------- */

typedef struct Totals { size_t tensors, of[AD_DTYPES]; uint64_t numbers; } Totals;

static void add_entry(Totals *t, const AdEntry *e)
{
    t->tensors++;
    t->of[e->dtype]++;
    t->numbers += (uint64_t)ad_entry_count(e);
}

static void say_totals(const Totals *t, const char *word, const AdInfoSink *sink)
{
    char types[160] = "";

    for (int i = 0; i < AD_DTYPES; i++)
        if (t->of[i]) {
            size_t at = strlen(types);

            ad_format(types + at, sizeof(types) - at, "%s%s", at ? ", " : "",
                      ad_dtype_name((AdDtype)i));
            at = strlen(types);
            if (t->of[i] < t->tensors)
                ad_format(types + at, sizeof(types) - at, " (%zu)", t->of[i]);
        }
    ad_info_say(sink, word, "%zu tensor%s, %" PRIu64 " numbers%s%s", t->tensors,
                t->tensors == 1 ? "" : "s", t->numbers, *types ? ", " : "", types);
}

static void say_file_totals(const AdTensorFile *f, const AdInfoSink *sink)
{
    Totals t = { 0 };

    for (size_t i = 0; i < f->count; i++)
        add_entry(&t, &f->entries[i]);
    say_totals(&t, "holds", sink);
}

/* ---- kinds -------------------------------------------------------------------------------- */

static void say_checkpoint(AdContext *ctx, const AdTensorFile *f, const AdInfoSink *sink)
{
    AdCheckpoint c;

    if (ad_checkpoint_look(ctx, f->file->path, &c) < 0) {   /* another family, or no text encoder */
        ad_info_say(sink, "refused", "%s", ctx->error);
        return;
    }
    ad_info_say(sink, "base", "Stable Diffusion 1.x%s%s", c.v_prediction ? ", v-prediction" : "",
                c.zero_snr ? ", zero terminal SNR" : "");
    ad_info_say(sink, "parts", "UNet, text encoder%s", c.vae ? ", VAE" : "");
    ad_info_say(sink, "needs", "a tokenizer (beside it, or tokenizer=), motion_adapter=%s",
                c.vae ? "" : ", vae=");
    ad_info_say(sink, "ignored", "%zu tensors of averages (EMA), %zu of training, %zu unknown%s%s",
                c.ema, c.training, c.other, c.other ? ", e.g. " : "", c.other ? c.example : "");
}

static void say_motion(const AdTensorFile *f, const AdInfoSink *sink)
{
    const AdEntry *conv = ad_tensor_file_find(f, "conv_in.weight");
    AdMotionFile m = { 0 };
    char name[AD_CAP_NAME + 1];
    size_t ignored = 0;

    ad_motion_file_look(f, &m);
    for (size_t i = 0; i < f->count; i++)
        ignored += !ad_rename_motion(f->entries[i].name, name);
    if (conv && conv->rank == 4 && conv->shape[1] == 9)
        ad_info_say(sink, "refused", "a PIA adapter, which needs an input image");
    ad_info_say(sink, "base", "%s (%d levels)", m.levels == 4 ? "Stable Diffusion 1.x"
                : m.levels == 3 ? "Stable Diffusion XL (not supported)" : "a model of its own",
                m.levels);
    ad_info_say(sink, "version", "%s; clips of up to %d frames; linear betas", m.version,
                m.table ? m.table : AD_FRAMES_WITHOUT_TABLE);
    if (!m.table)
        ad_info_say(sink, "use", "scheduler=lcm, 4 to 8 steps, guidance_scale 1 to 2, and its "
                    "LoRA");
    ad_info_ignored(sink, ignored, " (positional tables are computed)");
}

static void say_embedding(const AdTensorFile *f, const AdInfoSink *sink)
{
    const AdEntry *v = ad_embedding_find(f);
    char family[AD_INFO_FAMILY], shape[AD_ENTRY_TEXT];

    if (!v || v->rank < 1 || v->rank > 2) {
        ad_info_say(sink, "refused", "%s are no vectors", v ? ad_entry_shape(v, shape) : "they");
        return;
    }
    ad_info_say(sink, "base", "%s", ad_info_family(v->shape[v->rank - 1], family));
    ad_info_say(sink, "vectors", "%lld, as embedding=WORD@PATH",
                (long long)(v->rank == 2 ? v->shape[0] : 1));
    ad_info_ignored(sink, f->count - 1, "");
}

static void say_vae(const AdTensorFile *f, const AdInfoSink *sink)
{
    char name[AD_CAP_NAME + 1];
    int64_t channels = 0;
    size_t ignored = 0;

    for (size_t i = 0; i < f->count; i++) {
        const AdEntry *e = &f->entries[i];

        if (strstr(e->name, "decoder.conv_in.weight") && e->rank == 4)
            channels = e->shape[1];
        ignored += !ad_rename_vae(e->name, name) && !ad_rename_ldm_vae(e->name, name);
    }
    ad_info_say(sink, "base", "%lld latent channels: %s", (long long)channels,
                channels == 4 ? "Stable Diffusion 1.x and 2.x (XL's look the same)"
                              : "another family (not supported)");
    ad_info_ignored(sink, ignored, " (of the encoder, of training)");
}

/* ---- files -------------------------------------------------------------------------------- */

static AdStatus say_kind(AdContext *ctx, const AdTensorFile *f, const AdInfoSink *sink)
{
    const AdKind *kind = ad_recognize(f);

    ad_info_say(sink, "is", "%s%s%s%s", kind->what ? kind->what : "nothing that is known here",
                kind->option ? "; give it to " : "", kind->option ? kind->option : "",
                kind->option ? "=" : !kind->what || kind->kind == AD_FILE_UNET ? ""
                                                                            : " (not supported)");
    say_file_totals(f, sink);
    switch (kind->kind) {
    case AD_FILE_CHECKPOINT:  say_checkpoint(ctx, f, sink); break;
    case AD_FILE_MOTION:      say_motion(f, sink); break;
    case AD_FILE_EMBEDDING:   say_embedding(f, sink); break;
    case AD_FILE_VAE:         say_vae(f, sink); break;
    case AD_FILE_LORA:        return ad_info_lora(ctx, f, false, sink);
    case AD_FILE_MOTION_LORA: return ad_info_lora(ctx, f, true, sink);
    case AD_FILE_SECOND:
        ad_info_say(sink, "use", "its VAE can be given to vae=");
        break;
    default:
        break;
    }
    return AD_OK;
}

static AdStatus say_file(AdContext *ctx, const char *path, const AdInfoSink *sink)
{
    AdTensorFile *f = NULL;
    AdStatus st = ad_tensor_file_open(ctx, &f, path);

    if (st >= 0) {
        say_path(path, sink);
        st = say_kind(ctx, f, sink);
    }
    ad_tensor_file_close(&f);
    return st;
}

/* ---- folders ------------------------------------------------------------------------------ */

/* The weights of one part of a model's folder. */
static AdStatus say_part(AdContext *ctx, const char *folder, const char *part, const char *base,
                         const AdInfoSink *sink)
{
    char *path = ad_path_join(folder, part);
    Totals t = { 0 };
    AdWeights w = { 0 };
    AdStatus st = path ? AD_OK : ad_fail_nomem(ctx, "a path");

    if (st >= 0 && ad_is_folder(path)) {
        st = ad_weights_add_folder(ctx, &w, path, base, NULL);
        for (size_t i = 0; i < w.count; i++)
            add_entry(&t, w.weights[i].entry);
        if (st >= 0)
            say_totals(&t, part, sink);
    }
    ad_weights_free(&w);
    ad_free(path);
    return st;
}

static AdStatus say_model(AdContext *ctx, const char *folder, const AdInfoSink *sink)
{
    static const char weights[] = "diffusion_pytorch_model";
    static const struct { const char *name, *base; } parts[] = {
        { "unet", weights }, { "motion_adapter", weights }, { "text_encoder", "model" },
        { "vae", weights },
    };
    char *config = ad_path_join2(folder, "unet", "config.json"), family[AD_INFO_FAMILY];
    AdSourceRequest request = { .model = folder };
    AdSources s = { 0 };
    AdUnetConfig c = { 0 };
    AdStatus st = config ? ad_sources_find(ctx, &request, &s) : ad_fail_nomem(ctx, "a path");

    if (st >= 0) st = ad_unet_config_read(ctx, config, &c);
    if (st >= 0) {
        say_path(folder, sink);
        ad_info_say(sink, "is", "a model in a folder; give it to model=");
        ad_info_say(sink, "base", "%s; %d input channels", ad_info_family(c.context, family),
                    c.in_channels);
        ad_info_say(sink, "motion", "%s", c.is_motion_model || s.adapter ? "it has motion modules"
                                          : "none: give some to motion_adapter=");
    }
    for (size_t i = 0; i < AD_COUNT(parts) && st >= 0; i++)
        st = say_part(ctx, folder, parts[i].name, parts[i].base, sink);
    ad_sources_free(&s);
    ad_free(config);
    return st;
}

static bool is_weights(const char *name)
{
    static const char *const endings[] = { ".safetensors", ".ckpt", ".pt", ".pth", ".bin" };
    size_t n = strlen(name);

    for (size_t i = 0; i < AD_COUNT(endings); i++)
        if (n > strlen(endings[i]) && !strcmp(name + n - strlen(endings[i]), endings[i]))
            return true;
    return false;
}

static int is_file_of_weights(const struct dirent *d)
{
    return is_weights(d->d_name);
}

/* Every file by itself, in order; one that cannot be read does not hide the others. */
static AdStatus say_files(AdContext *ctx, const char *folder, const AdInfoSink *sink)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, is_file_of_weights, alphasort);
    AdStatus st = AD_OK;

    if (count <= 0)
        st = ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: neither a model's folder nor one with files of "
                     "weights", folder);
    for (int i = 0; i < count; i++) {
        char *path = ad_path_join(folder, names[i]->d_name);
        AdStatus one = path ? say_file(ctx, path, sink) : ad_fail_nomem(ctx, "a path");

        if (one < 0) {
            ad_info_say(sink, "refused", "%s", ctx->error);
            st = one;
        }
        ad_free(path);
        free(names[i]);
    }
    free(names);
    return st;
}

AdStatus ad_info(AdContext *ctx, const char *path, const AdInfoSink *sink)
{
    char *index, *unet;
    bool model;

    if (!ad_is_folder(path))
        return say_file(ctx, path, sink);
    index = ad_path_join(path, "model_index.json");
    unet  = ad_path_join(path, "unet");
    model = index && unet && (ad_is_file(index) || ad_is_folder(unet));
    ad_free(index);
    ad_free(unet);
    return model ? say_model(ctx, path, sink) : say_files(ctx, path, sink);
}
