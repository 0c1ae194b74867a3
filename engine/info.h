/* info.h - what a file or folder of weights is, told from its headers.
 *
 * For people who have files and want to know which option takes them. Used by tools/.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_INFO_H
#define AD_INFO_H

#include "tensor_file.h"

/* Where the lines go, one by one, without a newline. */
typedef struct AdInfoSink {
    void (*line)(void *opaque, const char *text);
    void  *opaque;
} AdInfoSink;

/* Describe what is at `path`: a file; a model's folder; or a folder of files, each by itself. Of
 * tensors only the numbers that stand alone (a LoRA's alphas) are read.
 * Returns AD_OK; as ad_tensor_file_open() where a file cannot be read or is damaged: of a folder,
 * the last such, after all others were described. Each failure's sentence goes to the context. */
AdStatus ad_info(AdContext *ctx, const char *path, const AdInfoSink *sink);

/* What a LoRA changes; see info.c. */
AdStatus ad_info_lora(AdContext *ctx, const AdTensorFile *f, bool motion, const AdInfoSink *sink);

/* "  WORD      text" to the sink. */
void ad_info_say(const AdInfoSink *sink, const char *word, const char *format, ...)
    AD_PRINTF(3, 4);

/* "  ignored   3 tensors WHY", or nothing. */
void ad_info_ignored(const AdInfoSink *sink, size_t tensors, const char *why);

/* The family whose text states are that wide, into `out`; "not told by the tensors" for 0. */
#define AD_INFO_FAMILY 64
const char *ad_info_family(int64_t width, char *out);

#endif
