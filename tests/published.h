/* published.h - files as large as the published ones.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PUBLISHED_H
#define AD_PUBLISHED_H

/* A scratch file with all tensors of Stable Diffusion 1.5 as f16 zeros: a header and a hole of
 * 2 GB. Returns its path, as scratch(). */
const char *published_checkpoint(const char *file_name);

#endif
