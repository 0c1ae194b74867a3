/* schedule.c - what all schedulers share: betas, timesteps, sigmas, and whose fields count.
 *
 * Tables are f32 where the reference has f32, so that the same roundings come out; everything
 * derived from them is double.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <string.h>

#include "schedulers.h"

/* ---- setup -------------------------------------------------------------------------------- */

/* Take `from`'s fields where `to` has none. */
static void merge(AdSchedulerConfig *to, const AdSchedulerConfig *from)
{
#define TEXT(field)   if (!to->field[0]) memcpy(to->field, from->field, sizeof(to->field))
#define NUMBER(field) if (to->field < 0) to->field = from->field
    TEXT(beta_schedule);
    TEXT(timestep_spacing);
    TEXT(prediction_type);
    TEXT(algorithm_type);
    TEXT(solver_type);
    TEXT(final_sigmas_type);
    TEXT(interpolation_type);
    NUMBER(beta_start);
    NUMBER(beta_end);
    NUMBER(clip_sample_range);
    NUMBER(sigma_min);
    NUMBER(sigma_max);
    NUMBER(timestep_scaling);
    NUMBER(train_steps);
    NUMBER(steps_offset);
    NUMBER(solver_order);
    NUMBER(original_steps);
    NUMBER(clip_sample);
    NUMBER(set_alpha_to_one);
    NUMBER(skip_prk_steps);
    NUMBER(use_karras_sigmas);
    NUMBER(use_exponential_sigmas);
    NUMBER(use_beta_sigmas);
    NUMBER(use_lu_lambdas);
    NUMBER(rescale_betas_zero_snr);
    NUMBER(lower_order_final);
    NUMBER(euler_at_final);
    NUMBER(thresholding);
    NUMBER(predict_x0);
    NUMBER(eta);
#undef TEXT
#undef NUMBER
    to->disable_corrector |= from->disable_corrector;
}

/* What every class has, before its own defaults. */
static void common_defaults(AdSchedulerConfig *c)
{
    ad_scheduler_config_absent(c);
    strcpy(c->beta_schedule, "linear");
    strcpy(c->timestep_spacing, "linspace");
    strcpy(c->prediction_type, "epsilon");
    strcpy(c->algorithm_type, "dpmsolver++");
    strcpy(c->final_sigmas_type, "zero");
    strcpy(c->interpolation_type, "linear");
    c->beta_start        = 0.0001;
    c->beta_end          = 0.02;
    c->clip_sample_range = 1;
    c->timestep_scaling  = 10;
    c->train_steps       = 1000;
    c->solver_order      = 2;
    c->original_steps    = 50;
    c->set_alpha_to_one  = c->lower_order_final = c->predict_x0 = 1;
    c->steps_offset = c->clip_sample = c->skip_prk_steps = c->use_karras_sigmas = 0;
    c->use_exponential_sigmas = c->use_beta_sigmas = c->use_lu_lambdas = 0;
    c->rescale_betas_zero_snr = c->euler_at_final = c->thresholding = 0;
    c->eta = 0;
}

static const AdScheduler *by_name(const char *name)
{
    for (int i = 0; ad_schedulers[i]; i++)
        if (!strcmp(ad_schedulers[i]->name, name))
            return ad_schedulers[i];
    return NULL;
}

static const AdScheduler *by_class(const AdSchedulerConfig *file)
{
    bool sde = !strcmp(file->algorithm_type, "sde-dpmsolver++");

    if (!file->class_name[0])
        return by_name("ddim");
    for (int i = 0; ad_schedulers[i]; i++)
        if (!strcmp(ad_schedulers[i]->class_name, file->class_name))
            return ad_schedulers[i + (sde && ad_schedulers[i + 1] &&
                                      ad_schedulers[i + 1]->class_name ==
                                          ad_schedulers[i]->class_name)];
    return NULL;
}

/* Without a scheduler file: DDIM as the motion modules were published. */
static void published(AdSchedulerConfig *c)
{
    c->beta_start   = 0.00085;
    c->beta_end     = 0.012;
    c->clip_sample  = 0;
    c->steps_offset = 1;
}

/* Fields of another class's file that this one has no use for. */
static void forget(unsigned knows, AdSchedulerConfig *c)
{
    if (!(knows & AD_KNOWS_SIGMAS))
        c->use_karras_sigmas = c->use_exponential_sigmas = c->use_beta_sigmas = 0;
    if (!(knows & AD_KNOWS_LAMBDAS))
        c->use_lu_lambdas = 0;
    if (!(knows & AD_KNOWS_FINAL))
        strcpy(c->final_sigmas_type, "zero");
    if (!(knows & AD_KNOWS_ZERO_SNR))
        c->rescale_betas_zero_snr = 0;
    if (!(knows & AD_KNOWS_THRESHOLD))
        c->thresholding = 0;
    if (!(knows & AD_KNOWS_BETWEEN))
        strcpy(c->interpolation_type, "linear");
    if (!(knows & AD_KNOWS_CORRECTOR)) {
        c->disable_corrector = 0;
        c->predict_x0 = 1;
    }
}

static AdStatus check(AdContext *ctx, const AdSchedulerSetup *s)
{
    static const char *const betas[]    = { "linear", "scaled_linear", "squaredcos_cap_v2", NULL };
    static const char *const spacings[] = { "linspace", "leading", "trailing", NULL };
    static const char *const types[]    = { "epsilon", "v_prediction", "sample", NULL };
    static const char *const finals[]   = { "zero", "sigma_min", NULL };
    const AdSchedulerConfig *c = &s->config;
    const struct { const char *field, *value; const char *const *allowed; } texts[] = {
        { "beta_schedule", c->beta_schedule, betas },
        { "timestep_spacing", c->timestep_spacing, spacings },
        { "prediction_type", c->prediction_type, types },
        { "final_sigmas_type", c->final_sigmas_type, finals },
    };
    const char *refused = c->thresholding                ? "thresholding"
                        : c->use_beta_sigmas             ? "use_beta_sigmas"
                        : c->disable_corrector           ? "disable_corrector"
                        : !c->predict_x0                 ? "predict_x0 false"
                        : strcmp(c->interpolation_type, "linear") ? "interpolation_type log_linear"
                        : NULL;
    char quoted[AD_QUOTE_TEXT];

    for (size_t i = 0; i < AD_COUNT(texts); i++) {
        int k = 0;

        while (texts[i].allowed[k] && strcmp(texts[i].allowed[k], texts[i].value))
            k++;
        if (!texts[i].allowed[k])
            return ad_fail(ctx, AD_ERR_INVALID, "%s \"%s\" is not supported; %s, %s%s%s are",
                           texts[i].field,
                           ad_quote(texts[i].value, strlen(texts[i].value), quoted),
                           texts[i].allowed[0], texts[i].allowed[1],
                           texts[i].allowed[2] ? ", " : "",
                           texts[i].allowed[2] ? texts[i].allowed[2] : "");
    }
    if (refused)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "scheduler %s: %s is not supported", s->kind->name,
                       refused);
    if (c->train_steps > AD_MAX_TRAIN)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "scheduler: num_train_timesteps %d; at most %d are "
                       "supported", c->train_steps, AD_MAX_TRAIN);
    if (c->beta_start >= c->beta_end)
        return ad_fail(ctx, AD_ERR_FORMAT, "scheduler: beta_start %g is not below beta_end %g",
                       c->beta_start, c->beta_end);
    return AD_OK;
}

AdStatus ad_scheduler_setup(AdContext *ctx, const char *name, const AdSchedulerConfig *file,
                            const AdSchedulerConfig *overrides, AdSchedulerSetup *out)
{
    bool chosen = name && strcmp(name, "auto");
    AdSchedulerConfig defaults;
    char quoted[AD_QUOTE_TEXT];

    out->kind = chosen ? by_name(name) : by_class(file);
    if (!out->kind && chosen)
        return ad_fail(ctx, AD_ERR_INVALID, "scheduler \"%s\" is unknown; euler_ancestral, euler, "
                       "ddim, dpmpp_2m, dpmpp_2m_sde, lcm, pndm, unipc, heun, lms, kdpm2 and auto "
                       "are known", ad_quote(name, strlen(name), quoted));
    if (!out->kind)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "the model's scheduler %s is not supported; choose "
                       "one with the option scheduler", file->class_name);
    common_defaults(&defaults);
    out->kind->defaults(&defaults);
    if (!file->class_name[0])
        published(&defaults);
    out->config = *overrides;
    merge(&out->config, file);
    merge(&out->config, &defaults);
    forget(out->kind->knows, &out->config);
    if (chosen && !strncmp(name, "dpmpp_2m", 8))        /* the name decides between ODE and SDE */
        strcpy(out->config.algorithm_type,
               strcmp(name, "dpmpp_2m") ? "sde-dpmsolver++" : "dpmsolver++");
    return check(ctx, out);
}

/* ---- betas -------------------------------------------------------------------------------- */

/* n values from a to b, counted from both ends in f32. */
static float spaced(float a, float b, int n, int i)
{
    float step = (b - a) / (float)(n - 1);

    return i < n / 2 ? fmaf(step, (float)i, a) : fmaf(-step, (float)(n - 1 - i), b);
}

static float beta_at(const AdSchedulerConfig *c, int i)
{
    const double half_pi = 1.57079632679489661923;
    int n = c->train_steps;

    if (!strcmp(c->beta_schedule, "scaled_linear")) {
        float root = spaced((float)sqrt(c->beta_start), (float)sqrt(c->beta_end), n, i);

        return root * root;
    }
    if (!strcmp(c->beta_schedule, "squaredcos_cap_v2")) {   /* Nichol, Dhariwal 2021, 2102.09672 */
        double a = cos(((double)i / n + 0.008) / 1.008 * half_pi);
        double b = cos(((double)(i + 1) / n + 0.008) / 1.008 * half_pi);

        return (float)fmin(1 - b * b / (a * a), 0.999);
    }
    return spaced((float)c->beta_start, (float)c->beta_end, n, i);
}

/* Rescaled so that the last step is pure noise (Lin et al. 2023, arXiv 2305.08891). */
static void zero_terminal_snr(AdSchedule *s, float *betas)
{
    int n = s->setup.config.train_steps;
    float first = sqrtf(s->alphas[0]), last = sqrtf(s->alphas[n - 1]), before = 1;

    for (int i = 0; i < n; i++) {
        float root = (sqrtf(s->alphas[i]) - last) * (first / (first - last));
        float bar = root * root;

        betas[i] = 1 - (i ? bar / before : bar);
        before = bar;
    }
}

static void cumulate(AdSchedule *s, const float *betas)
{
    double product = 1;

    for (int i = 0; i < s->setup.config.train_steps; i++) {
        product *= 1 - betas[i];
        s->alphas[i] = (float)product;
    }
}

static void make_alphas(AdSchedule *s)
{
    const AdSchedulerConfig *c = &s->setup.config;
    float betas[AD_MAX_TRAIN];
    bool sigma_family = strcmp(s->setup.kind->name, "ddim") && strcmp(s->setup.kind->name, "lcm");

    for (int i = 0; i < c->train_steps; i++)
        betas[i] = beta_at(c, i);
    cumulate(s, betas);
    if (!c->rescale_betas_zero_snr)
        return;
    zero_terminal_snr(s, betas);
    cumulate(s, betas);
    if (sigma_family)                               /* 0 would make sigma infinite */
        s->alphas[c->train_steps - 1] = 0x1p-24f;
}

double ad_sigma_at(const AdSchedule *s, int t)
{
    float alpha = s->alphas[t];

    return sqrtf((1 - alpha) / alpha);
}

double ad_alpha_at(const AdSchedule *s, int t)
{
    if (t >= 0)
        return s->alphas[t];
    return s->setup.config.set_alpha_to_one ? 1 : s->alphas[0];
}

/* ---- timesteps ---------------------------------------------------------------------------- */

static bool spacing_is(const AdSchedule *s, const char *name)
{
    return !strcmp(s->setup.config.timestep_spacing, name);
}

/* Trailing as numpy's arange counts: by the rounded difference of its first two numbers. It decides
 * where a half is rounded to (48 steps: 937, not 938, is the fourth). */
static void leading_or_trailing(AdSchedule *s, int whole_step)
{
    int n = s->steps, train = s->setup.config.train_steps, offset = s->setup.config.steps_offset;
    double back = (train - (double)train / n) - train;

    for (int i = 0; i < n; i++)
        s->t[i] = spacing_is(s, "leading") ? (double)(n - 1 - i) * whole_step + offset
                                           : rint(train + i * back) - 1;
}

/* Point k of numpy's linspace from 0 to the last training timestep in `parts` parts: by a rounded
 * step, with the same say about halves (30 steps: 499, not 500, in the middle). */
static double linspaced(const AdSchedule *s, int k, int parts)
{
    double last = s->setup.config.train_steps - 1;

    return parts == 0 ? 0 : k == parts ? last : k * (last / parts);
}

void ad_timesteps_fractional(AdSchedule *s)
{
    int n = s->steps, train = s->setup.config.train_steps;

    if (!spacing_is(s, "linspace"))
        leading_or_trailing(s, train / n);
    else
        for (int i = 0; i < n; i++)
            s->t[i] = (float)linspaced(s, n - 1 - i, n - 1);
}

void ad_timesteps_whole(AdSchedule *s)
{
    ad_timesteps_fractional(s);
    for (int i = 0; i < s->steps; i++)
        if (spacing_is(s, "linspace"))
            s->t[i] = rint(linspaced(s, s->steps - 1 - i, s->steps - 1));
}

void ad_timesteps_solver(AdSchedule *s)
{
    int n = s->steps, train = s->setup.config.train_steps;

    leading_or_trailing(s, train / (n + 1));
    for (int i = 0; i < n; i++) {
        if (spacing_is(s, "linspace"))
            s->t[i] = rint(linspaced(s, n - i, n));
        else if (spacing_is(s, "leading"))
            s->t[i] += train / (n + 1);
    }
}

/* ---- sigmas ------------------------------------------------------------------------------- */

/* Training sigma at a fractional timestep. */
static double interpolated(const AdSchedule *s, double t)
{
    int last = s->setup.config.train_steps - 1;
    int low = (int)fmax(0, fmin(floor(t), last)), high = low < last ? low + 1 : last;
    double a = ad_sigma_at(s, low), b = ad_sigma_at(s, high);

    return a + (b - a) * fmax(0, fmin(t - low, 1));
}

/* The table's logarithms are f32, as the reference has them: its largest sigma is then found a
 * little before its timestep, which counts where timesteps are cut to whole numbers. */
static float log_sigma_at(const AdSchedule *s, int t)
{
    return (float)log(ad_sigma_at(s, t));
}

double ad_timestep_of(const AdSchedule *s, double sigma)
{
    double l = log(fmax(sigma, 1e-10)), low, high, w;
    int last = s->setup.config.train_steps - 1, j = 0;

    for (int i = 0; i <= last; i++)         /* the last one, were they not in order (zero SNR) */
        if (log_sigma_at(s, i) <= l)
            j = i;
    j    = j < last - 1 ? j : last - 1;
    low  = log_sigma_at(s, j);
    high = log_sigma_at(s, j + 1);
    w    = fmax(0, fmin((low - l) / (low - high), 1));
    return (1 - w) * j + w * (j + 1);
}

/* The ends between which Karras' and the other formulas spread n sigmas. */
static void sigma_ends(const AdSchedule *s, bool limits, double *high, double *low)
{
    const AdSchedulerConfig *c = &s->setup.config;
    int last = c->train_steps - 1;

    if (c->use_lu_lambdas && !c->use_karras_sigmas) {       /* from the table of logarithms */
        *high = exp(log_sigma_at(s, last));
        *low  = exp(log_sigma_at(s, 0));
        return;
    }
    *high = c->sigma_max > 0 ? c->sigma_max : limits ? ad_sigma_at(s, last) : s->sigma[0];
    *low  = c->sigma_min > 0 ? c->sigma_min : limits ? ad_sigma_at(s, 0) : s->sigma[s->steps - 1];
}

void ad_sigmas(AdSchedule *s, bool limits, bool whole, bool zero_last)
{
    const AdSchedulerConfig *c = &s->setup.config;
    bool karras = c->use_karras_sigmas,
         exponential = c->use_exponential_sigmas || c->use_lu_lambdas;
    /* DPM-Solver++, the class that knows lambdas, cuts where betas are the cosine's. */
    bool cuts = (s->setup.kind->knows & AD_KNOWS_LAMBDAS) &&
                !strcmp(c->beta_schedule, "squaredcos_cap_v2");
    bool round = (karras || c->use_lu_lambdas) && !cuts;
    int n = s->steps;
    double low, high;

    for (int i = 0; i < n; i++)
        s->sigma[i] = (float)interpolated(s, s->t[i]);
    sigma_ends(s, limits, &high, &low);
    for (int i = 0; i < n && (karras || exponential); i++) {
        double w = n > 1 ? (double)i / (n - 1) : 0, sigma;

        if (karras)             /* Karras et al. 2022, arXiv 2206.00364, eq. 5, rho 7 */
            sigma = pow(pow(high, 1 / 7.0) + w * (pow(low, 1 / 7.0) - pow(high, 1 / 7.0)), 7);
        else
            sigma = exp(log(high) + w * (log(low) - log(high)));
        s->t[i] = ad_timestep_of(s, sigma);
        if (whole)              /* the reference rounds the ones, cuts the others */
            s->t[i] = round ? rint(s->t[i]) : floor(s->t[i]);
        s->sigma[i] = (float)sigma;
    }
    s->sigma[n] = 0;
    if (!zero_last && !strcmp(c->final_sigmas_type, "sigma_min"))
        s->sigma[n] = ad_sigma_at(s, 0);
}

/* ---- what the output means ---------------------------------------------------------------- */

static bool predicts(const AdSchedule *s, const char *type)
{
    return !strcmp(s->setup.config.prediction_type, type);
}

AdLine ad_x0_of_sigma(const AdSchedule *s, double sigma)
{
    if (predicts(s, "sample"))
        return (AdLine){ 0, 1 };
    if (predicts(s, "v_prediction"))
        return (AdLine){ 1 / (sigma * sigma + 1), -sigma / sqrt(sigma * sigma + 1) };
    return (AdLine){ 1, -sigma };
}

AdLine ad_x0_of_alpha(const AdSchedule *s, double a)
{
    if (predicts(s, "sample"))
        return (AdLine){ 0, 1 };
    if (predicts(s, "v_prediction"))
        return (AdLine){ sqrt(a), -sqrt(1 - a) };
    return (AdLine){ 1 / sqrt(a), -sqrt(1 - a) / sqrt(a) };
}

AdLine ad_noise_of_alpha(const AdSchedule *s, double a)
{
    if (predicts(s, "sample"))
        return (AdLine){ 1 / sqrt(1 - a), -sqrt(a) / sqrt(1 - a) };
    if (predicts(s, "v_prediction"))
        return (AdLine){ sqrt(1 - a), sqrt(a) };
    return (AdLine){ 0, 1 };
}

/* ---- rows --------------------------------------------------------------------------------- */

void ad_row_start(AdRow *row, double timestep, double input_scale)
{
    *row = (AdRow){ .timestep = timestep, .input_scale = input_scale };
}

AdAssign *ad_row_assign(AdRow *row, AdRegister to)
{
    AdAssign *a = &row->assign[row->count++];

    a->to = to;
    return a;
}

AdStatus ad_schedule_make(AdContext *ctx, const AdSchedulerSetup *setup, int steps, AdSchedule *s)
{
    const char *why = NULL;

    if (steps < 1 || steps > AD_MAX_STEPS || steps > setup->config.train_steps)
        return ad_fail(ctx, AD_ERR_INVALID, "steps=%d: 1 to %d are allowed", steps,
                       (int)AD_MIN(AD_MAX_STEPS, setup->config.train_steps));
    memset(s, 0, sizeof(*s));
    s->setup      = *setup;
    s->steps      = s->evals = steps;
    s->init_scale = 1;
    make_alphas(s);
    if (!setup->kind->prepare(s, &why))
        return ad_fail(ctx, AD_ERR_INVALID, "scheduler %s: %s", setup->kind->name, why);
    return AD_OK;
}

void ad_schedule_row(const AdSchedule *s, int i, AdRow *row)
{
    s->setup.kind->row(s, i, row);
}
