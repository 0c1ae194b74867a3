/* prompt.h - a prompt becomes rows of 77 token ids.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PROMPT_H
#define AD_PROMPT_H

#include "tokenizer.h"

/* Room for the ids of `chunks` rows of 77; free with ad_prompt_free. */
typedef struct AdPrompt {
    int32_t *ids;
    int      chunks;
} AdPrompt;

/* One row: begin mark, the first 75 ids, end mark, padding; a warning when ids were cut. `which`
 * ("prompt", "negative_prompt") is for messages. */
AdStatus ad_prompt_encode(AdContext *ctx, const AdTokenizer *t, const char *which,
                          const char *text, AdPrompt *out);

void ad_prompt_free(AdPrompt *p);

#endif
