/* model.c - files become weights on the device.
 *
 * Resolve paths, read configs, bind each part (text encoder, UNet with motion modules, VAE
 * decoder). A part is checked completely before memory is taken for it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "config_tensors.h"
#include "file.h"
#include "model.h"
#include "motion_file.h"
#include "names.h"
#include "prompt.h"
#include "recognize.h"

/* ---- one part ----------------------------------------------------------------------------- */

static void bind_text(AdBinder *b, AdModel *m)
{
    ad_clip_bind(b, &m->text_config, &m->text);
}

static void bind_unet(AdBinder *b, AdModel *m)
{
    ad_unet_bind(b, &m->unet_config, &m->unet);
}

static void bind_vae(AdBinder *b, AdModel *m)
{
    ad_vae_bind(b, &m->vae_config, &m->vae);
}

const AdPartKind ad_text_kind = { "text encoder", bind_text };
const AdPartKind ad_unet_kind = { "UNet", bind_unet };

static const AdPartKind vae_kind = { "VAE", bind_vae };

static AdStatus check_memory(AdModel *m, const char *name, size_t bytes)
{
    AdBackend *be = m->ctx->backend;
    AdMemory memory = { 0 };

    be->cls->memory(be, &memory);
    if (!memory.free || bytes <= memory.free)
        return AD_OK;
    return ad_fail(m->ctx, AD_ERR_NOMEM, "%s: %zu MiB are needed, %" PRIu64 " MiB are free; "
                   "precision=bf16 needs half of fp32", name, bytes >> 20, memory.free >> 20);
}

/* First run: check and add up. Second run: load. */
static AdStatus load_part(AdModel *m, AdWeights *w, const AdPartKind *kind,
                          AdPart *part)
{
    const char *example = "";
    size_t unused;
    AdBinder b;
    AdStatus st;

    ad_binder_init(&b, m->ctx, m->ctx->backend, w, m->type);
    b.patches = m->now.patches;
    kind->bind(&b, m);
    st = ad_binder_check(&b, kind->name);
    part->bytes = b.bytes;
    part->hash  = w->hash;
    if (st >= 0) st = check_memory(m, kind->name, b.bytes);
    if (st >= 0) st = ad_binder_start_loading(&b, &part->slab);
    if (st >= 0) {
        kind->bind(&b, m);
        st = b.status;
    }
    if (st >= 0) st = ad_weights_unchanged(m->ctx, w);
    unused = ad_weights_unused(w, &example);
    if (st >= 0 && unused)
        ad_log(m->ctx, AD_LOG_WARNING, "%s: %zu tensors are not used, e.g. \"%.100s\"", kind->name,
               unused, example);
    if (st >= 0 && b.nonfinite)
        ad_log(m->ctx, AD_LOG_WARNING, "%s: %d weights are not finite numbers", kind->name,
               b.nonfinite);
    ad_binder_free(&b);
    return st;
}

static void free_part(AdModel *m, AdPart *part)
{
    m->ctx->backend->cls->free(m->ctx->backend, part->slab);
    *part = (AdPart){ 0 };
}

/* folder/config.json, owned; NULL: out of memory. */
static char *config_of(const char *folder)
{
    return ad_path_join(folder, "config.json");
}

/* ---- text encoder, VAE, scheduler --------------------------------------------------------- */

AdStatus ad_model_open_text(AdModel *m, AdWeights *w)
{
    return m->sources.single ? ad_weights_add(m->ctx, w, m->sources.text, ad_rename_ldm_text)
                             : ad_weights_add_folder(m->ctx, w, m->sources.text, "model", NULL);
}

static AdStatus read_text_config(AdModel *m)
{
    char *config = config_of(m->sources.text);
    AdStatus st = config ? ad_text_config_read(m->ctx, config, &m->text_config)
                         : ad_fail_nomem(m->ctx, "a path");

    ad_free(config);
    return st;
}

static AdStatus load_text(AdModel *m, uint64_t *hash)
{
    bool single = m->sources.single;
    AdWeights w = { 0 };
    AdStatus st = single ? ad_model_open_text(m, &w) : read_text_config(m);

    if (st >= 0 && single)
        st = ad_text_config_derive(m->ctx, m->sources.text, &w, &m->text_config);
    if (st >= 0) st = ad_tokenizer_load(m->ctx, &m->tokenizer, m->sources.tokenizer);
    if (st >= 0 && ad_tokenizer_size(m->tokenizer) > m->text_config.vocabulary)
        st = ad_fail(m->ctx, AD_ERR_FORMAT, "the tokenizer has %d entries, the text encoder's "
                     "table %d", ad_tokenizer_size(m->tokenizer), m->text_config.vocabulary);
    if (st >= 0 && !single) st = ad_model_open_text(m, &w);
    if (st >= 0) st = load_part(m, &w, &ad_text_kind, &m->text_part);
    *hash = ad_hash_bytes(*hash, &w.hash, sizeof(w.hash));
    ad_weights_free(&w);
    return st;
}

static AdStatus open_vae_file(AdModel *m, AdWeights *w)
{
    const char *path = m->sources.vae;
    bool prefixed = false;
    AdStatus st = ad_vae_file_look(m->ctx, path, &prefixed);

    if (st >= 0) st = ad_weights_add(m->ctx, w, path, prefixed ? ad_rename_ldm_vae : ad_rename_vae);
    return st < 0 ? st : ad_vae_config_derive(m->ctx, path, w, &m->vae_config);
}

static AdStatus open_vae_folder(AdModel *m, AdWeights *w)
{
    char *config = config_of(m->sources.vae);
    AdStatus st = config ? ad_vae_config_read(m->ctx, config, &m->vae_config)
                         : ad_fail_nomem(m->ctx, "a path");

    ad_free(config);
    return st < 0 ? st : ad_weights_add_folder(m->ctx, w, m->sources.vae,
                                               "diffusion_pytorch_model", ad_rename_vae);
}

static AdStatus load_vae(AdModel *m, uint64_t *hash)
{
    AdWeights w = { 0 };
    AdStatus st = m->sources.vae_file ? open_vae_file(m, &w) : open_vae_folder(m, &w);

    if (st >= 0) st = load_part(m, &w, &vae_kind, &m->vae_part);
    *hash = ad_hash_bytes(*hash, &w.hash, sizeof(w.hash));
    ad_weights_free(&w);
    return st;
}

static AdStatus load_scheduler(AdModel *m)
{
    char *config;
    AdStatus st = AD_OK;

    if (m->sources.single)              /* look_at_file() has filled it in */
        return AD_OK;
    config = ad_path_join(m->sources.scheduler, "scheduler_config.json");
    if (!config)
        return ad_fail_nomem(m->ctx, "a path");
    if (ad_is_file(config))
        st = ad_scheduler_config_read(m->ctx, config, &m->scheduler_config);
    else
        ad_scheduler_config_absent(&m->scheduler_config);
    ad_free(config);
    return st;
}

/* A checkpoint in one file: what is it, what is in it, what is not used of it? */
static AdStatus look_at_file(AdModel *m, bool vae_given)
{
    const char *path = m->sources.model;
    AdSchedulerConfig *s = &m->scheduler_config;
    AdCheckpoint c;
    AdStatus st = ad_checkpoint_look(m->ctx, path, &c);

    if (st < 0)
        return st;
    if (!c.vae && !vae_given)
        return ad_fail(m->ctx, AD_ERR_INVALID, "%.160s: a checkpoint without a VAE; give one with "
                       "the option vae", path);
    ad_scheduler_config_sd15(s);
    if (c.v_prediction)
        strcpy(s->prediction_type, "v_prediction");
    if (c.zero_snr)
        s->rescale_betas_zero_snr = 1;
    ad_log(m->ctx, AD_LOG_INFO, "%.160s: Stable Diffusion 1.x in one file%s; left out: %zu tensors "
           "of averages (EMA), %zu of training", path, c.v_prediction ? ", v-prediction" : "",
           c.ema, c.training);
    if (c.other)
        ad_log(m->ctx, AD_LOG_WARNING, "%.160s: %zu tensors are not used, e.g. \"%s\"", path,
               c.other, c.example);
    return AD_OK;
}

/* ---- UNet and motion modules -------------------------------------------------------------- */

/* A file of motion modules has no config: it is asked itself, and the log says what it is for. */
static AdStatus describe_adapter(AdModel *m, const AdTensorFile *f)
{
    AdMotionFile about;
    AdStatus st = ad_motion_file_describe(m->ctx, f, &m->unet_config, &about);

    if (st < 0)
        return st;
    ad_log(m->ctx, AD_LOG_INFO, "%.160s: motion modules %s, clips of up to %d frames, linear "
           "betas", f->file->path, about.version, m->unet_config.max_frames);
    if (!about.table)
        ad_log(m->ctx, AD_LOG_INFO, "AnimateLCM was made for scheduler=lcm, 4 to 8 steps, "
               "guidance_scale 1 to 2, and its LoRA");
    return AD_OK;
}

/* A saved UNetMotionModel has its motion modules already. */
static bool wants_adapter(const AdModel *m)
{
    return m->sources.adapter && !(m->unet_config.is_motion_model && m->sources.own_adapter);
}

static AdStatus read_adapter_config(AdModel *m, const AdWeights *w)
{
    char *config;
    AdStatus st;

    if (m->sources.adapter_file)
        return describe_adapter(m, w->files[w->file_count - 1]);
    config = config_of(m->sources.adapter);
    st = config ? ad_motion_config_read(m->ctx, config, &m->unet_config)
                : ad_fail_nomem(m->ctx, "a path");
    ad_free(config);
    return st;
}

AdStatus ad_model_open_unet(AdModel *m, AdWeights *w)
{
    static const char base[] = "diffusion_pytorch_model";
    const AdSources *s = &m->sources;
    AdStatus st = s->single ? ad_weights_add(m->ctx, w, s->unet, ad_rename_ldm_unet)
                            : ad_weights_add_folder(m->ctx, w, s->unet, base, NULL);
    uint64_t unet = w->hash;

    if (st < 0 || !wants_adapter(m))
        return st;
    w->hash = AD_HASH_START;            /* the adapter has a hash of its own */
    st = s->adapter_file ? ad_weights_add(m->ctx, w, s->adapter, ad_rename_motion)
                         : ad_weights_add_folder(m->ctx, w, s->adapter, base, ad_rename_motion);
    m->adapter_hash = w->hash;
    w->hash = ad_hash_bytes(unet, &m->adapter_hash, sizeof(m->adapter_hash));
    return st;
}

static AdStatus read_unet_config(AdModel *m)
{
    char *config = config_of(m->sources.unet);
    AdStatus st = config ? ad_unet_config_read(m->ctx, config, &m->unet_config)
                         : ad_fail_nomem(m->ctx, "a path");

    ad_free(config);
    return st;
}

static AdStatus load_unet(AdModel *m, uint64_t *hash)
{
    const AdSources *s = &m->sources;
    const AdUnetConfig *c = &m->unet_config;
    AdWeights w = { 0 };
    AdStatus st = s->single ? AD_OK : read_unet_config(m);

    if (st >= 0 && !c->is_motion_model && !s->adapter)
        st = ad_fail(m->ctx, AD_ERR_INVALID, "%.160s has no motion modules; give some with the "
                     "option motion_adapter", s->model);
    if (st >= 0) st = ad_model_open_unet(m, &w);
    if (st >= 0 && s->single)
        st = ad_unet_config_derive(m->ctx, s->unet, &w, &m->unet_config);
    if (st >= 0 && wants_adapter(m)) st = read_adapter_config(m, &w);
    if (st >= 0 && c->context != m->text_config.width)
        st = ad_fail(m->ctx, AD_ERR_FORMAT, "the UNet wants text states of width %d, the text "
                     "encoder gives %d%s", c->context, m->text_config.width,
                     c->context == 1024 ? " (Stable Diffusion 2.x is not supported)" :
                     c->context == 2048 ? " (SDXL is not supported)" : "");
    if (st >= 0) st = load_part(m, &w, &ad_unet_kind, &m->unet_part);
    if (st >= 0) st = ad_patches_check(m->ctx, m->now.patches);
    *hash = ad_hash_bytes(*hash, &w.hash, sizeof(w.hash));
    ad_weights_free(&w);
    return st;
}

/* ---- textual inversion -------------------------------------------------------------------- */

/* Rows behind the table, whatever the tokenizer leaves unused of it. */
static AdStatus load_embeddings(AdModel *m, const char *list)
{
    AdStatus st;

    m->embeddings.width = m->text_config.width;
    m->embeddings.first = m->text_config.vocabulary;
    st = ad_embeddings_read(m->ctx, &m->embeddings, m->tokenizer, list);
    if (st >= 0)
        st = ad_embeddings_pack(m->ctx, &m->embeddings, m->ctx->backend, m->type, &m->text.extra);
    return st;
}

/* ---- life --------------------------------------------------------------------------------- */

static const struct Precision { AdPrecision p; AdType type; const char *name; } precisions[] = {
    { AD_PRECISION_FP32, AD_F32, "fp32" }, { AD_PRECISION_FP16, AD_F16, "fp16" },
    { AD_PRECISION_BF16, AD_BF16, "bf16" },
};

static AdStatus refuse_precision(AdContext *ctx, const struct Precision *p)
{
    const AdBackend *be = ctx->backend;
    char list[32] = "";
    int n = 0;

    for (size_t i = 0; i < AD_COUNT(precisions); i++)
        if (be->cls->supports(be, precisions[i].type)) {
            size_t at = strlen(list);

            ad_format(list + at, sizeof(list) - at, "%s%s", n++ ? " and " : "",
                      precisions[i].name);
        }
    return ad_fail(ctx, AD_ERR_INVALID, "precision=%s: %s cannot compute in it; %s %s possible",
                   p->name, be->about, list, n == 1 ? "is" : "are");
}

static AdStatus choose_type(AdModel *m, AdPrecision precision)
{
    AdBackend *be = m->ctx->backend;

    for (size_t i = 0; i < AD_COUNT(precisions); i++) {
        const struct Precision *p = &precisions[i];

        if (precision == AD_PRECISION_AUTO ? p->type != be->fastest : p->p != precision)
            continue;
        if (!be->cls->supports(be, p->type))
            return refuse_precision(m->ctx, p);
        m->type = p->type;
        ad_format(m->info.precision, sizeof(m->info.precision), "%s", p->name);
        return AD_OK;
    }
    return ad_fail(m->ctx, AD_ERR_INVALID, "precision: unknown value %d", (int)precision);
}

/* "vae=NAME HASH", behind what is there. */
static void name_adapter(AdModel *m, const char *option, const char *path, uint64_t hash)
{
    size_t at = strlen(m->info.adapters);
    char name[96];

    if (!path)
        return;
    ad_path_name(path, name, sizeof(name));
    ad_format(m->info.adapters + at, sizeof(m->info.adapters) - at, "%s%s=%s %016" PRIx64,
              at ? " " : "", option, name, hash);
}

static void fill_info(AdModel *m, const AdModelParams *p, uint64_t hash)
{
    int scale = 1 << (m->vae_config.levels - 1);

    ad_path_name(m->sources.model, m->info.name, sizeof(m->info.name));
    ad_format(m->info.hash, sizeof(m->info.hash), "%016" PRIx64, hash);
    ad_format(m->info.device, sizeof(m->info.device), "%s", m->ctx->backend->about);
    name_adapter(m, "motion_adapter", p->motion_adapter, m->adapter_hash);
    name_adapter(m, "vae", p->vae, m->vae_part.hash);
    if (m->embeddings.count) {
        size_t at = strlen(m->info.adapters);

        ad_format(m->info.adapters + at, sizeof(m->info.adapters) - at, "%sembedding=%s",
                  at ? " " : "", m->embeddings.names);
    }
    m->info.width = m->info.height = m->unet_config.sample_size * scale;
    m->info.max_frames     = m->unet_config.max_frames;
    m->info.random_weights = m->sources.placeholder;
    /* A whole pipeline's scheduler file was saved with its motion modules; a picture model's was
     * not, and all published motion modules were trained on linear betas. */
    if (!m->sources.own_adapter)
        strcpy(m->motion_betas, "linear");
}

void ad_model_defaults(AdModelParams *params)
{
    *params = (AdModelParams){ 0 };
}

AdStatus ad_model_load(AdContext *ctx, AdModel **out, const AdModelParams *p)
{
    AdSourceRequest request = { p->model, p->motion_adapter, p->vae, p->tokenizer };
    AdModel *m = ad_alloc(sizeof(*m));
    uint64_t hash = AD_HASH_START;
    AdStatus st = m ? AD_OK : ad_fail_nomem(ctx, "a model");

    *out = NULL;
    if (st >= 0) {
        m->ctx = ctx;
        st = choose_type(m, p->precision);
    }
    if (st >= 0) st = ad_sources_find(ctx, &request, &m->sources);
    if (st >= 0 && m->sources.single) st = look_at_file(m, p->vae != NULL);
    if (st >= 0) st = ad_adaptation_open(m->ctx, &m->now, p->lora, p->motion_lora);
    if (st >= 0) st = load_scheduler(m);
    if (st >= 0) st = load_text(m, &hash);
    if (st >= 0) st = load_embeddings(m, p->embedding);
    if (st >= 0) st = load_unet(m, &hash);
    if (st >= 0) st = load_vae(m, &hash);
    if (st >= 0) {
        ad_patches_close(m->now.patches);
        fill_info(m, p, hash);
        if (m->info.random_weights)
            ad_log(ctx, AD_LOG_WARNING, "%s: placeholder weights; the frames will be noise",
                   m->info.name);
    } else
        ad_model_destroy(&m);
    *out = m;
    return st;
}

void ad_model_destroy(AdModel **model)
{
    AdModel *m = *model;

    *model = NULL;
    if (!m)
        return;
    free_part(m, &m->text_part);
    ad_embeddings_free(&m->embeddings, m->ctx->backend);
    free_part(m, &m->unet_part);
    free_part(m, &m->vae_part);
    ad_unet_free(&m->unet);
    ad_tokenizer_free(&m->tokenizer);
    ad_adaptation_free(&m->now);
    if (m->next)
        ad_adaptation_free(m->next);
    ad_free(m->next);
    ad_sources_free(&m->sources);
    ad_free(m);
}

void ad_model_info(const AdModel *model, AdModelInfo *out)
{
    const char *loras = model->now.patches ? model->now.patches->about : "";
    size_t at = strlen(model->info.adapters);

    *out = model->info;
    ad_format(out->adapters + at, sizeof(out->adapters) - at, "%s%s", at && *loras ? " " : "",
              loras);
}

AdStatus ad_model_tokenize(AdModel *m, const char *prompt, int32_t *ids, int max, int *n)
{
    AdPrompt p = { 0 };
    AdStatus st = ad_prompt_encode(m->ctx, m->tokenizer, "prompt", prompt, &p);

    *n = p.chunks * AD_TOKENS;
    if (st >= 0 && *n > max)
        st = ad_fail(m->ctx, AD_ERR_INVALID, "room for %d ids; %d are needed", max, *n);
    if (st >= 0)
        memcpy(ids, p.ids, (size_t)*n * sizeof(*ids));
    ad_prompt_free(&p);
    return st;
}

const char *ad_scheduler_name(int i)
{
    int count = 0;

    while (ad_schedulers[count])
        count++;
    return i >= 0 && i < count ? ad_schedulers[i]->name : NULL;
}
