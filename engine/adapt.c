/* adapt.c - other LoRA files for a model that is loaded.
 *
 * Only weights that the old or the new files touch are read again from the model's files, changed
 * and packed. The result waits in host memory until the next clip begins: a clip in progress keeps
 * its weights, a failure leaves everything as it was, and what remains to be done then cannot fail
 * half way but for a lost device.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "model.h"

void ad_adaptation_free(AdAdaptation *a)
{
    ad_free(a->lora);
    ad_free(a->motion_lora);
    ad_patches_free(&a->patches);
    ad_changes_free(&a->changes);
    *a = (AdAdaptation){ 0 };
}

AdStatus ad_adaptation_open(AdContext *ctx, AdAdaptation *a, const char *lora,
                            const char *motion_lora)
{
    AdAdapterList list = { 0 };
    AdStatus st;

    a->lora        = ad_strdup(lora ? lora : "");
    a->motion_lora = ad_strdup(motion_lora ? motion_lora : "");
    a->patches     = ad_alloc(sizeof(*a->patches));
    st = a->lora && a->motion_lora && a->patches ? AD_OK : ad_fail_nomem(ctx, "LoRA");
    if (st >= 0) st = ad_adapters_parse(ctx, "lora", lora, &list);
    if (st >= 0) st = ad_patches_add(ctx, a->patches, &list, false);
    ad_adapters_free(&list);
    if (st >= 0) st = ad_adapters_parse(ctx, "motion_lora", motion_lora, &list);
    if (st >= 0) st = ad_patches_add(ctx, a->patches, &list, true);
    ad_adapters_free(&list);
    return st;
}

/* ---- what changes ------------------------------------------------------------------------- */

/* Collect the bytes of all weights that differ between the device and `next`. */
static AdStatus collect(AdModel *m, AdWeights *w, const AdPartKind *kind, const AdPart *part,
                        AdAdaptation *next)
{
    AdBinder b;
    AdStatus st;

    if (w->hash != part->hash)
        return ad_fail(m->ctx, AD_ERR_IO, "%s: its files have changed since they were loaded",
                       kind->name);
    ad_binder_init(&b, m->ctx, m->ctx->backend, w, m->type);
    b.patches = next->patches;
    kind->bind(&b, m);
    st = ad_binder_check(&b, kind->name);
    if (st >= 0) {
        ad_binder_start_changing(&b, part->slab, m->now.patches, &next->changes);
        kind->bind(&b, m);
        st = b.status;
    }
    if (st >= 0) st = ad_weights_unchanged(m->ctx, w);
    if (st >= 0 && b.nonfinite)
        ad_log(m->ctx, AD_LOG_WARNING, "%s: %d weights are not finite numbers", kind->name,
               b.nonfinite);
    ad_binder_free(&b);
    return st;
}

/* The same for one part of the model, if it has any. */
static AdStatus collect_part(AdModel *m, bool text, AdAdaptation *next)
{
    AdWeights w = { 0 };
    AdStatus st;

    if (!ad_patches_touch_part(m->now.patches, text) && !ad_patches_touch_part(next->patches, text))
        return AD_OK;
    st = text ? ad_model_open_text(m, &w) : ad_model_open_unet(m, &w);
    if (st >= 0)
        st = collect(m, &w, text ? &ad_text_kind : &ad_unet_kind,
                     text ? &m->text_part : &m->unet_part, next);
    ad_weights_free(&w);
    return st;
}

static bool is_same(const AdAdaptation *a, const char *lora, const char *motion_lora)
{
    return !strcmp(a->lora, lora ? lora : "") &&
           !strcmp(a->motion_lora, motion_lora ? motion_lora : "");
}

static void drop_next(AdModel *m)
{
    if (m->next)
        ad_adaptation_free(m->next);
    ad_free(m->next);
    m->next = NULL;
}

AdStatus ad_model_adapt(AdModel *m, const char *lora, const char *motion_lora)
{
    AdAdaptation *next;
    AdStatus st;

    if (m->next && is_same(m->next, lora, motion_lora))
        return AD_OK;
    if (is_same(&m->now, lora, motion_lora)) {
        drop_next(m);
        return AD_OK;
    }
    next = ad_alloc(sizeof(*next));
    st = next ? ad_adaptation_open(m->ctx, next, lora, motion_lora)
              : ad_fail_nomem(m->ctx, "LoRA");
    if (st >= 0) st = collect_part(m, true, next);
    if (st >= 0) st = collect_part(m, false, next);
    if (st >= 0) st = ad_patches_check(m->ctx, next->patches);
    if (st >= 0) {
        ad_patches_close(next->patches);
        drop_next(m);
        m->next = next;
    } else if (next) {
        ad_adaptation_free(next);
        ad_free(next);
    }
    return st;
}

AdStatus ad_model_take_adaptation(AdModel *m)
{
    AdStatus st;

    if (!m->next)
        return AD_OK;
    st = ad_changes_write(m->ctx, m->ctx->backend, &m->next->changes);
    if (st < 0)
        return st;                      /* again before the next clip */
    ad_changes_free(&m->next->changes);
    ad_adaptation_free(&m->now);
    m->now = *m->next;
    ad_free(m->next);
    m->next = NULL;
    return AD_OK;
}
