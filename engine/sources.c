/* sources.c - from options to files; see sources.h.
 *
 * Called by model.c. Places of the demo model: the installation, then the build tree.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "adapters.h"
#include "file.h"
#include "json.h"
#include "recognize.h"
#include "sources.h"

#ifndef AD_DATADIR
#define AD_DATADIR "/usr/local/share/animatediff"
#endif
#ifndef AD_BUILD_DATADIR
#define AD_BUILD_DATADIR "build/share/animatediff"
#endif

void ad_sources_free(AdSources *s)
{
    ad_free(s->model);
    ad_free(s->unet);
    ad_free(s->text);
    ad_free(s->vae);
    ad_free(s->tokenizer);
    ad_free(s->scheduler);
    ad_free(s->adapter);
    *s = (AdSources){ 0 };
}

static AdStatus demo_model(AdContext *ctx, char **path)
{
    static const char *const places[] = { AD_DATADIR "/model", AD_BUILD_DATADIR "/model" };

    for (size_t i = 0; i < AD_COUNT(places); i++)
        if (ad_is_folder(places[i])) {
            *path = ad_strdup(places[i]);
            return *path ? AD_OK : ad_fail_nomem(ctx, "a path");
        }
    return ad_fail(ctx, AD_ERR_NOTFOUND, "the demo model is neither in %s nor in %s; give one with "
                   "the option model", places[0], places[1]);
}

/* Sentence for pipelines of other families; NULL: may be ours. */
static const char *other_family(const char *class_name)
{
    static const struct { const char *part, *sentence; } known[] = {
        { "XL", "a Stable Diffusion XL model" },
        { "StableDiffusion3", "a Stable Diffusion 3 model" },
        { "Flux", "a FLUX model" },
        { "Inpaint", "an inpainting model" },
        { "InstructPix2Pix", "an image-editing model" },
        { "StableVideo", "a Stable Video Diffusion model" },
        { "Upscale", "an upscaling model" },
        { "Kandinsky", "a Kandinsky model" },
        { "PixArt", "a PixArt model" },
        { "PIA", "a PIA pipeline, which needs an input image" },
    };

    for (size_t i = 0; i < AD_COUNT(known); i++)
        if (strstr(class_name, known[i].part))
            return known[i].sentence;
    return NULL;
}

/* A folder that is no model: of what, then? */
static AdStatus refuse_folder(AdContext *ctx, const char *folder)
{
    char best[256], *path;
    bool several;
    AdTensorFile *f = NULL;
    AdStatus st;

    ad_folder_weights(folder, best, sizeof(best), &several);
    if (!*best)
        return ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: no model_index.json; a diffusers folder is "
                       "needed", folder);
    path = ad_path_join(folder, best);
    st = path ? ad_tensor_file_open(ctx, &f, path) : ad_fail_nomem(ctx, "a path");
    if (st >= 0)
        st = ad_not_in_it(ctx, f, "diffusers folder around it, nor a whole model");
    ad_tensor_file_close(&f);
    ad_free(path);
    return st;
}

static AdStatus read_index(AdContext *ctx, AdSources *s)
{
    char *path = ad_path_join(s->model, "model_index.json"), class_name[64] = "";
    bool placeholder = false;
    const char *other;
    AdFields f = { .ctx = ctx, .path = path };

    if (!path)
        return ad_fail_nomem(ctx, "a path");
    if (!ad_is_file(path)) {
        char *unet = ad_path_join(s->model, "unet");
        bool fine = unet && ad_is_folder(unet), full = !unet;

        ad_free(unet);
        ad_free(path);
        if (full)
            return ad_fail_nomem(ctx, "a path");
        return fine ? AD_OK : refuse_folder(ctx, s->model);
    }
    f.status = ad_json_load(ctx, path, AD_CAP_CONFIG, &f.root);
    ad_field_text(&f, "_class_name", class_name, sizeof(class_name));
    ad_field_bool(&f, "_placeholder", &placeholder);
    other = other_family(class_name);
    if (f.status >= 0 && other)
        f.status = ad_fail(ctx, AD_ERR_FORMAT, "%.160s: %s (%s); Stable Diffusion 1.x is needed",
                           s->model, other, class_name);
    s->placeholder = placeholder;
    json_decref(f.root);
    ad_free(path);
    return f.status;
}

static AdStatus join(AdContext *ctx, char **out, const char *dir, const char *name)
{
    *out = ad_path_join(dir, name);
    return *out ? AD_OK : ad_fail_nomem(ctx, "a path");
}

static AdStatus copy(AdContext *ctx, char **out, const char *path)
{
    *out = ad_strdup(path);
    return *out ? AD_OK : ad_fail_nomem(ctx, "a path");
}

/* A folder of weights without a config is the file in it. */
static AdStatus folder_or_file(AdContext *ctx, const char *path, char **out, bool *is_file)
{
    char *config = ad_path_join(path, "config.json");
    AdStatus st = config ? AD_OK : ad_fail_nomem(ctx, "a path");

    if (st >= 0) {
        *is_file = !ad_is_file(config);
        st = *is_file ? ad_adapter_file(ctx, path, out) : copy(ctx, out, path);
    }
    ad_free(config);
    return st;
}

/* A path the user gave for one part: a file, the part's folder, or a whole pipeline's folder. */
static AdStatus given_part(AdContext *ctx, const char *path, const char *sub, char **out,
                           bool *is_file)
{
    bool weights = strcmp(sub, "tokenizer");
    char *inner = NULL;
    AdStatus st;

    *is_file = ad_is_file(path);
    if (*is_file)
        return copy(ctx, out, path);
    if (!ad_is_folder(path))
        return ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: no such file or folder", path);
    st = join(ctx, &inner, path, sub);
    if (st >= 0 && ad_is_folder(inner)) {
        *out = inner;
        return AD_OK;
    }
    ad_free(inner);
    if (st < 0)
        return st;
    return weights ? folder_or_file(ctx, path, out, is_file) : copy(ctx, out, path);
}

static AdStatus find_adapter(AdContext *ctx, const char *given, AdSources *s)
{
    AdStatus st = AD_OK;

    if (given)
        return given_part(ctx, given, "motion_adapter", &s->adapter, &s->adapter_file);
    s->own_adapter = true;
    if (!s->single)
        st = join(ctx, &s->adapter, s->model, "motion_adapter");
    if (st >= 0 && s->adapter && !ad_is_folder(s->adapter)) {
        ad_free(s->adapter);
        s->adapter = NULL;
    }
    return st;
}

/* ---- one file ----------------------------------------------------------------------------- */

/* Keep the folder as the tokenizer's if it has the files of one. Takes it; NULL is no memory. */
static AdStatus try_tokenizer(AdContext *ctx, char *folder, AdSources *s)
{
    char *merges = folder ? ad_path_join(folder, "merges.txt") : NULL;
    char *bundle = folder ? ad_path_join(folder, "tokenizer.json") : NULL;
    AdStatus st = merges && bundle ? AD_OK : ad_fail_nomem(ctx, "a path");

    if (st >= 0 && !s->tokenizer && (ad_is_file(merges) || ad_is_file(bundle))) {
        s->tokenizer = folder;
        folder = NULL;
    }
    ad_free(merges);
    ad_free(bundle);
    ad_free(folder);
    return st;
}

/* Beside the file, or in a folder `tokenizer` beside it. */
static AdStatus tokenizer_beside(AdContext *ctx, AdSources *s)
{
    const char *slash = strrchr(s->model, '/');
    char *folder = slash ? ad_strndup(s->model, (size_t)(slash - s->model) + 1) : ad_strdup(".");
    char *inner = folder ? ad_path_join(folder, "tokenizer") : NULL;
    AdStatus st = try_tokenizer(ctx, folder, s);

    if (st >= 0)
        st = try_tokenizer(ctx, inner, s);
    else
        ad_free(inner);
    if (st >= 0 && !s->tokenizer)
        st = ad_fail(ctx, AD_ERR_INVALID, "%.160s: a single file has no tokenizer; give a folder "
                     "with vocab.json and merges.txt with the option tokenizer", s->model);
    return st;
}

/* The parts that a file or a folder has by itself. */
static AdStatus own_parts(AdContext *ctx, AdSources *s)
{
    AdStatus st;

    if (s->single) {
        st = copy(ctx, &s->unet, s->model);
        return st < 0 ? st : copy(ctx, &s->text, s->model);
    }
    st = read_index(ctx, s);
    if (st >= 0) st = join(ctx, &s->unet, s->model, "unet");
    if (st >= 0) st = join(ctx, &s->text, s->model, "text_encoder");
    if (st >= 0) st = join(ctx, &s->scheduler, s->model, "scheduler");
    return st;
}

static AdStatus find_tokenizer(AdContext *ctx, const char *given, AdSources *s)
{
    bool file = false;
    AdStatus st;

    if (!given)
        return s->single ? tokenizer_beside(ctx, s)
                         : join(ctx, &s->tokenizer, s->model, "tokenizer");
    st = given_part(ctx, given, "tokenizer", &s->tokenizer, &file);
    if (st >= 0 && file)
        st = ad_fail(ctx, AD_ERR_INVALID, "tokenizer=%.160s: a folder with vocab.json and "
                     "merges.txt is needed", given);
    return st;
}

static AdStatus find_vae(AdContext *ctx, const char *given, AdSources *s)
{
    if (given)
        return given_part(ctx, given, "vae", &s->vae, &s->vae_file);
    s->vae_file = s->single;
    return s->single ? copy(ctx, &s->vae, s->model) : join(ctx, &s->vae, s->model, "vae");
}

AdStatus ad_sources_find(AdContext *ctx, const AdSourceRequest *r, AdSources *s)
{
    AdStatus st = r->model ? copy(ctx, &s->model, r->model) : demo_model(ctx, &s->model);

    s->single = st >= 0 && ad_is_file(s->model);
    if (st >= 0 && !s->single && !ad_is_folder(s->model))
        st = ad_fail(ctx, AD_ERR_NOTFOUND, "%.200s: no such file or folder", s->model);
    if (st >= 0) st = own_parts(ctx, s);
    if (st >= 0) st = find_tokenizer(ctx, r->tokenizer, s);
    if (st >= 0) st = find_vae(ctx, r->vae, s);
    if (st >= 0) st = find_adapter(ctx, r->adapter, s);
    if (st < 0)
        ad_sources_free(s);
    return st;
}
