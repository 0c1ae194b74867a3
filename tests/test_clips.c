/* test_clips.c - whole clips against AnimateDiffPipeline's frames.
 *
 * Every case of tests/golden/clips.json through the public API on the CPU. In fp32 as the golden
 * data's README demands: at most three times the bytes differ that differ when the reference itself
 * runs in float32 (and ten more), none by more than 3 levels, 99.9 % by at most 1. In bf16 30 dB
 * for schedulers that draw no noise, and never less than the reference itself keeps in bf16, which
 * on two clips is below 30. The first clip's insides are compared with trace.safetensors, to say
 * where a wrong one goes wrong.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "render.h"
#include "scratch.h"

static AdContext *ctx;
static RenderCase the_case;

/* ---- frames ------------------------------------------------------------------------------- */

typedef struct Difference { size_t bytes, differ, far; int most; double psnr; } Difference;

static Difference difference(const uint8_t *found, const uint8_t *wanted, size_t n)
{
    Difference d = { .bytes = n };
    double squares = 0;

    for (size_t i = 0; i < n; i++) {
        int off = abs(found[i] - wanted[i]);

        d.differ += off > 0;
        d.far    += off > 1;
        d.most    = AD_MAX(d.most, off);
        squares  += off * off;
    }
    d.psnr = squares > 0 ? 10 * log10(255.0 * 255.0 * (double)n / squares) : INFINITY;
    return d;
}

static Difference rendered(const json_t *c, AdPrecision precision)
{
    char path[256];
    size_t n = 0, wanted_bytes;
    uint8_t *found;
    char *wanted;
    Difference d;

    render_options(golden_get(c, "options"), &the_case);
    the_case.model.precision = precision;
    found = render(ctx, &the_case, &n);
    if (!found)
        FAIL("%s", ad_context_error(ctx));
    snprintf(path, sizeof(path), GOLDEN "%s", golden_text(c, "file"));
    wanted = slurp(path, &wanted_bytes);
    if (n != wanted_bytes)
        FAIL("%zu bytes, not %zu", n, wanted_bytes);
    d = difference(found, (const uint8_t *)wanted, n);
    free(found);
    free(wanted);
    return d;
}

static void frames_are_the_reference(const json_t *c)
{
    Difference d = rendered(c, AD_PRECISION_FP32);
    size_t allowed = 3 * (size_t)golden_number(c, "ref_fp32_diff") + 10;

    if (d.differ > allowed || d.most > 3 || d.far * 1000 > d.bytes)
        FAIL("%zu of %zu bytes differ (%zu are allowed), by up to %d", d.differ, d.bytes, allowed,
             d.most);
}

/* Few steps and sums that multiply an error of the network: what AnimateDiffPipeline keeps. */
static const struct { const char *name; double psnr; } hard[] = {
    { "heun_karras_sample", 20.6 }, { "unipc_karras_order_3", 26.8 },
};

static void frames_are_near_in_bf16(const json_t *c)
{
    double least = 30;
    Difference d;

    if (!render_has_bf16("cpu"))
        SKIP("this processor has no bf16");
    d = rendered(c, AD_PRECISION_BF16);
    for (size_t i = 0; i < AD_COUNT(hard); i++)
        if (!strcmp(hard[i].name, golden_text(c, "name")))
            least = hard[i].psnr;
    if (!(d.psnr >= least))
        FAIL("%.1f dB", d.psnr);
}

/* ---- the first clip's insides ------------------------------------------------------------- */

static AdTensorFile *trace;

/* Numbers of a tensor of the trace; free() them. */
static float *traced(const char *name, int64_t n)
{
    const AdEntry *e = ad_tensor_file_find(trace, name);
    float *out = malloc((size_t)n * sizeof(float));
    AdContext quiet = { 0 };

    if (!e || ad_entry_count(e) != n || ad_entry_read(&quiet, trace, e, out) < 0)
        die("golden data: no %s of %lld numbers", name, (long long)n);
    return out;
}

/* Where `t` is [f, h, w, 4], the trace has [1, 4, f, h, w]; other tensors have one order. */
static void is_traced(AdTensor t, const char *name, bool latents, double tolerance)
{
    AdBackend *be = ctx->backend;
    int64_t n = ad_count(t), channels = latents ? 4 : 1, places = n / channels;
    float *found = malloc(ad_bytes(t)), *wanted = traced(name, n);
    double top = 0, worst = 0;

    CHECK_INT(be->cls->download(be, found, t.data, ad_bytes(t)), AD_OK);
    for (int64_t i = 0; i < n; i++) {
        double w = wanted[i % channels * places + i / channels];

        top   = fmax(top, fabs(w));
        worst = fmax(worst, fabs(found[i] - w));
    }
    free(found);
    free(wanted);
    if (!(worst <= tolerance * top))
        FAIL("%s is %.2g of the largest value off; %.2g is allowed", name, worst / top, tolerance);
}

/* f32 against double: 1e-5 where the text goes in, then what guidance of 7.5 makes of it. */
static void insides_are_traced(AdSession *s)
{
    char name[64];

    CHECK_STATUS(ad_session_begin(s, &the_case.clip), AD_OK);
    is_traced(ad_slice(s->work.states, 0, 1), "text.negative", false, 1e-5);
    is_traced(ad_slice(s->work.states, 1, 1), "text.positive", false, 1e-5);
    is_traced(s->work.registers[AD_R_X], "latents.initial", true, 1e-6);
    for (int i = 0; i < the_case.clip.steps; i++) {
        AdStatus st = ad_session_step(s);

        CHECK_STATUS(st, i + 1 < the_case.clip.steps ? AD_OK : AD_DONE);
        snprintf(name, sizeof(name), "step.%02d.noise", i);
        is_traced(s->work.registers[AD_R_MODEL], name, true, 2e-4);
        snprintf(name, sizeof(name), "step.%02d.latents", i);
        is_traced(s->work.registers[AD_R_X], name, true, 1e-4);
    }
}

static void the_first_clip_is_right_at_every_step(const json_t *c)
{
    AdModel *model = NULL;
    AdSession *s = NULL;
    AdSessionParams p;

    render_options(golden_get(c, "options"), &the_case);
    CHECK_STATUS(ad_model_load(ctx, &model, &the_case.model), AD_OK);
    p = render_params(model, &the_case);
    CHECK_STATUS(ad_session_create(model, &s, &p), AD_OK);
    insides_are_traced(s);
    ad_session_destroy(&s);
    ad_model_destroy(&model);
}

/* ---- main --------------------------------------------------------------------------------- */

static bool draws_noise(const json_t *c)
{
    static const char *const noisy[] = { "euler_ancestral", "dpmpp_2m_sde", "lcm" };
    json_t *options = golden_get(c, "options");
    const char *name = json_string_value(json_object_get(options, "scheduler"));

    for (size_t i = 0; i < AD_COUNT(noisy); i++)
        if (name && !strcmp(name, noisy[i]))
            return true;
    return json_object_get(options, "eta") != NULL;
}

static size_t i_;               /* these outlive the longjmp of a failing case */
static json_t *c_;

int main(void)
{
    json_t *root = golden_json("clips.json"), *cases = golden_get(root, "cases");
    AdContext quiet = { 0 };

    ctx = render_context("cpu", 0);
    if (ad_tensor_file_open(&quiet, &trace, GOLDEN "trace.safetensors") < 0)
        die("%s", quiet.error);
    RUN_AS(the_first_clip_is_right_at_every_step(json_array_get(cases, 0)),
           "%s: text, noise and latents of every step",
           golden_text(json_array_get(cases, 0), "name"));
    ad_tensor_file_close(&trace);
    json_array_foreach(cases, i_, c_)
        RUN_AS(frames_are_the_reference(c_), "fp32: %s", golden_text(c_, "name"));
    json_array_foreach(cases, i_, c_)
        if (!draws_noise(c_))
            RUN_AS(frames_are_near_in_bf16(c_), "bf16: %s", golden_text(c_, "name"));
    ad_context_destroy(&ctx);
    json_decref(root);
    return check_result();
}
