/* fuzz_torch.c - PyTorch's files: zips, and the pickles in them.
 *
 * The first byte says what the rest is: a whole file, or data.pkl of a right zip file with one
 * storage of 24 bytes (its checksum stops most changes of a whole file from getting further).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../zips.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ZipWriter w = { 0 };

    if (n < 1)
        return 0;
    if (data[0] == 'P') {           /* a zip file begins so itself */
        fuzz_tensors(fuzz_file(0, data, n));
        return 0;
    }
    zip_torch(&w, data + 1, n - 1, 24);
    fuzz_tensors(fuzz_file(0, w.bytes, w.n));
    free(w.bytes);
    free(w.directory);
    return 0;
}
