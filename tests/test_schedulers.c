/* test_schedulers.c - schedules and whole denoising loops against independent tables.
 *
 * scheduler_tables.json holds formulas evaluated in double and what the reference classes give in
 * float. A loop is run on four doubles with a formula in the network's place, by an interpreter of
 * rows as the session has one for tensors.
 * Tolerances: tables of alphas and sigmas are float, built in one of two orders that differ by one
 * unit in the last place (3e-7 relative); a timestep that is found from a sigma by logarithms loses
 * digits near 0 (2e-3); what was made from the tables in double differs by what float lost there
 * (2e-6 to 2e-4, most where differences of neighbours are squared); a loop in double over float
 * tables stays within 4e-5 of double throughout, with zero terminal SNR, where values reach 146,
 * within 5e-4.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

static AdContext ctx;
static AdSchedule schedule;     /* large */

/* ---- configs ------------------------------------------------------------------------------ */

static const struct { const char *prefix, *name, *class_name; } kinds[] = {
    { "EulerA", "euler_ancestral", "EulerAncestralDiscreteScheduler" },
    { "Euler",  "euler",           "EulerDiscreteScheduler" },
    { "DDIM",   "ddim",            "DDIMScheduler" },
    { "LCM",    "lcm",             "LCMScheduler" },
    { "DPM++",  "dpmpp_2m",        "DPMSolverMultistepScheduler" },
    { "SDE-DPM++", "dpmpp_2m_sde", "DPMSolverMultistepScheduler" },
    { "UniPC",  "unipc",           "UniPCMultistepScheduler" },
    { "PNDM",   "pndm",            "PNDMScheduler" },
    { "Heun",   "heun",            "HeunDiscreteScheduler" },
    { "KDPM2",  "kdpm2",           "KDPM2DiscreteScheduler" },
    { "LMS",    "lms",             "LMSDiscreteScheduler" },
};

static size_t kind_of(const char *text)
{
    for (size_t i = 0; i < AD_COUNT(kinds); i++)
        if (!strncmp(text, kinds[i].prefix, strlen(kinds[i].prefix)))
            return i;
    die("no scheduler for %s", text);
    return 0;
}

/* Write scheduler_config.json, read it as a model's, decide all fields. `config` is consumed. */
static AdStatus setup_as(const char *name, const char *class_name, json_t *config,
                         AdSchedulerSetup *out)
{
    const char *path = scratch("scheduler_config.json");
    AdSchedulerConfig file, overrides;
    AdStatus st;

    scratch_folder("");
    if (class_name)
        json_object_set_new(config, "_class_name", json_string(class_name));
    if (json_dump_file(config, path, 0) < 0)
        die("%s: cannot be written", path);
    json_decref(config);
    st = ad_scheduler_config_read(&ctx, path, &file);
    ad_scheduler_config_absent(&overrides);
    return st < 0 ? st : ad_scheduler_setup(&ctx, name, &file, &overrides, out);
}

static json_t *with_betas(const json_t *config)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)config);

    json_object_set_new(copy, "beta_start", json_real(0.00085));
    json_object_set_new(copy, "beta_end", json_real(0.012));
    return copy;
}

/* ---- tables ------------------------------------------------------------------------------- */

static void near_relative(double found, double wanted, double tolerance, const char *what, size_t i)
{
    if (!(fabs(found - wanted) <= tolerance * fmax(fabs(wanted), 1e-3)))
        FAIL("%s %zu is %.9g, not %.9g", what, i, found, wanted);
}

static void alphas_are(const char *key, const char *name, double zero_snr)
{
    json_t *tables = golden_json("scheduler_tables.json"), *point;
    json_t *list = golden_get(golden_get(tables, "alphas_cumprod"), key), *config = json_object();
    bool other = strstr(key, "0.0001") != NULL;
    AdSchedulerSetup s;
    size_t i;

    json_object_set_new(config, "beta_start", json_real(other ? 0.0001 : 0.00085));
    json_object_set_new(config, "beta_end", json_real(other ? 0.02 : 0.012));
    json_object_set_new(config, "beta_schedule", json_string(
        strstr(key, "scaled") ? "scaled_linear" : strstr(key, "cos") ? key : "linear"));
    json_object_set_new(config, "rescale_betas_zero_snr", json_boolean(zero_snr != 0));
    json_object_set_new(config, "prediction_type", json_string("v_prediction"));
    CHECK_STATUS(setup_as(name, "EulerDiscreteScheduler", config, &s), AD_OK);
    CHECK_STATUS(ad_schedule_make(&ctx, &s, 10, &schedule), AD_OK);
    json_array_foreach(list, i, point) {
        int t = (int)golden_number(point, "t");

        /* Differences of neighbours cancel where the product has nearly reached 0. */
        near_relative(schedule.alphas[t], golden_number(point, "acp_f32"),
                      !zero_snr ? 6e-7 : t < 900 ? 1e-6 : 1e-4, "alpha", (size_t)t);
        if (json_object_get(point, "sigma_f32"))
            near_relative(ad_sigma_at(&schedule, t), golden_number(point, "sigma_f32"),
                          t < 5 || t == 999 ? 1e-5 : 6e-7, "sigma", (size_t)t);
    }
    json_decref(tables);
}

static void ddim_alphas(const json_t *entry)
{
    int stride = schedule.setup.config.train_steps / schedule.steps;

    for (int i = 0; i < schedule.steps; i++) {
        int t = (int)schedule.t[i];
        AdRow row;

        CHECK_INT(t - stride, golden_at(entry, "prev_timestep", (size_t)i));
        near_relative(ad_alpha_at(&schedule, t), golden_at(entry, "alpha_t_f32", (size_t)i), 6e-7,
                      "alpha", (size_t)i);
        near_relative(ad_alpha_at(&schedule, t - stride),
                      golden_at(entry, "alpha_prev_f64", (size_t)i), 2e-6, "alpha before",
                      (size_t)i);
        schedule.setup.config.eta = 1;
        ad_schedule_row(&schedule, i, &row);
        CHECK(row.noise);
        near_relative(row.assign[row.count - 1].coef[AD_R_NOISE],
                      golden_at(entry, "std_eta1_f64", (size_t)i), 3e-5, "deviation", (size_t)i);
        schedule.setup.config.eta = 0;
        ad_schedule_row(&schedule, i, &row);
        CHECK(!row.noise);
    }
}

static void lcm_coefficients(const json_t *entry)
{
    for (int i = 0; i < schedule.steps; i++) {
        double ap = i + 1 < schedule.steps ? ad_alpha_at(&schedule, (int)schedule.t[i + 1]) : 1;
        const AdAssign *x;
        AdRow row;

        ad_schedule_row(&schedule, i, &row);
        x = &row.assign[row.count - 1];
        near_relative(x->coef[AD_R_X] / sqrt(ap), golden_at(entry, "c_skip_f64", (size_t)i), 1e-9,
                      "skip", (size_t)i);
        near_relative(x->coef[AD_R_X0] / sqrt(ap), golden_at(entry, "c_out_f64", (size_t)i), 1e-9,
                      "out", (size_t)i);
    }
}

static void ancestral_coefficients(const json_t *entry)
{
    for (int i = 0; i < schedule.steps; i++) {
        const AdAssign *x;
        AdRow row;

        ad_schedule_row(&schedule, i, &row);
        x = &row.assign[row.count - 1];
        near_relative(row.input_scale, golden_at(entry, "input_scale_f64", (size_t)i), 6e-7,
                      "input scale", (size_t)i);
        near_relative(x->coef[AD_R_NOISE], golden_at(entry, "sigma_up_f64", (size_t)i), 2e-5,
                      "sigma up", (size_t)i);
        near_relative(x->coef[AD_R_MODEL] + schedule.sigma[i],      /* epsilon: d is the output */
                      golden_at(entry, "sigma_down_f64", (size_t)i), 2e-4, "sigma down", (size_t)i);
    }
}

static void lms_coefficients(const json_t *entry)
{
    json_t *list = golden_get(entry, "coefficients_from_f32_sigmas");

    for (int i = 0; i < schedule.steps; i++) {
        json_t *wanted = json_array_get(list, (size_t)i);
        AdRow row;

        ad_schedule_row(&schedule, i, &row);
        for (size_t j = 0; j < json_array_size(wanted); j++)
            near_relative(row.assign[row.count - 1].coef[AD_R_H0 + j],
                          json_number_value(json_array_get(wanted, j)), 2e-5, "weight", j);
    }
}

/* The reference's two-stage classes write every sigma twice. */
static void sigmas_are(const json_t *entry, size_t kind)
{
    bool twice = !strcmp(kinds[kind].name, "heun") || !strcmp(kinds[kind].name, "kdpm2");
    size_t n = twice ? 2 * (size_t)schedule.steps : (size_t)schedule.steps + 1;

    CHECK(golden_count(entry, "sigmas_f32") >= n);
    for (size_t i = 0; i < n; i++)
        near_relative(schedule.sigma[twice ? (i + 1) / 2 : i], golden_at(entry, "sigmas_f32", i),
                      6e-7, "sigma", i);
    for (size_t i = 1; json_object_get(entry, "sigmas_interpol_f64") && i + 1 < n; i++)
        near_relative(schedule.mid[(i + 1) / 2], golden_at(entry, "sigmas_interpol_f64", i), 1e-5,
                      "mid", i);
}

static void schedule_is(const json_t *entry)
{
    size_t kind = kind_of(golden_text(entry, "name"));
    bool fractional =
        json_is_true(json_object_get(golden_get(entry, "config"), "use_karras_sigmas")) ||
        !strcmp(kinds[kind].name, "kdpm2");
    AdSchedulerSetup s;
    AdRow row;

    CHECK_STATUS(setup_as(kinds[kind].name, kinds[kind].class_name,
                          with_betas(golden_get(entry, "config")), &s), AD_OK);
    CHECK_STATUS(ad_schedule_make(&ctx, &s, (int)golden_number(entry, "num_inference_steps"),
                                  &schedule), AD_OK);
    CHECK_INT(schedule.evals, golden_count(entry, "timesteps_used"));
    near_relative(schedule.init_scale, golden_number(entry, "init_noise_sigma_f32"), 3e-7,
                  "first scale", 0);
    for (int i = 0; i < schedule.evals; i++) {
        double wanted = golden_at(entry, "timesteps_used", (size_t)i);

        ad_schedule_row(&schedule, i, &row);
        CHECK_NEAR(row.timestep, wanted, fractional ? 2e-3 : 3e-7 * wanted);
    }
    if (json_object_get(entry, "sigmas_f32"))
        sigmas_are(entry, kind);
    if (json_object_get(entry, "alpha_prev_f64"))
        ddim_alphas(entry);
    if (json_object_get(entry, "c_skip_f64"))
        lcm_coefficients(entry);
    if (json_object_get(entry, "sigma_up_f64"))
        ancestral_coefficients(entry);
    if (json_object_get(entry, "coefficients_from_f32_sigmas"))
        lms_coefficients(entry);
}

/* ---- loops -------------------------------------------------------------------------------- */

/* Rows applied to four numbers per register. */
typedef struct Toy {
    double r[AD_REGISTERS][4];
    int    evaluations, draws;
} Toy;

static void toy_assign(Toy *toy, const AdAssign *a)
{
    double sum[4] = { 0 };

    for (int j = 0; j < 4; j++) {
        for (int r = 0; r < AD_REGISTERS; r++)
            if (a->coef[r] != 0) /* a register that holds nothing yet may be NaN */
                sum[j] += a->coef[r] * toy->r[r][j];
        if (a->clamp > 0)
            sum[j] = fmax(-a->clamp, fmin(sum[j], a->clamp));
    }
    memcpy(toy->r[a->to], sum, sizeof(sum));
}

/* The formula in the network's place: 0.6 of the input and a wave. */
static void toy_step(Toy *toy, int i)
{
    AdRow row;

    ad_schedule_row(&schedule, i, &row);
    for (int j = 0; j < 4; j++)
        toy->r[AD_R_MODEL][j] = 0.6 * row.input_scale * toy->r[AD_R_X][j] +
                                0.25 * sin(0.004 * row.timestep + j);
    toy->draws += row.noise;
    for (int j = 0; j < 4 && row.noise; j++)
        toy->r[AD_R_NOISE][j] = 1.3 * sin(12.9898 * toy->draws + 4.1414 * (j + 1));
    if (row.push)
        memmove(toy->r[AD_R_H1], toy->r[AD_R_H0], 3 * sizeof(toy->r[0]));
    for (int k = 0; k < row.count; k++)
        toy_assign(toy, &row.assign[k]);
    toy->evaluations++;
}

/* Overrides that the words of a case's name stand for. */
static const struct { const char *word, *json; } words[] = {
    { " scaled_linear", "{\"beta_schedule\":\"scaled_linear\"}" },
    { " linear", "{\"beta_schedule\":\"linear\"}" },
    { " linspace", "{\"timestep_spacing\":\"linspace\",\"steps_offset\":1}" },
    { " leading", "{\"timestep_spacing\":\"leading\",\"steps_offset\":1}" },
    { " trailing", "{\"timestep_spacing\":\"trailing\"}" },
    { " plms", "{\"skip_prk_steps\":true}" },
    { " clip", "{\"clip_sample\":true,\"set_alpha_to_one\":false,\"steps_offset\":1}" },
    { " eta1", "{\"steps_offset\":1}" },
    { " v", "{\"prediction_type\":\"v_prediction\",\"timestep_spacing\":\"trailing\","
            "\"rescale_betas_zero_snr\":true}" },
    { " karras", "{\"use_karras_sigmas\":true}" },
    { " expo", "{\"use_exponential_sigmas\":true}" },
    { "3M", "{\"solver_order\":3}" },
    { "UniPC3", "{\"solver_order\":3}" },
    { " bh1", "{\"solver_type\":\"bh1\"}" },
    { " heun", "{\"solver_type\":\"heun\"}" },
    { " lu", "{\"use_lu_lambdas\":true}" },
    { " sigma_min", "{\"final_sigmas_type\":\"sigma_min\"}" },
};

/* Whether `word` stands in `text`, ended by a space or the end. */
static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = text; (at = strstr(at, word)); at++)
        if (!at[n] || at[n] == ' ')
            return true;
    return false;
}

static int steps_of(const json_t *c, size_t kind)
{
    int n = (int)(json_object_get(c, "evaluations") ? golden_number(c, "evaluations") : 0);

    if (!strcmp(kinds[kind].name, "heun") || !strcmp(kinds[kind].name, "kdpm2"))
        return (n + 1) / 2;
    if (!strcmp(kinds[kind].name, "pndm"))
        return n - (has_word(golden_text(c, "case"), " plms") ? 1 : 9);
    return n;
}

static void numbers_are(const Toy *toy, const json_t *c, const char *key, double tolerance)
{
    for (size_t j = 0; j < 4; j++)
        CHECK_NEAR(toy->r[AD_R_X][j], golden_at(c, key, j),
                   tolerance * fmax(1, fabs(golden_at(c, key, j)) / 30));
}

static void loop_is(const json_t *c)
{
    static const double z[4] = { 0.9, -1.3, 0.4, 2.1 };
    const char *text = golden_text(c, "case");
    double tolerance = has_word(text, " v") ? 5e-4 : 4e-5;
    json_t *config = json_pack("{s:b}", "clip_sample", 0), *base = with_betas(config);
    size_t kind = kind_of(text);
    AdSchedulerSetup s;
    Toy toy = { 0 };

    json_decref(config);
    for (size_t i = 0; i < AD_COUNT(words); i++)
        if (has_word(text, words[i].word)) {
            json_t *more = json_loads(words[i].json, 0, NULL);

            json_object_update(base, more);
            json_decref(more);
        }
    CHECK_STATUS(setup_as(kinds[kind].name, kinds[kind].class_name, base, &s), AD_OK);
    s.config.eta = has_word(text, " eta1");
    CHECK_STATUS(ad_schedule_make(&ctx, &s, steps_of(c, kind), &schedule), AD_OK);
    for (int r = 0; r < AD_REGISTERS; r++)
        for (int j = 0; j < 4; j++)
            toy.r[r][j] = r == AD_R_X ? z[j] * schedule.init_scale : NAN;
    for (int i = 0; i < schedule.evals; i++) {
        toy_step(&toy, i);
        if (i == 0)
            numbers_are(&toy, c, "x_after_first_f64", tolerance);
        if (i == 2)
            numbers_are(&toy, c, "x_after_third_f64", tolerance);
    }
    numbers_are(&toy, c, "x_final_f64", tolerance);
    CHECK_INT(toy.evaluations, golden_number(c, "evaluations"));
    CHECK_INT(toy.draws, golden_number(c, "noise_draws"));
}

/* ---- main --------------------------------------------------------------------------------- */

static size_t i_;
static json_t *entry;           /* both outlive the longjmp of a failing case */

int main(void)
{
    json_t *tables = golden_json("scheduler_tables.json");

    RUN_AS(alphas_are("linear", "euler", 0), "alphas of linear betas");
    RUN_AS(alphas_are("scaled_linear", "euler", 0), "alphas of scaled_linear betas");
    RUN_AS(alphas_are("squaredcos_cap_v2", "euler", 0), "alphas of squaredcos_cap_v2 betas");
    RUN_AS(alphas_are("linear_zero_snr", "euler", 1), "alphas of linear betas with zero SNR");
    RUN_AS(alphas_are("scaled_linear_zero_snr", "euler", 1), "alphas of scaled_linear, zero SNR");
    RUN_AS(alphas_are("linear_0.0001_0.02", "ddim", 0), "alphas of the classes' own betas");
    json_array_foreach(golden_get(tables, "schedules"), i_, entry)
        RUN_AS(schedule_is(entry), "schedule %s", golden_text(entry, "name"));
    json_array_foreach(golden_get(golden_get(tables, "toy_trajectories"), "cases"), i_, entry)
        RUN_AS(loop_is(entry), "loop %s", golden_text(entry, "case"));
    json_decref(tables);
    return check_result();
}
