/* scratch.h - files that a test writes for itself, in a folder that goes when the program ends.
 *
 * A test that cannot even write its files has nothing to say about the library: it ends the program
 * with a sentence (die).
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef AD_SCRATCH_H
#define AD_SCRATCH_H

#include <stddef.h>

/* printf to stderr, exit 2. */
void die(const char *format, ...);

/* "/tmp/animatediff-test-XXXXXX/name"; NULL or "": the folder itself. The text is good until the
 * sixteenth next call. */
const char *scratch(const char *name);

/* Write a file there; folders on the way are made. Returns its path, as scratch(). */
const char *scratch_write(const char *name, const void *data, size_t bytes);
const char *scratch_text(const char *name, const char *text);

/* Copy a file or a whole folder (links followed) from anywhere to there. */
const char *scratch_copy(const char *name, const char *from);

/* The safetensors file `path` there as `name`, every `from` in its header replaced. */
const char *scratch_renamed(const char *name, const char *path, const char *from, const char *to);

void scratch_remove(const char *name);          /* a file or a whole folder, if it is there */
void scratch_folder(const char *name);
void scratch_link(const char *name, const char *to);

/* A whole file, with a NUL behind it; free() it. */
char *slurp(const char *path, size_t *bytes);

#endif
