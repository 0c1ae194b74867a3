/* fuzz.h - what all fuzz targets share: files that are only in memory, and what must hold whatever
 * the input is.
 *
 * A target is a file fuzz_x.c with LLVMFuzzerTestOneInput (libFuzzer), a dictionary x.dict, and
 * seeds that seeds.sh takes from tests/golden. See tests/README.md.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_FUZZ_H
#define AD_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../engine/internal.h"
#include "../../engine/tensor_file.h"

extern AdContext fuzz_ctx;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The path of a file with these bytes; good until the next call with the same slot. */
enum { FUZZ_SLOTS = 4 };
const char *fuzz_file(int slot, const void *data, size_t n);

/* A folder in which `name` is the file of a slot; NULL: `name` is not there. */
const char *fuzz_folder(const char *name, int slot);

/* Ends the program when it is not so. */
#define FUZZ_CHECK(condition) \
    do { if (!(condition)) fuzz_fail(__FILE__, __LINE__, #condition); } while (0)
void fuzz_fail(const char *file, int line, const char *condition);

/* A call that failed must have said so in a sentence, and for a reason that lies in its input. */
void fuzz_status(AdStatus st);

/* Open a file of tensors, look at every entry and read those that are small. */
AdStatus fuzz_tensors(const char *path);

#endif
