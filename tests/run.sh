#!/bin/sh
# run.sh - run test programs and sum up what they print.
#
#     tests/run.sh PROGRAM...
#
# A program prints one line per case: `ok - name`, `not ok - name: why`, `skip - name: why`. One
# that dies, or that fails without saying where, counts as one more failure. What a program printed
# is kept in $BUILD/logs. The last line is `N passed, N failed, N skipped`.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u

cd "$(dirname "$0")/.." || exit 1
logs=${BUILD:-build}/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0

# count PATTERN LOG
count()
{
    grep -c "^$1 - " "$2"
}

for program; do
    log=$logs/$(basename "$program").log
    start=$(date +%s)
    case $program in
    /*|*/*) timeout -k 10 1800 "$program" > "$log" 2>&1 ;;
    *)      timeout -k 10 1800 "./$program" > "$log" 2>&1 ;;
    esac
    status=$?
    ok=$(count ok "$log") bad=$(count 'not ok' "$log") skip=$(count skip "$log")
    if { [ $status != 0 ] && [ "$bad" = 0 ]; } || [ "$((ok + bad + skip))" = 0 ]; then
        bad=$((bad + 1))
        echo "not ok - $(basename "$program"): exit status $status, $((ok + skip)) cases before; $log ends:"
        tail -n 5 "$log" | sed 's/^/    /'
    fi
    printf '  %-24s %3d ok' "$(basename "$program")" "$ok"
    [ "$bad" = 0 ]  || printf ', %d FAILED' "$bad"
    [ "$skip" = 0 ] || printf ', %d skipped' "$skip"
    printf ', %d s\n' $(($(date +%s) - start))
    grep -E '^(not ok|skip) - ' "$log" | sed 's/^/    /'
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
