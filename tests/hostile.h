/* hostile.h - what it costs to refuse a file; at most a second and 64 MiB.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_HOSTILE_H
#define AD_HOSTILE_H

#include "../engine/animatediff.h"

/* Open the file in a process of its own, whose memory can be measured. It must be refused with
 * AD_ERR_FORMAT, within a second of computing (waiting for the disk or another process does not
 * count) and within 64 MiB beside the 16 MiB of the text itself.
 * NULL: so it was; else what was wrong. */
const char *hostile_open(AdStatus (*open)(const char *path), const char *path);

#endif
