/* fuzz_safetensors.c - headers of safetensors files.
 *
 * The input is the header; its length and zeros behind it, as many as the input's last two bytes
 * say, are put around it: so the header's own rules are met, not the file's first eight bytes.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static unsigned char file[8 + (1 << 16) + 4096];
    size_t zeros;

    if (n < 3 || n > 1 << 16)
        return 0;
    n    -= 2;
    zeros = (data[n] | (size_t)data[n + 1] << 8) % 4096;
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, data, n);
    memset(file + 8 + n, 0, zeros);
    fuzz_tensors(fuzz_file(0, file, 8 + n + zeros));
    return 0;
}
