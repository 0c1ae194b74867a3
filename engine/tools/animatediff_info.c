/* animatediff_info.c - the program animatediff-info: what files of weights are, for which option.
 *
 *     animatediff-info FILE|FOLDER...
 *
 * What is known goes to stdout; a sentence for each that cannot be read to stderr. Exit status: 0
 * if all could be read, 1 if not, 2 for wrong usage. It computes nothing and needs no device.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "../info.h"
#include "../internal.h"

static void to_stdout(void *opaque, const char *text)
{
    (void)opaque;
    puts(text);
}

static int usage(FILE *to, int status)
{
    fprintf(to, "usage: animatediff-info FILE|FOLDER...\n"
                "Says of files of weights what they are, which option of the filter takes them,\n"
                "for which base they are made, how large they are and what of them is not used.\n"
                "Only headers are read.\n");
    return status;
}

int main(int argc, char **argv)
{
    static AdContext ctx;
    const AdInfoSink sink = { to_stdout, NULL };
    int status = 0;

    if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")))
        return usage(stdout, 0);
    if (argc < 2)
        return usage(stderr, 2);
    for (int i = 1; i < argc; i++)
        if (ad_info(&ctx, argv[i], &sink) < 0) {
            fflush(stdout);
            fprintf(stderr, "animatediff-info: %s\n", ctx.error);
            status = 1;
        }
    return fflush(stdout) || ferror(stdout) ? 1 : status;
}
