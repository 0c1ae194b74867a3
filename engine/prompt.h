/* prompt.h - a prompt becomes rows of 77 token ids.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PROMPT_H
#define AD_PROMPT_H

#include "tokenizer.h"

/* Room for the ids of `chunks` rows of 77; free with ad_prompt_free. */
typedef struct AdPrompt {
    int32_t *ids;
    float   *weights;           /* one per id; NULL: all 1 */
    int      chunks;
    size_t   room, weights_room;
} AdPrompt;

/* One row: begin mark, the first 75 ids, end mark, padding; a warning when ids were cut. `which`
 * ("prompt", "negative_prompt") is for messages. */
AdStatus ad_prompt_encode(AdContext *ctx, const AdTokenizer *t, const char *which,
                          const char *text, AdPrompt *out);

/* The syntax of emphasis.h, any number of tokens: as many rows as it takes, at most AD_CAP_CHUNKS.
 * Each piece is tokenized on its own. A row is full at 75 ids; then what stands behind its last
 * comma, if that is at most 20 ids, begins the next row. Marks and padding have the weight 1. */
AdStatus ad_prompt_encode_weighted(AdContext *ctx, const AdTokenizer *t, const char *which,
                                   const char *text, AdPrompt *out);

/* Append empty rows to a weighted prompt until there are `chunks`. */
AdStatus ad_prompt_extend(AdContext *ctx, const AdTokenizer *t, int chunks, AdPrompt *p);

void ad_prompt_free(AdPrompt *p);

#endif
