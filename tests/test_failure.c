/* test_failure.c - memory that ends and files that cannot be read, at every place in turn.
 *
 * The n-th allocation, or the n-th read, fails, for n = 1, 2, ... until a run gets through. Each
 * run must end with a negative status and a sentence, take nothing along, and leave a context in
 * which the next run works. Allocations inside jansson, oneDNN and OpenMP are not ours to fail.
 * A large model's thousands of calls come by few ways: there, two of each way fail; with $QUICK
 * set, as under sanitizers, everywhere but in the first clip of a device.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <execinfo.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../engine/weights.h"
#include "check.h"
#include "failing.h"
#include "render.h"
#include "scratch.h"

/* ---- what fails --------------------------------------------------------------------------- */

/* By which way each call came: a hash of the return addresses. */
enum { WAYS = 1 << 16, DEPTH = 12 };
static uint64_t ways[WAYS];
static long calls;

static void record(void)
{
    void *stack[DEPTH];
    int depth = backtrace(stack, DEPTH);

    if (calls < WAYS)
        ways[calls] = ad_hash_bytes(0, stack, (size_t)depth * sizeof(*stack));
    calls++;
}

/* Whether two calls before the n-th came by its way. */
static bool is_known(long n)
{
    int before = 0;

    for (long i = 0; n <= AD_MIN(calls, WAYS) && i < n - 1 && before < 2; i++)
        before += ways[i] == ways[n - 1];
    return before == 2;
}

enum { EACH_WAY = 8 };          /* beside a Failing */

/* ---- what is done ------------------------------------------------------------------------- */

static RenderCase c;
static uint8_t picture[3 * 32 * 32];

/* Each leaves nothing behind. *st gets the first failure of the call under test. */
static AdModel *loaded(AdContext *ctx)
{
    AdModel *m = NULL;

    if (ad_model_load(ctx, &m, &c.model) < 0)
        die("%s", ad_context_error(ctx));
    return m;
}

static AdStatus load(AdContext *ctx, AdModel *unused)
{
    AdModel *m = NULL;
    AdStatus st = ad_model_load(ctx, &m, &c.model);

    (void)unused;
    CHECK((st < 0) == !m);
    ad_model_destroy(&m);
    return st;
}

/* Put in; taken out again without failures. */
static AdStatus adapt(AdContext *ctx, AdModel *m)
{
    AdStatus st = ad_model_adapt(m, NULL, GOLDEN "loras/zoom.safetensors");

    (void)ctx;
    failing.countdown = 0;
    CHECK_STATUS(ad_model_adapt(m, NULL, NULL), AD_OK);
    return st;
}

/* A whole clip: session, prompts, steps, one frame. */
static AdStatus clip(AdContext *ctx, AdModel *m)
{
    AdSessionParams p = render_params(m, &c);
    AdImage image = { picture, 3 * 32, 32, 32 };
    AdSession *s = NULL;
    AdStatus st = ad_session_create(m, &s, &p);

    (void)ctx;
    CHECK((st < 0) == !s);
    if (st >= 0)
        st = ad_session_begin(s, &c.clip);
    while (st == AD_OK)
        st = ad_session_step(s);
    if (st == AD_DONE)
        st = ad_session_decode(s, 0, &image);
    ad_session_destroy(&s);
    return st;
}

/* The same, on a device that has not computed yet: what it keeps for later is taken on the way. */
static AdStatus first_clip(AdContext *ctx, AdModel *m)
{
    return clip(ctx, m);
}

typedef AdStatus Deed(AdContext *ctx, AdModel *m);

/* ---- the loop ----------------------------------------------------------------------------- */

/* wanted: the status of a failure; AD_OK: the deed must succeed all the same. */
static void fails_everywhere(Deed *deed, bool with_model, int what, AdStatus wanted)
{
    bool each_way = (what & EACH_WAY) || (getenv("QUICK") && deed != first_clip);
    AdContext *ctx;
    AdModel *m;
    long before, n = 1;

    failing.kind   = (Failing)(what & ~EACH_WAY);
    failing.blocks = 0;         /* a case that failed leaves some */
    calls = 0;
    ctx   = render_context("cpu", 1);
    m     = with_model ? loaded(ctx) : NULL;
    if (deed != first_clip)
        deed(ctx, m);           /* what is kept for later is taken now */
    before = failing.blocks;
    if (each_way) {
        failing.on_call = record;
        deed(ctx, m);
        failing.on_call = NULL;
    }
    for (;; n++) {
        AdStatus st;

        if (is_known(n))
            continue;
        failing.countdown = n;
        failing.fired     = false;
        st = deed(ctx, m);
        failing.countdown = 0;
        if (!failing.fired) {
            CHECK(st >= 0);
            break;
        }
        if (st != wanted)
            FAIL("number %ld failed: %s (%s), not %s", n, ad_status_name(st),
                 ad_context_error(ctx), ad_status_name(wanted));
        CHECK(st >= 0 || *ad_context_error(ctx));
        if (failing.blocks != before && deed != first_clip)
            FAIL("number %ld failed: %ld blocks are left", n, failing.blocks - before);
    }
    CHECK(n > 1);
    CHECK(deed(ctx, m) >= 0);
    ad_model_destroy(&m);
    ad_context_destroy(&ctx);
    CHECK_INT(failing.blocks, 0);
}

int main(void)
{
    render_small(&c);
    RUN_AS(fails_everywhere(clip, true, ALLOCATION, AD_ERR_NOMEM), "a clip, every allocation");
    RUN_AS(fails_everywhere(first_clip, true, ALLOCATION, AD_ERR_NOMEM), "the first clip of a "
           "device, every allocation");
    RUN_AS(fails_everywhere(adapt, true, ALLOCATION, AD_ERR_NOMEM), "a LoRA put in, every "
           "allocation");
    RUN_AS(fails_everywhere(adapt, true, READ_ERROR, AD_ERR_IO), "a LoRA put in, every read");
    RUN_AS(fails_everywhere(load, false, ALLOCATION, AD_ERR_NOMEM), "a model, every allocation");
    RUN_AS(fails_everywhere(load, false, READ_ERROR, AD_ERR_IO), "a model, every read in error");
    RUN_AS(fails_everywhere(load, false, READ_END, AD_ERR_IO), "a model, every read at the end of "
           "its file");
    RUN_AS(fails_everywhere(load, false, READ_HALF, AD_OK), "a model, every read cut short: it "
           "is read on");
    c.model.model          = scratch_copy("m.safetensors", GOLDEN "models/single.safetensors");
    c.model.motion_adapter = GOLDEN "models/single-motion.safetensors";
    scratch_copy("tokenizer", GOLDEN "models/single/tokenizer");
    RUN_AS(fails_everywhere(load, false, ALLOCATION | EACH_WAY, AD_ERR_NOMEM), "a model in one "
           "file, every way to an allocation");
    RUN_AS(fails_everywhere(load, false, READ_ERROR | EACH_WAY, AD_ERR_IO), "a model in one file, "
           "every way to a read, in error");
    return check_result();
}
