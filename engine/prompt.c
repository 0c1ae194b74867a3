/* prompt.c - rows of token ids for the text encoder; see prompt.h.
 *
 * Called by session.c. As diffusers: what does not fit into 75 ids is cut.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "caps.h"
#include "prompt.h"
#include "utf8.h"

#define ROW 77

static AdStatus check_text(AdContext *ctx, const char *which, const char *text)
{
    size_t n = strlen(text), bad;

    if (n > AD_CAP_PROMPT)
        return ad_fail(ctx, AD_ERR_INVALID, "%s: %zu bytes; at most %u are allowed", which, n,
                       AD_CAP_PROMPT);
    if (!ad_utf8_valid(text, n, &bad))
        return ad_fail(ctx, AD_ERR_INVALID, "%s: not valid UTF-8 at byte %zu", which, bad);
    return AD_OK;
}

AdStatus ad_prompt_encode(AdContext *ctx, const AdTokenizer *t, const char *which,
                          const char *text, AdPrompt *out)
{
    AdIds ids = { 0 };
    AdStatus st = check_text(ctx, which, text);
    size_t kept;

    *out = (AdPrompt){ 0 };
    if (st >= 0)
        st = ad_tokenizer_encode(ctx, t, text, strlen(text), &ids);
    if (st >= 0 && !(out->ids = ad_alloc_array(ROW, sizeof(*out->ids))))
        st = ad_fail_nomem(ctx, "a prompt");
    if (st >= 0) {
        kept = AD_MIN(ids.count, (size_t)ROW - 2);
        out->chunks = 1;
        out->ids[0] = ad_tokenizer_begin(t);
        if (kept)
            memcpy(out->ids + 1, ids.ids, kept * sizeof(*ids.ids));
        out->ids[1 + kept] = ad_tokenizer_end(t);
        for (size_t i = kept + 2; i < ROW; i++)
            out->ids[i] = ad_tokenizer_pad(t);
        if (kept < ids.count)
            ad_log(ctx, AD_LOG_WARNING, "%s: %zu tokens; only the first %d count", which,
                   ids.count, ROW - 2);
    }
    ad_free(ids.ids);
    return st;
}

void ad_prompt_free(AdPrompt *p)
{
    ad_free(p->ids);
    *p = (AdPrompt){ 0 };
}
