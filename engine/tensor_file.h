/* tensor_file.h - named tensors in a file, whatever its format.
 *
 * A reader (safetensors.c, torch_file.c) checks the whole header, then entries are read one by one.
 * Nothing is allocated from a claimed size before the bytes present bound it.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_TENSOR_FILE_H
#define AD_TENSOR_FILE_H

#include "caps.h"
#include "file.h"

typedef enum AdDtype {
    AD_DT_BOOL, AD_DT_U8, AD_DT_I8, AD_DT_F8_E5M2, AD_DT_F8_E4M3, AD_DT_I16, AD_DT_U16, AD_DT_F16,
    AD_DT_BF16, AD_DT_I32, AD_DT_U32, AD_DT_F32, AD_DT_F64, AD_DT_I64, AD_DT_U64, AD_DTYPES
} AdDtype;

typedef struct AdEntry {
    const char *name;               /* in the file's own memory */
    AdDtype     dtype;
    int         rank;
    int64_t     shape[AD_CAP_RANK];
    uint64_t    offset, bytes;      /* of the first number in the file; of all its numbers */
    const int64_t *stride;          /* of each axis, in numbers; NULL: one behind the other */
} AdEntry;

typedef struct AdMetadata { const char *key, *value; } AdMetadata;

typedef struct AdTensorFile {
    AdFile     *file;
    char       *header;             /* text the names point into */
    size_t      header_bytes;       /* of a safetensors file     */
    int64_t   (*strides)[AD_CAP_RANK];
    AdEntry    *entries;            /* sorted by name            */
    size_t      count, room;
    AdMetadata *metadata;
    size_t      metadata_count, metadata_room;
} AdTensorFile;

/* Open and check a file. Returns owned. AD_ERR_FORMAT with what is wrong; AD_ERR_UNSUPPORTED for a
 * known other format; else as ad_file_open(). */
AdStatus ad_tensor_file_open(AdContext *ctx, AdTensorFile **out, const char *path);

/* Also makes sure that the file did not change since it was opened. */
AdStatus ad_tensor_file_finish(AdContext *ctx, AdTensorFile **file);
void     ad_tensor_file_close(AdTensorFile **file);

/* NULL: no such name. */
const AdEntry *ad_tensor_file_find(const AdTensorFile *file, const char *name);
const char    *ad_tensor_file_metadata(const AdTensorFile *file, const char *key);

/* All numbers of an entry as floats, row by row. Floating types and integers are accepted. */
AdStatus ad_entry_read(AdContext *ctx, const AdTensorFile *file, const AdEntry *entry, float *out);

/* How many numbers the entry has; shapes are checked, so the product fits. */
int64_t ad_entry_count(const AdEntry *entry);

/* "[320, 4, 3, 3]" into a buffer of AD_ENTRY_TEXT bytes. */
#define AD_ENTRY_TEXT 128
const char *ad_entry_shape(const AdEntry *entry, char *out);

size_t      ad_dtype_bytes(AdDtype dtype);
const char *ad_dtype_name(AdDtype dtype);

/* The readers of one format each: fill entries and metadata of a file that is open. */
AdStatus ad_safetensors_read(AdContext *ctx, AdTensorFile *file);
AdStatus ad_torch_file_read(AdContext *ctx, AdTensorFile *file);

#endif
