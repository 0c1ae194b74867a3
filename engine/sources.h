/* sources.h - which files a model is made of.
 *
 * Turns what the user gave (a diffusers folder or one file, an adapter, a VAE) into paths of the
 * parts, refuses other families by name, and reads nothing but model_index.json.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_SOURCES_H
#define AD_SOURCES_H

#include "fail.h"

/* Owned paths. A part's path is a folder with config.json and weights, unless `*_file` says that it
 * is a file of weights alone. */
typedef struct AdSources {
    char *model;                /* as given, or the demo model's folder */
    bool  single;               /* the model is one file: unet, text and perhaps vae are that file,
                                   scheduler is NULL */
    char *unet, *text, *vae, *tokenizer, *scheduler;
    char *adapter;              /* NULL: the motion modules are the UNet's own */
    bool  adapter_file, vae_file;
    bool  own_adapter;          /* the adapter is the model folder's */
    bool  placeholder;          /* weights made without training     */
} AdSources;

typedef struct AdSourceRequest { const char *model, *adapter, *vae, *tokenizer; } AdSourceRequest;

AdStatus ad_sources_find(AdContext *ctx, const AdSourceRequest *r, AdSources *out);
void     ad_sources_free(AdSources *s);

#endif
