/* animatediff.h - text becomes a short video clip, in process.
 *
 * libanimatediff runs AnimateDiff (Guo et al. 2023, arXiv 2307.04725): Stable Diffusion 1.5's text
 * encoder, UNet and VAE, with motion modules between the UNet's layers, so that all frames of a
 * clip are denoised together. Weights are the files people have: diffusers folders, checkpoints.
 *
 * The whole use, without error handling:
 *
 *     AdContextParams cp;  ad_context_defaults(&cp);         where: device, threads, log
 *     AdContext *ctx;      ad_context_create(&ctx, &cp);
 *
 *     AdModelParams mp;    ad_model_defaults(&mp);            what it knows: weights
 *     mp.model = "path/to/a/diffusers/folder";
 *     AdModel *model;      ad_model_load(ctx, &model, &mp);
 *
 *     AdSessionParams sp;  ad_session_defaults(model, &sp);   one animation in the making
 *     AdSession *s;        ad_session_create(model, &s, &sp);
 *
 *     AdClip clip;         ad_clip_defaults(&clip);
 *     clip.prompt = "a red ball rolling left";
 *     clip.seed   = 7;
 *     ad_session_begin(s, &clip);
 *     while (ad_session_step(s) == AD_OK)                     one denoising step per call
 *         ;
 *     for (int i = 0; i < sp.frames; i++)
 *         ad_session_decode(s, i, &image);                    RGB24 into your memory
 *
 * Errors: every call that can fail returns an AdStatus; negative is failure, and
 * ad_context_error() then holds one sentence for people. On failure nothing is half done: an
 * object that could not be made is NULL.
 * Threads: a context with its models and sessions is used by one thread at a time, any thread;
 * different contexts are independent. ad_session_cancel() may be called from anywhere.
 * Ownership: strings and structs passed in are copied or used during the call only.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef ANIMATEDIFF_H
#define ANIMATEDIFF_H

#include <stddef.h>
#include <stdint.h>

#include "ad_status.h"

#define AD_VERSION_MAJOR 0
#define AD_VERSION_MINOR 1
#define AD_VERSION_MICRO 0

#if defined(__GNUC__)
#define AD_API __attribute__((visibility("default")))
#else
#define AD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Library ------------------------------------------------------------------------------ */

/* "0.1.0" */
AD_API const char *ad_version(void);

/* "AD_ERR_FORMAT"; never NULL. */
AD_API const char *ad_status_name(AdStatus status);

/* Names a device option may have ("cpu", "cuda", ...) and schedulers ("euler_ancestral", ...), for
 * i = 0, 1, ... until NULL. */
AD_API const char *ad_backend_name(int i);
AD_API const char *ad_scheduler_name(int i);

/* ---- Context: where ----------------------------------------------------------------------- */

typedef struct AdContext AdContext;

/* One finished line without a newline. May be called from any thread that is inside a call of this
 * context. */
typedef void (*AdLogCallback)(void *opaque, AdLogLevel level, const char *line);

/* Asked between tensors, denoising steps and decoded frames: not 0 means stop, and the call in
 * progress returns AD_ERR_CANCELLED. */
typedef int (*AdStopCallback)(void *opaque);

typedef struct AdContextParams {
    const char    *device;      /* "auto", "cpu", "cuda", "cuda:N", "ref"; default "auto"      */
    int            threads;     /* of the CPU backend; 0 (default): the processors this process */
                                /* may use                                                      */
    AdLogCallback  log;         /* default NULL: silent                                         */
    AdStopCallback stop;        /* default NULL: never                                          */
    void          *opaque;      /* handed to both                                               */
} AdContextParams;

AD_API void ad_context_defaults(AdContextParams *params);

/* Open a device. "auto" takes CUDA where it works, else the CPU, and logs one line saying which.
 * The reason of a failure goes to the log callback (there is no context to ask).
 * Returns AD_OK; AD_ERR_NOMEM; AD_ERR_INVALID (no such device name, threads < 0);
 * AD_ERR_BACKEND. */
AD_API AdStatus ad_context_create(AdContext **out, const AdContextParams *params);

/* Models and sessions of the context must be destroyed before. NULL-safe; *ctx becomes NULL. */
AD_API void ad_context_destroy(AdContext **ctx);

/* The last failure's sentence, "" if none; valid until the next call with this context. */
AD_API const char *ad_context_error(const AdContext *ctx);

/* Bytes on the device. */
AD_API AdStatus ad_context_memory(AdContext *ctx, AdMemory *out);

/* ---- Model: what it knows ----------------------------------------------------------------- */

typedef struct AdModel AdModel;

typedef enum AdPrecision {
    AD_PRECISION_AUTO, AD_PRECISION_FP32, AD_PRECISION_FP16, AD_PRECISION_BF16
} AdPrecision;

typedef struct AdModelParams {
    const char *model;          /* diffusers folder, or one checkpoint file; NULL: the demo model */
    const char *motion_adapter; /* MotionAdapter folder or file; NULL: the model's own            */
    const char *vae;            /* folder or file; NULL: the model's own                          */
    const char *tokenizer;      /* folder with vocab.json and merges.txt; NULL: the model's own,
                                 * for a checkpoint file: beside it, or in "tokenizer" there      */
    const char *lora;           /* "path[@scale]|path[@scale]..."; NULL: none                     */
    const char *motion_lora;    /* same form                                                      */
    const char *embedding;      /* "token@path|token@path...": textual inversion                  */
    AdPrecision precision;      /* auto: the fastest type the device does well                    */
    int         offload;        /* not 0: idle parts wait in host memory                          */
} AdModelParams;

typedef struct AdModelInfo {
    char name[128];             /* last part of the path                                          */
    char hash[17];              /* 16 hex digits over headers, sizes and a sample of the data     */
    char adapters[1024];        /* names and hashes of motion adapter, vae, LoRAs; "" if none     */
    char device[128];           /* "2 threads, AMX bf16"                                          */
    char precision[8];          /* "fp32", "fp16", "bf16"                                         */
    int  width, height;         /* pixels the model was made for                                  */
    int  max_frames;            /* length of the motion module's positional table                 */
    int  random_weights;        /* the weights are the placeholder made without training          */
} AdModelInfo;

AD_API void ad_model_defaults(AdModelParams *params);

/* Read, check and prepare weights. Every file is treated as hostile.
 * Returns AD_OK; AD_ERR_NOTFOUND, AD_ERR_ACCESS, AD_ERR_IO; AD_ERR_FORMAT (malformed, or another
 * family's file); AD_ERR_UNSUPPORTED; AD_ERR_INVALID (a scale or list that cannot be read);
 * AD_ERR_NOMEM; AD_ERR_BACKEND; AD_ERR_CANCELLED.
 * Memory: what ad_context_memory() tells afterwards; the files are closed on return. */
AD_API AdStatus ad_model_load(AdContext *ctx, AdModel **out, const AdModelParams *params);

/* Sessions of the model must be destroyed before. NULL-safe; *model becomes NULL. */
AD_API void ad_model_destroy(AdModel **model);

AD_API void ad_model_info(const AdModel *model, AdModelInfo *out);

/* Token ids of a prompt as the text encoder sees it: begin mark, at most 75 ids, end mark, padding.
 * ids: room for `max` numbers (77 are wanted); *n: how many a full answer has.
 * Returns AD_OK; AD_ERR_INVALID (not UTF-8, over 64 KiB, max too small). */
AD_API AdStatus ad_model_tokenize(AdModel *model, const char *prompt, int32_t *ids, int max,
                                  int *n);

/* Other LoRA lists from the next ad_session_begin() on; NULL or "": none. Sessions stay valid. On
 * failure the old lists stay in force. Returns as ad_model_load(). */
AD_API AdStatus ad_model_adapt(AdModel *model, const char *lora, const char *motion_lora);

/* ---- Session: one animation in the making -------------------------------------------------- */

typedef struct AdSession AdSession;

/* Fields of the sampling part: AD_AUTO (or NULL, or 0 where 0 cannot be meant) takes the model's
 * own scheduler_config.json where it has the field, else the default of the diffusers class. */
#define AD_AUTO (-1)

typedef enum AdRng { AD_RNG_CPU, AD_RNG_CUDA } AdRng;
typedef enum AdPromptSyntax { AD_PROMPT_PLAIN, AD_PROMPT_WEIGHTED } AdPromptSyntax;
typedef enum AdMotionNorm { AD_MOTION_NORM_VIDEO, AD_MOTION_NORM_FRAME } AdMotionNorm;

typedef struct AdSessionParams {
    int            width, height;       /* multiples of 8; default: the model's                 */
    int            frames;              /* of one clip; default 16                              */
    const char    *scheduler;           /* a name of ad_scheduler_name(); NULL or "auto"         */
    const char    *beta_schedule;       /* "linear", "scaled_linear", "squaredcos_cap_v2"        */
    const char    *timestep_spacing;    /* "linspace", "leading", "trailing"                     */
    const char    *prediction_type;     /* "epsilon", "v_prediction", "sample"                   */
    int            steps_offset;        /* AD_AUTO, 0, 1, ...                                    */
    int            clip_sample;         /* AD_AUTO, 0, 1                                         */
    int            use_karras_sigmas;   /* AD_AUTO, 0, 1                                         */
    float          eta;                 /* DDIM's noise, 0 ... 1; AD_AUTO: 0                     */
    int            clip_skip;           /* text encoder layers left out; AD_AUTO: none           */
    int            original_steps;      /* LCM: the schedule it was distilled on; default 50     */
    AdPromptSyntax prompt_syntax;
    AdRng          rng;                 /* whose noise: torch's CPU or CUDA generator            */
    int            rng_gpu[2];          /* AD_RNG_CUDA: SMs x threads per SM; default 132, 2048  */
    AdMotionNorm   motion_norm;
    int            decode_chunk;        /* frames decoded at once; default 1                     */
} AdSessionParams;

/* What may differ from one clip of a session to the next. */
typedef struct AdClip {
    const char *prompt;                 /* UTF-8, at most 64 KiB; default ""                     */
    const char *negative_prompt;        /* default ""                                            */
    uint64_t    seed;                   /* below 2^63; default 0                                 */
    int         steps;                  /* denoising steps; default 25                           */
    float       guidance_scale;         /* <= 1: no unconditional branch; default 7.5            */
} AdClip;

/* A picture of the caller's: RGB24, `stride` bytes from one row to the next (>= 3 * width). */
typedef struct AdImage {
    uint8_t  *data;
    ptrdiff_t stride;
    int       width, height;
} AdImage;

AD_API void ad_session_defaults(const AdModel *model, AdSessionParams *params);
AD_API void ad_clip_defaults(AdClip *clip);

/* Bytes a session would take on the device besides the model, in out->ours; nothing is allocated
 * there. guidance: not 0 when clips will have a guidance scale above 1. */
AD_API AdStatus ad_session_estimate(AdModel *model, const AdSessionParams *params, int guidance,
                                    AdMemory *out);

/* Check the parameters and make ready. Borrows the model.
 * Returns AD_OK; AD_ERR_INVALID (the sentence names field, value and what is allowed);
 * AD_ERR_UNSUPPORTED; AD_ERR_NOMEM. */
AD_API AdStatus ad_session_create(AdModel *model, AdSession **out, const AdSessionParams *params);

/* In any state. NULL-safe; *session becomes NULL. */
AD_API void ad_session_destroy(AdSession **session);

/* Start a clip: encode both prompts, draw the first noise. Drops a clip in progress.
 * Device memory is taken at the first clip (and again only when guidance is switched on later).
 * Returns AD_OK; AD_ERR_INVALID (prompt, seed, steps, guidance); AD_ERR_NOMEM (the sentence says
 * how much is missing and what helps); AD_ERR_BACKEND, AD_ERR_LOST, AD_ERR_CANCELLED. */
AD_API AdStatus ad_session_begin(AdSession *session, const AdClip *clip);

/* One denoising step. Returns AD_OK (more to come); AD_DONE (that was the last); AD_ERR_INVALID (no
 * clip in progress); AD_ERR_NUMERIC (not finite; the sentence says where and what helps);
 * AD_ERR_BACKEND, AD_ERR_LOST, AD_ERR_CANCELLED. */
AD_API AdStatus ad_session_step(AdSession *session);

/* Steps done and to do in the current clip. (Some schedulers evaluate the network twice a step;
 * then evaluations are counted.) */
AD_API void ad_session_progress(const AdSession *session, int *done, int *total);

/* Make the call in progress, and every later one until the next ad_session_begin(), return
 * AD_ERR_CANCELLED. Any thread, signal handlers included. */
AD_API void ad_session_cancel(AdSession *session);

/* Decode one frame of a finished clip into the caller's picture.
 * frame: 0 ... frames-1, any order, as often as wanted (neighbours of one decode_chunk are cheap).
 * out: caller's memory of the session's size; written only on AD_OK.
 * Returns AD_OK; AD_ERR_INVALID (frame, size or stride; clip not finished); AD_ERR_NUMERIC;
 * AD_ERR_BACKEND, AD_ERR_LOST, AD_ERR_CANCELLED. */
AD_API AdStatus ad_session_decode(AdSession *session, int frame, AdImage *out);

/* Scheduler name the session uses, e.g. "euler_ancestral". */
AD_API const char *ad_session_scheduler(const AdSession *session);

#ifdef __cplusplus
}
#endif

#endif
