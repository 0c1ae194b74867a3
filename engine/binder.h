/* binder.h - a checkpoint name and a shape become a weight on the device.
 *
 * Each graph declares its weights in a bind function that stands above its forward function. The
 * same function runs twice: first to check every name and shape and to add up the bytes, then to
 * load. Complaints are collected and make one sentence at the end. When other LoRA files come, it
 * runs a third time, for the weights these touch.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_BINDER_H
#define AD_BINDER_H

#include "nn.h"
#include "weights.h"

typedef struct AdPatches AdPatches;     /* lora.h: changes to weights, by name */

/* A weight that will be written again: its bytes as the device wants them, in host memory. */
typedef struct AdChange {
    char  *place;                       /* on the device */
    void  *data;
    size_t bytes;
} AdChange;

typedef struct AdChanges {
    AdChange *items;
    size_t    count, room;
} AdChanges;

typedef struct AdBinder {
    AdContext *ctx;
    AdBackend *backend;
    AdWeights *weights;
    AdPatches *patches;                 /* NULL: none */
    AdType     type;                    /* element type of the graph */
    bool       load;                    /* second run: read and pack */
    bool       skip;                    /* the weight at hand is looked at, not read */
    char      *slab;                    /* second run: where to */
    const AdPatches *before;            /* third run: what the slab was loaded with; NULL: none */
    AdChanges *changes;                 /* third run: where to */
    void      *buffer;                  /* third run: device memory for one weight */
    size_t     buffer_bytes;
    size_t     bytes;                   /* of the slab, so far */
    int        side;                    /* hint for packing: see AdPackArgs */
    char       path[AD_CAP_NAME];
    size_t     ends[16];
    int        depth;
    float     *host;                    /* one tensor in f32 */
    size_t     host_count;
    int        complaints, nonfinite;
    char       first[200];              /* complaints, for the sentence */
    AdStatus   status;
} AdBinder;

/* Prepare for the first run. */
void ad_binder_init(AdBinder *b, AdContext *ctx, AdBackend *be, AdWeights *weights, AdType type);

/* After the first run: one sentence about everything missing or misshapen, naming `part`. */
AdStatus ad_binder_check(AdBinder *b, const char *part);

/* Take a slab of b->bytes on the device and turn to the second run. The slab is the caller's. */
AdStatus ad_binder_start_loading(AdBinder *b, void **slab);

/* Turn to a run that leaves a loaded slab alone and collects in `changes` what has to be written
 * there: the weights that b->patches or `before` (NULL: none) touch. */
void ad_binder_start_changing(AdBinder *b, void *slab, const AdPatches *before,
                              AdChanges *changes);

/* Write all changes to the device. */
AdStatus ad_changes_write(AdContext *ctx, AdBackend *be, const AdChanges *changes);
void     ad_changes_free(AdChanges *changes);

void ad_binder_free(AdBinder *b);       /* own memory; not the slab */

/* Names inside are prefixed with "name." (or "name.i."). */
void ad_bind_enter(AdBinder *b, const char *name);
void ad_bind_enter_at(AdBinder *b, const char *name, int i);
void ad_bind_leave(AdBinder *b);

/* Whether a tensor is there, without asking for it. */
bool ad_bind_has(AdBinder *b, const char *name);

/* name.weight [out, in] and, with bias, name.bias [out]. */
void ad_bind_linear(AdBinder *b, const char *name, int in, int out, bool bias, AdLinear *l);

/* Several layers over one input as one: rows of names[0], then names[1], ... */
void ad_bind_linear_cat(AdBinder *b, const char *const *names, int count, int in, int out,
                        bool bias, AdLinear *l);

/* One layer over the concatenation of two inputs as two: out = l1(x1) + l2(x2); l1 has the bias. */
void ad_bind_linear_split(AdBinder *b, const char *name, int in1, int in2, int out, AdLinear *l1,
                          AdLinear *l2);

/* name.weight [2 * out, in] and name.bias: value rows, then gate rows. */
void ad_bind_geglu(AdBinder *b, const char *name, int in, int out, AdLinear *l);

/* name.weight [out, in, k, k] and name.bias [out]. */
void ad_bind_conv2d(AdBinder *b, const char *name, int in, int out, int k, AdConv *c);

/* name.weight [c] and name.bias [c]; groups 0: layer norm. */
void ad_bind_norm(AdBinder *b, const char *name, int c, int groups, float eps, AdNorm *n);

/* name [rows, c], for gather. */
void ad_bind_table(AdBinder *b, const char *name, int rows, int c, AdTensor *t);

/* Sinusoidal rows [rows, c]: name [1, rows, c] where the file has it, else by the formula. */
void ad_bind_positions(AdBinder *b, const char *name, int rows, int c, AdTensor *t);

/* A tensor that may be in the file and is not used. */
void ad_bind_ignore(AdBinder *b, const char *name);

#endif
