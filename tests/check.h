/* check.h - a handful of words for tests; no framework.
 *
 * A test program is a list of functions whose names are sentences, called by RUN() from main,
 * which ends with `return check_result();`. Each prints one line: ok, not ok or skip.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CHECK_H
#define AD_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    jmp_buf out;
    char    why[512];
    int     state;              /* 0 fine, 1 failed, 2 skipped */
    int     failed;
} check;

/* printf; ends the running case. */
#define FAIL(...)                                                                       \
    do {                                                                                \
        int at_ = snprintf(check.why, sizeof(check.why), "%s:%d: ", __FILE__, __LINE__); \
        snprintf(check.why + at_, sizeof(check.why) - (size_t)at_, __VA_ARGS__);        \
        check.state = 1;                                                                \
        longjmp(check.out, 1);                                                          \
    } while (0)

#define SKIP(...)                                                                       \
    do {                                                                                \
        snprintf(check.why, sizeof(check.why), __VA_ARGS__);                            \
        check.state = 2;                                                                \
        longjmp(check.out, 1);                                                          \
    } while (0)

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition))                                                               \
            FAIL("%s", #condition);                                                     \
    } while (0)

#define CHECK_INT(found, wanted)                                                        \
    do {                                                                                \
        long long f_ = (long long)(found), w_ = (long long)(wanted);                    \
        if (f_ != w_)                                                                   \
            FAIL("%s is %lld, not %lld", #found, f_, w_);                               \
    } while (0)

/* Two AdStatus, by name; the file includes animatediff.h. */
#define CHECK_STATUS(found, wanted)                                                     \
    do {                                                                                \
        int s_ = (int)(found), w_ = (int)(wanted);                                      \
        if (s_ != w_)                                                                   \
            FAIL("%s is %s, not %s", #found, ad_status_name((AdStatus)s_),              \
                 ad_status_name((AdStatus)w_));                                         \
    } while (0)

#define CHECK_NEAR(found, wanted, tolerance)                                            \
    do {                                                                                \
        double f_ = (double)(found), w_ = (double)(wanted);                             \
        if (!(fabs(f_ - w_) <= (tolerance)))                                            \
            FAIL("%s is %.9g, not %.9g", #found, f_, w_);                               \
    } while (0)

#define CHECK_TEXT(found, wanted)                                                       \
    do {                                                                                \
        const char *f_ = (found), *w_ = (wanted);                                       \
        if (!f_ || strcmp(f_, w_))                                                      \
            FAIL("%s is \"%.160s\", not \"%.160s\"", #found, f_ ? f_ : "(null)", w_);   \
    } while (0)

#define CHECK_CONTAINS(found, part)                                                     \
    do {                                                                                \
        const char *f_ = (found), *p_ = (part);                                         \
        if (!f_ || !strstr(f_, p_))                                                     \
            FAIL("\"%.300s\" does not contain \"%.90s\"", f_ ? f_ : "(null)", p_);      \
    } while (0)

/* Run one case; further arguments are printed behind its name. */
#define RUN_AS(call, ...)                                                               \
    do {                                                                                \
        char name_[256];                                                                \
        snprintf(name_, sizeof(name_), __VA_ARGS__);                                    \
        check.state = 0;                                                                \
        if (!setjmp(check.out)) {                                                       \
            call;                                                                       \
        }                                                                               \
        check_print(name_);                                                             \
    } while (0)

#define RUN(function) RUN_AS(function(), "%s", #function)

static inline void check_print(char *name)
{
    for (char *c = name; *c; c++)
        if (*c == '_')
            *c = ' ';
    if (check.state == 0)
        printf("ok - %s\n", name);
    else
        printf("%s - %s: %s\n", check.state == 1 ? "not ok" : "skip", name, check.why);
    fflush(stdout);             /* a crash in the next case must not take this line along */
    check.failed += check.state == 1;
    fflush(stdout);
}

static inline int check_result(void)
{
    return check.failed != 0;
}

/* Reproducible numbers in [-1, 1): a linear congruence, good enough to find index errors. */
static inline float check_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 33) / (1 << 30) - 1);
}

#endif
