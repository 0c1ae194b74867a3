/* prompt.c - rows of token ids for the text encoder; see prompt.h.
 *
 * Called by session.c. Plain: as diffusers, what does not fit into 75 ids is cut. Weighted: as the
 * AUTOMATIC1111 web interface, long text becomes several rows (modules/sd_hijack_clip.py).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "caps.h"
#include "emphasis.h"
#include "prompt.h"
#include "utf8.h"

#define ROW 77

/* ---- plain -------------------------------------------------------------------------------- */

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

/* ---- weighted ----------------------------------------------------------------------------- */

#define BACK 20                         /* how far back a comma is looked for */

typedef struct Row {                    /* being filled */
    int32_t ids[ROW - 2];
    float   weights[ROW - 2];
    size_t  n;
    size_t  comma;                      /* where the last one stands; >= ROW: none */
} Row;

typedef struct Filler {
    AdContext         *ctx;
    const AdTokenizer *t;
    const char        *which;
    AdPrompt          *out;
    int32_t            comma;           /* the id of "," */
    Row                row;
} Filler;

/* The row as it is, with marks and padding, behind the rows that are there. */
static AdStatus append_row(AdContext *ctx, const AdTokenizer *t, const Row *row, AdPrompt *out)
{
    size_t at = (size_t)out->chunks * ROW;
    void *ids = out->ids, *weights = out->weights;

    if (!ad_grow(&ids, &out->room, at + ROW, sizeof(*out->ids)))
        return ad_fail_nomem(ctx, "a prompt");
    out->ids = ids;
    if (!ad_grow(&weights, &out->weights_room, at + ROW, sizeof(*out->weights)))
        return ad_fail_nomem(ctx, "a prompt");
    out->weights = weights;
    for (size_t i = 0; i < ROW; i++) {
        bool inside = i >= 1 && i <= row->n;

        out->ids[at + i] = inside ? row->ids[i - 1] : i == 0 ? ad_tokenizer_begin(t)
                         : i == row->n + 1 ? ad_tokenizer_end(t) : ad_tokenizer_pad(t);
        out->weights[at + i] = inside ? row->weights[i - 1] : 1;
    }
    out->chunks++;
    return AD_OK;
}

static AdStatus end_row(Filler *f)
{
    AdStatus st;

    if (f->out->chunks == AD_CAP_CHUNKS)
        return ad_fail(f->ctx, AD_ERR_INVALID, "%s: more than %d chunks of %d tokens", f->which,
                       AD_CAP_CHUNKS, ROW - 2);
    st = append_row(f->ctx, f->t, &f->row, f->out);
    f->row = (Row){ .comma = ROW };
    return st;
}

/* The full row ends behind its last comma, the rest begins the next one. */
static AdStatus end_row_at_comma(Filler *f)
{
    Row full = f->row;
    size_t first = full.comma + 1;
    AdStatus st;

    f->row.n = first;
    st = end_row(f);
    f->row.n = full.n - first;
    memcpy(f->row.ids, full.ids + first, f->row.n * sizeof(*full.ids));
    memcpy(f->row.weights, full.weights + first, f->row.n * sizeof(*full.weights));
    return st;
}

/* A comma at the end of a full row begins the next one, and is then no comma to come back to. */
static AdStatus put(Filler *f, int32_t id, float weight)
{
    Row *row = &f->row;
    AdStatus st = AD_OK;

    if (id == f->comma)
        row->comma = row->n;
    else if (row->n == ROW - 2 && row->comma < row->n && row->n - row->comma <= BACK)
        st = end_row_at_comma(f);
    if (st >= 0 && row->n + (size_t)AD_MIN(ad_tokenizer_run(f->t, id), ROW - 2) > ROW - 2)
        st = end_row(f);
    if (st >= 0) {
        row->ids[row->n]       = id;
        row->weights[row->n++] = weight;
    }
    return st;
}

static AdStatus fill(Filler *f, const AdEmphasis *e)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < e->count && st >= 0; i++) {
        const AdEmphasisPiece *piece = &e->pieces[i];
        AdIds ids = { 0 };

        if (piece->ends_chunk) {
            st = end_row(f);
            continue;
        }
        st = ad_tokenizer_encode(f->ctx, f->t, e->text + piece->at, piece->n, &ids);
        for (size_t k = 0; k < ids.count && st >= 0; k++)
            st = put(f, ids.ids[k], (float)piece->weight);
        ad_free(ids.ids);
    }
    if (st >= 0 && (f->row.n || !f->out->chunks))
        st = end_row(f);
    return st;
}

AdStatus ad_prompt_encode_weighted(AdContext *ctx, const AdTokenizer *t, const char *which,
                                   const char *text, AdPrompt *out)
{
    Filler f = { .ctx = ctx, .t = t, .which = which, .out = out, .row = { .comma = ROW } };
    AdEmphasis e = { 0 };
    AdIds comma = { 0 };
    AdStatus st = check_text(ctx, which, text);

    *out = (AdPrompt){ 0 };
    if (st >= 0) st = ad_tokenizer_encode(ctx, t, ",", 1, &comma);
    if (st >= 0) st = ad_emphasis_parse(ctx, which, text, &e);
    if (st >= 0) {
        f.comma = comma.count == 1 ? comma.ids[0] : -1;
        st = fill(&f, &e);
    }
    ad_emphasis_free(&e);
    ad_free(comma.ids);
    return st;
}

AdStatus ad_prompt_extend(AdContext *ctx, const AdTokenizer *t, int chunks, AdPrompt *p)
{
    Row empty = { 0 };
    AdStatus st = AD_OK;

    while (p->chunks < chunks && st >= 0)
        st = append_row(ctx, t, &empty, p);
    return st;
}

void ad_prompt_free(AdPrompt *p)
{
    ad_free(p->ids);
    ad_free(p->weights);
    *p = (AdPrompt){ 0 };
}
