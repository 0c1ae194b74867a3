/* pickles.h - words of the pickle language, to write pickles as C strings.
 *
 * Octal escapes end after three digits, so that text may follow them.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PICKLES_H
#define AD_PICKLES_H

#define P               "\200\4"                /* protocol 4 */
#define TEXT(n, s)      "\214" n s
#define TUPLE(a, b)     a b "\206"
#define MAX_INT         "J\377\377\377\177"
#define MAX_LONG        "\212\10\377\377\377\377\377\377\377\177"
#define TWO_31          "\212\5\0\0\0\200\0"
#define EIGHT           "(K\1K\1K\1K\1K\1K\1K\1K\1"     /* a mark and as many ones */
#define NAME(module, name) "c" module "\n" name "\n"
#define STORAGE_OF(type, key, count) \
    "(" TEXT("\7", "storage") type key TEXT("\3", "cpu") count "tQ"
#define FLOATS          NAME("torch", "FloatStorage")
#define STORAGE         STORAGE_OF(FLOATS, TEXT("\1", "0"), "K\6")
#define REBUILD         NAME("torch._utils", "_rebuild_tensor_v2")
#define TENSOR_OF(storage, offset, sizes, strides) \
    REBUILD "(" storage offset sizes strides "\211NtR"
#define VIEW(offset, sizes, strides) TENSOR_OF(STORAGE, offset, sizes, strides)
#define TENSOR          VIEW("K\0", TUPLE("K\2", "K\3"), TUPLE("K\3", "K\1"))
#define PARAMETER       NAME("torch._utils", "_rebuild_parameter")
#define ORDERED         NAME("collections", "OrderedDict")
#define PARAMETERS      NAME("torch.nn.modules.container", "ParameterDict")
#define INERT           NAME("_codecs", "encode")
#define A(value)        P "}" TEXT("\1", "a") value "s."        /* { "a": value } */

#define BYTES(s)        s, sizeof(s) - 1

#endif
