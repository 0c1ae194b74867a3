/* vocabulary.h - the tables of a tokenizer and the reader of its files.
 *
 * Shared by tokenizer.c (which uses the tables) and vocabulary.c (which fills them).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_VOCABULARY_H
#define AD_VOCABULARY_H

#include "tokenizer.h"

typedef struct AdMerge {        /* two neighbouring symbols become one */
    int32_t  left, right, id;   /* left < 0: an empty slot             */
    uint32_t rank;
} AdMerge;

typedef struct AdWord {         /* matched in the text before anything else */
    char   *text;
    size_t  n;
    int32_t first;
    int     count;
} AdWord;

struct AdTokenizer {
    int      size;              /* vocabulary entries                        */
    int32_t  begin, end, pad;
    int32_t  bytes[256];        /* id of each byte inside a word             */
    int32_t  last_bytes[256];   /* id of each byte at a word's end           */
    AdMerge *merges;            /* open addressing, a power of two           */
    size_t   merge_slots;
    AdWord  *words;             /* begin and end marks, textual inversions   */
    size_t   word_count, word_room;
};

AdStatus ad_vocabulary_read(AdContext *ctx, AdTokenizer *t, const char *folder);

/* NULL: the two do not merge. */
const AdMerge *ad_vocabulary_merge(const AdTokenizer *t, int32_t left, int32_t right);

#endif
