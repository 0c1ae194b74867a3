/* lycoris.h - the formulas of adapters: values of a file in, rows of a weight's change out.
 *
 * A weight is [out, columns]: columns is in for a linear layer, in * positions for a convolution's
 * kernel, 1 for a bias or a norm. Each kind of adapter is one AdDeltaKind: which values it has,
 * whether their shapes go with the weight, and its formula for a few rows at a time, so that a
 * change is never in memory as a whole.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_LYCORIS_H
#define AD_LYCORIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../kernels/base.h"
#include "caps.h"

enum { AD_DELTA_PARTS = 7, AD_DELTA_ROWS = 16 };

typedef struct AdDeltaPart {            /* one tensor of the file */
    const float *v;                     /* may come after fits()  */
    bool         there;
    int          rank;
    int64_t      dim[AD_CAP_RANK];
    int64_t      count;
} AdDeltaPart;

typedef struct AdDelta {
    const struct AdDeltaKind *kind;
    AdDeltaPart part[AD_DELTA_PARTS];   /* as the kind has them               */
    int64_t     out, in, positions;     /* the weight                         */
    int64_t     rank;                   /* set by fits(): alpha is divided by */
    bool        on_input;               /* IA3: columns are scaled, not rows  */
    double      scale;                  /* alpha / rank                       */
} AdDelta;

typedef struct AdDeltaKind {
    const char *name;                   /* "LoHa" */

    /* Whether the shapes go with each other and with the weight; sets rank, 0: no alpha. */
    bool (*fits)(AdDelta *d);

    /* delta[n, columns] of rows from ... from + n - 1, without scale; n <= AD_DELTA_ROWS.
     * w: the weight's rows, unchanged so far. */
    void (*rows)(const AdDelta *d, int64_t from, int n, const float *w, float *delta,
                 float *scratch);
} AdDeltaKind;

/* Their parts in order; those in brackets may be missing. */
extern const AdDeltaKind ad_delta_lora;     /* down [r, columns], up [out, r], (mid)            */
extern const AdDeltaKind ad_delta_loha;     /* w1_a, w1_b, w2_a, w2_b, (t1, t2)                 */
extern const AdDeltaKind ad_delta_lokr;     /* (w1), (w1_a, w1_b), (w2), (w2_a, w2_b), (t2)     */
extern const AdDeltaKind ad_delta_full;     /* the difference itself                            */
extern const AdDeltaKind ad_delta_ia3;      /* a factor per row or column: W * factor is added  */
extern const AdDeltaKind ad_delta_ia3_peft; /* the same: W becomes W * factor                   */

/* A magnitude for each row (or column) of the changed weight: Liu et al. 2024, DoRA, arXiv
 * 2402.09353. */
typedef struct AdMagnitude {
    const float *v;                     /* NULL: none */
    bool         on_input;
} AdMagnitude;

/* w += strength * the change; w is [out, columns]. With a magnitude: w += strength * (w' - w), with
 * w' the changed weight at full strength whose rows are as long as the magnitude says. */
AdStatus ad_delta_add(const AdDelta *d, double strength, const AdMagnitude *m, float *w);

#endif
