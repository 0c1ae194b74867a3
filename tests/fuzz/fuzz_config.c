/* fuzz_config.c - config.json of every part, the scheduler's, a shard index, a LoRA's settings.
 *
 * The first byte chooses the reader, the rest is the file.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>

#include "../../engine/config.h"
#include "../../engine/peft.h"
#include "../../engine/schedulers.h"
#include "../../engine/weights.h"
#include "fuzz.h"

static AdUnetConfig unet;

static void check_unet(void)
{
    FUZZ_CHECK(unet.levels >= 1 && unet.levels <= AD_LEVELS);
    for (int i = 0; i < unet.levels; i++) {
        FUZZ_CHECK(unet.channels[i] >= 1 && unet.channels[i] <= AD_CAP_FIELD);
        FUZZ_CHECK(unet.channels[i] % unet.groups == 0 && unet.channels[i] % unet.heads[i] == 0);
        FUZZ_CHECK(unet.layers[i] >= 1 && unet.layers[i] < AD_LAYERS);
        for (int k = 0; k < AD_LAYERS; k++)
            FUZZ_CHECK(unet.down_depth[i][k] >= 1 && unet.down_depth[i][k] <= AD_DEPTH &&
                       unet.up_depth[i][k] >= 1 && unet.up_depth[i][k] <= AD_DEPTH);
    }
}

static AdStatus read_text(const char *path)
{
    AdTextConfig c;
    AdStatus st = ad_text_config_read(&fuzz_ctx, path, &c);

    FUZZ_CHECK(st < 0 || c.width % c.heads == 0);
    return st;
}

static AdStatus read_unet(const char *path)
{
    AdStatus st = ad_unet_config_read(&fuzz_ctx, path, &unet);

    if (st >= 0)
        check_unet();
    return st;
}

static AdStatus read_motion(const char *path)
{
    AdStatus st;

    ad_unet_config_sd15(&unet);
    st = ad_motion_config_read(&fuzz_ctx, path, &unet);
    if (st >= 0)
        check_unet();
    return st;
}

static AdStatus read_vae(const char *path)
{
    AdVaeConfig c;

    return ad_vae_config_read(&fuzz_ctx, path, &c);
}

/* And a schedule of it, whichever scheduler it names. */
static AdStatus read_scheduler(const char *path)
{
    static AdSchedule schedule;
    AdSchedulerConfig c, none;
    AdSchedulerSetup setup;
    AdStatus st = ad_scheduler_config_read(&fuzz_ctx, path, &c);

    ad_scheduler_config_absent(&none);
    if (st >= 0 && c.train_steps <= 2000)
        st = ad_scheduler_setup(&fuzz_ctx, NULL, &c, &none, &setup);
    else if (st >= 0)
        return st;
    return st < 0 ? st : ad_schedule_make(&fuzz_ctx, &setup, 7, &schedule);
}

/* No shard is there: a right index ends in AD_ERR_NOTFOUND. */
static AdStatus read_index(const char *path)
{
    AdWeights w = { 0 };
    AdStatus st = ad_weights_add_folder(&fuzz_ctx, &w, fuzz_folder("model.safetensors.index.json",
                                                                   0), "model", NULL);

    (void)path;
    ad_weights_free(&w);
    return st == AD_ERR_NOTFOUND ? AD_OK : st;
}

/* As the header of a LoRA has them. */
static AdStatus read_settings(const char *path)
{
    static const char *const layers[] = {
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "unet.a", "unet.",
        "a.b.to_out",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj", "base_model.model.a.b",
    };
    char *text = NULL, where[] = "lora";
    size_t n;
    AdPeft p = { 0 };
    AdStatus st = ad_file_slurp(&fuzz_ctx, path, AD_CAP_CONFIG, &text, &n);
    AdMetadata settings = { "lora_adapter_metadata", text };
    AdFile file = { .path = where };
    AdTensorFile f = { .file = &file, .metadata = &settings, .metadata_count = 1 };

    if (st >= 0) st = ad_peft_read(&fuzz_ctx, &f, &p);
    for (size_t i = 0; i < AD_COUNT(layers) && st >= 0; i++) {
        AdPeftLayer l = ad_peft_layer(&p, layers[i]);

        FUZZ_CHECK(!l.known || (l.rank >= 1 && isfinite(l.scale)));
    }
    ad_peft_free(&p);
    ad_free(text);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static AdStatus (*const readers[])(const char *path) = {
        read_text, read_unet, read_motion, read_vae, read_scheduler, read_index, read_settings,
    };

    if (n >= 1)
        fuzz_status(readers[data[0] % AD_COUNT(readers)](fuzz_file(0, data + 1, n - 1)));
    return 0;
}
