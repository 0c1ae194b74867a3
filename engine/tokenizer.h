/* tokenizer.h - CLIP's byte-pair encoding: text becomes ids.
 *
 * Equal to transformers' CLIPTokenizerFast: NFC, white space folded, lower case by character, no
 * final-sigma rule. Knows nothing of tensors.
 * Paper: Sennrich et al. 2016, arXiv 1508.07909.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_TOKENIZER_H
#define AD_TOKENIZER_H

#include "fail.h"

typedef struct AdTokenizer AdTokenizer;

/* A growing list of ids; free with ad_free(list.ids). */
typedef struct AdIds {
    int32_t *ids;
    size_t   count, room;
} AdIds;

/* From a folder with vocab.json and merges.txt, or merges.txt alone, or tokenizer.json. */
AdStatus ad_tokenizer_load(AdContext *ctx, AdTokenizer **out, const char *folder);
void     ad_tokenizer_free(AdTokenizer **t);

int ad_tokenizer_size(const AdTokenizer *t);            /* vocabulary entries */
int32_t ad_tokenizer_begin(const AdTokenizer *t);       /* <|startoftext|>    */
int32_t ad_tokenizer_end(const AdTokenizer *t);         /* <|endoftext|>      */
int32_t ad_tokenizer_pad(const AdTokenizer *t);

/* Teach a word (textual inversion): wherever `word` stands in a prompt, in any case, it becomes the
 * ids first ... first + count - 1, and word_1 ... word_<count - 1> the ids behind the first. Words
 * are looked for before anything else, the longest first; text around them is on its own.
 * AD_ERR_INVALID when the vocabulary or a taught word has one of these words already. */
AdStatus ad_tokenizer_add(AdContext *ctx, AdTokenizer *t, const char *word, int32_t first,
                          int count);

/* Append the ids of n bytes of text, without begin, end or padding. AD_ERR_INVALID with the offset
 * when the text is not UTF-8 or holds a NUL. */
AdStatus ad_tokenizer_encode(AdContext *ctx, const AdTokenizer *t, const char *text, size_t n,
                             AdIds *out);

/* How many ids follow each other at least when this one does: those of the word that begins with
 * it; 1 for all others. */
int ad_tokenizer_run(const AdTokenizer *t, int32_t id);

/* Characters as Unicode classes them: white space; letters, digits and "_". */
bool ad_is_space(uint32_t c);
bool ad_is_word(uint32_t c);

#endif
