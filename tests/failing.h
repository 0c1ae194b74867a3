/* failing.h - the n-th allocation or read of the library fails, and what was not freed is counted.
 *
 * Allocations inside jansson, oneDNN and OpenMP are not the library's.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef TESTS_FAILING_H
#define TESTS_FAILING_H

#include <stdbool.h>
#include <stddef.h>

typedef enum Failing {
    NOTHING, ALLOCATION, READ_ERROR, READ_END, READ_HALF, READ_INTERRUPTED
} Failing;

extern struct FailingCalls {
    Failing kind;               /* which calls count                            */
    long    countdown;          /* this many of them from now fails; 0: none    */
    bool    fired;              /* one failed                                   */
    _Atomic long blocks;        /* allocated and not freed                      */
    void  (*on_call)(void);     /* NULL, or told of every call that counts      */
} failing;

#endif
