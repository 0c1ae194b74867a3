/* pickle_globals.h - which functions and classes a pickle may name, and what each stands for.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_PICKLE_GLOBALS_H
#define AD_PICKLE_GLOBALS_H

#include "tensor_file.h"

typedef enum AdGlobal {
    AD_GLOBAL_REFUSED,
    AD_GLOBAL_INERT,                /* whatever is made with it is opaque       */
    AD_GLOBAL_DICT,                 /* collections.OrderedDict                  */
    AD_GLOBAL_PARAMETER_DICT,       /* a dict whose state has its _parameters   */
    AD_GLOBAL_TENSOR, AD_GLOBAL_PARAMETER, AD_GLOBAL_SIZE, AD_GLOBAL_STORAGE
} AdGlobal;

/* "module.name" of n bytes. *dtype is set for storages. */
AdGlobal ad_pickle_global(const char *name, size_t n, AdDtype *dtype);

#endif
