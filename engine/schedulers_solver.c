/* schedulers_solver.c - DPM-Solver++ and UniPC: exponential integrators over lambda, the logarithm
 * of alpha / sigma.
 *
 * History holds predicted clean latents. The array of all schedulers closes this file.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "schedulers.h"

/* Of the list's i-th sigma: alpha and sigma of the variance-preserving form, lambda. */
static double alpha_of(const AdSchedule *s, int i)
{
    return 1 / sqrt(s->sigma[i] * s->sigma[i] + 1);
}

static double hat_of(const AdSchedule *s, int i)
{
    return s->sigma[i] * alpha_of(s, i);
}

static double lambda_of(const AdSchedule *s, int i)
{
    return -log(s->sigma[i]);                       /* infinite at 0 */
}

/* to = x0 from latents and output. */
static void assign_x0(const AdSchedule *s, int i, AdRegister to, AdRow *row)
{
    double sigma = s->sigma[i];
    AdLine x0 = ad_x0_of_alpha(s, 1 / (sigma * sigma + 1));
    AdAssign *a = ad_row_assign(row, to);

    a->coef[AD_R_X]     = x0.x;
    a->coef[AD_R_MODEL] = x0.m;
}

static bool ends_at_zero(const AdSchedule *s)
{
    return s->sigma[s->steps] == 0;
}

/* ---- DPM-Solver++ ------------------------------------------------------------------------- */

static void dpmpp_defaults(AdSchedulerConfig *c)
{
    strcpy(c->solver_type, "midpoint");
}

static void dpmpp_sde_defaults(AdSchedulerConfig *c)
{
    dpmpp_defaults(c);
    strcpy(c->algorithm_type, "sde-dpmsolver++");
}

static bool dpmpp_prepare(AdSchedule *s, const char **why)
{
    AdSchedulerConfig *c = &s->setup.config;

    ad_timesteps_solver(s);
    ad_sigmas(s, true, true, false);
    if (!strncmp(c->solver_type, "bh", 2))          /* UniPC's word in the file */
        strcpy(c->solver_type, "midpoint");
    *why = "algorithm_type must be dpmsolver++ or sde-dpmsolver++, solver_type midpoint or heun";
    return (!strcmp(c->algorithm_type, "dpmsolver++") ||
            !strcmp(c->algorithm_type, "sde-dpmsolver++")) &&
           (!strcmp(c->solver_type, "midpoint") || !strcmp(c->solver_type, "heun"));
}

static int dpmpp_order(const AdSchedule *s, int i)
{
    const AdSchedulerConfig *c = &s->setup.config;
    int last = s->steps - 1;
    bool few = c->lower_order_final && s->steps < 15;

    if (c->solver_order == 1 || i == 0 ||
        (i == last && (c->euler_at_final || few || ends_at_zero(s))))
        return 1;
    if (c->solver_order == 2 || i < 2 || (i == last - 1 && few))
        return 2;
    return 3;
}

/* Weights of x, of D0 = m0, D1, D2 (differences of the history) and of noise. */
typedef struct Step { double x, d0, d1, d2, noise; } Step;

static Step dpmpp_step(const AdSchedule *s, int i, int order)
{
    double h = lambda_of(s, i + 1) - lambda_of(s, i), a = alpha_of(s, i + 1),
           hat = hat_of(s, i + 1);
    bool sde = !strcmp(s->setup.config.algorithm_type, "sde-dpmsolver++");
    bool heun = !strcmp(s->setup.config.solver_type, "heun") || order == 3;
    double e = exp(-h) - 1, q = 1 - exp(-2 * h);
    Step w = { 0 };

    if (s->sigma[i + 1] == 0)                       /* h is infinite: x' = x0 */
        return (Step){ .d0 = 1 };
    if (sde) {
        w.x     = hat / hat_of(s, i) * exp(-h);
        w.d0    = a * q;
        w.noise = hat * sqrt(q);
        w.d1    = heun ? a * (q / (-2 * h) + 1) : 0.5 * a * q;
        w.d2    = a * ((q - 2 * h) / (4 * h * h) - 0.5);
    } else {
        w.x  = hat / hat_of(s, i);
        w.d0 = -a * e;
        w.d1 = heun ? a * (e / h + 1) : -0.5 * a * e;
        w.d2 = -a * ((e + h) / (h * h) - 0.5);
    }
    if (order < 2)
        w.d1 = 0;
    if (order < 3)
        w.d2 = 0;
    return w;
}

static void dpmpp_row(const AdSchedule *s, int i, AdRow *row)
{
    int order = dpmpp_order(s, i);
    double h = lambda_of(s, i + 1) - lambda_of(s, i), r0, r1;
    Step w = dpmpp_step(s, i, order);
    AdAssign *x;

    ad_row_start(row, s->t[i], 1);
    row->push  = true;
    row->noise = !strcmp(s->setup.config.algorithm_type, "sde-dpmsolver++");
    assign_x0(s, i, AD_R_H0, row);
    x = ad_row_assign(row, AD_R_X);
    x->coef[AD_R_X]     = w.x;
    x->coef[AD_R_H0]    = w.d0;
    x->coef[AD_R_NOISE] = w.noise;
    if (order == 2) {                               /* D1 = (m0 - m1) / r0 */
        r0 = (lambda_of(s, i) - lambda_of(s, i - 1)) / h;
        x->coef[AD_R_H0] += w.d1 / r0;
        x->coef[AD_R_H1] -= w.d1 / r0;
    } else if (order == 3) {    /* a = (m0-m1)/r0, b = (m1-m2)/r1; D1 = a + r0/(r0+r1) (a-b),
                                 * D2 = (a-b) / (r0+r1) */
        double a, b;

        r0 = (lambda_of(s, i) - lambda_of(s, i - 1)) / h;
        r1 = (lambda_of(s, i - 1) - lambda_of(s, i - 2)) / h;
        a  = w.d1 * (1 + r0 / (r0 + r1)) + w.d2 / (r0 + r1);
        b  = -w.d1 * r0 / (r0 + r1) - w.d2 / (r0 + r1);
        x->coef[AD_R_H0] += a / r0;
        x->coef[AD_R_H1] += -a / r0 + b / r1;
        x->coef[AD_R_H2] += -b / r1;
    }
}

static const char dpmpp_class[] = "DPMSolverMultistepScheduler";

const AdScheduler ad_scheduler_dpmpp_2m = {
    .name = "dpmpp_2m", .class_name = dpmpp_class,
    .knows = AD_KNOWS_SIGMAS | AD_KNOWS_LAMBDAS | AD_KNOWS_FINAL | AD_KNOWS_ZERO_SNR |
             AD_KNOWS_THRESHOLD,
    .about = "DPM-Solver++, Lu et al. 2022, arXiv 2211.01095; order 1 to 3",
    .defaults = dpmpp_defaults, .prepare = dpmpp_prepare, .row = dpmpp_row,
};

const AdScheduler ad_scheduler_dpmpp_2m_sde = {
    .name = "dpmpp_2m_sde", .class_name = dpmpp_class,
    .knows = AD_KNOWS_SIGMAS | AD_KNOWS_LAMBDAS | AD_KNOWS_FINAL | AD_KNOWS_ZERO_SNR |
             AD_KNOWS_THRESHOLD,
    .about = "the same with fresh noise every step",
    .defaults = dpmpp_sde_defaults, .prepare = dpmpp_prepare, .row = dpmpp_row,
};

/* ---- UniPC -------------------------------------------------------------------------------- */

static void unipc_defaults(AdSchedulerConfig *c)
{
    strcpy(c->solver_type, "bh2");
}

static bool unipc_prepare(AdSchedule *s, const char **why)
{
    AdSchedulerConfig *c = &s->setup.config;

    ad_timesteps_solver(s);
    ad_sigmas(s, true, true, false);
    if ((c->use_karras_sigmas || c->use_exponential_sigmas) && !ends_at_zero(s))
        s->sigma[s->steps] = s->sigma[s->steps - 1];
    if (!strcmp(c->solver_type, "midpoint") || !strcmp(c->solver_type, "heun"))
        strcpy(c->solver_type, "bh2");              /* DPM-Solver's word in the file */
    *why = "solver_type must be bh1 or bh2";
    return !strcmp(c->solver_type, "bh1") || !strcmp(c->solver_type, "bh2");
}

static int unipc_order(const AdSchedule *s, int i)
{
    const AdSchedulerConfig *c = &s->setup.config;
    int order = c->solver_order;

    if (c->lower_order_final || ends_at_zero(s))
        order = AD_MIN(order, s->steps - i);
    return AD_MIN(order, i + 1);
}

/* n equations with at most 3 unknowns, by elimination. */
static void solve(double m[3][3], double *b, int n)
{
    for (int k = 0; k < n; k++)
        for (int r = 0; r < n; r++) {
            double f = r == k ? 0 : m[r][k] / m[k][k];

            for (int c = 0; c < n && r != k; c++)
                m[r][c] -= f * m[k][c];
            b[r] -= f * b[k];
        }
    for (int k = 0; k < n; k++)
        b[k] /= m[k][k];
}

/* The weights rho of Zhao et al. 2023, for z = -h and points r[0 ... n-1]. */
static void unipc_weights(double z, double scale, const double *r, int n, double *rho)
{
    double m[3][3], g = expm1(z) / z - 1, factorial = 1;

    for (int k = 0; k < n; k++) {
        for (int j = 0; j < n; j++)
            m[k][j] = pow(r[j], k);
        factorial *= k + 1;
        rho[k] = g * factorial / scale;
        g = g / z - 1 / (factorial * (k + 2));
    }
    solve(m, rho, n);
}

/* From step `from` to the next, with `order` points. newest: register of the clean latents at
 * `from`; target: those at the end of the step (corrector), or AD_REGISTERS (predictor). */
static void unipc_move(const AdSchedule *s, int from, int order, AdRegister base,
                       AdRegister newest, AdRegister target, AdAssign *x)
{
    double h = lambda_of(s, from + 1) - lambda_of(s, from), a = alpha_of(s, from + 1), f, scale;
    double r[3], rho[3] = { 0 };
    bool corrects = target != AD_REGISTERS;
    int n = corrects ? order : order - 1;           /* unknown weights */

    if (s->sigma[from + 1] == 0) {                  /* h is infinite: x' = x0 */
        x->coef[newest] = 1;
        return;
    }
    f     = expm1(-h);
    scale = strcmp(s->setup.config.solver_type, "bh1") ? f : -h;
    for (int j = 1; j < order; j++)
        r[j - 1] = (lambda_of(s, from - j) - lambda_of(s, from)) / h;
    r[order - 1] = 1;
    if (n == 1)
        rho[0] = 0.5;
    else if (n > 1)
        unipc_weights(-h, scale, r, n, rho);
    x->coef[base]   += hat_of(s, from + 1) / hat_of(s, from);
    x->coef[newest] -= a * f;
    for (int j = 1; j < order; j++) {               /* D_j = (m_j - m_0) / r_j */
        double w = -a * scale * rho[j - 1] / r[j - 1];

        x->coef[newest + j] += w;
        x->coef[newest]     -= w;
    }
    if (corrects) {
        x->coef[target] -= a * scale * rho[order - 1];
        x->coef[newest] += a * scale * rho[order - 1];
    }
}

/* X0 is the newest clean latents, H0, H1, ... the ones before: neighbours among the registers. */
static void unipc_row(const AdSchedule *s, int i, AdRow *row)
{
    ad_row_start(row, s->t[i], 1);
    row->push = true;
    ad_row_assign(row, AD_R_H0)->coef[AD_R_X0] = 1;
    assign_x0(s, i, AD_R_X0, row);                    /* from the latents not yet corrected */
    if (i > 0)
        unipc_move(s, i - 1, unipc_order(s, i - 1), AD_R_KEPT, AD_R_H0, AD_R_X0,
                   ad_row_assign(row, AD_R_X));
    ad_row_assign(row, AD_R_KEPT)->coef[AD_R_X] = 1;
    unipc_move(s, i, unipc_order(s, i), AD_R_X, AD_R_X0, AD_REGISTERS,
               ad_row_assign(row, AD_R_X));
}

const AdScheduler ad_scheduler_unipc = {
    .name = "unipc", .class_name = "UniPCMultistepScheduler",
    .knows = AD_KNOWS_SIGMAS | AD_KNOWS_FINAL | AD_KNOWS_ZERO_SNR | AD_KNOWS_THRESHOLD |
             AD_KNOWS_CORRECTOR,
    .about = "Zhao et al. 2023, arXiv 2302.04867; corrects with each evaluation",
    .defaults = unipc_defaults, .prepare = unipc_prepare, .row = unipc_row,
};

/* ---- all of them -------------------------------------------------------------------------- */

extern const AdScheduler ad_scheduler_euler_ancestral, ad_scheduler_euler, ad_scheduler_ddim,
    ad_scheduler_lcm, ad_scheduler_pndm, ad_scheduler_heun, ad_scheduler_lms, ad_scheduler_kdpm2;

const AdScheduler *const ad_schedulers[] = {
    &ad_scheduler_euler_ancestral, &ad_scheduler_euler, &ad_scheduler_ddim,
    &ad_scheduler_dpmpp_2m, &ad_scheduler_dpmpp_2m_sde, &ad_scheduler_lcm, &ad_scheduler_pndm,
    &ad_scheduler_unipc, &ad_scheduler_heun, &ad_scheduler_lms, &ad_scheduler_kdpm2, NULL
};
