/*
 * This file is part of FFmpeg.
 *
 * FFmpeg is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 2.1 of the License, or (at your option) any later version.
 *
 * FFmpeg is distributed in the hope that it will be useful,
 * but WITHOUT ANY WARRANTY; without even the implied warranty of
 * MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the GNU
 * Lesser General Public License for more details.
 *
 * You should have received a copy of the GNU Lesser General Public
 * License along with FFmpeg; if not, write to the Free Software
 * Foundation, Inc., 51 Franklin Street, Fifth Floor, Boston, MA 02110-1301 USA
 */

/**
 * @file
 * source animatediff: text becomes video, by libanimatediff
 *
 * Options become the library's parameters, its pictures become frames; nothing
 * is computed here. init() only reads options, because a program may call it
 * on a graph that it never runs. The model is loaded in config_props(): then a
 * wrong file is an error of opening, before any output is touched. A clip is
 * computed as a whole when its first frame is wanted.
 *
 * One file for FFmpeg 5.1 to 9.0: what differs is just below the includes.
 */

#include <animatediff.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "libavutil/attributes.h"
#include "libavutil/avstring.h"
#include "libavutil/dict.h"
#include "libavutil/imgutils.h"
#include "libavutil/internal.h"
#include "libavutil/mem.h"
#include "libavutil/random_seed.h"
#include "libavutil/time.h"
#include "animatediff_options.h"
#include "animatediff_stop.h"
#include "avfilter.h"
#include "filters.h"
#include "version.h"
#include "video.h"

#if LIBAVFILTER_VERSION_INT < AV_VERSION_INT(10, 4, 100)
#include "internal.h"
#define LINK_FRAME_RATE(link) ((link)->frame_rate)
#else
#define LINK_FRAME_RATE(link) (ff_filter_link(link)->frame_rate)
#endif

#if LIBAVFILTER_VERSION_MAJOR < 11
#define FILTER_STRUCT   AVFilter
#define PUBLIC(field)   .field
#else
#define FILTER_STRUCT   FFFilter
#define PUBLIC(field)   .p.field
#endif

#if LIBAVUTIL_VERSION_INT < AV_VERSION_INT(57, 30, 100)
#define FRAME_DURATION  pkt_duration
#else
#define FRAME_DURATION  duration
#endif

#define PROGRESS_EVERY  10      ///< seconds between two progress lines

typedef struct AnimateDiffContext {
    AnimateDiffOptions o;       ///< begins with the class

    /* The engine, from config_props() on. */
    AdContext *engine;
    AdModel *weights;
    AdSession *session;
    AdSessionParams params;

    /* The run. */
    int64_t clip;               ///< the clip being computed or sent
    int64_t seed_clip;          ///< the clip that has the seed as it is
    int64_t next_pts;
    int64_t clip_start;         ///< wall clock in us, for the log alone
    int64_t next_progress;
    AVFrame **pictures;         ///< of the clip being sent; params.frames of them
    int next_picture;           ///< 0: a clip has to be computed first
    int error;                  ///< why nothing more comes
} AnimateDiffContext;

AVFILTER_DEFINE_CLASS_EXT(animatediff, "animatediff", ff_animatediff_options);

/* ---- the stop flag and its counterpart ----------------------------------- */

static atomic_int stop_flag;    ///< not 0: every source of this process ends
static atomic_int last_error;   ///< of a source that failed

void av_animatediff_stop(void)
{
    atomic_store(&stop_flag, 1);
}

int av_animatediff_failed(void)
{
    return atomic_load(&last_error);
}

static int stop_wanted(void *opaque)
{
    return atomic_load(&stop_flag);
}

/* ---- what the library says ------------------------------------------------ */

static void log_line(void *opaque, AdLogLevel level, const char *line)
{
    static const int levels[] = {
        [AD_LOG_ERROR]   = AV_LOG_ERROR,   [AD_LOG_WARNING] = AV_LOG_WARNING,
        [AD_LOG_INFO]    = AV_LOG_INFO,    [AD_LOG_VERBOSE] = AV_LOG_VERBOSE,
        [AD_LOG_DEBUG]   = AV_LOG_DEBUG,
    };

    av_log(opaque, level <= AD_LOG_DEBUG ? levels[level] : AV_LOG_DEBUG, "%s\n", line);
}

/* The sentence has been logged by the library. */
static int error_of(AdStatus status)
{
    switch (status) {
    case AD_OK:
    case AD_DONE:            return 0;
    case AD_ERR_NOMEM:       return AVERROR(ENOMEM);
    case AD_ERR_INVALID:     return AVERROR(EINVAL);
    case AD_ERR_NOTFOUND:    return AVERROR(ENOENT);
    case AD_ERR_ACCESS:      return AVERROR(EACCES);
    case AD_ERR_FORMAT:      return AVERROR_INVALIDDATA;
    case AD_ERR_UNSUPPORTED: return AVERROR(ENOSYS);
    case AD_ERR_IO:          return AVERROR(EIO);
    case AD_ERR_NUMERIC:     return AVERROR(ERANGE);
    case AD_ERR_CANCELLED:   return AVERROR_EOF;
    default:                 return AVERROR_EXTERNAL;
    }
}

/* ---- life of an instance ---------------------------------------------------- */

static av_cold int init(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;

    s->o.log = avctx;
    return ff_animatediff_read_options(&s->o);
}

static void drop_pictures(AnimateDiffContext *s)
{
    for (int i = 0; s->pictures && i < s->params.frames; i++)
        av_frame_free(&s->pictures[i]);
}

static av_cold void uninit(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;

    drop_pictures(s);
    av_freep(&s->pictures);
    ad_session_destroy(&s->session);
    ad_model_destroy(&s->weights);
    ad_context_destroy(&s->engine);
}

static void clip_from_options(AnimateDiffContext *s, AdClip *clip)
{
    if (s->o.seed < 0)
        s->o.seed = av_get_random_seed();
    clip->prompt          = s->o.prompt          ? s->o.prompt          : "";
    clip->negative_prompt = s->o.negative_prompt ? s->o.negative_prompt : "";
    clip->seed            = ((uint64_t)s->o.seed + (s->clip - s->seed_clip)) & INT64_MAX;
    clip->steps           = s->o.steps;
    clip->guidance_scale  = s->o.guidance_scale;
}

static AdStatus open_engine(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;
    AdContextParams device;
    AdModelParams model;
    AdStatus status;

    ad_context_defaults(&device);
    ad_model_defaults(&model);
    ff_animatediff_get_params(&s->o, &device, &model);
    if (!device.threads)
        device.threads = avctx->nb_threads; /* where 5.1 stores the option "threads" */
    device.log    = log_line;
    device.stop   = stop_wanted;
    device.opaque = avctx;
    status = ad_context_create(&s->engine, &device);
    if (status >= 0)
        status = ad_model_load(s->engine, &s->weights, &model);
    if (status >= 0) {
        ad_session_defaults(s->weights, &s->params);
        ff_animatediff_get_session_params(&s->o, &s->params);
        status = ad_session_create(s->weights, &s->session, &s->params);
    }
    return status;
}

static int config_props(AVFilterLink *outlink)
{
    AVFilterContext *avctx = outlink->src;
    AnimateDiffContext *s = avctx->priv;
    AdStatus status = open_engine(avctx);
    AdModelInfo info;
    int ret;

    if (status < 0)
        return error_of(status);
    if ((ret = av_image_check_size(s->params.width, s->params.height, 0, avctx)) < 0)
        return ret;
    s->pictures = av_calloc(s->params.frames, sizeof(*s->pictures));
    if (!s->pictures)
        return AVERROR(ENOMEM);

    ad_model_info(s->weights, &info);
    av_log(avctx, AV_LOG_INFO, "model %s (%s) on %s, %s, %dx%d\n", info.name, info.hash,
           info.device, info.precision, s->params.width, s->params.height);

    outlink->w                   = s->params.width;
    outlink->h                   = s->params.height;
    outlink->sample_aspect_ratio = (AVRational){ 1, 1 };
    outlink->time_base           = av_inv_q(s->o.rate);
    LINK_FRAME_RATE(outlink)     = s->o.rate;
    return 0;
}

/* ---- making a clip ----------------------------------------------------------- */

static double seconds_since(int64_t start)
{
    return (av_gettime_relative() - start) / 1e6;
}

/* A line per step is for those who ask; a clip that takes long says now and
 * then how far it is. */
static void tell_progress(AVFilterContext *avctx, const char *what, int done, int total)
{
    AnimateDiffContext *s = avctx->priv;
    int level = AV_LOG_VERBOSE;

    if (av_gettime_relative() >= s->next_progress) {
        s->next_progress = av_gettime_relative() + PROGRESS_EVERY * INT64_C(1000000);
        level = AV_LOG_INFO;
    }
    av_log(avctx, level, "clip %"PRId64": %s %d of %d, %.1f s so far\n", s->clip, what,
           done, total, seconds_since(s->clip_start));
}

static AdStatus denoise(AVFilterContext *avctx, const AdClip *clip)
{
    AnimateDiffContext *s = avctx->priv;
    AdStatus status = ad_session_begin(s->session, clip);
    int done, total;

    while (status == AD_OK) {
        status = ad_session_step(s->session);
        if (status >= 0) {
            ad_session_progress(s->session, &done, &total);
            tell_progress(avctx, "step", done, total);
        }
    }
    return status;
}

static int describe(AVFilterContext *avctx, AVFrame *frame, const AdClip *clip, int index)
{
#define SET(key, ...) \
    if (ret >= 0) { \
        snprintf(text, sizeof(text), __VA_ARGS__); \
        ret = av_dict_set(&frame->metadata, "lavfi.animatediff." key, text, 0); \
    }
    AnimateDiffContext *s = avctx->priv;
    AdModelInfo info;
    char text[sizeof(info.adapters) + 1];
    int ret;

    ad_model_info(s->weights, &info);
    ret = av_dict_set(&frame->metadata, "lavfi.animatediff.prompt", clip->prompt, 0);
    if (ret >= 0)
        ret = av_dict_set(&frame->metadata, "lavfi.animatediff.negative_prompt",
                          clip->negative_prompt, 0);
    SET("seed",           "%"PRIu64, clip->seed);
    SET("clip",           "%"PRId64, s->clip);
    SET("frame",          "%d", index);
    SET("steps",          "%d", clip->steps);
    SET("guidance_scale", "%g", clip->guidance_scale);
    SET("scheduler",      "%s", ad_session_scheduler(s->session));
    SET("model",          "%s %s", info.name, info.hash);
    if (*info.adapters)
        SET("adapters",   "%s", info.adapters);
    return ret;
#undef SET
}

static int make_picture(AVFilterContext *avctx, const AdClip *clip, int index)
{
    AnimateDiffContext *s = avctx->priv;
    AVFilterLink *outlink = avctx->outputs[0];
    AVFrame *frame = ff_get_video_buffer(outlink, outlink->w, outlink->h);
    AdStatus status;

    if (!frame)
        return AVERROR(ENOMEM);
    s->pictures[index] = frame;
    status = ad_session_decode(s->session, index, &(AdImage){
        frame->data[0], frame->linesize[0], outlink->w, outlink->h });
    if (status < 0)
        return error_of(status);
    tell_progress(avctx, "frame", index + 1, s->params.frames);

    frame->FRAME_DURATION      = 1;
    frame->pict_type           = AV_PICTURE_TYPE_I;
    frame->sample_aspect_ratio = (AVRational){ 1, 1 };
    frame->color_range         = AVCOL_RANGE_JPEG;
    frame->colorspace          = AVCOL_SPC_RGB;
#ifdef AV_FRAME_FLAG_KEY
    frame->flags              |= AV_FRAME_FLAG_KEY;
#else
    frame->key_frame           = 1;
#endif
    return describe(avctx, frame, clip, index);
}

/* The whole clip or nothing: a frame leaves only after the last one is decoded. */
static int render_clip(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;
    double denoised;
    AdClip clip;
    int ret;

    if (stop_wanted(NULL))
        return AVERROR_EOF;
    s->clip_start    = av_gettime_relative();
    s->next_progress = s->clip_start + PROGRESS_EVERY * INT64_C(1000000);
    ad_clip_defaults(&clip);
    clip_from_options(s, &clip);
    av_log(avctx, AV_LOG_INFO, "clip %"PRId64": seed %"PRIu64", %d frames, %d steps of %s\n",
           s->clip, clip.seed, s->params.frames, clip.steps, ad_session_scheduler(s->session));

    ret = error_of(denoise(avctx, &clip));
    denoised = seconds_since(s->clip_start);
    for (int i = 0; ret >= 0 && i < s->params.frames; i++)
        ret = make_picture(avctx, &clip, i);
    if (ret == AVERROR_EOF)
        av_log(avctx, AV_LOG_INFO, "clip %"PRId64": stopped, dropped\n", s->clip);
    if (ret < 0) {
        drop_pictures(s);
        return ret;
    }
    av_log(avctx, AV_LOG_INFO, "clip %"PRId64": done in %.1f s, %.1f s of it for decoding\n",
           s->clip, seconds_since(s->clip_start), seconds_since(s->clip_start) - denoised);
    return 0;
}

static int send_picture(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;
    AVFrame *frame = s->pictures[s->next_picture];

    s->pictures[s->next_picture++] = NULL;
    if (s->next_picture == s->params.frames) {
        s->next_picture = 0;
        s->clip++;
    }
    frame->pts = s->next_pts++;
    return ff_filter_frame(avctx->outputs[0], frame);
}

static int activate(AVFilterContext *avctx)
{
    AnimateDiffContext *s = avctx->priv;
    AVFilterLink *outlink = avctx->outputs[0];

    if (!ff_outlink_frame_wanted(outlink))
        return FFERROR_NOT_READY;
    if (!s->error && !s->next_picture) {
        s->error = s->clip == s->o.clips ? AVERROR_EOF : render_clip(avctx);
        if (s->error < 0 && s->error != AVERROR_EOF)
            atomic_store(&last_error, s->error);
    }
    if (s->error) {                         /* a returned error would be forgotten by the next call */
        ff_outlink_set_status(outlink, s->error, s->next_pts);
        return 0;
    }
    return send_picture(avctx);
}

/* ---- commands ------------------------------------------------------------------ */

/* Everything is checked when it arrives and taken at the next clip. */
static int adapt(AVFilterContext *avctx, const char *lora, const char *motion_lora)
{
    AnimateDiffContext *s = avctx->priv;
    AdStatus status;

    if (!s->weights)                        /* as if given as an option */
        return 0;
    status = ad_model_adapt(s->weights, lora, motion_lora);
    if (status < 0)
        av_strlcpy(s->o.sentence, ad_context_error(s->engine), sizeof(s->o.sentence));
    return error_of(status);
}

static int process_command(AVFilterContext *avctx, const char *cmd, const char *arg,
                           char *res, int res_len, int flags)
{
    AnimateDiffContext *s = avctx->priv;
    int ret;

    if (!arg)
        arg = "";
    s->o.sentence[0] = 0;
    if (!strcmp(cmd, "lora"))
        ret = adapt(avctx, arg, s->o.motion_lora);
    else if (!strcmp(cmd, "motion_lora"))
        ret = adapt(avctx, s->o.lora, arg);
    else
        ret = ff_animatediff_read_command(&s->o, cmd, arg);
    if (ret >= 0)
        ret = ff_filter_process_command(avctx, cmd, arg, res, res_len, flags);
    if (ret >= 0 && !strcmp(cmd, "seed"))
        s->seed_clip = s->clip + !!s->next_picture;
    if (ret < 0 && res && res_len > 0)
        av_strlcpy(res, s->o.sentence, res_len);
    return ret;
}

static const AVFilterPad animatediff_outputs[] = {
    {
        .name         = "default",
        .type         = AVMEDIA_TYPE_VIDEO,
        .config_props = config_props,
    },
};

const FILTER_STRUCT ff_vsrc_animatediff = {
    PUBLIC(name)        = "animatediff",
    PUBLIC(description) = NULL_IF_CONFIG_SMALL("Make video from text with AnimateDiff."),
    PUBLIC(priv_class)  = &animatediff_class,
    PUBLIC(inputs)      = NULL,
    .priv_size          = sizeof(AnimateDiffContext),
    .init               = init,
    .uninit             = uninit,
    .activate           = activate,
    .process_command    = process_command,
    FILTER_OUTPUTS(animatediff_outputs),
    FILTER_SINGLE_PIXFMT(AV_PIX_FMT_RGB24),
};
