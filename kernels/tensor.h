/* tensor.h - a view of numbers: address, four sizes, a type.
 *
 * One layout everywhere: [n, h, w, c], dense, channels last. A convolution's output is therefore
 * the token matrix [n, h*w, c] of attention, and a frame axis is folded into n; nothing is ever
 * permuted. Only attention takes strides.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_TENSOR_H
#define AD_TENSOR_H

#include "base.h"

typedef enum AdType { AD_F32, AD_F16, AD_BF16, AD_I32, AD_U8, AD_TYPES } AdType;

typedef struct AdTensor {       /* a view; never owns                                        */
    void   *data;               /* device address; NULL: no tensor (absent, or after failure) */
    int64_t dim[4];             /* [n, h, w, c]; unused sizes are 1                           */
    AdType  type;
    int     layout;             /* 0: dense. Else a weight in its backend's own order         */
} AdTensor;

/* Bytes of one element: 4, 2, 2, 4, 1. */
size_t ad_type_bytes(AdType type);

/* "f32", "f16", "bf16", "i32", "u8" */
const char *ad_type_name(AdType type);

/* "[2, 16, 16, 320] bf16" in a buffer of AD_SHAPE_TEXT bytes; returns the buffer. */
#define AD_SHAPE_TEXT 96
const char *ad_shape_text(AdTensor t, char *out);

/* Numbers in the tensor, and in one row (all but the last axis). */
static inline int64_t ad_count(AdTensor t)
{
    return t.dim[0] * t.dim[1] * t.dim[2] * t.dim[3];
}

static inline int64_t ad_rows(AdTensor t)
{
    return t.dim[0] * t.dim[1] * t.dim[2];
}

static inline size_t ad_bytes(AdTensor t)
{
    return (size_t)ad_count(t) * ad_type_bytes(t.type);
}

static inline bool ad_same_shape(AdTensor a, AdTensor b)
{
    return a.dim[0] == b.dim[0] && a.dim[1] == b.dim[1] && a.dim[2] == b.dim[2] &&
           a.dim[3] == b.dim[3];
}

/* The same numbers under other sizes; the product must not change. */
AdTensor ad_view(AdTensor t, int64_t n, int64_t h, int64_t w, int64_t c);

/* Entries [first, first + count) of the first axis. */
AdTensor ad_slice(AdTensor t, int64_t first, int64_t count);

/* One number of type f16 or bf16 and back; f32 to half rounds to nearest, ties to even. */
float    ad_half_to_float(uint16_t half);
uint16_t ad_float_to_half(float value);

static inline float ad_bf16_to_float(uint16_t bits)
{
    union { uint32_t u; float f; } v = { (uint32_t)bits << 16 };
    return v.f;
}

static inline uint16_t ad_float_to_bf16(float value)
{
    union { float f; uint32_t u; } v = { value };

    if ((v.u & 0x7fffffffu) > 0x7f800000u)              /* keep a NaN a NaN */
        return (uint16_t)((v.u >> 16) | 0x40);
    return (uint16_t)((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
}

/* Element i of memory that holds `type` (f32, f16 or bf16), as float; and the reverse. */
float ad_load(const void *data, AdType type, int64_t i);
void  ad_store(void *data, AdType type, int64_t i, float value);

/* n elements from one floating type to another. */
void ad_convert(void *out, AdType out_type, const void *in, AdType in_type, int64_t n);

#endif
