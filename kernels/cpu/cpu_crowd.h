/* cpu_crowd.h - sleeping threads that keep OpenMP's from spinning; see cpu_crowd.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_CROWD_H
#define AD_CPU_CROWD_H

#include "../base.h"

typedef struct AdCpuCrowd AdCpuCrowd;

/* NULL: none could be made; everything works without, slower on a busy machine. */
AdCpuCrowd *ad_cpu_crowd_create(void);
void        ad_cpu_crowd_destroy(AdCpuCrowd **crowd);

#endif
