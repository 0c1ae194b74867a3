/* cpu_amx.h - attention in bf16 on matrix tiles (AMX), for processors that have them.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CPU_AMX_H
#define AD_CPU_AMX_H

#include "../backend.h"

/* Whether tiles may be used: asks the kernel for the permission a process needs. */
bool ad_cpu_amx_allowed(void);

/* One head's keys and values in tile order, and what one thread needs besides; in bytes. */
typedef struct AdAmxSizes {
    size_t keys, values, work;
} AdAmxSizes;

AdAmxSizes ad_cpu_amx_sizes(int keys, int d);

typedef struct AdAmxHead {
    const uint16_t *q;
    uint16_t       *out;
    int64_t         q_row, out_row;     /* elements from one position to the next */
    const uint16_t *keys, *values;      /* packed                                 */
    int             count, d;           /* of keys; head width                    */
    float           scale;
    bool            causal;
} AdAmxHead;

/* Set up and release the tiles of the calling thread; everything below stands in between. */
void ad_cpu_amx_start(void);
void ad_cpu_amx_stop(void);

void ad_cpu_amx_pack(uint16_t *keys, uint16_t *values, const uint16_t *k, int64_t k_row,
                     const uint16_t *v, int64_t v_row, int count, int d);

/* Queries first ... first + count - 1. work: AdAmxSizes.work bytes, aligned to 64. */
void ad_cpu_amx_attend(const AdAmxHead *head, int first, int count, void *work);

#endif
