/* fail.h - one sentence per failure, and the log.
 *
 * For every module of the engine; none of them needs to know what else a context holds.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_FAIL_H
#define AD_FAIL_H

#include "../kernels/base.h"

typedef struct AdContext AdContext;

/* Keep the sentence, log it as an error and return the status. Called once, at the place that
 * knows; callers hand the status on. */
AdStatus ad_fail(AdContext *ctx, AdStatus status, const char *format, ...) AD_PRINTF(3, 4);

/* "no memory for WHAT" */
AdStatus ad_fail_nomem(AdContext *ctx, const char *what);

void ad_log(AdContext *ctx, AdLogLevel level, const char *format, ...) AD_PRINTF(3, 4);

/* Whether the caller asked to stop; then AD_ERR_CANCELLED is to be returned. */
bool ad_stopping(AdContext *ctx);

/* Text from a file or the user, made fit for a message: control, bidirectional and non-UTF-8 bytes
 * escaped, at most 80 bytes then, and dots behind them when there is more. Returns `out`. */
#define AD_QUOTE_SHOWN 80
#define AD_QUOTE_TEXT  (AD_QUOTE_SHOWN + 4)
const char *ad_quote(const char *s, size_t n, char *out);

#endif
