/* test_scheduler_rules.c - which scheduler is taken, whose fields count, and what is refused.
 *
 * The rule to keep is Class.from_pretrained(folder, subfolder="scheduler", **overrides): overrides
 * win over the file, the file over the class's defaults, and a field that the class does not know
 * means nothing to it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "golden.h"
#include "scratch.h"

static AdContext ctx;
static AdSchedule schedule, other;
static size_t i_;               /* outlives the longjmp of a failing case */

/* What Stable Diffusion 1.5 has. */
static const char sd15[] =
    "{\"_class_name\": \"PNDMScheduler\", \"_diffusers_version\": \"0.6.0\", \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"clip_sample\": false,"
    " \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, \"skip_prk_steps\": true,"
    " \"steps_offset\": 1, \"trained_betas\": null}";

static AdStatus read_config(const char *json, AdSchedulerConfig *c)
{
    return ad_scheduler_config_read(&ctx, scratch_text("scheduler_config.json", json), c);
}

/* json NULL: no file. */
static AdStatus setup(const char *name, const char *json, AdSchedulerSetup *s)
{
    AdSchedulerConfig file, none;
    AdStatus st = AD_OK;

    ad_scheduler_config_absent(&file);
    ad_scheduler_config_absent(&none);
    if (json)
        st = read_config(json, &file);
    return st < 0 ? st : ad_scheduler_setup(&ctx, name, &file, &none, s);
}

static AdStatus make(const char *name, const char *json, int steps, AdSchedule *out)
{
    AdSchedulerSetup s;
    AdStatus st = setup(name, json, &s);

    return st < 0 ? st : ad_schedule_make(&ctx, &s, steps, out);
}

/* ---- which one ---------------------------------------------------------------------------- */

static void auto_takes_the_class_of_the_file(void)
{
    for (int i = 0; ad_schedulers[i]; i++) {
        char json[128];
        AdSchedulerSetup s;

        if (!strcmp(ad_schedulers[i]->name, "dpmpp_2m_sde"))
            continue;
        snprintf(json, sizeof(json), "{\"_class_name\": \"%s\"}", ad_schedulers[i]->class_name);
        CHECK_STATUS(setup("auto", json, &s), AD_OK);
        CHECK_TEXT(s.kind->name, ad_schedulers[i]->name);
        CHECK_STATUS(setup(NULL, json, &s), AD_OK);
        CHECK_TEXT(s.kind->name, ad_schedulers[i]->name);
    }
}

static void the_algorithm_of_the_file_decides_between_dpmpp_2m_and_its_sde_form(void)
{
    static const char sde[] = "{\"_class_name\": \"DPMSolverMultistepScheduler\","
                              " \"algorithm_type\": \"sde-dpmsolver++\"}";
    AdSchedulerSetup s;

    CHECK_STATUS(setup(NULL, sde, &s), AD_OK);
    CHECK_TEXT(s.kind->name, "dpmpp_2m_sde");
    CHECK_TEXT(s.config.algorithm_type, "sde-dpmsolver++");
}

static void a_chosen_name_decides_over_the_algorithm_of_the_file(void)
{
    static const char *const files[] = {
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": \"dpmsolver++\"}",
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": "
        "\"sde-dpmsolver++\"}",
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": \"dpmsolver\"}",
    };
    AdRow row;

    for (i_ = 0; i_ < AD_COUNT(files); i_++) {
        CHECK_STATUS(make("dpmpp_2m", files[i_], 9, &schedule), AD_OK);
        ad_schedule_row(&schedule, 3, &row);
        CHECK(!row.noise);
        CHECK_STATUS(make("dpmpp_2m_sde", files[i_], 9, &schedule), AD_OK);
        ad_schedule_row(&schedule, 3, &row);
        CHECK(row.noise);
    }
}

static void without_a_file_ddim_is_what_the_motion_modules_were_published_with(void)
{
    AdSchedulerSetup s;

    CHECK_STATUS(setup(NULL, NULL, &s), AD_OK);
    CHECK_TEXT(s.kind->name, "ddim");
    CHECK_TEXT(s.config.beta_schedule, "linear");
    CHECK_TEXT(s.config.timestep_spacing, "leading");
    CHECK(s.config.beta_start == 0.00085 && s.config.beta_end == 0.012);
    CHECK_INT(s.config.steps_offset, 1);
    CHECK_INT(s.config.clip_sample, 0);
    CHECK_INT(s.config.set_alpha_to_one, 1);
}

static void every_scheduler_works_without_a_file(void)
{
    for (int i = 0; ad_schedulers[i]; i++) {
        AdRow row;

        CHECK_STATUS(make(ad_schedulers[i]->name, NULL, 10, &schedule), AD_OK);
        for (int k = 0; k < schedule.evals; k++) {
            ad_schedule_row(&schedule, k, &row);
            CHECK(row.count > 0 && row.count <= AD_ASSIGNS);
            CHECK(row.timestep >= 0 && row.timestep < 1000);
        }
    }
}

/* ---- whose fields ------------------------------------------------------------------------- */

/* The classes' own defaults, as their constructors have them. */
static const struct Defaults {
    const char *class_name;
    double      beta_start, beta_end;
    const char *beta_schedule, *spacing, *solver;
    int         clip_sample, set_alpha_to_one;
} defaults[] = {
    { "DDIMScheduler", 0.0001, 0.02, "linear", "leading", "", 1, 1 },
    { "PNDMScheduler", 0.0001, 0.02, "linear", "leading", "", 0, 0 },
    { "LCMScheduler", 0.00085, 0.012, "scaled_linear", NULL, "", 0, 1 },
    { "EulerDiscreteScheduler", 0.0001, 0.02, "linear", "linspace", "", 0, 1 },
    { "EulerAncestralDiscreteScheduler", 0.0001, 0.02, "linear", "linspace", "", 0, 1 },
    { "HeunDiscreteScheduler", 0.00085, 0.012, "linear", "linspace", "", 0, 1 },
    { "LMSDiscreteScheduler", 0.0001, 0.02, "linear", "linspace", "", 0, 1 },
    { "KDPM2DiscreteScheduler", 0.00085, 0.012, "linear", "linspace", "", 0, 1 },
    { "DPMSolverMultistepScheduler", 0.0001, 0.02, "linear", "linspace", "midpoint", 0, 1 },
    { "UniPCMultistepScheduler", 0.0001, 0.02, "linear", "linspace", "bh2", 0, 1 },
};

static void absent_fields_have_the_defaults_of_the_class(const struct Defaults *d)
{
    char json[128];
    AdSchedulerSetup s;

    snprintf(json, sizeof(json), "{\"_class_name\": \"%s\", \"beta_start\": null}", d->class_name);
    CHECK_STATUS(setup(NULL, json, &s), AD_OK);
    CHECK_TEXT(s.kind->class_name, d->class_name);
    CHECK(s.config.beta_start == d->beta_start && s.config.beta_end == d->beta_end);
    CHECK_TEXT(s.config.beta_schedule, d->beta_schedule);
    if (d->spacing)
        CHECK_TEXT(s.config.timestep_spacing, d->spacing);
    CHECK_TEXT(s.config.solver_type, d->solver);
    CHECK_INT(s.config.clip_sample, d->clip_sample);
    CHECK_INT(s.config.set_alpha_to_one, d->set_alpha_to_one);
    CHECK_TEXT(s.config.prediction_type, "epsilon");
    CHECK_TEXT(s.config.final_sigmas_type, "zero");
    CHECK_INT(s.config.train_steps, 1000);
    CHECK_INT(s.config.steps_offset, 0);
    CHECK_INT(s.config.solver_order, 2);
    CHECK_INT(s.config.original_steps, 50);
    CHECK_INT(s.config.lower_order_final, 1);
    CHECK_INT(s.config.use_karras_sigmas, 0);
    CHECK_INT(s.config.skip_prk_steps, 0);
    CHECK(s.config.timestep_scaling == 10 && s.config.clip_sample_range == 1);
    CHECK(s.config.eta == 0);
}

static void another_scheduler_keeps_the_fields_of_the_file(void)
{
    AdSchedulerSetup s;

    CHECK_STATUS(setup("ddim", sd15, &s), AD_OK);
    CHECK_TEXT(s.config.beta_schedule, "scaled_linear");
    CHECK_TEXT(s.config.timestep_spacing, "leading");       /* DDIM's own */
    CHECK_INT(s.config.set_alpha_to_one, 0);
    CHECK_INT(s.config.steps_offset, 1);
    CHECK_INT(s.config.clip_sample, 0);
    CHECK_STATUS(setup("euler_ancestral", sd15, &s), AD_OK);
    CHECK_TEXT(s.config.timestep_spacing, "linspace");
    CHECK_INT(s.config.steps_offset, 1);
}

static void overrides_win_over_the_file(void)
{
    AdSchedulerConfig file, o;
    AdSchedulerSetup s;

    CHECK_STATUS(read_config(sd15, &file), AD_OK);
    ad_scheduler_config_absent(&o);
    strcpy(o.beta_schedule, "squaredcos_cap_v2");
    strcpy(o.timestep_spacing, "trailing");
    strcpy(o.prediction_type, "v_prediction");
    o.steps_offset      = 0;
    o.clip_sample       = 1;
    o.use_karras_sigmas = 1;
    o.eta               = 0.5;
    CHECK_STATUS(ad_scheduler_setup(&ctx, "heun", &file, &o, &s), AD_OK);
    CHECK_TEXT(s.config.beta_schedule, "squaredcos_cap_v2");
    CHECK_TEXT(s.config.timestep_spacing, "trailing");
    CHECK_TEXT(s.config.prediction_type, "v_prediction");
    CHECK_INT(s.config.steps_offset, 0);
    CHECK_INT(s.config.clip_sample, 1);
    CHECK_INT(s.config.use_karras_sigmas, 1);
    CHECK(s.config.eta == 0.5);
    CHECK(s.config.beta_end == 0.012);                      /* nobody overrode it */
}

static void solver_types_of_the_other_solver_mean_the_own_default(void)
{
    CHECK_STATUS(make("dpmpp_2m", "{\"_class_name\":\"UniPCMultistepScheduler\","
                      "\"solver_type\":\"bh1\"}", 5, &schedule), AD_OK);
    CHECK_TEXT(schedule.setup.config.solver_type, "midpoint");
    CHECK_STATUS(make("unipc", "{\"_class_name\":\"DPMSolverMultistepScheduler\","
                      "\"solver_type\":\"heun\"}", 5, &schedule), AD_OK);
    CHECK_TEXT(schedule.setup.config.solver_type, "bh2");
}

/* A field that a class does not know: with it, the schedule is the same as without. */
static const struct Foreign { const char *name, *field; } foreign[] = {
    { "euler", "\"use_lu_lambdas\":true" },
    { "euler", "\"set_alpha_to_one\":false" },
    { "euler", "\"thresholding\":true" },
    { "euler_ancestral", "\"use_karras_sigmas\":true" },
    { "euler_ancestral", "\"use_beta_sigmas\":true" },
    { "euler_ancestral", "\"final_sigmas_type\":\"sigma_min\"" },
    { "euler_ancestral", "\"clip_sample\":true" },
    { "heun", "\"rescale_betas_zero_snr\":true" },
    { "heun", "\"interpolation_type\":\"log_linear\"" },
    { "lms", "\"rescale_betas_zero_snr\":true" },
    { "lms", "\"use_karras_sigmas\":true,\"sigma_max\":5" },
    { "kdpm2", "\"rescale_betas_zero_snr\":true" },
    { "kdpm2", "\"thresholding\":true" },
    { "pndm", "\"rescale_betas_zero_snr\":true" },
    { "pndm", "\"predict_x0\":false" },
    { "ddim", "\"use_beta_sigmas\":true" },
    { "ddim", "\"disable_corrector\":[0,1]" },
    { "lcm", "\"timestep_spacing\":\"trailing\"" },
    { "dpmpp_2m", "\"disable_corrector\":[0]" },
    { "dpmpp_2m", "\"use_lu_lambdas\":true,\"sigma_max\":5" },
    { "unipc", "\"use_lu_lambdas\":true" },
};

static void an_unknown_field_changes_nothing(const struct Foreign *f)
{
    bool karras = strstr(f->field, "sigma_max") != NULL;    /* what the field would act upon */
    char with[256], without[256];
    AdRow a, b;

    snprintf(with, sizeof(with), "{\"_class_name\":\"X\",%s}", f->field);
    snprintf(without, sizeof(without), "{\"_class_name\":\"X\"%s}",
             !karras ? "" : !strcmp(f->name, "lms") ? ",\"use_karras_sigmas\":true"
                                                    : ",\"use_lu_lambdas\":true");
    CHECK_STATUS(make(f->name, with, 9, &schedule), AD_OK);
    CHECK_STATUS(make(f->name, without, 9, &other), AD_OK);
    CHECK(schedule.evals == other.evals && schedule.init_scale == other.init_scale);
    for (int i = 0; i < schedule.evals; i++) {
        ad_schedule_row(&schedule, i, &a);
        ad_schedule_row(&other, i, &b);
        CHECK(a.timestep == b.timestep && a.noise == b.noise && a.count == b.count);
        for (int k = 0; k < a.count; k++)
            CHECK(!memcmp(a.assign[k].coef, b.assign[k].coef, sizeof(a.assign[k].coef)));
    }
}

static void infinities_of_python_are_null(void)
{
    AdSchedulerConfig c;

    CHECK_STATUS(read_config("{\"lambda_min_clipped\":-Infinity,\"sigma_max\": Infinity ,"
                             "\"beta_schedule\":\"a \\\" -Infinity\",\"steps_offset\":7}",
                             &c),
                 AD_OK);
    CHECK(c.sigma_max == -1 && c.steps_offset == 7);
    CHECK_TEXT(c.beta_schedule, "a \" -Infinity");
    CHECK_STATUS(read_config("{\"sigma_max\":NaN}", &c), AD_ERR_FORMAT);
    CHECK_STATUS(read_config("{\"sigma_max\":--Infinity}", &c), AD_ERR_FORMAT);
    CHECK_STATUS(read_config("{\"lambda_min_clipped\":-5.1}", &c), AD_ERR_UNSUPPORTED);
}

/* ---- roundings ---------------------------------------------------------------------------- */

static void halves_are_rounded_as_numpy_meets_them(void)
{
    CHECK_STATUS(make("dpmpp_2m", sd15, 30, &schedule), AD_OK);
    CHECK_INT(schedule.t[15], 499);                         /* 15 * 33.3 is just below 499.5 */
    CHECK_STATUS(make("ddim", "{\"_class_name\":\"DDIMScheduler\",\"timestep_spacing\":"
                      "\"trailing\"}", 48, &schedule), AD_OK);
    CHECK_INT(schedule.t[3], 936);                          /* 1000 - 62.5 likewise */
}

static void exponential_sigmas_begin_one_timestep_early(void)
{
    static const char config[] =
        "{\"_class_name\":\"UniPCMultistepScheduler\",\"beta_start\":0.00085,"
        "\"beta_end\":0.012,\"use_exponential_sigmas\":true}";

    CHECK_STATUS(make("unipc", config, 6, &schedule), AD_OK);
    CHECK_INT(schedule.t[0], 998);                          /* 998.99999 is cut */
    CHECK_INT(schedule.t[1], 747);
    CHECK_STATUS(make("dpmpp_2m", config, 14, &schedule), AD_OK);
    CHECK_INT(schedule.t[0], 998);
    CHECK_INT(schedule.t[1], 909);
}

static void zero_snr_matters_only_where_a_timestep_is_pure_noise(void)
{
    static const char config[] =
        "{\"_class_name\":\"DDIMScheduler\",\"rescale_betas_zero_snr\":true,"
        "\"timestep_spacing\":\"%s\"}";
    char json[160];

    snprintf(json, sizeof(json), config, "leading");
    CHECK_STATUS(make("ddim", json, 10, &schedule), AD_OK);     /* begins at 900 */
    snprintf(json, sizeof(json), config, "trailing");
    CHECK_STATUS(make("ddim", json, 10, &schedule), AD_ERR_INVALID);
    CHECK_CONTAINS(ctx.error, "v_prediction");
}

/* ---- refusals ----------------------------------------------------------------------------- */

static const struct Refusal {
    const char *name, *fields;
    int         steps;
    AdStatus    status;
    const char *sentence;
} refusals[] = {
    { "euler_a", "", 5, AD_ERR_INVALID, "scheduler \"euler_a\" is unknown; euler_ancestral" },
    { "", "", 5, AD_ERR_INVALID, "scheduler \"\" is unknown" },
    { "auto", "", 5, AD_ERR_UNSUPPORTED, "scheduler X is not supported" },
    { "ddim", "\"beta_schedule\":\"sigmoid\"", 5, AD_ERR_INVALID, "beta_schedule \"sigmoid\"" },
    { "ddim", "\"timestep_spacing\":\"even\"", 5, AD_ERR_INVALID, "timestep_spacing \"even\"" },
    { "ddim", "\"prediction_type\":\"flow\"", 5, AD_ERR_INVALID, "prediction_type \"flow\"" },
    { "euler", "\"final_sigmas_type\":\"one\"", 5, AD_ERR_INVALID, "final_sigmas_type \"one\"" },
    { "euler", "\"interpolation_type\":\"log_linear\"", 5, AD_ERR_UNSUPPORTED, "log_linear" },
    { "euler", "\"use_beta_sigmas\":true", 5, AD_ERR_UNSUPPORTED, "use_beta_sigmas" },
    { "ddim", "\"thresholding\":true", 5, AD_ERR_UNSUPPORTED, "thresholding" },
    { "unipc", "\"disable_corrector\":[0]", 5, AD_ERR_UNSUPPORTED, "disable_corrector" },
    { "unipc", "\"predict_x0\":false", 5, AD_ERR_UNSUPPORTED, "predict_x0" },
    { "unipc", "\"solver_type\":\"bh3\"", 5, AD_ERR_INVALID, "bh1 or bh2" },
    { "dpmpp_2m", "\"solver_type\":\"euler\"", 5, AD_ERR_INVALID, "midpoint or heun" },
    { "euler_ancestral", "\"prediction_type\":\"sample\"", 5, AD_ERR_INVALID, "sample" },
    { "kdpm2", "\"prediction_type\":\"sample\"", 5, AD_ERR_INVALID, "sample" },
    { "pndm", "\"prediction_type\":\"sample\"", 5, AD_ERR_INVALID, "sample" },
    { "pndm", "\"skip_prk_steps\":false", 3, AD_ERR_INVALID, "at least 4 steps" },
    { "lcm", "", 51, AD_ERR_INVALID, "original_steps" },
    { "lcm", "\"original_inference_steps\":1001", 5, AD_ERR_INVALID, "original_steps" },
    { "ddim", "\"num_train_timesteps\":4097", 5, AD_ERR_UNSUPPORTED, "at most 4096" },
    { "ddim", "\"beta_start\":0.5,\"beta_end\":0.4", 5, AD_ERR_FORMAT, "beta_start 0.5" },
    { "ddim", "", 0, AD_ERR_INVALID, "steps=0: 1 to 1000" },
    { "ddim", "", -1, AD_ERR_INVALID, "steps=-1" },
    { "ddim", "", 1001, AD_ERR_INVALID, "steps=1001" },
    { "ddim", "\"num_train_timesteps\":20", 21, AD_ERR_INVALID, "1 to 20" },
    { "ddim", "\"steps_offset\":1", 1000, AD_ERR_INVALID, "beyond the training timesteps" },
    { "pndm", "\"steps_offset\":900,\"skip_prk_steps\":true", 4, AD_ERR_INVALID, "beyond" },
    { "ddim", "\"steps_offset\":1000,\"num_train_timesteps\":4096", 5, AD_ERR_INVALID, "beyond" },
    { "ddim", "\"trained_betas\":[0.1,0.2]", 5, AD_ERR_UNSUPPORTED, "trained_betas" },
    { "ddim", "\"use_flow_sigmas\":true", 5, AD_ERR_UNSUPPORTED, "use_flow_sigmas" },
    { "ddim", "\"steps_offset\":1.5", 5, AD_ERR_FORMAT, "steps_offset must be a whole number" },
    { "ddim", "\"steps_offset\":true", 5, AD_ERR_FORMAT, "steps_offset" },
    { "ddim", "\"steps_offset\":1001", 5, AD_ERR_FORMAT, "from 0 to 1000" },
    { "ddim", "\"beta_start\":\"0.1\"", 5, AD_ERR_FORMAT, "beta_start must be a number" },
    { "ddim", "\"beta_start\":0", 5, AD_ERR_FORMAT, "beta_start" },
    { "ddim", "\"clip_sample\":1", 5, AD_ERR_FORMAT, "clip_sample must be true or false" },
    { "ddim", "\"beta_schedule\":7", 5, AD_ERR_FORMAT, "beta_schedule must be a text" },
    { "ddim", "\"beta_schedule\":\"0123456789012345678901234567890123\"", 5, AD_ERR_FORMAT, "31" },
    { "ddim", "\"solver_order\":4", 5, AD_ERR_FORMAT, "solver_order" },
    { "ddim", "\"num_train_timesteps\":1", 5, AD_ERR_FORMAT, "num_train_timesteps" },
};

static void is_refused(const struct Refusal *r)
{
    char json[256];

    snprintf(json, sizeof(json), "{\"_class_name\":\"X\"%s%s}", *r->fields ? "," : "", r->fields);
    CHECK_STATUS(make(r->name, json, r->steps, &schedule), r->status);
    CHECK_CONTAINS(ctx.error, r->sentence);
}

/* The solvers with 1,000 steps have one timestep twice, as the reference does: nothing to test. */
static void the_fewest_and_the_most_steps_work(void)
{
    for (int i = 0; ad_schedulers[i]; i++) {
        const char *name = ad_schedulers[i]->name;
        bool solver = !strncmp(name, "dpmpp", 5) || !strcmp(name, "unipc");

        CHECK_STATUS(make(name, sd15, 1, &schedule), AD_OK);
        if (make(name, "{\"_class_name\":\"X\",\"skip_prk_steps\":true}",
                 !strcmp(name, "lcm") ? 50 : solver ? 999 : AD_MAX_STEPS, &schedule) < 0)
            FAIL("%s", ctx.error);
        for (int k = 0; k < schedule.evals; k++) {
            AdRow row;

            ad_schedule_row(&schedule, k, &row);
            for (int a = 0; a < row.count; a++)
                for (int r = 0; r < AD_REGISTERS; r++)
                    if (!isfinite(row.assign[a].coef[r]))
                        FAIL("%s: evaluation %d names %g", name, k, row.assign[a].coef[r]);
        }
    }
}

/* ---- main --------------------------------------------------------------------------------- */

#define EACH(array, function, text, ...)                                                \
    for (i_ = 0; i_ < AD_COUNT(array); i_++)                                            \
        RUN_AS(function(&(array)[i_]), text, __VA_ARGS__);

int main(void)
{
    RUN(auto_takes_the_class_of_the_file);
    RUN(the_algorithm_of_the_file_decides_between_dpmpp_2m_and_its_sde_form);
    RUN(a_chosen_name_decides_over_the_algorithm_of_the_file);
    RUN(without_a_file_ddim_is_what_the_motion_modules_were_published_with);
    RUN(every_scheduler_works_without_a_file);
    EACH(defaults, absent_fields_have_the_defaults_of_the_class, "absent fields of %s",
         defaults[i_].class_name)
    RUN(another_scheduler_keeps_the_fields_of_the_file);
    RUN(overrides_win_over_the_file);
    RUN(solver_types_of_the_other_solver_mean_the_own_default);
    EACH(foreign, an_unknown_field_changes_nothing, "to %s means nothing %s", foreign[i_].name,
         foreign[i_].field)
    RUN(infinities_of_python_are_null);
    RUN(halves_are_rounded_as_numpy_meets_them);
    RUN(exponential_sigmas_begin_one_timestep_early);
    RUN(zero_snr_matters_only_where_a_timestep_is_pure_noise);
    RUN(the_fewest_and_the_most_steps_work);
    EACH(refusals, is_refused, "refused: %s, %d steps, {%s}", refusals[i_].name,
         refusals[i_].steps, refusals[i_].fields)
    return check_result();
}
