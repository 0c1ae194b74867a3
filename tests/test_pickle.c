/* test_pickle.c - pickles that no program of ours should obey.
 *
 * Each stands in data.pkl of a zip file whose one storage, "0", has 24 bytes: six floats. What
 * torch really writes: test_torch_file.c; how much there may be: test_pickle_caps.c; broken zip
 * files: test_zip.c.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../engine/internal.h"
#include "check.h"
#include "pickles.h"
#include "zips.h"

static AdContext ctx;
static size_t i_;               /* outlives the longjmp of a failing case */

static AdStatus open_pickle(const void *pickle, size_t n, AdTensorFile **f)
{
    ZipWriter w = { 0 };

    zip_torch(&w, pickle, n, 24);
    return ad_tensor_file_open(&ctx, f, zip_write(&w, "p.pt"));
}

/* ---- accepted ----------------------------------------------------------------------------- */

static const struct Accepted {
    const char *what, *pickle;
    size_t      n;
    const char *names;          /* of all tensors, with a blank behind each */
} accepted[] = {
    { "an empty dict", BYTES(P "}."), "" },
    { "a tensor", BYTES(A(TENSOR)), "a " },
    { "a tensor without a dict", BYTES(P TENSOR "."), "tensor " },
    { "a list of tensors", BYTES(P "](" TENSOR TENSOR "e."), "0 1 " },
    { "a tuple of tensors", BYTES(P TENSOR "N" TENSOR "\207."), "0 2 " },
    { "protocol 2", BYTES("\200\2}."), "" },
    { "protocol 3", BYTES("\200\3}."), "" },
    { "an OrderedDict", BYTES(P ORDERED ")R" TEXT("\1", "a") TENSOR "s."), "a " },
    { "an OrderedDict made as an object", BYTES(P ORDERED ")\201" TEXT("\1", "a") TENSOR "s."),
      "a " },
    { "an OrderedDict with attributes", BYTES(P ORDERED ")R" TEXT("\1", "a") TENSOR "s}"
      TEXT("\11", "_metadata") "}sb."), "a " },
    { "a name from two texts", BYTES(P TEXT("\13", "collections") TEXT("\13", "OrderedDict")
      "\223)R."), "" },
    { "a parameter", BYTES(A(PARAMETER TENSOR "\211N\207R")), "a " },
    { "a size of torch", BYTES(A(VIEW("K\0", NAME("torch", "Size") TUPLE("K\2", "K\3") "\205R",
      TUPLE("K\3", "K\1")))), "a " },
    { "a ParameterDict", BYTES(A(PARAMETERS ")\201}" TEXT("\13", "_parameters") "}" TEXT("\1", "b")
      TENSOR "ssb")), "a.b " },
    { "inert objects", BYTES(P "}" TEXT("\1", "x") INERT TEXT("\1", "y") TEXT("\6", "latin1")
      "\206R}bs" TEXT("\1", "a") TENSOR "s" TEXT("\1", "z") NAME("pytorch_lightning.a", "B")
      ")\201(K\1K\2u(K\3es."), "a " },
    { "a set", BYTES(P "}K\1\217(K\1N\220s."), "" },
    { "a frozen set", BYTES(P "}K\1(K\1N\221s."), "" },
    { "numbers as keys", BYTES(P "}J\376\377\377\377" TENSOR "s\212\5\0\0\0\0\1" TENSOR "s."),
      "-2 4294967296 " },
    { "keys that name nothing", BYTES(P "}N" TENSOR "s" "K\1K\2\206" TENSOR "s."), "" },
    { "a very large number", BYTES(P "}N\212\12" "0123456789s."), "" },
    { "a tensor that reaches the end", BYTES(A(VIEW("K\5", "K\1\205", "K\1\205"))), "a " },
    { "an empty tensor behind the end", BYTES(A(VIEW("K\6", "K\0\205", "K\1\205"))), "a " },
    { "a scalar", BYTES(A(VIEW("K\5", ")", ")"))), "a " },
    { "1 MiB of nothing but repeats", BYTES(A(VIEW("K\0", TUPLE("M\0\2", "M\0\2"),
      TUPLE("K\0", "K\0")))), "a " },
    { "the longest axis", BYTES(A(VIEW("K\0", TUPLE(MAX_INT, "K\0"), TUPLE("K\1", "K\1")))),
      "a " },
    { "eight axes", BYTES(A(VIEW("K\0", EIGHT "t", EIGHT "t"))), "a " },
    { "wrappers", BYTES(P "}" TEXT("\1", "x") TENSOR "s" TEXT("\5", "model") "}"
      TEXT("\12", "state_dict") "}" TEXT("\1", "a") TENSOR "sss."), "a " },
    { "a wrapper's name on a tensor", BYTES(P "}" TEXT("\5", "model") TENSOR "s."), "model " },
    { "one tensor in two places", BYTES(P "}" TEXT("\1", "a") TENSOR "\224s" TEXT("\1", "b")
      "h\0s."), "a b " },
    { "a memo number used again", BYTES(P "}q\0" TEXT("\1", "a") "q\0" TENSOR "s."), "a " },
};

static void is_accepted(const struct Accepted *a)
{
    static float numbers[1 << 18];
    AdTensorFile *f = NULL;
    char names[256] = "";

    if (open_pickle(a->pickle, a->n, &f) < 0)
        FAIL("%s", ctx.error);
    for (size_t i = 0; i < f->count; i++) {
        strcat(strcat(names, f->entries[i].name), " ");
        CHECK(ad_entry_count(&f->entries[i]) <= 1 << 18);
        CHECK_STATUS(ad_entry_read(&ctx, f, &f->entries[i], numbers), AD_OK);
    }
    CHECK_TEXT(names, a->names);
    ad_tensor_file_close(&f);
}

/* Sixteen signs that a terminal would obey, and four as they are shown. */
#define SIGNS  "\33\33\33\33\33\33\33\33\33\33\33\33\33\33\33\33"
#define QUOTED "\\x1b\\x1b\\x1b\\x1b"

/* ---- refused ------------------------------------------------------------------------------ */

typedef struct Refused {
    const char *pickle;
    size_t      n;
    const char *part;
} Refused;

static const Refused shape[] = {
    /* begin and end */
    { BYTES(""), "no pickle of protocol 2 to 4" }, { BYTES("\200"), "no pickle of protocol" },
    { BYTES("}."), "no pickle of protocol" }, { BYTES("(dp0\n."), "no pickle of protocol" },
    { BYTES(P), "byte 2: ends too early" }, { BYTES(P "}"), "ends too early" },
    { BYTES(P "}.."), "bytes behind its end" }, { BYTES(P "}.\0"), "bytes behind its end" },
    { BYTES(P "."), "ends with more or less than one value" },
    { BYTES(P "}}."), "ends with more or less" }, { BYTES(P "(."), "ends with more or less" },
    { BYTES(P "}(."), "ends with more or less" }, { BYTES(P P "}."), "opcode 0x80 is not one" },
    { BYTES(P "N."), "neither a dict nor a tensor" }, { BYTES(P "K\1."), "neither a dict nor" },
    { BYTES(P "\225\11\0\0\0\0\0\0\0}."), "a frame longer than the rest" },
    { BYTES(P "\225\377\377\377\377\377\377\377\377}."), "a frame longer than the rest" },
    /* the stack */
    { BYTES(P "s."), "too few values" }, { BYTES(P "}s."), "too few values" },
    { BYTES(P "}K\1s."), "too few values" }, { BYTES(P "a."), "too few values" },
    { BYTES(P "]a."), "too few values" }, { BYTES(P "](a."), "too few values" },
    { BYTES(P "\205."), "too few values" }, { BYTES(P "K\1\206."), "too few values" },
    { BYTES(P "K\1(K\2\206."), "too few values" }, { BYTES(P "NN\207."), "too few values" },
    { BYTES(P "b."), "too few values" }, { BYTES(P "}(}b."), "too few values" },
    { BYTES(P "u."), "no mark on the stack" }, { BYTES(P "}e."), "no mark on the stack" },
    { BYTES(P "t."), "no mark on the stack" }, { BYTES(P "\220."), "no mark on the stack" },
    { BYTES(P "\221."), "no mark on the stack" }, { BYTES(P "(u."), "too few values" },
    { BYTES(P "((u."), "an item for what is no dict" }, { BYTES(P "R."), "a call needs" },
    { BYTES(P ")R."), "a call needs" }, { BYTES(P "Q."), "a persistent id that is no storage" },
    { BYTES(P "\223."), "a name that is not two texts" },
    { BYTES(P "K\1" TEXT("\1", "a") "\223."), "a name that is not two texts" },
    /* containers */
    { BYTES(P "]K\1K\2s."), "an item for what is no dict" },
    { BYTES(P ")K\1K\2s."), "an item for what is no dict" },
    { BYTES(P TENSOR "K\1K\2s."), "an item for what is no dict" },
    { BYTES(P "}K\1a."), "an item for what is no list" },
    { BYTES(P ")(K\1e."), "an item for what is no list" },
    { BYTES(P "}(K\1u."), "a key without a value" },
    { BYTES(P "}(K\1\220."), "an item for what is no set" },
    { BYTES(P TEXT("\1", "a") "(K\1\220."), "an item for what is no set" },
    /* the memo */
    { BYTES(P "h\0."), "a memo number that nothing was put at" },
    { BYTES(P "}q\0h\1."), "a memo number that nothing was put at" },
    { BYTES(P "}j\377\377\377\377."), "a memo number that nothing was put at" },
    { BYTES(P "}q\1."), "a memo number out of order" },
    { BYTES(P "}r\377\377\377\177."), "a memo number out of order" },
    { BYTES(P "q\0}."), "too few values" }, { BYTES(P "(q\0}."), "too few values" },
    { BYTES(P "\224."), "too few values" },
    /* arguments cut off */
    { BYTES(P "K"), "ends too early" }, { BYTES(P "J\0\0\0"), "ends too early" },
    { BYTES(P "G\0\0\0\0\0\0\0"), "ends too early" }, { BYTES(P "X\4\0\0\0abc"), "ends too early" },
    { BYTES(P "X\377\377\377\377abc."), "ends too early" },
    { BYTES(P "\215\377\377\377\377\377\377\377\377abc."), "ends too early" },
    { BYTES(P "\215\0\0\0\0\0\0\0\200abc."), "ends too early" },
    { BYTES(P "\212\377abc."), "ends too early" }, { BYTES(P "B\377\377\377\177."), "too early" },
    { BYTES(P "ctorch"), "a name without an end" },
    { BYTES(P "ctorch\nSize"), "a name without an end" },
};

static const Refused names[] = {
    { BYTES(A(NAME("os", "system") TEXT("\2", "id") "\205R")),
      "asks for \"os.system\", which is not among the few names of a file of tensors" },
    { BYTES(A(NAME("posix", "system") TEXT("\2", "id") "\205R")), "asks for \"posix.system\"" },
    { BYTES(A(NAME("nt", "system"))), "asks for \"nt.system\"" },
    { BYTES(A(NAME("builtins", "eval"))), "asks for \"builtins.eval\"" },
    { BYTES(A(NAME("__builtin__", "getattr"))), "asks for \"__builtin__.getattr\"" },
    { BYTES(A(NAME("subprocess", "Popen"))), "asks for \"subprocess.Popen\"" },
    { BYTES(A(TEXT("\2", "os") TEXT("\6", "system") "\223")), "asks for \"os.system\"" },
    { BYTES(A(NAME("torch", "load"))), "asks for \"torch.load\"" },
    { BYTES(A(NAME("torch.hub", "load"))), "asks for \"torch.hub.load\"" },
    { BYTES(A(NAME("torch._utils", "_rebuild_tensor_v2.__globals__"))), "asks for \"torch._utils" },
    { BYTES(A(NAME("numpy.core", "multiarray"))), "asks for \"numpy.core.multiarray\"" },
    { BYTES(A(NAME("pytorch_lightning", ""))), "asks for \"pytorch_lightning.\"" },
    { BYTES(A(NAME("pytorch_lightning2", "x"))), "asks for \"pytorch_lightning2.x\"" },
    { BYTES(A(NAME("", "pytorch_lightning.x"))), "asks for \".pytorch_lightning.x\"" },
    { BYTES(A(NAME("collections", "OrderedDict\0"))), "asks for \"collections.OrderedDict\\x00\"" },
    { BYTES(A(NAME("collections", "OrderedDict\r"))), "asks for \"collections.OrderedDict\\x0d\"" },
    { BYTES(A(NAME("Collections", "OrderedDict"))), "asks for \"Collections.OrderedDict\"" },
    { BYTES(A(NAME("", ""))), "asks for \".\"" },
    { BYTES(A(NAME("\33[2Jos", "system"))), "asks for \"\\x1b[2Jos.system\"" },
    { BYTES(A(NAME("a234567890b234567890c234567890d234567890e234567890f234567890g234567890"
      "h234567890i234567890j234567890k234567890l234567890m234567890", "n"))), "asks for \"a23456" },
    /* calls */
    { BYTES(A(TEXT("\2", "id") ")R")), "a call of what is no function" },
    { BYTES(A("K\1)R")), "a call of what is no function" },
    { BYTES(A(TENSOR ")R")), "a call of what is no function" },
    { BYTES(A(INERT "K\1R")), "a call needs a function and a tuple" },
    { BYTES(A(ORDERED "]\205R")), "a call that a file of tensors has no need of" },
    { BYTES(A(FLOATS ")R")), "a call that a file of tensors has no need of" },
    { BYTES(A(FLOATS ")\201")), "an object that a file of tensors has no need of" },
    { BYTES(A(REBUILD ")\201")), "an object that a file of tensors has no need of" },
    { BYTES(A(TEXT("\2", "id") ")\201")), "a call of what is no function" },
    { BYTES(A(REBUILD ")R")), "a tensor needs a storage, an offset, sizes and strides" },
    { BYTES(A(REBUILD "(" STORAGE "K\0))\211tR")), "a tensor needs" },
    { BYTES(A(REBUILD "(" STORAGE "K\0))\211NNNtR")), "a tensor needs" },
    { BYTES(A(REBUILD "(NK\0))\211NtR")), "a tensor needs" },
    { BYTES(A(REBUILD "(" STORAGE "N))\211NtR")), "a tensor needs" },
    { BYTES(A(REBUILD "(" STORAGE "K\0])\211NtR")), "a tensor needs" },
    { BYTES(A(REBUILD "(" STORAGE "K\0)]\211NtR")), "a tensor needs" },
    { BYTES(A(PARAMETER ")R")), "a parameter needs a tensor" },
    { BYTES(A(PARAMETER TENSOR "\211\206R")), "a parameter needs a tensor" },
    { BYTES(A(PARAMETER "NNN\207R")), "a parameter needs a tensor" },
    { BYTES(A(NAME("torch", "Size") "K\1\205R")), "a size needs a tuple" },
    { BYTES(A(NAME("torch", "Size") ")R")), "a size needs a tuple" },
    { BYTES(A("]}b")), "a state for what is no object" },
    { BYTES(A(TENSOR "}b")), "a state for what is no object" },
    { BYTES(A(REBUILD "}b")), "a state for what is no object" },
    { BYTES(A(ORDERED ")R}b}b")), "a second state for one object" },
    { BYTES(P "c" SIGNS SIGNS SIGNS SIGNS "\n" SIGNS SIGNS "\n)R."),
      "asks for \"" QUOTED QUOTED QUOTED QUOTED QUOTED "...\"" },
};

static const Refused storages[] = {
    { BYTES(A("K\1Q")), "a persistent id that is no storage" },
    { BYTES(A("(" TEXT("\7", "storage") "tQ")), "a persistent id" },
    { BYTES(A("(" TEXT("\6", "module") FLOATS TEXT("\1", "0") "NK\6tQ")), "a persistent id" },
    { BYTES(A(STORAGE_OF("N", TEXT("\1", "0"), "K\6"))), "a persistent id that is no storage" },
    { BYTES(A(STORAGE_OF(ORDERED, TEXT("\1", "0"), "K\6"))), "a persistent id" },
    { BYTES(A(STORAGE_OF(FLOATS, "K\0", "K\6"))), "a persistent id that is no storage" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "0"), "N"))), "a persistent id that is no storage" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "1"), "K\6"))), "that the zip file does not have" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\0", ""), "K\6"))), "whose key is no plain name" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\13", "../data.pkl"), "K\6"))), "is no plain name" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\2", ".."), "K\6"))), "whose key is no plain name" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\2", "0\0"), "K\6"))), "whose key is no plain name" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\13", "/etc/passwd"), "K\6"))), "is no plain name" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "0"), "K\7"))),
      "a storage of 7 numbers of 4 bytes has 24 bytes of data" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "0"), "K\5"))), "a storage of 5 numbers" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "0"), "J\372\377\377\377"))), "of -6 numbers" },
    { BYTES(A(STORAGE_OF(FLOATS, TEXT("\1", "0"), "\212\10\6\0\0\0\0\0\0\100"))),
      "a storage of 4611686018427387910 numbers" },
    { BYTES(A(STORAGE_OF(NAME("torch", "DoubleStorage"), TEXT("\1", "0"), "K\6"))),
      "6 numbers of 8 bytes has 24" },
};

static const Refused tensors[] = {
    { BYTES(A(VIEW("J\377\377\377\377", "K\1\205", "K\1\205"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\1", TUPLE("K\2", "K\3"), TUPLE("K\3", "K\1")))), "beyond its storage" },
    { BYTES(A(VIEW("K\6", ")", ")"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\7", "K\0\205", "K\1\205"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\0", "K\7\205", "K\1\205"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\0", TUPLE("K\2", "K\3"), TUPLE("K\4", "K\1")))), "beyond its storage" },
    { BYTES(A(VIEW(MAX_LONG, "K\2\205", "K\1\205"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\0", "K\2\205", MAX_LONG "\205"))), "reaches beyond its storage" },
    { BYTES(A(VIEW("K\0", TUPLE("K\4", "K\4"), TUPLE(MAX_LONG, MAX_LONG)))), "size overflows" },
    { BYTES(A(VIEW("K\0", "K\2\205", "J\377\377\377\377\205"))), "a negative stride" },
    { BYTES(A(VIEW("K\5", "K\2\205", "J\377\377\377\377\205"))), "a negative stride" },
    { BYTES(A(VIEW("K\0", "J\377\377\377\377\205", "K\1\205"))), "an axis below 0" },
    { BYTES(A(VIEW("K\0", TWO_31 "\205", "K\0\205"))), "or of 2^31 or more" },
    { BYTES(A(VIEW("K\0", TUPLE(TWO_31, "K\0"), TUPLE("K\0", "K\0")))), "or of 2^31 or more" },
    { BYTES(A(VIEW("K\0", MAX_INT MAX_INT MAX_INT "\207", "K\0K\0K\0\207"))), "size overflows" },
    { BYTES(A(VIEW("K\0", "(" MAX_INT MAX_INT MAX_INT "K\0t", "(K\0K\0K\0K\0t"))), "overflows" },
    { BYTES(A(VIEW("K\0", TUPLE("M\1\2", "M\0\2"), TUPLE("K\0", "K\0")))), "much larger than its" },
    { BYTES(A(VIEW("K\0", MAX_INT "\205", "K\0\205"))), "a tensor much larger than its storage" },
    { BYTES(A(VIEW("K\0", EIGHT "K\1t", EIGHT "K\1t"))), "a tensor of more than 8 axes" },
    { BYTES(A(VIEW("K\0", "K\1\205", "K\1K\1\206"))), "more or fewer strides than sizes" },
    { BYTES(A(VIEW("K\0", "K\1K\1\206", "K\1\205"))), "more or fewer strides than sizes" },
    { BYTES(A(VIEW("K\0", "N\205", "K\1\205"))), "a size or stride that is no whole number" },
    { BYTES(A(VIEW("K\0", "K\1\205", TEXT("\1", "1") "\205"))), "that is no whole number" },
    { BYTES(A(VIEW("K\0", "\212\11" "012345678" "\205", "K\1\205"))), "no whole number" },
    /* those that nobody would read as well */
    { BYTES(P "}N" VIEW("K\0", "K\7\205", "K\1\205") "s."), "reaches beyond its storage" },
    /* their names */
    { BYTES(P "}" TEXT("\0", "") TENSOR "s."), "a name that is empty" },
    { BYTES(P "}" TEXT("\3", "a\0b") TENSOR "s."), "holds a NUL" },
    { BYTES(P "}" TEXT("\1", "\377") TENSOR "s."), "valid UTF-8" },
    { BYTES(P "}" TEXT("\3", "\355\240\200") TENSOR "s."), "valid UTF-8" },
    { BYTES(P "}" TEXT("\1", "a") TENSOR "s" TEXT("\1", "a") TENSOR "s."), "the same key twice" },
    { BYTES(P "}" TEXT("\1", "a") "Ns" TEXT("\1", "a") TENSOR "s."), "the same key twice" },
    { BYTES(P "}" TEXT("\12", "state_dict") "}s" TEXT("\12", "state_dict") "}s."), "same key" },
    { BYTES(P "}" TEXT("\3", "a.b") TENSOR "s" TEXT("\1", "a") "}" TEXT("\1", "b") TENSOR "ss."),
      "tensor \"a.b\" is there twice" },
    { BYTES(P "}K\1" TENSOR "sK\1" TENSOR "s."), "tensor \"1\" is there twice" },
    { BYTES(P "}K\1" TENSOR "s" TEXT("\1", "1") TENSOR "s."), "tensor \"1\" is there twice" },
    /* values inside themselves */
    { BYTES(P "}\224" TEXT("\1", "a") "h\0s."), "nested more than 64 deep" },
    { BYTES(P "]\224h\0a."), "nested more than 64 deep" },
    { BYTES(P "}\224" TEXT("\12", "state_dict") "h\0s."), "nested more than 64 deep" },
    { BYTES(P "}\224" TEXT("\1", "a") "h\0s" TEXT("\1", "b") "h\0s."), "nested more than 64" },
    { BYTES(P ORDERED ")R\224}" TEXT("\13", "_parameters") "h\0sb" TEXT("\1", "a") "h\0s."),
      "nested more than 64" },
};

static void refused_with(const char *pickle, size_t n, AdStatus status, const char *part)
{
    AdTensorFile *f = NULL;

    CHECK_STATUS(open_pickle(pickle, n, &f), status);
    CHECK(f == NULL);
    CHECK_CONTAINS(ctx.error, part);
    CHECK_CONTAINS(ctx.error, "p.pt: ");
    CHECK(strlen(ctx.error) <= 300);
    CHECK_STATUS(open_pickle(BYTES(A(TENSOR)), &f), AD_OK);         /* and the next file opens */
    ad_tensor_file_close(&f);
}

static void all_refused(const char *what, const Refused *r, size_t n)
{
    for (i_ = 0; i_ < n; i_++)
        RUN_AS(refused_with(r[i_].pickle, r[i_].n, AD_ERR_FORMAT, r[i_].part),
               "refused: %s %zu: %s", what, i_, r[i_].part);
}

static void other_protocols_are_refused(void)
{
    refused_with(BYTES("\200\1}."), AD_ERR_UNSUPPORTED, "of protocol 1; 2 to 4 are read");
    refused_with(BYTES("\200\5}."), AD_ERR_UNSUPPORTED, "of protocol 5; 2 to 4 are read");
    refused_with(BYTES("\200\377}."), AD_ERR_UNSUPPORTED, "of protocol 255; 2 to 4 are read");
}

/* ---- opcodes ------------------------------------------------------------------------------ */

static const struct Opcode { unsigned char code; const char *name; } unknown[] = {
    { '0', "POP" }, { '1', "POP MARK" }, { '2', "DUP" }, { 'F', "FLOAT" }, { 'I', "INT" },
    { 'L', "LONG" }, { 'P', "PERSID" }, { 'S', "STRING" }, { 'V', "UNICODE" }, { 'd', "DICT" },
    { 'g', "GET" }, { 'i', "INST" }, { 'l', "LIST" }, { 'o', "OBJ" }, { 'p', "PUT" },
    { 0x82, "EXT1" }, { 0x83, "EXT2" }, { 0x84, "EXT4" }, { 0x8b, "LONG4" },
    { 0x92, "NEWOBJ EX" }, { 0x96, "BYTEARRAY8" }, { 0x97, "NEXT BUFFER" },
    { 0x98, "READONLY BUFFER" }, { 0, "0, which is none" }, { 0xff, "255, which is none" },
};

static void opcode_is_refused(unsigned char code)
{
    char pickle[] = P "}?os\nsystem\n.", part[64];

    pickle[3] = (char)code;
    snprintf(part, sizeof(part), "byte 3: opcode 0x%02x is not one that a file", code);
    refused_with(pickle, sizeof(pickle) - 1, AD_ERR_FORMAT, part);
}

static void no_other_opcode_is_known(void)
{
    static const char known[] = "}](t)\205\206\207saueN\210\211GJKM\212X\214\215TUBC\216qrhj"
                                "\224c\223QR\201b\217\220\221\225.";

    for (int code = 0; code < 256; code++)
        if (!code || !strchr(known, code))
            opcode_is_refused((unsigned char)code);
}

/* ---- main --------------------------------------------------------------------------------- */

int main(void)
{
    for (i_ = 0; i_ < AD_COUNT(accepted); i_++)
        RUN_AS(is_accepted(&accepted[i_]), "accepted: %s", accepted[i_].what);
    all_refused("pickle", shape, AD_COUNT(shape));
    all_refused("name or call", names, AD_COUNT(names));
    all_refused("storage", storages, AD_COUNT(storages));
    all_refused("tensor", tensors, AD_COUNT(tensors));
    RUN(other_protocols_are_refused);
    for (i_ = 0; i_ < AD_COUNT(unknown); i_++)
        RUN_AS(opcode_is_refused(unknown[i_].code), "refused: opcode %s", unknown[i_].name);
    RUN(no_other_opcode_is_known);
    return check_result();
}
