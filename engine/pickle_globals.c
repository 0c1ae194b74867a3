/* pickle_globals.c - the list of names a pickle may use; see pickle_globals.h.
 *
 * Called by pickle.c. A list of what is allowed, never of what is bad.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "pickle_globals.h"

static const struct { const char *name; AdGlobal is; AdDtype dtype; } globals[] = {
    { "collections.OrderedDict",                    AD_GLOBAL_DICT, 0 },
    { "torch._utils._rebuild_tensor_v2",            AD_GLOBAL_TENSOR, 0 },
    { "torch._utils._rebuild_parameter",            AD_GLOBAL_PARAMETER, 0 },
    { "torch.Size",                                 AD_GLOBAL_SIZE, 0 },
    { "torch.FloatStorage",                         AD_GLOBAL_STORAGE, AD_DT_F32 },
    { "torch.HalfStorage",                          AD_GLOBAL_STORAGE, AD_DT_F16 },
    { "torch.BFloat16Storage",                      AD_GLOBAL_STORAGE, AD_DT_BF16 },
    { "torch.DoubleStorage",                        AD_GLOBAL_STORAGE, AD_DT_F64 },
    { "torch.LongStorage",                          AD_GLOBAL_STORAGE, AD_DT_I64 },
    { "torch.IntStorage",                           AD_GLOBAL_STORAGE, AD_DT_I32 },
    { "torch.ShortStorage",                         AD_GLOBAL_STORAGE, AD_DT_I16 },
    { "torch.CharStorage",                          AD_GLOBAL_STORAGE, AD_DT_I8 },
    { "torch.ByteStorage",                          AD_GLOBAL_STORAGE, AD_DT_U8 },
    { "torch.BoolStorage",                          AD_GLOBAL_STORAGE, AD_DT_BOOL },
    { "torch.nn.modules.container.ParameterDict",   AD_GLOBAL_PARAMETER_DICT, 0 },
    { "_codecs.encode",                             AD_GLOBAL_INERT, 0 },
    { "numpy.dtype",                                AD_GLOBAL_INERT, 0 },
    { "__builtin__.set",                            AD_GLOBAL_INERT, 0 },   /* a ParameterDict  */
    { "builtins.set",                               AD_GLOBAL_INERT, 0 },   /* has an empty one */
};

static const char *const inert[] = {
    "pytorch_lightning.", "numpy.core.multiarray.", "numpy._core.multiarray.",
};

AdGlobal ad_pickle_global(const char *name, size_t n, AdDtype *dtype)
{
    for (size_t i = 0; i < AD_COUNT(globals); i++)
        if (strlen(globals[i].name) == n && !memcmp(globals[i].name, name, n)) {
            *dtype = globals[i].dtype;
            return globals[i].is;
        }
    for (size_t i = 0; i < AD_COUNT(inert); i++)
        if (n > strlen(inert[i]) && !memcmp(inert[i], name, strlen(inert[i])))
            return AD_GLOBAL_INERT;
    return AD_GLOBAL_REFUSED;
}
