/* ref_ops.h - every operation as a plain loop: the definition that fast backends answer to.
 *
 * Called through ad_ref_ops by the ref backend, and as the starting point of cpu's table. Any
 * element type, f64 sums.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_REF_OPS_H
#define AD_REF_OPS_H

#include "../backend.h"

extern const AdOps ad_ref_ops;

AdStatus ad_ref_gather   (AdBackend *be, const AdGatherArgs *a);
AdStatus ad_ref_linear   (AdBackend *be, const AdLinearArgs *a);
AdStatus ad_ref_conv2d   (AdBackend *be, const AdConvArgs *a);
AdStatus ad_ref_norm     (AdBackend *be, const AdNormArgs *a);
AdStatus ad_ref_attention(AdBackend *be, const AdAttentionArgs *a);
AdStatus ad_ref_activate (AdBackend *be, const AdActArgs *a);
AdStatus ad_ref_upsample (AdBackend *be, const AdUpsampleArgs *a);
AdStatus ad_ref_lincomb  (AdBackend *be, const AdLincombArgs *a);
AdStatus ad_ref_to_rgb   (AdBackend *be, const AdRgbArgs *a);
AdStatus ad_ref_nonfinite(AdBackend *be, const AdNonfiniteArgs *a);

/* Dense packing in the given element type (vectors: f32); what ref and null do. */
AdStatus ad_ref_pack(AdBackend *be, const AdPackArgs *a);

#endif
