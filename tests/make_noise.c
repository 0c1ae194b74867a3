/* make_noise.c - the noise that torch's CUDA generator would draw, as raw floats on stdout.
 *
 * tests/gpu/noise.py compares it with what torch draws on the card.
 *
 * Usage: make_noise SEED COUNT SMS THREADS_PER_SM [DRAWS]      COUNT numbers, DRAWS times
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "../engine/rng.h"

int main(int argc, char **argv)
{
    AdRngState r;
    size_t n;
    float *numbers;

    if (argc < 5) {
        fprintf(stderr, "usage: make_noise SEED COUNT SMS THREADS_PER_SM [DRAWS]\n");
        return 2;
    }
    n       = strtoull(argv[2], NULL, 10);
    numbers = malloc(n * sizeof(*numbers) + 1);
    if (!numbers)
        return 1;
    ad_rng_seed(&r, strtoull(argv[1], NULL, 10), true, atoi(argv[3]), atoi(argv[4]));
    for (int i = 0; i < (argc > 5 ? atoi(argv[5]) : 1); i++) {
        ad_rng_normal(&r, numbers, n);
        if (fwrite(numbers, sizeof(*numbers), n, stdout) != n)
            return 1;
    }
    free(numbers);
    return 0;
}
