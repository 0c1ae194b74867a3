/* weighting.c - weights of a prompt's tokens; see weighting.h.
 *
 * Called by session.c, once per clip and half. On the host: 77 rows are nothing, and no backend
 * needs an operation for them.
 * As modules/sd_emphasis.py of the AUTOMATIC1111 web interface ("Original").
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>

#include "clip.h"
#include "weighting.h"

static bool all_one(const float *weights)
{
    for (int i = 0; i < AD_TOKENS; i++)
        if (weights[i] != 1)
            return false;
    return true;
}

static double mean(const float *z, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += z[i];
    return sum / (double)n;
}

static void weigh(float *z, int64_t width, const float *weights)
{
    int64_t n = AD_TOKENS * width;
    double was = mean(z, n), factor;

    for (int64_t i = 0; i < n; i++)
        z[i] *= weights[i / width];
    factor = was / mean(z, n);
    if (!isfinite(factor))              /* a mean of 0 is not to be restored */
        return;
    for (int64_t i = 0; i < n; i++)
        z[i] = (float)(z[i] * factor);
}

static AdStatus weigh_chunk(AdExec *x, AdTensor chunk, const float *weights, float *z, void *raw)
{
    AdBackend *be = x->backend;
    int64_t n = ad_count(chunk);
    AdStatus st = be->cls->download(be, raw, chunk.data, ad_bytes(chunk));

    if (st < 0)
        return st;
    ad_convert(z, AD_F32, raw, chunk.type, n);
    weigh(z, chunk.dim[3], weights);
    ad_convert(raw, chunk.type, z, AD_F32, n);
    return be->cls->upload(be, chunk.data, raw, ad_bytes(chunk));
}

void ad_weigh_states(AdExec *x, AdTensor states, const float *weights)
{
    int64_t chunks = states.dim[2] / AD_TOKENS, width = states.dim[3];
    AdTensor all = ad_view(states, chunks, 1, AD_TOKENS, width);
    float *z  = ad_alloc_array((size_t)(AD_TOKENS * width), sizeof(*z));
    void *raw = ad_alloc_array((size_t)(AD_TOKENS * width), sizeof(*z));

    if (!z || !raw)
        ad_exec_fail(x, AD_ERR_NOMEM, "no memory for weights");
    for (int64_t i = 0; i < chunks && x->status >= 0; i++) {
        const float *w = weights + i * AD_TOKENS;
        AdStatus st = all_one(w) ? AD_OK : weigh_chunk(x, ad_slice(all, i, 1), w, z, raw);

        if (st < 0)
            ad_exec_fail(x, st, "%s", x->backend->message);
    }
    ad_free(z);
    ad_free(raw);
}
