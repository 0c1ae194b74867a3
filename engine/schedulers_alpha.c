/* schedulers_alpha.c - the schedulers that count noise as alpha: latents are sqrt(alpha) * x0 +
 * sqrt(1 - alpha) * noise, alpha the cumulative product.
 *
 * DDIM, PNDM and LCM. Each is a prepare and a row function and its descriptor.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "schedulers.h"

/* Whether all timesteps can be looked up, and noise be subtracted there. */
static bool within_table(const AdSchedule *s, const char **why)
{
    bool epsilon = !strcmp(s->setup.config.prediction_type, "epsilon");

    for (int i = 0; i < s->evals; i++) {
        *why = "steps_offset leads beyond the training timesteps";
        if (s->t[i] >= s->setup.config.train_steps)
            return false;
        *why = "zero terminal SNR needs prediction_type v_prediction or sample";
        if (epsilon && ad_alpha_at(s, (int)s->t[i]) == 0)
            return false;
    }
    return true;
}

static void assign_x0(const AdSchedule *s, double alpha, AdRow *row)
{
    AdLine x0 = ad_x0_of_alpha(s, alpha);
    AdAssign *a = ad_row_assign(row, AD_R_X0);

    a->coef[AD_R_X]     = x0.x;
    a->coef[AD_R_MODEL] = x0.m;
    a->clamp            = s->setup.config.clip_sample ? s->setup.config.clip_sample_range : 0;
}

/* ---- DDIM --------------------------------------------------------------------------------- */

static void ddim_defaults(AdSchedulerConfig *c)
{
    strcpy(c->timestep_spacing, "leading");
    c->clip_sample = 1;
}

static bool ddim_prepare(AdSchedule *s, const char **why)
{
    ad_timesteps_whole(s);
    return within_table(s, why);
}

/* x' = sqrt(ap) * x0 + sqrt(1 - ap - sd^2) * e + sd * noise, e not recomputed after clipping.
 * The previous timestep is t - train / steps whatever the spacing says. */
static void ddim_row(const AdSchedule *s, int i, AdRow *row)
{
    int t = (int)s->t[i];
    double a = ad_alpha_at(s, t), ap = ad_alpha_at(s, t - s->setup.config.train_steps / s->steps);
    double sd = s->setup.config.eta * sqrt((1 - ap) / (1 - a) * (1 - a / ap));
    double direction = sqrt(fmax(1 - ap - sd * sd, 0));
    AdLine e = ad_noise_of_alpha(s, a);
    AdAssign *x;

    ad_row_start(row, t, 1);
    assign_x0(s, a, row);
    row->noise = s->setup.config.eta > 0;
    x = ad_row_assign(row, AD_R_X);
    x->coef[AD_R_X0]    = sqrt(ap);
    x->coef[AD_R_X]     = direction * e.x;
    x->coef[AD_R_MODEL] = direction * e.m;
    x->coef[AD_R_NOISE] = sd;
}

const AdScheduler ad_scheduler_ddim = {
    .name = "ddim", .class_name = "DDIMScheduler",
    .knows = AD_KNOWS_ZERO_SNR | AD_KNOWS_THRESHOLD,
    .about = "Song et al. 2020, arXiv 2010.02502; eta 0 is deterministic",
    .defaults = ddim_defaults, .prepare = ddim_prepare, .row = ddim_row,
};

/* ---- LCM ---------------------------------------------------------------------------------- */

static void lcm_defaults(AdSchedulerConfig *c)
{
    strcpy(c->beta_schedule, "scaled_linear");
    c->beta_start = 0.00085;
    c->beta_end   = 0.012;
}

/* n of the `original_steps` timesteps the model was distilled on, evenly from the noisy end. */
static bool lcm_prepare(AdSchedule *s, const char **why)
{
    int original = s->setup.config.original_steps, k = s->setup.config.train_steps / original;

    *why = "more steps than original_steps, or more original_steps than training timesteps";
    if (s->steps > original || k < 1)
        return false;
    for (int j = 0; j < s->steps; j++) {
        int index = (int)((int64_t)j * original / s->steps);

        s->t[j] = (original - index) * k - 1;
    }
    return within_table(s, why);
}

/* d = c_out * x0 + c_skip * x; then noised again to the next timestep, except at the end. */
static void lcm_row(const AdSchedule *s, int i, AdRow *row)
{
    double scaled = s->t[i] * s->setup.config.timestep_scaling, sum = scaled * scaled + 0.25;
    double skip = 0.25 / sum, out = scaled / sqrt(sum), ap = 1;
    AdAssign *x;

    ad_row_start(row, s->t[i], 1);
    assign_x0(s, ad_alpha_at(s, (int)s->t[i]), row);
    x = ad_row_assign(row, AD_R_X);
    row->noise = i + 1 < s->steps;
    if (row->noise)
        ap = ad_alpha_at(s, (int)s->t[i + 1]);
    x->coef[AD_R_X0]    = sqrt(ap) * out;
    x->coef[AD_R_X]     = sqrt(ap) * skip;
    x->coef[AD_R_NOISE] = sqrt(1 - ap);
}

const AdScheduler ad_scheduler_lcm = {
    .name = "lcm", .class_name = "LCMScheduler",
    .knows = AD_KNOWS_ZERO_SNR | AD_KNOWS_THRESHOLD,
    .about = "latent consistency, Luo et al. 2023, arXiv 2310.04378; 1 to 8 steps",
    .defaults = lcm_defaults, .prepare = lcm_prepare, .row = lcm_row,
};

/* ---- PNDM --------------------------------------------------------------------------------- */

static void pndm_defaults(AdSchedulerConfig *c)
{
    strcpy(c->timestep_spacing, "leading");
    c->set_alpha_to_one = 0;
}

static int pndm_stride(const AdSchedule *s)
{
    return s->setup.config.train_steps / s->steps;
}

/* With skip_prk_steps the second timestep comes twice; without, 12 Runge-Kutta evaluations
 * come first. */
static bool pndm_prepare(AdSchedule *s, const char **why)
{
    double t[AD_MAX_STEPS];
    int n = s->steps, half = pndm_stride(s) / 2, at = 0;

    ad_timesteps_whole(s);
    memcpy(t, s->t, (size_t)n * sizeof(*t));                    /* descending */
    if (s->setup.config.skip_prk_steps) {
        for (int i = 0; i < n; i++) {
            s->t[at++] = t[i];
            if (i == 1)
                s->t[at++] = t[i];
        }
    } else {
        *why = "at least 4 steps are needed without skip_prk_steps";
        if (n < 4)
            return false;
        for (int i = 0; i < 3; i++) {                           /* t0, mid, mid, t1 */
            s->t[at++] = t[i];
            s->t[at++] = t[i + 1] + half;
            s->t[at++] = t[i + 1] + half;
            s->t[at++] = t[i + 1];
        }
        for (int i = 3; i < n; i++)
            s->t[at++] = t[i];
    }
    s->evals = at;
    *why = "prediction_type sample is not supported by it";
    return strcmp(s->setup.config.prediction_type, "sample") != 0 && within_table(s, why);
}

/* x' from the latents in `base` and outputs weighted by a->coef (summing to 1) already there:
 * the transfer of Liu et al. 2022, eq. 11, from t to p. */
static void transfer(const AdSchedule *s, AdRegister base, int t, int p, AdAssign *a)
{
    double at = ad_alpha_at(s, t), ap = ad_alpha_at(s, p);
    double m = -(ap - at) / (at * sqrt(1 - ap) + sqrt(at * (1 - at) * ap));
    bool v = !strcmp(s->setup.config.prediction_type, "v_prediction");

    for (int r = 0; r < AD_REGISTERS; r++)
        a->coef[r] *= m * (v ? sqrt(at) : 1);
    a->coef[base] += sqrt(ap / at) + (v ? m * sqrt(1 - at) : 0);
}

/* Adams-Bashforth over the last four outputs. */
static void plms_row(const AdSchedule *s, int i, int call, AdRow *row)
{
    static const double weights[4][4] = {
        { 1 }, { 3 / 2.0, -1 / 2.0 }, { 23 / 12.0, -16 / 12.0, 5 / 12.0 },
        { 55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0 },
    };
    int stride = pndm_stride(s), t = (int)s->t[i];
    bool runge_kutta = !s->setup.config.skip_prk_steps;
    int stored = runge_kutta ? 4 : call == 0 ? 1 : call;        /* outputs on the list */
    AdAssign *x;

    if (call == 1 && !runge_kutta) {            /* the first step once more, with a mean */
        x = ad_row_assign(row, AD_R_X);
        x->coef[AD_R_MODEL] = x->coef[AD_R_H0] = 0.5;
        transfer(s, AD_R_KEPT, t + stride, t, x);
        return;
    }
    row->push = true;
    ad_row_assign(row, AD_R_H0)->coef[AD_R_MODEL] = 1;
    if (call == 0 && !runge_kutta)
        ad_row_assign(row, AD_R_KEPT)->coef[AD_R_X] = 1;
    x = ad_row_assign(row, AD_R_X);
    for (int k = 0; k < 4; k++)
        x->coef[AD_R_H0 + k] = weights[AD_MIN(stored, 4) - 1][k];
    transfer(s, AD_R_X, t, t - stride, x);
}

/* Group of four evaluations: X0 gathers m/6 + m/3 + m/3 + m/6, KEPT is the group's start. */
static void prk_row(const AdSchedule *s, int i, AdRow *row)
{
    int stage = i % 4, t0 = (int)s->t[i - stage], half = pndm_stride(s) / 2;
    int p = (int)s->t[i] - (stage % 2 ? 0 : half);
    AdAssign *sum, *x;

    if (stage == 0) {
        row->push = true;
        ad_row_assign(row, AD_R_H0)->coef[AD_R_MODEL] = 1;
        ad_row_assign(row, AD_R_KEPT)->coef[AD_R_X] = 1;
    }
    sum = ad_row_assign(row, AD_R_X0);
    sum->coef[AD_R_X0]    = stage ? 1 : 0;
    sum->coef[AD_R_MODEL] = stage == 0 || stage == 3 ? 1 / 6.0 : 1 / 3.0;
    x = ad_row_assign(row, AD_R_X);
    x->coef[stage == 3 ? AD_R_X0 : AD_R_MODEL] = 1;
    transfer(s, AD_R_KEPT, t0, p, x);
}

static void pndm_row(const AdSchedule *s, int i, AdRow *row)
{
    int first = s->setup.config.skip_prk_steps ? 0 : 12;

    ad_row_start(row, s->t[i], 1);
    if (i < first)
        prk_row(s, i, row);
    else
        plms_row(s, i, i - first, row);
}

const AdScheduler ad_scheduler_pndm = {
    .name = "pndm", .class_name = "PNDMScheduler",
    .about = "Liu et al. 2022, arXiv 2202.09778; Stable Diffusion 1.5's own",
    .defaults = pndm_defaults, .prepare = pndm_prepare, .row = pndm_row,
};
