/* pickle_cells.c - where a pickle's values are kept; see pickle_cells.h.
 *
 * Called by pickle.c. Stack, memo and pool share one cap.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "pickle_cells.h"

AdStatus ad_pickle_wrong(const AdPickle *p, const char *what)
{
    return ad_fail(p->ctx, AD_ERR_FORMAT, "%.120s: data.pkl, byte %zu: %s", p->path, p->at, what);
}

/* ---- cells -------------------------------------------------------------------------------- */

/* Doubled and not zeroed, so that pages nobody wrote to cost nothing. */
AdStatus ad_pickle_grow(AdPickle *p, AdCell **cells, size_t *room, size_t used)
{
    size_t bigger = *room ? AD_MIN(2 * *room, AD_CAP_CELLS) : 1024;
    AdCell *more;

    if (p->depth + p->memos + p->used >= AD_CAP_CELLS)
        return ad_pickle_wrong(p, "more than 2000000 values");
    if (used < *room)
        return AD_OK;
    more = ad_alloc_raw(bigger * sizeof(*more));
    if (!more)
        return ad_fail_nomem(p->ctx, "a pickle's values");
    if (used)
        memcpy(more, *cells, used * sizeof(*more));
    ad_free(*cells);
    *cells = more;
    *room  = bigger;
    return AD_OK;
}

AdStatus ad_pickle_push(AdPickle *p, AdCell cell)
{
    AdStatus st = ad_pickle_grow(p, &p->stack, &p->stack_room, p->depth);

    if (st >= 0)
        p->stack[p->depth++] = cell;
    return st;
}

AdStatus ad_pickle_pool_add(AdPickle *p, const AdCell *cell)
{
    AdStatus st = ad_pickle_grow(p, &p->pool, &p->pool_room, p->used);

    if (st >= 0)
        p->pool[p->used++] = *cell;
    return st;
}

static AdStatus pool_add_all(AdPickle *p, const AdCell *cells, size_t n)
{
    AdStatus st = AD_OK;

    for (size_t i = 0; i < n && st >= 0; i++)
        st = ad_pickle_pool_add(p, &cells[i]);
    return st;
}

/* ---- containers --------------------------------------------------------------------------- */

/* A container is a head in the pool, which stays where it is; its cells are in runs, a cell with
 * their number and the place of the next run, then they. */
AdStatus ad_pickle_push_container(AdPickle *p, AdCellKind kind)
{
    AdCell cell = { .kind = (uint8_t)kind }, head = { 0 };
    AdStatus st = ad_pickle_pool_add(p, &head);

    cell.u.at.first = (uint32_t)p->used - 1;
    return st >= 0 ? ad_pickle_push(p, cell) : st;
}

AdStatus ad_pickle_extend(AdPickle *p, const AdCell *container, const AdCell *cells, size_t n)
{
    uint32_t head = container->u.at.first, last = p->pool[head].u.at.last;
    AdCell run = { 0 };
    AdStatus st = AD_OK;

    if (n == 0)
        return AD_OK;
    if (!last || last + 1 + p->pool[last].n != p->used) {       /* something lies behind it */
        uint32_t at = (uint32_t)p->used;

        st = ad_pickle_pool_add(p, &run);
        if (st < 0)
            return st;
        if (last)
            p->pool[last].u.at.first = at;
        else
            p->pool[head].u.at.first = at;
        p->pool[head].u.at.last = last = at;
    }
    st = pool_add_all(p, cells, n);
    if (st >= 0)
        p->pool[last].n += (uint32_t)n;
    return st;
}

AdStatus ad_pickle_push_tuple(AdPickle *p, const AdCell *cells, size_t n, size_t taken)
{
    AdCell tuple = { .kind = AD_CELL_TUPLE, .n = (uint32_t)n };
    AdStatus st;

    tuple.u.at.first = (uint32_t)p->used;
    st = pool_add_all(p, cells, n);
    p->depth -= taken;
    return st >= 0 ? ad_pickle_push(p, tuple) : st;
}

AdCellWalk ad_pickle_walk(const AdPickle *p, const AdCell *c)
{
    if (c->kind == AD_CELL_TUPLE)
        return (AdCellWalk){ .at = c->u.at.first, .left = c->n };
    return (AdCellWalk){ .next = p->pool[c->u.at.first].u.at.first };
}

const AdCell *ad_pickle_next(const AdPickle *p, AdCellWalk *w)
{
    if (!w->left) {
        if (!w->next)
            return NULL;
        w->at   = w->next + 1;
        w->left = p->pool[w->next].n;
        w->next = p->pool[w->next].u.at.first;
    }
    w->left--;
    return &p->pool[w->at++];
}

bool ad_pickle_is_text(const AdCell *c, const char *text)
{
    return c->kind == AD_CELL_TEXT && c->n == strlen(text) && !memcmp(c->u.text, text, c->n);
}

const AdCell *ad_pickle_get(const AdPickle *p, const AdCell *dict, const char *name)
{
    AdCellWalk w = ad_pickle_walk(p, dict);
    const AdCell *found = NULL, *key;

    while ((key = ad_pickle_next(p, &w))) {
        const AdCell *value = ad_pickle_next(p, &w);

        if (ad_pickle_is_text(key, name))
            found = value;
    }
    return found;
}
