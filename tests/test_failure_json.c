/* test_failure_json.c - memory that ends inside jansson where we ask it for some.
 *
 * What cannot be written down must not pass, and a vocabulary we build must not lose an entry. The
 * inside of jansson's parser is not tried: version 2.14 loses bytes of long strings then, or ends
 * in an assertion. Our own allocations and reads: test_failure.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "../engine/json.h"
#include "check.h"
#include "scratch.h"

static AdContext ctx;
static AdFields fields;
static long countdown;          /* this many allocations from now fails; 0: none */
static long blocks;             /* allocated and not freed */
static bool fired;

static void *failing_malloc(size_t bytes)
{
    void *p = NULL;

    if (countdown > 0 && --countdown == 0)
        fired = true;
    else
        p = malloc(bytes);
    blocks += p != NULL;
    return p;
}

static void counting_free(void *p)
{
    blocks -= p != NULL;
    free(p);
}

/* The field is a list where 1 must be. */
static AdStatus odd_field(void)
{
    fields.status = AD_OK;
    ad_field_must_be(&fields, "odd", "1");
    return fields.status;
}

static AdStatus a_file(void)
{
    json_t *root = NULL;
    AdStatus st = ad_json_load(&ctx, scratch("odd.json"), AD_CAP_CONFIG, &root);

    json_decref(root);
    return st;
}

static AdStatus derived(void)
{
    AdTokenizer *t = NULL;
    AdStatus st = ad_tokenizer_load(&ctx, &t, scratch("derived"));

    CHECK((st < 0) == !t);
    ad_tokenizer_free(&t);
    return st;
}

/* As long as an allocation fails, at most `most` times; then the status is `after`. */
static void fails_everywhere(AdStatus (*deed)(void), long most, AdStatus after)
{
    long before = blocks, n;

    for (n = 1; n <= most; n++) {
        AdStatus st;

        countdown = n;
        fired     = false;
        st = deed();
        countdown = 0;
        if (!fired)
            break;
        if (st != AD_ERR_NOMEM)
            FAIL("number %ld failed: %s (%s)", n, ad_status_name(st), ctx.error);
        CHECK_CONTAINS(ctx.error, "no memory for ");
        if (blocks != before)
            FAIL("number %ld failed: %ld blocks are left", n, blocks - before);
    }
    CHECK(n > 1);
    CHECK_STATUS(deed(), after);
    CHECK_INT(blocks, before);
}

int main(void)
{
    scratch_text("odd.json", "{\"odd\":[2,\"x\"]}");
    scratch_text("derived/merges.txt", "#version: 0.2\ni n\n");
    json_set_alloc_funcs(failing_malloc, counting_free);
    fields = (AdFields){ .ctx = &ctx, .path = scratch("odd.json") };
    if (ad_json_load(&ctx, fields.path, AD_CAP_CONFIG, &fields.root) < 0)
        die("%s", ctx.error);
    RUN_AS(fails_everywhere(odd_field, 1000, AD_ERR_UNSUPPORTED), "a field that is not what it "
           "must be");
    RUN_AS(fails_everywhere(a_file, 1, AD_OK), "a file that cannot be begun");
    RUN_AS(fails_everywhere(derived, 1000000, AD_OK), "a vocabulary out of merges alone");
    json_decref(fields.root);
    return check_result();
}
