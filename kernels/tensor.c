/* tensor.c - element types and views; see tensor.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "tensor.h"

static const struct { const char *name; size_t bytes; } types[AD_TYPES] = {
    [AD_F32] = { "f32", 4 }, [AD_F16] = { "f16", 2 }, [AD_BF16] = { "bf16", 2 },
    [AD_I32] = { "i32", 4 }, [AD_U8]  = { "u8", 1 },
};

size_t ad_type_bytes(AdType type)
{
    return types[type].bytes;
}

const char *ad_type_name(AdType type)
{
    return types[type].name;
}

const char *ad_shape_text(AdTensor t, char *out)
{
    ad_format(out, AD_SHAPE_TEXT, "[%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "] %s",
              t.dim[0], t.dim[1], t.dim[2], t.dim[3], ad_type_name(t.type));
    return out;
}

AdTensor ad_view(AdTensor t, int64_t n, int64_t h, int64_t w, int64_t c)
{
    assert(n * h * w * c == ad_count(t) && t.layout == 0);
    t.dim[0] = n;
    t.dim[1] = h;
    t.dim[2] = w;
    t.dim[3] = c;
    return t;
}

AdTensor ad_slice(AdTensor t, int64_t first, int64_t count)
{
    size_t entry = ad_bytes(t) / (size_t)t.dim[0];

    assert(first >= 0 && count >= 0 && first + count <= t.dim[0] && t.layout == 0);
    if (t.data)
        t.data = (char *)t.data + (size_t)first * entry;
    t.dim[0] = count;
    return t;
}

float ad_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31;
    uint32_t mantissa = half & 0x3ff;
    union { uint32_t u; float f; } v;

    if (exponent == 31)
        v.u = sign | 0x7f800000u | mantissa << 13;
    else if (exponent)
        v.u = sign | (exponent + 112) << 23 | mantissa << 13;
    else {                                              /* subnormal: mantissa * 2^-24 */
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t ad_float_to_half(float value)
{
    union { float f; uint32_t u; } v = { value };
    uint32_t sign = v.u >> 16 & 0x8000, bits = v.u & 0x7fffffffu;

    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00);               /* NaN */
    if (bits >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00);               /* 65520 and above round to infinity */
    if (bits < 0x38800000u) {                           /* below 2^-14: a multiple of 2^-24 */
        union { float f; uint32_t u; } shifted = { 0 };
        shifted.u = bits;
        shifted.f += 0.5f;                          /* the adder rounds to 2^-24, ties to even */
        return (uint16_t)(sign | (shifted.u - 0x3f000000u));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

float ad_load(const void *data, AdType type, int64_t i)
{
    switch (type) {
    case AD_F32:  return ((const float *)data)[i];
    case AD_F16:  return ad_half_to_float(((const uint16_t *)data)[i]);
    case AD_BF16: return ad_bf16_to_float(((const uint16_t *)data)[i]);
    default:      assert(!"not a floating type"); return 0;
    }
}

void ad_store(void *data, AdType type, int64_t i, float value)
{
    switch (type) {
    case AD_F32:  ((float *)data)[i] = value; break;
    case AD_F16:  ((uint16_t *)data)[i] = ad_float_to_half(value); break;
    case AD_BF16: ((uint16_t *)data)[i] = ad_float_to_bf16(value); break;
    default:      assert(!"not a floating type");
    }
}

void ad_convert(void *out, AdType out_type, const void *in, AdType in_type, int64_t n)
{
    if (out_type == in_type) {
        memcpy(out, in, (size_t)n * ad_type_bytes(in_type));
        return;
    }
    if (out_type == AD_F32 && in_type == AD_BF16) {     /* plain loops the compiler vectorises */
        for (int64_t i = 0; i < n; i++)
            ((float *)out)[i] = ad_bf16_to_float(((const uint16_t *)in)[i]);
    } else if (out_type == AD_BF16 && in_type == AD_F32) {
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)out)[i] = ad_float_to_bf16(((const float *)in)[i]);
    } else {
        for (int64_t i = 0; i < n; i++)
            ad_store(out, out_type, i, ad_load(in, in_type, i));
    }
}
