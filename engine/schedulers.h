/* schedulers.h - from noise to picture in steps: which timesteps, which sums.
 *
 * A scheduler never touches a tensor. With the model's output at hand, the update of every known
 * scheduler is linear in a few things: the current latents, latents kept from before, the output
 * itself, the predicted clean latents, earlier outputs and fresh noise. So a scheduler returns one
 * row of coefficients per evaluation, computed in double; the session applies it. Schedulers are
 * thereby the same on all devices and are tested without one.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_SCHEDULERS_H
#define AD_SCHEDULERS_H

#include "config.h"

#define AD_MAX_TRAIN 4096       /* training timesteps */
#define AD_MAX_STEPS 1000
#define AD_MAX_EVALS (2 * AD_MAX_STEPS + 16)

/* What a row can name. History is newest first. */
typedef enum AdRegister {
    AD_R_X,                     /* the latents                                   */
    AD_R_KEPT,                  /* latents (or a sum) of an earlier evaluation   */
    AD_R_MODEL,                 /* the model's output, after guidance            */
    AD_R_X0,                    /* predicted clean latents                       */
    AD_R_H0, AD_R_H1, AD_R_H2, AD_R_H3,
    AD_R_NOISE,
    AD_REGISTERS
} AdRegister;

typedef struct AdAssign {       /* to = sum of coef[r] * r, clamped when clamp > 0 */
    AdRegister to;
    double     coef[AD_REGISTERS];
    double     clamp;
} AdAssign;

#define AD_ASSIGNS 5
typedef struct AdRow {
    double   timestep;          /* for the UNet; may be fractional                            */
    double   input_scale;       /* the UNet sees input_scale * latents                        */
    bool     noise;             /* draw fresh noise before the assignments                    */
    bool     push;              /* first H3 = H2, H2 = H1, H1 = H0; H0 is then assigned       */
    int      count;
    AdAssign assign[AD_ASSIGNS];
} AdRow;

typedef struct AdSchedule AdSchedule;

/* Fields that only some of the classes know; for the others it is as if the file lacked them. */
enum {
    AD_KNOWS_SIGMAS     = 1,    /* use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas */
    AD_KNOWS_LAMBDAS    = 2,    /* use_lu_lambdas                                             */
    AD_KNOWS_FINAL      = 4,    /* final_sigmas_type                                          */
    AD_KNOWS_ZERO_SNR   = 8,    /* rescale_betas_zero_snr                                     */
    AD_KNOWS_THRESHOLD  = 16,   /* thresholding                                               */
    AD_KNOWS_BETWEEN    = 32,   /* interpolation_type                                         */
    AD_KNOWS_CORRECTOR  = 64    /* disable_corrector, predict_x0                              */
};

typedef struct AdScheduler {
    const char *name, *class_name, *about;
    unsigned    knows;
    /* Fields that the diffusers class has a default for and the file may lack. */
    void     (*defaults)(AdSchedulerConfig *c);
    /* Fill timesteps and sigmas; false: *why says what is not possible. */
    bool     (*prepare)(AdSchedule *s, const char **why);
    void     (*row)(const AdSchedule *s, int i, AdRow *row);
} AdScheduler;

/* Ended by NULL. */
extern const AdScheduler *const ad_schedulers[];

/* A scheduler with every field decided. */
typedef struct AdSchedulerSetup {
    const AdScheduler *kind;
    AdSchedulerConfig  config;
} AdSchedulerSetup;

struct AdSchedule {
    AdSchedulerSetup setup;
    int    steps, evals;        /* evals: rows, more than steps for two-stage schedulers */
    double init_scale;          /* of the first noise                                    */
    float  alphas[AD_MAX_TRAIN];            /* cumulative products                       */
    double t[AD_MAX_EVALS];                 /* of each evaluation                        */
    double sigma[AD_MAX_EVALS + 2];         /* with the final one behind                 */
    double mid[AD_MAX_EVALS + 2];           /* KDPM2's halfway points                    */
};

/* Choose by name (NULL or "auto": the file's class; no file: DDIM as AnimateDiff was published) and
 * decide all fields: overrides win over the file's, absent ones get the class's defaults, exactly
 * as Class.from_pretrained(folder, subfolder="scheduler", **overrides). */
AdStatus ad_scheduler_setup(AdContext *ctx, const char *name, const AdSchedulerConfig *file,
                            const AdSchedulerConfig *overrides, AdSchedulerSetup *out);

/* The schedule for a number of steps. AD_ERR_INVALID when it cannot have so many. */
AdStatus ad_schedule_make(AdContext *ctx, const AdSchedulerSetup *setup, int steps, AdSchedule *s);

/* Row i, 0 <= i < s->evals. */
void ad_schedule_row(const AdSchedule *s, int i, AdRow *row);

/* ---- for the schedulers' own files -------------------------------------------------------- */

/* x0 (and noise, for the alpha family) = x * latents + m * output. */
typedef struct AdLine { double x, m; } AdLine;

AdLine ad_x0_of_sigma(const AdSchedule *s, double sigma);       /* latents not scaled  */
AdLine ad_x0_of_alpha(const AdSchedule *s, double alpha);       /* alpha: cumulative   */
AdLine ad_noise_of_alpha(const AdSchedule *s, double alpha);

/* s->alphas[t], or the final one for t < 0: 1 with set_alpha_to_one, else alphas[0]. */
double ad_alpha_at(const AdSchedule *s, int t);

/* Timesteps of the spacing, as the sigma family (may be fractional), DDIM and PNDM, or the
 * DPM-Solver family count them; s->t[0 ... steps-1]. */
void ad_timesteps_fractional(AdSchedule *s);
void ad_timesteps_whole(AdSchedule *s);
void ad_timesteps_solver(AdSchedule *s);

/* s->sigma from s->t, by Karras' or another formula where the config asks for it (then s->t
 * follows); limits: the ends come from the first and last training sigma instead of the schedule's;
 * whole: rounded timesteps. `last` stands behind the list. */
void ad_sigmas(AdSchedule *s, bool limits, bool whole, bool zero_last);

double ad_sigma_at(const AdSchedule *s, int t);                 /* of a training timestep      */
double ad_timestep_of(const AdSchedule *s, double sigma);       /* fractional, by logarithm    */

/* Start a row for evaluation i; add an assignment to it. */
void      ad_row_start(AdRow *row, double timestep, double input_scale);
AdAssign *ad_row_assign(AdRow *row, AdRegister to);

#endif
