/* weighting.h - weights of a prompt's tokens, applied to its text states.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_WEIGHTING_H
#define AD_WEIGHTING_H

#include "nn.h"

/* In place, every chunk of 77 on its own: z = weights * states, then z * mean(states) / mean(z), so
 * that emphasis moves attention and not the level of the whole. A chunk whose weights are all 1
 * stays as it is, bit for bit. states [1, 1, chunks * 77, width], weights: one per token. */
void ad_weigh_states(AdExec *x, AdTensor states, const float *weights);

#endif
