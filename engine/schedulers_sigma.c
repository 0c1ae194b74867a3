/* schedulers_sigma.c - the schedulers that count noise as sigma: latents are x0 + sigma * noise.
 *
 * Euler and Euler ancestral, Heun, LMS, KDPM2, in the form k-diffusion gave them (Karras et al.
 * 2022, arXiv 2206.00364). Each is a prepare and a row function and its descriptor.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "schedulers.h"

static double input_scale(double sigma)
{
    return 1 / sqrt(sigma * sigma + 1);
}

static void start_at_most_noise(AdSchedule *s)
{
    double most = 0;

    for (int i = 0; i < s->steps; i++)
        most = fmax(most, s->sigma[i]);
    s->init_scale = strcmp(s->setup.config.timestep_spacing, "leading") ? most
                                                                        : sqrt(most * most + 1);
}

static bool no_sample_prediction(const AdSchedule *s, const char **why)
{
    *why = "prediction_type sample is not supported by it";
    return strcmp(s->setup.config.prediction_type, "sample") != 0;
}

/* a += scale * (x - x0(x, m)) / sigma, the derivative of the latents along sigma. */
static void add_derivative(const AdSchedule *s, double sigma, double scale, AdAssign *a)
{
    AdLine x0 = ad_x0_of_sigma(s, sigma);

    a->coef[AD_R_X]     += scale * (1 - x0.x) / sigma;
    a->coef[AD_R_MODEL] -= scale * x0.m / sigma;
}

/* ---- Euler -------------------------------------------------------------------------------- */

static void no_defaults(AdSchedulerConfig *c)
{
    (void)c;
}

static bool euler_prepare(AdSchedule *s, const char **why)
{
    (void)why;
    ad_timesteps_fractional(s);
    ad_sigmas(s, false, false, false);
    start_at_most_noise(s);
    return true;
}

/* x' = x + d * (next - sigma) */
static void euler_row(const AdSchedule *s, int i, AdRow *row)
{
    double sigma = s->sigma[i];
    AdAssign *a;

    ad_row_start(row, s->t[i], input_scale(sigma));
    a = ad_row_assign(row, AD_R_X);
    a->coef[AD_R_X] = 1;
    add_derivative(s, sigma, s->sigma[i + 1] - sigma, a);
}

const AdScheduler ad_scheduler_euler = {
    .name = "euler", .class_name = "EulerDiscreteScheduler",
    .knows = AD_KNOWS_SIGMAS | AD_KNOWS_FINAL | AD_KNOWS_ZERO_SNR | AD_KNOWS_BETWEEN,
    .about = "Karras et al. 2022, arXiv 2206.00364, algorithm 2 without churn",
    .defaults = no_defaults, .prepare = euler_prepare, .row = euler_row,
};

/* ---- Euler ancestral ---------------------------------------------------------------------- */

static bool ancestral_prepare(AdSchedule *s, const char **why)
{
    ad_timesteps_fractional(s);
    ad_sigmas(s, false, false, true);
    start_at_most_noise(s);
    return no_sample_prediction(s, why);
}

/* x' = x + d * (down - sigma) + up * noise; noise is drawn even where its weight is 0. */
static void ancestral_row(const AdSchedule *s, int i, AdRow *row)
{
    double sigma = s->sigma[i], next = s->sigma[i + 1];
    double up = sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma));
    double down = sqrt(next * next - up * up);
    AdAssign *a;

    ad_row_start(row, s->t[i], input_scale(sigma));
    row->noise = true;
    a = ad_row_assign(row, AD_R_X);
    a->coef[AD_R_X]     = 1;
    a->coef[AD_R_NOISE] = up;
    add_derivative(s, sigma, down - sigma, a);
}

const AdScheduler ad_scheduler_euler_ancestral = {
    .name = "euler_ancestral", .class_name = "EulerAncestralDiscreteScheduler",
    .knows = AD_KNOWS_ZERO_SNR,
    .about = "k-diffusion's ancestral sampling; fresh noise every step",
    .defaults = no_defaults, .prepare = ancestral_prepare, .row = ancestral_row,
};

/* ---- Heun --------------------------------------------------------------------------------- */

static void published_betas(AdSchedulerConfig *c)
{
    c->beta_start = 0.00085;
    c->beta_end   = 0.012;
}

/* Evaluations 0; 1, 2; 3, 4; ...: every step but the last looks at its end as well. */
static bool heun_prepare(AdSchedule *s, const char **why)
{
    (void)why;
    ad_timesteps_fractional(s);
    ad_sigmas(s, false, false, true);
    start_at_most_noise(s);
    s->evals = 2 * s->steps - 1;
    return true;
}

/* x0 as a register when it is clipped, else 0 assignments: then the output says it all. */
static bool clipped(const AdSchedule *s, double sigma, AdRow *row)
{
    AdLine x0 = ad_x0_of_sigma(s, sigma);
    AdAssign *a;

    if (!s->setup.config.clip_sample)
        return false;
    a = ad_row_assign(row, AD_R_X0);
    a->coef[AD_R_X]     = x0.x;
    a->coef[AD_R_MODEL] = x0.m;
    a->clamp            = s->setup.config.clip_sample_range;
    return true;
}

static void heun_derivative(const AdSchedule *s, double sigma, double scale, bool from_x0,
                            AdAssign *a)
{
    if (!from_x0) {
        add_derivative(s, sigma, scale, a);
        return;
    }
    a->coef[AD_R_X]  += scale / sigma;
    a->coef[AD_R_X0] -= scale / sigma;
}

static void heun_row(const AdSchedule *s, int i, AdRow *row)
{
    int k = i / 2;                                  /* the step */
    double sigma = s->sigma[k], next = s->sigma[k + 1];
    bool from_x0;
    AdAssign *a;

    if (i % 2 == 0) {           /* H0 = d, KEPT = x, x' = x + d * (next - sigma) */
        ad_row_start(row, s->t[k], input_scale(sigma));
        from_x0 = clipped(s, sigma, row);
        a = ad_row_assign(row, AD_R_H0);
        heun_derivative(s, sigma, 1, from_x0, a);
        ad_row_assign(row, AD_R_KEPT)->coef[AD_R_X] = 1;
        a = ad_row_assign(row, AD_R_X);
        a->coef[AD_R_X]  = 1;
        a->coef[AD_R_H0] = next - sigma;
    } else {                    /* x' = kept + (d + d2) / 2 * (next - sigma) */
        ad_row_start(row, s->t[k + 1], input_scale(next));
        from_x0 = clipped(s, next, row);
        a = ad_row_assign(row, AD_R_X);
        heun_derivative(s, next, (next - sigma) / 2, from_x0, a);
        a->coef[AD_R_KEPT] = 1;
        a->coef[AD_R_H0]   = (next - sigma) / 2;
    }
}

const AdScheduler ad_scheduler_heun = {
    .name = "heun", .class_name = "HeunDiscreteScheduler",
    .knows = AD_KNOWS_SIGMAS,
    .about = "Karras et al. 2022, arXiv 2206.00364, algorithm 1; two evaluations a step",
    .defaults = published_betas, .prepare = heun_prepare, .row = heun_row,
};

/* ---- LMS ---------------------------------------------------------------------------------- */

static bool lms_prepare(AdSchedule *s, const char **why)
{
    (void)why;
    if (s->setup.config.use_karras_sigmas)          /* its Karras form does not look at them */
        s->setup.config.sigma_min = s->setup.config.sigma_max = -1;
    ad_timesteps_fractional(s);
    ad_sigmas(s, false, false, true);
    start_at_most_noise(s);
    return true;
}

/* Value at tau of the polynomial that is 1 at sigma[i - j] and 0 at the other `order` points. */
static double lagrange(const AdSchedule *s, int i, int order, int j, double tau)
{
    double y = 1;

    for (int k = 0; k < order; k++)
        if (k != j)
            y *= (tau - s->sigma[i - k]) / (s->sigma[i - j] - s->sigma[i - k]);
    return y;
}

/* x' = x + sum of c_j * d_(i-j); c_j the integral of a cubic, so two Gauss points are exact. */
static void lms_row(const AdSchedule *s, int i, AdRow *row)
{
    int order = i + 1 < 4 ? i + 1 : 4;
    double a = s->sigma[i], b = s->sigma[i + 1], half = (b - a) / 2, point = half / sqrt(3);
    AdAssign *x;

    ad_row_start(row, s->t[i], input_scale(a));
    row->push = true;
    add_derivative(s, a, 1, ad_row_assign(row, AD_R_H0));
    x = ad_row_assign(row, AD_R_X);
    x->coef[AD_R_X] = 1;
    for (int j = 0; j < order; j++)
        x->coef[AD_R_H0 + j] = half * (lagrange(s, i, order, j, a + half - point) +
                                       lagrange(s, i, order, j, a + half + point));
}

const AdScheduler ad_scheduler_lms = {
    .name = "lms", .class_name = "LMSDiscreteScheduler",
    .knows = AD_KNOWS_SIGMAS,
    .about = "linear multistep of order 4 (k-diffusion)",
    .defaults = no_defaults, .prepare = lms_prepare, .row = lms_row,
};

/* ---- KDPM2 -------------------------------------------------------------------------------- */

static bool kdpm2_prepare(AdSchedule *s, const char **why)
{
    ad_timesteps_fractional(s);
    ad_sigmas(s, false, s->setup.config.use_karras_sigmas, true);
    for (int i = 1; i <= s->steps; i++)
        s->mid[i] = i < s->steps ? (float)exp((log(s->sigma[i]) + log(s->sigma[i - 1])) / 2) : 0;
    start_at_most_noise(s);
    s->evals = 2 * s->steps - 1;
    return no_sample_prediction(s, why);
}

/* Halfway (in the logarithm) with the first derivative, all the way with the second. */
static void kdpm2_row(const AdSchedule *s, int i, AdRow *row)
{
    int k = i / 2;
    double sigma = s->sigma[k], next = s->sigma[k + 1], mid = s->mid[k + 1];
    AdAssign *a;

    if (i % 2 == 0) {
        ad_row_start(row, s->t[k], input_scale(sigma));
        ad_row_assign(row, AD_R_KEPT)->coef[AD_R_X] = 1;
        a = ad_row_assign(row, AD_R_X);
        a->coef[AD_R_X] = 1;
        add_derivative(s, sigma, mid - sigma, a);
    } else {
        ad_row_start(row, (float)ad_timestep_of(s, mid), input_scale(mid));
        a = ad_row_assign(row, AD_R_X);
        add_derivative(s, mid, next - sigma, a);
        a->coef[AD_R_KEPT] = 1;
    }
}

const AdScheduler ad_scheduler_kdpm2 = {
    .name = "kdpm2", .class_name = "KDPM2DiscreteScheduler",
    .knows = AD_KNOWS_SIGMAS,
    .about = "k-diffusion's DPM-Solver-2; two evaluations a step",
    .defaults = published_betas, .prepare = kdpm2_prepare, .row = kdpm2_row,
};
