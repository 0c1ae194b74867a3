/* names.c - textual translation of tensor names; see names.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "../kernels/base.h"
#include "caps.h"
#include "names.h"

void ad_replace(char *name, const char *from, const char *to)
{
    size_t n = strlen(from), m = strlen(to);

    for (char *at = name; (at = strstr(at, from)); at += m) {
        size_t rest = strlen(at + n);

        if ((size_t)(at - name) + m + rest > AD_CAP_NAME)
            return;
        memmove(at + m, at + n, rest + 1);
        memcpy(at, to, m);
    }
}

static void without_prefix(const char *name, const char *prefix, char *out)
{
    size_t n = strlen(prefix);

    strcpy(out, strncmp(name, prefix, n) ? name : name + n);
}

bool ad_rename_motion(const char *name, char *out)
{
    static const char *const pairs[][2] = {
        { ".temporal_transformer", "" },   { ".attention_blocks.0", ".attn1" },
        { ".attention_blocks.1", ".attn2" }, { ".norms.0", ".norm1" }, { ".norms.1", ".norm2" },
        { ".ff_norm", ".norm3" },
    };

    if (!strstr(name, "motion_modules.") || strstr(name, "pos_encoder"))
        return false;
    without_prefix(name, "module.", out);
    for (size_t i = 0; i < AD_COUNT(pairs); i++)
        ad_replace(out, pairs[i][0], pairs[i][1]);
    return true;
}

bool ad_rename_vae(const char *name, char *out)
{
    static const char *const pairs[][2] = {
        { ".attentions.0.query.", ".attentions.0.to_q." },
        { ".attentions.0.key.", ".attentions.0.to_k." },
        { ".attentions.0.value.", ".attentions.0.to_v." },
        { ".attentions.0.proj_attn.", ".attentions.0.to_out.0." },
    };

    strcpy(out, name);
    for (size_t i = 0; i < AD_COUNT(pairs); i++)
        ad_replace(out, pairs[i][0], pairs[i][1]);
    return strncmp(out, "encoder.", 8) && strncmp(out, "quant_conv.", 11);
}
