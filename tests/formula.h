/* formula.h - weights from a formula, for whatever names and shapes a bind function asks for.
 *
 * The binder is asked to check a part that has no weights; what it complains about is what it
 * wants. The tensors are then written to a safetensors file with the golden data's formula and
 * loaded as any model's.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_FORMULA_H
#define AD_FORMULA_H

#include "../engine/binder.h"

typedef void (*FormulaBind)(AdBinder *b, void *opaque);

typedef struct FormulaPart {
    AdBackend *backend;
    void      *slab;            /* packed weights */
    int        tensors;         /* how many were asked for */
} FormulaPart;

/* Bind with formula weights. prefix: what the bind function puts in front of names that the golden
 * block does not know ("motion_modules.0."), or "". seed: a tensor [width] that must be there from
 * the start because its presence is asked for; NULL: none. */
AdStatus formula_bind(AdContext *ctx, AdBackend *be, AdType type, const char *prefix,
                      const char *seed, int64_t width, FormulaBind bind, void *opaque,
                      FormulaPart *out);
void     formula_free(FormulaPart *part);

#endif
