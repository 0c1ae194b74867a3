/* motion_file.c - what a file of motion modules says about itself; see motion_file.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "motion_file.h"
#include "recognize.h"

/* The number behind `part` in a name, -1 when it is not there. */
static int number_behind(const char *name, const char *part)
{
    const char *at = strstr(name, part);
    int n = 0;

    if (!at || at[strlen(part)] < '0' || at[strlen(part)] > '9')
        return -1;
    for (at += strlen(part); *at >= '0' && *at <= '9' && n < 1000; at++)
        n = 10 * n + (*at - '0');
    return n;
}

static bool is_table(const AdEntry *e)
{
    return (strstr(e->name, "pos_encoder.pe") || strstr(e->name, "pos_embed.pe")) &&
           e->rank == 3 && e->shape[1] >= 1 && e->shape[1] <= 4096;
}

static const char *version_of(const AdMotionFile *m)
{
    return !m->table ? "AnimateLCM (no positional tables)"
         : m->mid ? "v2" : m->table == 24 ? "v1" : "v3";
}

void ad_motion_file_look(const AdTensorFile *f, AdMotionFile *m)
{
    *m = (AdMotionFile){ .depth = 1 };
    for (size_t i = 0; i < f->count; i++) {
        const AdEntry *e = &f->entries[i];

        if (!strstr(e->name, "motion_modules."))
            continue;
        m->levels = AD_MAX(m->levels, number_behind(e->name, "down_blocks.") + 1);
        m->depth  = AD_MAX(m->depth, number_behind(e->name, ".transformer_blocks.") + 1);
        m->mid    = m->mid || strstr(e->name, "mid_block.");
        if (is_table(e))
            m->table = (int)e->shape[1];
    }
    m->version = version_of(m);
}

AdStatus ad_motion_file_describe(AdContext *ctx, const AdTensorFile *f, AdUnetConfig *c,
                                 AdMotionFile *m)
{
    const AdEntry *conv = ad_tensor_file_find(f, "conv_in.weight");

    ad_motion_file_look(f, m);
    if (ad_recognize(f)->kind != AD_FILE_MOTION)
        return ad_not_in_it(ctx, f, "motion modules");
    if (conv && conv->rank == 4 && conv->shape[1] == 9)
        return ad_fail(ctx, AD_ERR_UNSUPPORTED, "%.160s: a PIA adapter, which needs an input "
                       "image; that is not supported", f->file->path);
    if (m->levels != c->levels)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: motion modules for %d levels%s; the UNet has "
                       "%d", f->file->path, m->levels, m->levels == 3 ? " (SDXL)" : "", c->levels);
    if (m->depth > AD_DEPTH)
        return ad_fail(ctx, AD_ERR_FORMAT, "%.160s: motion modules of %d blocks; at most %d are "
                       "supported", f->file->path, m->depth, AD_DEPTH);
    c->motion     = true;
    c->motion_mid = m->mid;
    c->max_frames = m->table ? m->table : AD_FRAMES_WITHOUT_TABLE;
    for (int i = 0; i < AD_LEVELS; i++)
        for (int k = 0; k < AD_LAYERS; k++)
            c->motion_down_depth[i][k] = c->motion_up_depth[i][k] = c->motion_mid_depth[k] =
                m->depth;
    return ad_unet_config_check(ctx, f->file->path, c);
}
