/* test_placeholder.c - the model that stands in for a trained one.
 *
 * The Makefile's target `model` has made it, or has put the trained model in its place: then only
 * what holds for both is tested.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "render.h"
#include "scratch.h"

#define MODEL "build/share/animatediff/model"

static bool is_trained(void)
{
    char *index = slurp(MODEL "/model_index.json", &(size_t){ 0 });
    bool trained = !strstr(index, "\"_placeholder\"");

    free(index);
    return trained;
}

static void is_found_without_a_path_and_says_what_it_is(AdContext *ctx, bool trained)
{
    AdModelParams params;
    AdModelInfo info;
    AdModel *model = NULL;

    ad_model_defaults(&params);
    render_log();
    CHECK_STATUS(ad_model_load(ctx, &model, &params), AD_OK);
    if (!model)
        return;
    ad_model_info(model, &info);
    CHECK_INT(info.random_weights, !trained);
    CHECK_INT(info.width, 128);
    CHECK(info.max_frames >= 16);
    CHECK(!strstr(render_log(), "the frames will be noise") == trained);
    ad_model_destroy(&model);
}

/* Frames of words that no vocabulary of a few sentences has. */
static uint8_t *frames_of(AdContext *ctx, const char *prompt, size_t *bytes)
{
    RenderCase c;

    render_small(&c);
    c.model.model = NULL;
    c.model.motion_adapter = NULL;
    c.clip.prompt = prompt;
    return render(ctx, &c, bytes);
}

static void any_words_give_a_clip_and_other_words_another(AdContext *ctx)
{
    size_t n = 0, m = 0;
    uint8_t *a = frames_of(ctx, "a cat", &n);
    uint8_t *b = frames_of(ctx, "\xe7\x8c\xab \xf0\x9f\x90\x88", &m);

    CHECK(a && b);
    CHECK_INT(n, m);
    CHECK(a && b && memcmp(a, b, n));
    free(a);
    free(b);
}

int main(void)
{
    AdContext *ctx = render_context("cpu", 2);

    RUN_AS(is_found_without_a_path_and_says_what_it_is(ctx, is_trained()), "the default model is "
           "found without a path and says what it is");
    RUN_AS(any_words_give_a_clip_and_other_words_another(ctx), "any words give a clip, and other "
           "words another one");
    ad_context_destroy(&ctx);
    return check_result();
}
