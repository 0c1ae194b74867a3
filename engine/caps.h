/* caps.h - how large things from files may be. Every cap has a test just below and just above.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_CAPS_H
#define AD_CAPS_H

#define AD_CAP_HEADER      (16u << 20)      /* safetensors header, bytes      */
#define AD_CAP_TENSORS     65536u           /* per file                       */
#define AD_CAP_NAME        512u             /* bytes of a tensor name         */
#define AD_CAP_RANK        8
#define AD_CAP_AXIS        INT32_MAX
#define AD_CAP_CONFIG      (1u << 20)       /* config.json and other small JSON */
#define AD_CAP_DEPTH       32               /* of any JSON                    */
#define AD_CAP_VALUES      600000         /* of any JSON: commas; a tokenizer.json of the largest */
#define AD_CAP_CONTAINERS  150000         /* vocabulary has 400,000, and 131,072 lists            */
#define AD_CAP_TREE        (80u << 20)      /* of any JSON: bytes of its text and tree, roughly */
#define AD_CAP_INDEX       (16u << 20)      /* shard index, vocab.json        */
#define AD_CAP_SHARDS      1024u
#define AD_CAP_MERGES      (8u << 20)       /* merges.txt                     */
#define AD_CAP_LINE        1024u
#define AD_CAP_VOCABULARY  131072u
#define AD_CAP_TOKEN       512u             /* bytes of a vocabulary entry    */
#define AD_CAP_PROMPT      (64u << 10)
#define AD_CAP_BRACKETS    64               /* of a weighted prompt, open at once */
#define AD_CAP_CHUNKS      64               /* of 75 tokens, in a weighted prompt */
#define AD_CAP_VECTORS     75               /* of one textual inversion       */
#define AD_CAP_ADAPTERS    64u              /* in one list                    */
#define AD_CAP_ZIP_ENTRIES 65536u           /* of a torch file                */
#define AD_CAP_DIRECTORY   (8u << 20)       /* of all its entries, bytes      */
#define AD_CAP_PICKLE      (16u << 20)      /* data.pkl, bytes                */
#define AD_CAP_OPCODES     8000000u
#define AD_CAP_CELLS       2000000u         /* on stack, in memo and containers, together */
#define AD_CAP_NESTING     64               /* of containers, and of open marks */
#define AD_CAP_NAMES       (8u << 20)       /* bytes of a torch file's tensor names */
#define AD_CAP_REPEATED    (1u << 20)       /* bytes of a tensor larger than its storage */
#define AD_CAP_FIELD       65536            /* integers of architecture configs */

#endif
