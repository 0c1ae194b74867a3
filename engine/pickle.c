/* pickle.c - the machine that reads a pickle; see pickle.h.
 *
 * Called by torch_file.c. One function per group of opcodes, one table of them. Python's own
 * description: Lib/pickletools.py, protocols 2 to 4.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "pickle_cells.h"
#include "pickle_globals.h"

/* ---- the stack ---------------------------------------------------------------------------- */

/* The topmost n values, none of them a mark; NULL: there are not so many. */
static AdCell *top(AdPickle *p, size_t n)
{
    if (p->depth < n)
        return NULL;
    for (size_t i = p->depth - n; i < p->depth; i++)
        if (p->stack[i].kind == AD_CELL_MARK)
            return NULL;
    return p->stack + p->depth - n;
}

static AdStatus too_few(const AdPickle *p)
{
    return ad_pickle_wrong(p, "too few values on the stack");
}

static AdStatus no_mark(const AdPickle *p)
{
    return ad_pickle_wrong(p, "no mark on the stack");
}

/* Values above the last mark; the mark itself is below them. NULL: no mark. */
static AdCell *above_mark(AdPickle *p, size_t *n)
{
    size_t at = p->depth;

    if (!p->marks)
        return NULL;
    while (p->stack[at - 1].kind != AD_CELL_MARK)
        at--;
    *n = p->depth - at;
    return p->stack + at;
}

/* ---- opcodes: values ---------------------------------------------------------------------- */

/* An operation gets its argument as a number, or its own code if it has none; where the argument is
 * a length, those bytes are at `data`. */
typedef AdStatus Operation(AdPickle *p, uint64_t arg, const char *data);

static AdStatus op_opaque(AdPickle *p, uint64_t arg, const char *data)
{
    (void)arg, (void)data;
    return ad_pickle_push(p, (AdCell){ .kind = AD_CELL_OPAQUE });
}

static AdStatus push_integer(AdPickle *p, int64_t value)
{
    return ad_pickle_push(p, (AdCell){ .kind = AD_CELL_INT, .u.integer = value });
}

static AdStatus op_unsigned(AdPickle *p, uint64_t arg, const char *data)
{
    (void)data;
    return push_integer(p, (int64_t)arg);
}

static AdStatus op_signed(AdPickle *p, uint64_t arg, const char *data)
{
    (void)data;
    return push_integer(p, (int64_t)arg - ((int64_t)(arg >> 31) << 32));
}

/* Little-endian, two's complement, any length. What 64 bits do not hold is nothing of ours. */
static AdStatus op_long(AdPickle *p, uint64_t n, const char *data)
{
    uint64_t value = n && n <= 8 && data[n - 1] & 0x80 ? UINT64_MAX : 0;

    if (n > 8)
        return op_opaque(p, 0, NULL);
    for (size_t i = n; i-- > 0; )
        value = value << 8 | (unsigned char)data[i];
    return push_integer(p, value > INT64_MAX ? -1 - (int64_t)~value : (int64_t)value);
}

static AdStatus op_text(AdPickle *p, uint64_t n, const char *data)
{
    return ad_pickle_push(p, (AdCell){ .kind = AD_CELL_TEXT, .n = (uint32_t)n, .u.text = data });
}

/* ---- opcodes: containers ------------------------------------------------------------------ */

static AdStatus op_mark(AdPickle *p, uint64_t arg, const char *data)
{
    (void)arg, (void)data;
    if (p->marks++ == AD_CAP_NESTING)
        return ad_pickle_wrong(p, "nested more than 64 deep");
    return ad_pickle_push(p, (AdCell){ .kind = AD_CELL_MARK });
}

static AdStatus op_container(AdPickle *p, uint64_t code, const char *data)
{
    (void)data;
    return ad_pickle_push_container(p, code == '}' ? AD_CELL_DICT : AD_CELL_LIST);
}

static AdStatus op_tuple(AdPickle *p, uint64_t arg, const char *data)
{
    size_t n = 0;
    AdCell *cells = above_mark(p, &n);

    (void)arg, (void)data;
    if (!cells)
        return no_mark(p);
    p->marks--;
    return ad_pickle_push_tuple(p, cells, n, n + 1);
}

/* Of none, one, two or three. */
static AdStatus op_short_tuple(AdPickle *p, uint64_t code, const char *data)
{
    size_t n = code == ')' ? 0 : (size_t)code - 0x84;
    AdCell *cells = n ? top(p, n) : NULL;

    (void)data;
    return cells || !n ? ad_pickle_push_tuple(p, cells, n, n) : too_few(p);
}

/* n values on the stack go into the container below them (below their mark as well). An opaque
 * object takes anything and stays opaque. */
static AdStatus put_into(AdPickle *p, AdCellKind kind, const AdCell *container, const AdCell *cells,
                         size_t n)
{
    if (container->kind == AD_CELL_OPAQUE)
        return AD_OK;
    if (container->kind != kind)
        return ad_pickle_wrong(p, kind == AD_CELL_DICT ? "an item for what is no dict"
                                : kind == AD_CELL_LIST ? "an item for what is no list"
                                                       : "an item for what is no set");
    if (kind == AD_CELL_DICT && n % 2)
        return ad_pickle_wrong(p, "a key without a value");
    return ad_pickle_extend(p, container, cells, n);
}

static AdStatus op_item(AdPickle *p, uint64_t code, const char *data)
{
    size_t n = code == 's' ? 2 : 1;
    AdCell *cells = top(p, n + 1);
    AdStatus st = cells ? put_into(p, n == 2 ? AD_CELL_DICT : AD_CELL_LIST, cells, cells + 1, n)
                        : too_few(p);

    (void)data;
    if (st >= 0)
        p->depth -= n;
    return st;
}

/* Sets are opaque: nothing else may be below their items. */
static AdStatus op_items(AdPickle *p, uint64_t code, const char *data)
{
    AdCellKind kind = code == 'u' ? AD_CELL_DICT : code == 'e' ? AD_CELL_LIST : AD_CELL_OPAQUE;
    size_t n = 0;
    AdCell *cells = above_mark(p, &n);
    AdStatus st;

    (void)data;
    if (!cells)
        return no_mark(p);
    if (cells - p->stack < 2)
        return too_few(p);
    st = put_into(p, kind, cells - 2, cells, n);
    if (st >= 0) {
        p->depth -= n + 1;
        p->marks--;
    }
    return st;
}

static AdStatus op_frozenset(AdPickle *p, uint64_t arg, const char *data)
{
    size_t n = 0;

    if (!above_mark(p, &n))
        return no_mark(p);
    p->depth -= n + 1;
    p->marks--;
    return op_opaque(p, arg, data);
}

/* ---- opcodes: memo ------------------------------------------------------------------------ */

/* Numbers are given in order, so that the memo is never larger than what was put there. */
static AdStatus op_put(AdPickle *p, uint64_t index, const char *data)
{
    AdCell *cell = top(p, 1);
    AdStatus st = AD_OK;

    (void)data;
    if (!cell)
        return too_few(p);
    if (index > p->memos)
        return ad_pickle_wrong(p, "a memo number out of order");
    if (index == p->memos) {
        st = ad_pickle_grow(p, &p->memo, &p->memo_room, p->memos);
        p->memos += st >= 0;
    }
    if (st >= 0)
        p->memo[index] = *cell;
    return st;
}

static AdStatus op_memoize(AdPickle *p, uint64_t arg, const char *data)
{
    (void)arg;
    return op_put(p, p->memos, data);
}

static AdStatus op_get(AdPickle *p, uint64_t index, const char *data)
{
    (void)data;
    return index < p->memos ? ad_pickle_push(p, p->memo[index])
                            : ad_pickle_wrong(p, "a memo number that nothing was put at");
}

/* ---- opcodes: names and what is made with them -------------------------------------------- */

static AdStatus push_global(AdPickle *p, const char *module, size_t m, const char *name, size_t n)
{
    char full[256], quoted[AD_QUOTE_TEXT];
    AdCell cell = { .kind = AD_CELL_GLOBAL };
    AdDtype dtype = AD_DT_F32;
    AdGlobal is = AD_GLOBAL_REFUSED;

    m = AD_MIN(m, 120);                             /* no name on the list is so long */
    n = AD_MIN(n, 120);
    memcpy(full, module, m);
    full[m] = '.';
    memcpy(full + m + 1, name, n);
    is = ad_pickle_global(full, m + 1 + n, &dtype);
    if (is == AD_GLOBAL_REFUSED)
        return ad_fail(p->ctx, AD_ERR_FORMAT, "%.100s: data.pkl asks for \"%s\", which is not "
                       "among the few names of a file of tensors; convert it to safetensors",
                       p->path, ad_quote(full, AD_MIN(m + 1 + n, 60), quoted));
    cell.type = (uint8_t)is;
    cell.n    = dtype;
    return ad_pickle_push(p, cell);
}

/* Two lines follow: module and name. */
static AdStatus op_global(AdPickle *p, uint64_t arg, const char *data)
{
    const char *module = p->text + p->at, *name, *end;

    (void)arg, (void)data;
    end = memchr(module, '\n', p->bytes - p->at);
    if (!end)
        return ad_pickle_wrong(p, "a name without an end");
    name  = end + 1;
    p->at = (size_t)(name - p->text);
    end   = memchr(name, '\n', p->bytes - p->at);
    if (!end)
        return ad_pickle_wrong(p, "a name without an end");
    p->at = (size_t)(end + 1 - p->text);
    return push_global(p, module, (size_t)(name - 1 - module), name, (size_t)(end - name));
}

static AdStatus op_stack_global(AdPickle *p, uint64_t arg, const char *data)
{
    AdCell *two = top(p, 2);

    (void)arg, (void)data;
    if (!two || two[0].kind != AD_CELL_TEXT || two[1].kind != AD_CELL_TEXT)
        return ad_pickle_wrong(p, "a name that is not two texts");
    p->depth -= 2;
    return push_global(p, two[0].u.text, two[0].n, two[1].u.text, two[1].n);
}

/* The one persistent id of torch: ("storage", type, key, place, count). */
static AdStatus op_persistent(AdPickle *p, uint64_t arg, const char *data)
{
    AdCell *id = top(p, 1), out = { .kind = AD_CELL_STORAGE };
    const AdCell *c;
    AdStatus st;

    (void)arg, (void)data;
    if (!id || id->kind != AD_CELL_TUPLE || id->n != 5)
        return ad_pickle_wrong(p, "a persistent id that is no storage");
    c = p->pool + id->u.at.first;
    if (!ad_pickle_is_text(&c[0], "storage") || c[1].kind != AD_CELL_GLOBAL ||
        c[1].type != AD_GLOBAL_STORAGE || c[2].kind != AD_CELL_TEXT ||
        c[4].kind != AD_CELL_INT)
        return ad_pickle_wrong(p, "a persistent id that is no storage");
    out.type = (uint8_t)c[1].n;
    st = p->hooks->storage(p->opaque, &c[2], c[4].u.integer, &out);
    if (st >= 0)
        *id = out;
    return st;
}

/* _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks [, metadata]) */
static AdStatus make_tensor(AdPickle *p, const AdCell *args, AdCell *out)
{
    const AdCell *c = p->pool + args->u.at.first;

    if (args->n < 6 || args->n > 7 || c[0].kind != AD_CELL_STORAGE || c[1].kind != AD_CELL_INT ||
        c[2].kind != AD_CELL_TUPLE || c[3].kind != AD_CELL_TUPLE)
        return ad_pickle_wrong(p, "a tensor needs a storage, an offset, sizes and strides");
    out->kind       = AD_CELL_TENSOR;
    out->u.at.first = args->u.at.first;
    return p->hooks->tensor(p->opaque, p, c);
}

static AdStatus call(AdPickle *p, const AdCell *function, const AdCell *args, AdCell *out)
{
    const AdCell *c = p->pool + args->u.at.first;

    *out = (AdCell){ .kind = AD_CELL_OPAQUE };
    if (function->kind == AD_CELL_OPAQUE)
        return AD_OK;
    if (function->kind != AD_CELL_GLOBAL)
        return ad_pickle_wrong(p, "a call of what is no function");
    switch ((AdGlobal)function->type) {
    case AD_GLOBAL_INERT:
        return AD_OK;
    case AD_GLOBAL_TENSOR:
        return make_tensor(p, args, out);
    case AD_GLOBAL_PARAMETER:
        if (args->n != 3 || c[0].kind != AD_CELL_TENSOR)
            return ad_pickle_wrong(p, "a parameter needs a tensor");
        *out = c[0];
        return AD_OK;
    case AD_GLOBAL_SIZE:
        if (args->n != 1 || c[0].kind != AD_CELL_TUPLE)
            return ad_pickle_wrong(p, "a size needs a tuple");
        *out = c[0];
        return AD_OK;
    default:
        return ad_pickle_wrong(p, "a call that a file of tensors has no need of");
    }
}

static AdStatus op_reduce(AdPickle *p, uint64_t arg, const char *data)
{
    AdCell *two = top(p, 2), out;
    AdStatus st;

    (void)arg, (void)data;
    if (!two || two[1].kind != AD_CELL_TUPLE)
        return ad_pickle_wrong(p, "a call needs a function and a tuple");
    p->depth -= 2;
    if (two->kind == AD_CELL_GLOBAL && two[1].n == 0 &&
        (two->type == AD_GLOBAL_DICT || two->type == AD_GLOBAL_PARAMETER_DICT))
        return ad_pickle_push_container(p, AD_CELL_DICT);
    st = call(p, &two[0], &two[1], &out);
    return st >= 0 ? ad_pickle_push(p, out) : st;
}

/* A class and its arguments: an empty dict, or an object that nobody looks into. */
static AdStatus op_new(AdPickle *p, uint64_t arg, const char *data)
{
    AdCell *two = top(p, 2);

    if (two && two[0].kind == AD_CELL_GLOBAL && two[0].type != AD_GLOBAL_INERT &&
        two[0].type != AD_GLOBAL_DICT && two[0].type != AD_GLOBAL_PARAMETER_DICT)
        return ad_pickle_wrong(p, "an object that a file of tensors has no need of");
    return op_reduce(p, arg, data);
}

/* What a ParameterDict's state has as its parameters; NULL: another state. */
static AdStatus find_parameters(AdPickle *p, const AdCell *state, AdCell *out)
{
    enum { KEYS = 64 };             /* a module has some 20 */
    AdCellWalk w = ad_pickle_walk(p, state);
    const AdCell *key, *value;

    for (int i = 0; (key = ad_pickle_next(p, &w)); i++) {
        if (i == KEYS)
            return ad_pickle_wrong(p, "a state of more than 64 values");
        value = ad_pickle_next(p, &w);
        if (ad_pickle_is_text(key, "_parameters") && value->kind == AD_CELL_DICT)
            *out = *value;
    }
    return AD_OK;
}

/* An object's state. Only a ParameterDict's is looked into; an OrderedDict may have some as well
 * (a module's state_dict keeps its _metadata so), which has no `_parameters`. */
static AdStatus op_build(AdPickle *p, uint64_t code, const char *data)
{
    AdCell *two = top(p, 2), inner = { 0 }, cell;
    const AdCell *next;
    AdStatus st = AD_OK;
    AdCellWalk w;

    (void)code, (void)data;
    if (!two)
        return too_few(p);
    if (two->kind != AD_CELL_OPAQUE && two->kind != AD_CELL_DICT)
        return ad_pickle_wrong(p, "a state for what is no object");
    if (two->kind == AD_CELL_DICT && p->pool[two->u.at.first].n++)
        return ad_pickle_wrong(p, "a second state for one object");
    if (two->kind == AD_CELL_DICT && two[1].kind == AD_CELL_DICT)
        st = find_parameters(p, &two[1], &inner);
    if (st >= 0 && inner.kind == AD_CELL_DICT && inner.u.at.first != two->u.at.first)
        for (w = ad_pickle_walk(p, &inner); st >= 0 && (next = ad_pickle_next(p, &w)); ) {
            cell = *next;           /* the pool may move */
            st   = ad_pickle_extend(p, two, &cell, 1);
        }
    p->depth--;
    return st;
}

/* ---- the machine -------------------------------------------------------------------------- */

static AdStatus op_nothing(AdPickle *p, uint64_t arg, const char *data)
{
    (void)p, (void)arg, (void)data;
    return AD_OK;
}

static AdStatus op_frame(AdPickle *p, uint64_t bytes, const char *data)
{
    (void)data;
    return bytes <= p->bytes - p->at ? AD_OK : ad_pickle_wrong(p, "a frame longer than the rest");
}

/* bytes: of the number that follows; data: it is the length of what comes then. */
static const struct Opcode { Operation *run; uint8_t bytes; bool data; } opcodes[256] = {
    ['}'] = { op_container, 0, false },     [']'] = { op_container, 0, false },
    ['('] = { op_mark, 0, false },          ['t'] = { op_tuple, 0, false },
    [')'] = { op_short_tuple, 0, false },   [0x85] = { op_short_tuple, 0, false },
    [0x86] = { op_short_tuple, 0, false },  [0x87] = { op_short_tuple, 0, false },
    ['s'] = { op_item, 0, false },          ['a'] = { op_item, 0, false },
    ['u'] = { op_items, 0, false },         ['e'] = { op_items, 0, false },
    ['N'] = { op_opaque, 0, false },        [0x88] = { op_opaque, 0, false },
    [0x89] = { op_opaque, 0, false },       ['G'] = { op_opaque, 8, false },
    ['J'] = { op_signed, 4, false },        ['K'] = { op_unsigned, 1, false },
    ['M'] = { op_unsigned, 2, false },      [0x8a] = { op_long, 1, true },
    ['X'] = { op_text, 4, true },           [0x8c] = { op_text, 1, true },
    [0x8d] = { op_text, 8, true },          ['T'] = { op_text, 4, true },
    ['U'] = { op_text, 1, true },           ['B'] = { op_opaque, 4, true },
    ['C'] = { op_opaque, 1, true },         [0x8e] = { op_opaque, 8, true },
    ['q'] = { op_put, 1, false },           ['r'] = { op_put, 4, false },
    ['h'] = { op_get, 1, false },           ['j'] = { op_get, 4, false },
    [0x94] = { op_memoize, 0, false },      ['c'] = { op_global, 0, false },
    [0x93] = { op_stack_global, 0, false }, ['Q'] = { op_persistent, 0, false },
    ['R'] = { op_reduce, 0, false },        [0x81] = { op_new, 0, false },
    ['b'] = { op_build, 0, false },         [0x8f] = { op_opaque, 0, false },
    [0x90] = { op_items, 0, false },        [0x91] = { op_frozenset, 0, false },
    [0x95] = { op_frame, 8, false },        ['.'] = { op_nothing, 0, false },
};

static AdStatus cut_off(const AdPickle *p)
{
    return ad_pickle_wrong(p, "ends too early");
}

static AdStatus step(AdPickle *p, unsigned char code)
{
    const struct Opcode *o = &opcodes[code];
    const char *data;
    uint64_t arg = o->bytes ? 0 : code;

    if (!o->run)
        return ad_fail(p->ctx, AD_ERR_FORMAT, "%.120s: data.pkl, byte %zu: opcode 0x%02x is not "
                       "one that a file of tensors has", p->path, p->at - 1, code);
    if (o->bytes > p->bytes - p->at)
        return cut_off(p);
    for (int i = o->bytes - 1; i >= 0; i--)
        arg = arg << 8 | (unsigned char)p->text[p->at + (size_t)i];
    p->at += o->bytes;
    data   = p->text + p->at;
    if (o->data && arg > p->bytes - p->at)
        return cut_off(p);
    p->at += o->data ? (size_t)arg : 0;
    return o->run(p, arg, data);
}

/* Protocol 2, 3 or 4 in the first two bytes. */
static AdStatus start(AdPickle *p)
{
    if (p->bytes < 2 || p->text[0] != (char)0x80)
        return ad_pickle_wrong(p, "no pickle of protocol 2 to 4");
    if (p->text[1] < 2 || p->text[1] > 4)
        return ad_fail(p->ctx, AD_ERR_UNSUPPORTED, "%.200s: data.pkl is a pickle of protocol %d; "
                       "2 to 4 are read", p->path, (unsigned char)p->text[1]);
    p->at = 2;
    return AD_OK;
}

AdStatus ad_pickle_run(AdPickle *p)
{
    static const AdCell nowhere = { .kind = AD_CELL_OPAQUE };
    unsigned char code = 0;
    AdStatus st = start(p);

    if (st >= 0) st = ad_pickle_pool_add(p, &nowhere);        /* place 0: none */
    for (size_t n = 0; st >= 0 && code != '.'; n++) {
        if (p->at >= p->bytes)
            return cut_off(p);
        if (n == AD_CAP_OPCODES)
            return ad_pickle_wrong(p, "more than 8000000 opcodes");
        code = (unsigned char)p->text[p->at++];
        st   = step(p, code);
    }
    if (st < 0)
        return st;
    if (p->at != p->bytes)
        return ad_pickle_wrong(p, "bytes behind its end");
    if (p->depth != 1 || p->marks)
        return ad_pickle_wrong(p, "ends with more or less than one value");
    p->result = p->stack[0];
    return AD_OK;
}

void ad_pickle_free(AdPickle *p)
{
    ad_free(p->stack);
    ad_free(p->memo);
    ad_free(p->pool);
    p->stack = p->memo = p->pool = NULL;
}
