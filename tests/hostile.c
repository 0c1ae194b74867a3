/* hostile.c - what it costs to refuse a file; see hostile.h.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernels/base.h"
#include "hostile.h"

enum { REFUSED, TAKEN, SLOW, LARGE };

/* Sanitizers make the library up to five times slower and larger than it is: their run looks for
 * work that grows faster than the file, the plain run for the second and the 64 MiB. */
#ifdef __SANITIZE_ADDRESS__
enum { SECONDS = 5, MEASURES_MEMORY = false };
#else
enum { SECONDS = 1, MEASURES_MEMORY = true };
#endif

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int cost(AdStatus (*open)(const char *path), const char *path)
{
    struct rusage before, after;
    double start = seconds();
    AdStatus st;

    getrusage(RUSAGE_SELF, &before);
    st = open(path);
    getrusage(RUSAGE_SELF, &after);
    if (st != AD_ERR_FORMAT)
        return TAKEN;
    if (seconds() - start > SECONDS)
        return SLOW;
    if (MEASURES_MEMORY && after.ru_maxrss - before.ru_maxrss > (64 + 16) << 10)    /* text too */
        return LARGE;
    return REFUSED;
}

const char *hostile_open(AdStatus (*open)(const char *path), const char *path)
{
    static const char *const why[] = { NULL, "was not refused", "took more than a second",
                                       "took more than 64 MiB" };
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(cost(open, path));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return "no process of its own could be had";
    if (!WIFEXITED(status) || WEXITSTATUS(status) > LARGE)
        return "the reader crashed";
    return why[WEXITSTATUS(status)];
}
