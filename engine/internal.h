/* internal.h - the structs behind the three opaque types; nothing else.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_INTERNAL_H
#define AD_INTERNAL_H

#include <stdatomic.h>

#include "animatediff.h"
#include "binder.h"
#include "clip.h"
#include "config.h"
#include "embedding.h"
#include "fail.h"
#include "lora.h"
#include "motion.h"
#include "nn.h"
#include "rng.h"
#include "schedulers.h"
#include "sources.h"
#include "tokenizer.h"
#include "unet.h"
#include "vae.h"

struct AdContext {
    AdBackend      *backend;
    AdLogCallback   log;
    AdStopCallback  stop;
    void           *opaque;
    char            error[320];
};

/* One part of the model on the device: a slab with all its packed weights. */
typedef struct AdPart {
    void    *slab;
    size_t   bytes;
    uint64_t hash;              /* of the files */
} AdPart;

/* LoRA files in force and what they need on the device. */
typedef struct AdAdaptation {
    char      *lora, *motion_lora;      /* the lists as given; "" for none       */
    AdPatches *patches;                 /* names of the weights that they change */
    AdChanges  changes;                 /* not yet on the device                 */
} AdAdaptation;

struct AdModel {
    AdContext        *ctx;              /* borrowed */
    AdModelInfo       info;
    AdType            type;             /* elements of activations and weights */
    AdUnetConfig      unet_config;
    AdVaeConfig       vae_config;
    AdTextConfig      text_config;
    AdSchedulerConfig scheduler_config;
    AdTokenizer      *tokenizer;
    AdEmbeddings      embeddings;       /* textual inversions: the tokenizer's last ids */
    AdClipWeights     text;
    AdUnetWeights     unet;
    AdVaeWeights      vae;
    AdPart            text_part, unet_part, vae_part;
    uint64_t          adapter_hash;     /* of the motion adapter's files */
    AdSources         sources;          /* the files, read again when adapters change */
    AdAdaptation      now;              /* LoRA files that the weights are made with  */
    AdAdaptation     *next;             /* those of the next clip; NULL: the same     */
    char              motion_betas[32]; /* schedule the motion module was trained on; "" unknown */
};

/* Everything a clip needs on the device: in the session's slab, always at the same places. */
typedef struct AdWork {
    AdTensor latents;                           /* the UNet's input, both halves             */
    AdTensor ids;                               /* of one prompt                             */
    AdTensor states;                            /* text states of both halves                */
    AdTensor kv[AD_TEXT_BLOCKS];                /* keys and values of all text attentions    */
    AdTensor times;                             /* time vectors of all evaluations           */
    AdTensor registers[AD_REGISTERS];           /* what the scheduler's rows speak of, f32   */
    AdTensor pixels, count;                     /* u8 frames of one chunk; a counter         */
} AdWork;

struct AdSession {
    AdModel         *model;             /* borrowed */
    AdSessionParams  params;            /* a copy; its strings are not kept */
    AdSchedulerSetup setup;             /* which scheduler, with all fields decided */
    AdSchedule       schedule;          /* the current clip's */
    AdRngState       rng;
    uint64_t         seed;
    float            guidance_scale;
    int              halves;            /* prompt halves of the current clip: 1 or 2 */
    int              chunks;            /* of 77 tokens each, in both prompts */
    AdExec           exec;
    AdArena          arena;
    void            *slab;              /* device memory of `work` and all temporaries */
    size_t           slab_bytes;
    AdWork           work;
    float           *noise, *drawn;     /* host: one draw, as [f, h, w, 4] and as torch has it */
    uint8_t         *pixels;            /* host: decoded frames of one chunk */
    int              step;              /* next evaluation */
    int              chunk;             /* which chunk `pixels` holds; -1: none */
    bool             running, finished;
    atomic_bool      cancelled;
};

#endif
