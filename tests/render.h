/* render.h - golden models and clips through the public API.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_RENDER_H
#define AD_RENDER_H

#include <jansson.h>

#include "../engine/animatediff.h"
#include "golden.h"

/* What one clip is made of. The strings are good as long as the case. */
typedef struct RenderCase {
    AdModelParams   model;
    AdSessionParams session;    /* sizes 0 and frames 0: the model's own */
    AdClip          clip;
    char            text[12][1400];     /* the strings */
    int             texts;
} RenderCase;

/* The small model with its motion modules, 32x32, 4 frames, 3 steps of DDIM. */
void render_small(RenderCase *c);

/* The options of a case of clips.json, paths put below tests/golden. */
void render_options(const json_t *options, RenderCase *c);

/* A context; log lines are kept (render_log). Ends the program when there is none. */
AdContext *render_context(const char *device, int threads);

/* Whether the device computes in bf16: not every processor does, and tests are skipped there. */
bool render_has_bf16(const char *device);

/* The last lines a context logged, one after the other; cleared by the call. */
const char *render_log(void);

/* A model's session defaults with the case's fields on top. */
AdSessionParams render_params(const AdModel *model, const RenderCase *c);

/* All steps and frames of a clip into out (frames * height * width * 3 bytes). */
AdStatus render_clip(AdSession *s, const AdClip *clip, const AdSessionParams *p, uint8_t *out);

/* Model, session, clip, frames: NULL on failure, the sentence is the context's. free() the
 * frames. */
uint8_t *render(AdContext *ctx, const RenderCase *c, size_t *bytes);

#endif
