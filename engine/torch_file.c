/* torch_file.c - the tensors in a file of torch.save: a zip file with data.pkl and raw storages.
 *
 * Called by tensor_file.c. The pickle (pickle.c) says which tensors there are and by which names;
 * every tensor is checked against the bytes of its storage, never against claims. Names of nested
 * dicts are joined with points; what wraps a state dict is taken off.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pickle.h"
#include "tensor_file.h"
#include "utf8.h"
#include "zip.h"

typedef struct Torch {
    AdContext    *ctx;
    AdTensorFile *file;
    AdZip         zip;
    AdPickle      pickle;
    char          name[AD_CAP_NAME + 1];    /* the folder of all entries, then one of theirs */
    size_t        folder_bytes;             /* with the slash */
} Torch;

/* ---- the zip file ------------------------------------------------------------------------- */

/* The entry of that name in the archive's folder; NULL: none. */
static const AdZipEntry *find(Torch *t, const char *dir, const char *name, size_t n)
{
    size_t at = t->folder_bytes, m = strlen(dir);

    if (n > AD_CAP_NAME - AD_MIN(at + m, AD_CAP_NAME))
        return NULL;
    memcpy(t->name + at, dir, m);
    memcpy(t->name + at + m, name, n);
    return ad_zip_find(&t->zip, t->name, at + m + n);
}

/* The one "FOLDER/data.pkl", which tells the folder's name. */
static AdStatus find_pickle(Torch *t, const AdZipEntry **pickle)
{
    static const char ending[] = "/data.pkl";
    size_t n = sizeof(ending) - 1;

    *pickle = NULL;
    for (size_t i = 0; i < t->zip.count; i++) {
        const AdZipEntry *e = &t->zip.entries[i];

        if (e->name_bytes <= n || memcmp(e->name + e->name_bytes - n, ending, n))
            continue;
        if (*pickle)
            return ad_fail(t->ctx, AD_ERR_FORMAT, "%.200s: more than one data.pkl in the zip file",
                           t->file->file->path);
        *pickle = e;
    }
    if (!*pickle)
        return ad_fail(t->ctx, AD_ERR_FORMAT, "%.200s: a zip file without data.pkl; no file of "
                       "tensors that PyTorch saved", t->file->file->path);
    n = (*pickle)->name_bytes - n;
    if (!ad_name_is_plain((*pickle)->name, n))
        return ad_fail(t->ctx, AD_ERR_FORMAT, "%.200s: data.pkl is not in one plain folder",
                       t->file->file->path);
    memcpy(t->name, (*pickle)->name, n + 1);
    t->folder_bytes = n + 1;
    return AD_OK;
}

/* Files say so when their numbers are not little-endian; older ones have no such entry. */
static AdStatus check_byte_order(Torch *t)
{
    const AdZipEntry *e = find(t, "", "byteorder", 9);
    char *text = NULL;
    AdStatus st = e ? ad_zip_read(t->ctx, &t->zip, e, "byteorder", 16, &text) : AD_OK;

    if (st >= 0 && e && strcmp(text, "little"))
        st = ad_fail(t->ctx, AD_ERR_UNSUPPORTED, "%.200s: numbers in another byte order than "
                     "little-endian", t->file->file->path);
    ad_free(text);
    return st;
}

/* ---- storages and tensors ----------------------------------------------------------------- */

static AdStatus find_storage(void *opaque, const AdCell *key, int64_t n, AdCell *out)
{
    Torch *t = opaque;
    const AdZipEntry *e = find(t, "data/", key->u.text, key->n);
    uint64_t size = ad_dtype_bytes((AdDtype)out->type);

    if (!ad_name_is_plain(key->u.text, key->n))
        return ad_pickle_wrong(&t->pickle, "a storage whose key is no plain name");
    if (!e)
        return ad_pickle_wrong(&t->pickle, "a storage that the zip file does not have");
    if (n < 0 || e->bytes / size != (uint64_t)n || e->bytes % size)
        return ad_fail(t->ctx, AD_ERR_FORMAT, "%.120s: data.pkl, byte %zu: a storage of %" PRId64
                       " numbers of %" PRIu64 " bytes has %" PRIu64 " bytes of data",
                       t->file->file->path, t->pickle.at, n, size, e->bytes);
    out->n = (uint32_t)(e - t->zip.entries);
    return AD_OK;
}

/* Sizes and strides of a tensor. */
typedef struct View { int rank; int64_t size[AD_CAP_RANK], stride[AD_CAP_RANK]; } View;

static AdStatus read_view(const AdPickle *p, const AdCell *sizes, const AdCell *strides, View *v)
{
    *v = (View){ .rank = (int)AD_MIN(sizes->n, AD_CAP_RANK) };
    if (sizes->n != strides->n)
        return ad_pickle_wrong(p, "a tensor with more or fewer strides than sizes");
    if (sizes->n > AD_CAP_RANK)
        return ad_pickle_wrong(p, "a tensor of more than 8 axes");
    for (uint32_t i = 0; i < sizes->n; i++) {
        const AdCell *size   = p->pool + sizes->u.at.first + i;
        const AdCell *stride = p->pool + strides->u.at.first + i;

        if (size->kind != AD_CELL_INT || stride->kind != AD_CELL_INT)
            return ad_pickle_wrong(p, "a size or stride that is no whole number");
        v->size[i]   = size->u.integer;
        v->stride[i] = stride->u.integer;
        if (v->size[i] < 0 || v->size[i] > AD_CAP_AXIS)
            return ad_pickle_wrong(p, "an axis below 0, or of 2^31 or more");
        if (v->stride[i] < 0)
            return ad_pickle_wrong(p, "a negative stride");
    }
    return AD_OK;
}

/* Number of elements, and how far behind the first the last one is; false: too large for 63 bits
 * of bytes, which is refused even where another axis is 0. */
static bool measure(const View *v, uint64_t size, uint64_t *count, uint64_t *reach)
{
    uint64_t bytes = size, step;
    bool empty = false;

    *reach = 0;
    for (int i = 0; i < v->rank; i++) {
        empty = empty || v->size[i] == 0;
        if (v->size[i] == 0)
            continue;
        if (!ad_mul(bytes, (uint64_t)v->size[i], &bytes) ||
            !ad_mul((uint64_t)v->size[i] - 1, (uint64_t)v->stride[i], &step) ||
            !ad_add(*reach, step, reach))
            return false;
    }
    *count = empty ? 0 : bytes / size;
    return bytes <= INT64_MAX;
}

static AdStatus check_tensor(void *opaque, const AdPickle *p, const AdCell *c)
{
    const Torch *t = opaque;
    const AdZipEntry *e = &t->zip.entries[c[0].n];
    uint64_t size = ad_dtype_bytes((AdDtype)c[0].type), numbers = e->bytes / size, count, reach;
    uint64_t offset = (uint64_t)c[1].u.integer;
    View v;
    AdStatus st = read_view(p, &c[2], &c[3], &v);

    if (st < 0)
        return st;
    if (!measure(&v, size, &count, &reach))
        return ad_pickle_wrong(p, "a tensor whose size overflows");
    if (c[1].u.integer < 0 || offset > numbers || (count && reach >= numbers - offset))
        return ad_pickle_wrong(p, "a tensor that reaches beyond its storage");
    if (count > numbers && count * size > AD_CAP_REPEATED)
        return ad_pickle_wrong(p, "a tensor much larger than its storage");
    return AD_OK;
}

static bool is_contiguous(const View *v)
{
    int64_t step = 1;
    bool empty = false;

    for (int i = 0; i < v->rank; i++)
        empty = empty || v->size[i] == 0;
    for (int i = v->rank - 1; i >= 0 && !empty; i--) {
        if (v->size[i] != 1 && v->stride[i] != step)
            return false;
        step *= v->size[i];
    }
    return true;
}

/* ---- names -------------------------------------------------------------------------------- */

/* Two walks over the same values: the first checks and counts, the second fills. */
typedef struct Flat {
    Torch  *t;
    bool    filling;
    size_t  tensors, strided, name_bytes, visits;
    size_t  n;                      /* of the name so far */
    char    name[AD_CAP_NAME + 1];
} Flat;

static AdStatus flatten(Flat *f, const AdCell *c, int depth);

static AdStatus take(Flat *f, const AdCell *cell)
{
    AdTensorFile *file = f->t->file;
    const AdPickle *p = &f->t->pickle;
    const AdCell *c = p->pool + cell->u.at.first;
    uint64_t size = ad_dtype_bytes((AdDtype)c[0].type), count = 0, reach;
    View v;

    if (read_view(p, &c[2], &c[3], &v) < 0 || !measure(&v, size, &count, &reach))
        return ad_pickle_wrong(p, "a tensor that is wrong");        /* checked when it was made */
    if (!f->filling && f->tensors == AD_CAP_TENSORS)
        return ad_pickle_wrong(p, "more than 65536 tensors");
    if (!f->filling && f->n + 1 > AD_CAP_NAMES - f->name_bytes)
        return ad_pickle_wrong(p, "names of more than 8 MiB");
    if (f->filling) {
        AdEntry *e = &file->entries[f->tensors];
        char *name = file->header + f->name_bytes;

        *e = (AdEntry){ .name = name, .dtype = (AdDtype)c[0].type, .rank = v.rank };
        memcpy(name, f->name, f->n);
        memcpy(e->shape, v.size, sizeof(e->shape));
        e->bytes  = count * size;
        e->offset = f->t->zip.entries[c[0].n].offset + (uint64_t)c[1].u.integer * size;
        if (!is_contiguous(&v)) {
            memcpy(file->strides[f->strided], v.stride, sizeof(v.stride));
            e->stride = file->strides[f->strided];
        }
    }
    f->tensors++;
    f->name_bytes += f->n + 1;
    f->strided    += !is_contiguous(&v);
    return AD_OK;
}

/* One value of a container under a key; the name is longer meanwhile. */
static AdStatus take_named(Flat *f, const char *key, size_t n, const AdCell *value, int depth)
{
    size_t before = f->n, point = f->n > 0, bad;
    AdStatus st;

    if (n == 0 || n > AD_CAP_NAME - AD_MIN(f->n + point, AD_CAP_NAME) || memchr(key, 0, n) ||
        !ad_utf8_valid(key, n, &bad))
        return ad_pickle_wrong(&f->t->pickle, "a name that is empty, longer than 512 bytes, not "
                               "valid UTF-8 or holds a NUL");
    if (point)
        f->name[f->n++] = '.';
    memcpy(f->name + f->n, key, n);
    f->n += n;
    st = flatten(f, value, depth + 1);
    f->n = before;
    return st;
}

static bool is_container(const AdCell *c)
{
    return c->kind == AD_CELL_DICT || c->kind == AD_CELL_LIST || c->kind == AD_CELL_TUPLE;
}

static int by_text(const void *a, const void *b)
{
    const AdCell *x = a, *y = b;

    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return memcmp(x->u.text, y->u.text, x->n);
}

/* Keys of a dict, each there once: of two values of one key Python takes the last, others may not.
 * Looked at once per dict, however often it is met. */
static AdStatus check_keys(Torch *t, const AdCell *dict)
{
    AdPickle *p = &t->pickle;
    AdCell *keys, *head = &p->pool[dict->u.at.first];
    AdCellWalk w = ad_pickle_walk(p, dict);
    size_t n = 0, texts = 0;
    const AdCell *key;
    AdStatus st = AD_OK;

    if (head->type)
        return AD_OK;
    head->type = true;
    while (ad_pickle_next(p, &w))
        n++;
    if (n / 2 > AD_CAP_TENSORS)
        return ad_pickle_wrong(p, "a dict of more than 65536 values");
    keys = ad_alloc_array(n / 2, sizeof(*keys));
    if (!keys)
        return ad_fail_nomem(t->ctx, "a pickle's keys");
    for (w = ad_pickle_walk(p, dict); (key = ad_pickle_next(p, &w)); ad_pickle_next(p, &w))
        if (key->kind == AD_CELL_TEXT && key->n <= AD_CAP_NAME)
            keys[texts++] = *key;
    qsort(keys, texts, sizeof(*keys), by_text);
    for (size_t i = 1; i < texts && st >= 0; i++)
        if (!by_text(&keys[i - 1], &keys[i]))
            st = ad_pickle_wrong(p, "the same key twice in one dict");
    ad_free(keys);
    return st;
}

static AdStatus take_all(Flat *f, const AdCell *container, int depth)
{
    const AdPickle *p = &f->t->pickle;
    AdCellWalk w = ad_pickle_walk(p, container);
    const AdCell *key = NULL, *value;
    AdStatus st = AD_OK;

    for (size_t i = 0; st >= 0 && (value = ad_pickle_next(p, &w)); i++) {
        char number[24];

        if (container->kind == AD_CELL_DICT) {
            key   = value;
            value = ad_pickle_next(p, &w);
        }
        if (f->visits++ == AD_CAP_CELLS)
            return ad_pickle_wrong(p, "more than 2000000 values, the same ones many times");
        if (value->kind != AD_CELL_TENSOR && !is_container(value))
            continue;
        if (key && key->kind == AD_CELL_TEXT)
            st = take_named(f, key->u.text, key->n, value, depth);
        else if (!key || key->kind == AD_CELL_INT) {
            ad_format(number, sizeof(number), "%" PRId64, key ? key->u.integer : (int64_t)i);
            st = take_named(f, number, strlen(number), value, depth);
        }
    }
    return st;
}

static AdStatus flatten(Flat *f, const AdCell *c, int depth)
{
    AdStatus st = AD_OK;

    if (c->kind == AD_CELL_TENSOR)
        return take(f, c);
    if (depth > AD_CAP_NESTING)
        return ad_pickle_wrong(&f->t->pickle, "nested more than 64 deep");
    if (c->kind == AD_CELL_DICT)
        st = check_keys(f->t, c);
    return st >= 0 ? take_all(f, c, depth) : st;
}

/* Training programs save more than the weights; what these names hold is all that is wanted. */
static AdStatus unwrap(Torch *t, AdCell *root)
{
    static const char *const wrappers[] = { "state_dict", "model", "controlnet" };
    AdStatus st = AD_OK;

    for (int depth = 0; st >= 0 && root->kind == AD_CELL_DICT; depth++) {
        const AdCell *inner = NULL, *value;

        if (depth > AD_CAP_NESTING)
            return ad_pickle_wrong(&t->pickle, "nested more than 64 deep");
        st = check_keys(t, root);
        for (size_t i = 0; i < AD_COUNT(wrappers) && st >= 0 && !inner; i++) {
            value = ad_pickle_get(&t->pickle, root, wrappers[i]);
            inner = value && value->kind == AD_CELL_DICT ? value : NULL;
        }
        if (!inner)
            break;
        *root = *inner;
    }
    return st;
}

/* From the pickle's value to entries with names. */
static AdStatus fill(Torch *t)
{
    AdTensorFile *file = t->file;
    AdCell root = t->pickle.result;
    Flat f = { .t = t };
    AdStatus st = unwrap(t, &root);

    if (st < 0)
        return st;
    if (root.kind == AD_CELL_TENSOR) {              /* nothing around it that would name it */
        memcpy(f.name, "tensor", 6);
        f.n = 6;
    } else if (!is_container(&root))
        return ad_pickle_wrong(&t->pickle, "neither a dict nor a tensor was saved");
    st = flatten(&f, &root, 1);
    if (st < 0)
        return st;
    file->entries = ad_alloc_array(f.tensors, sizeof(*file->entries));
    file->header  = ad_alloc(f.name_bytes);
    file->strides = ad_alloc_array(f.strided, sizeof(*file->strides));
    if (!file->entries || !file->header || !file->strides)
        return ad_fail_nomem(t->ctx, "names of tensors");
    file->count = file->room = f.tensors;
    f.filling = true;
    f.tensors = f.strided = f.name_bytes = f.visits = 0;
    return flatten(&f, &root, 1);
}

/* ---- entry point -------------------------------------------------------------------------- */

AdStatus ad_torch_file_read(AdContext *ctx, AdTensorFile *file)
{
    static const AdPickleHooks hooks = { find_storage, check_tensor };
    Torch t = { .ctx = ctx, .file = file };
    const AdZipEntry *e = NULL;
    char *text = NULL;
    AdStatus st = ad_zip_open(ctx, &t.zip, file->file);

    if (st >= 0) st = find_pickle(&t, &e);
    if (st >= 0) st = check_byte_order(&t);
    if (st >= 0) st = ad_zip_read(ctx, &t.zip, e, "data.pkl", AD_CAP_PICKLE, &text);
    if (st >= 0) {
        t.pickle = (AdPickle){ .ctx = ctx, .path = file->file->path, .hooks = &hooks,
                               .opaque = &t, .text = text, .bytes = (size_t)e->bytes };
        st = ad_pickle_run(&t.pickle);
    }
    if (st >= 0) st = fill(&t);
    ad_pickle_free(&t.pickle);
    ad_zip_close(&t.zip);
    ad_free(text);
    return st;
}
