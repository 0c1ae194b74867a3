/* tensors.h - writing safetensors files, right ones and wrong ones.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_TENSORS_H
#define AD_TENSORS_H

#include <stddef.h>
#include <stdint.h>

typedef struct TensorWriter {   /* zero: an empty file */
    char          *header;
    unsigned char *data;
    size_t         header_bytes, header_room, bytes, room;
} TensorWriter;

/* Append one tensor; data NULL: zeros. The name is written as it is (no escapes are made). */
void tensors_add(TensorWriter *w, const char *name, const char *dtype, int rank,
                 const int64_t *shape, const void *data, size_t bytes);

/* An f32 tensor with the golden data's formula (tests/golden/README.md) over its name and shape. */
void tensors_add_formula(TensorWriter *w, const char *name, int rank, const int64_t *shape);

/* Write it as a scratch file, forget everything, return the path. */
const char *tensors_write(TensorWriter *w, const char *file);

/* A scratch file of a header's text, with any bytes in it, and zeros behind. */
const char *tensors_raw(const char *file, const char *header, size_t header_bytes,
                        size_t data_bytes);

/* sin(a * i + c), i = 0 ... n-1: the golden inputs. */
void formula_wave(float *out, size_t n, double a, double c);

#endif
