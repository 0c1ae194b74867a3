#!/bin/sh
# coverage.sh - how many lines of the loader its own tests run, a line per file.
#
#     tests/coverage.sh LEAST FILE...
#
# FILE is engine/x.c, whose counters lie in $BUILD/engine (gcc --coverage). Fails when any is under
# LEAST percent; the lines that did not run are in $BUILD/lines/x.c.gcov, marked #####.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
top=$PWD build=$PWD/${BUILD:-build}
least=$1 failed=0
shift
mkdir -p "$build/lines"
for folder in engine kernels; do            # gcov looks for the source from where it writes
    ln -sfn "$top/$folder" "$build/lines/$folder"
done
for file; do
    # "Lines executed:98.77% of 81" behind "File 'engine/x.c'"
    percent=$(cd "$build/lines" && gcov -o "$build/engine" "$build/${file%.c}.gcda" 2> /dev/null |
        sed -n "\|^File '$file'|{n;s/^Lines executed:\([0-9.]*\)%.*/\1/p;}")
    if awk "BEGIN { exit !(${percent:-0} >= $least) }"; then
        echo "ok - coverage of $file: $percent %"
    else
        echo "not ok - coverage of $file: ${percent:-0} %, $least % wanted: $build/lines/$(basename "$file").gcov"
        failed=1
    fi
done
exit $failed
