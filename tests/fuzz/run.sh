#!/bin/sh
# run.sh - run fuzz targets side by side, as many as there are processors.
#
#     tests/fuzz/run.sh SECONDS FOLDER TARGET=LEAST...
#
# FOLDER/fuzz_TARGET is the program, FOLDER/corpus/TARGET what it found so far. A target fails when
# it finds an input that crashes, leaks, takes more than 10 s or 1 GiB (it is kept in FOLDER, and
# its path printed), or when it tries fewer than LEAST inputs in a second of computing.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=$1 folder=$2
shift 2

# one TARGET LEAST: its line, "ok - ..." or "not ok - ..."
one()
{
    target=$1 least=$2 log=$folder/$1.log
    tests/fuzz/seeds.sh "$target" "$folder/corpus/$target"
    ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
        "$folder/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=32768 -detect_leaks=1 -print_final_stats=1 -dict="tests/fuzz/$target.dict" \
        -artifact_prefix="$folder/$target-" "$folder/corpus/$target" > "$log" 2>&1
    status=$?
    runs=$(LC_ALL=C sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    runs=${runs:-0}
    times > "$folder/$target.times"         # "0m1.5s 0m0.1s" of this shell, then of what it ran
    spent=$(sed -n '2s/[ms]/ /gp' "$folder/$target.times" | awk '{ printf "%.1f", 60 * $1 + $2 + 60 * $3 + $4 }')
    if [ $status != 0 ]; then
        echo "not ok - fuzz $target: exit status $status after $runs inputs; $log ends:"
        grep -aE '^SUMMARY|not so:|Test unit written' "$log" | sed 's/^/    /'
    elif [ "$runs" -lt 100 ] || awk "BEGIN { exit !($runs < $least * $spent) }"; then
        echo "not ok - fuzz $target: only $runs inputs in $spent s of computing; $least a second are wanted"
    else
        echo "ok - fuzz $target: $runs inputs in $seconds s ($spent of computing), $(find "$folder/corpus/$target" -type f | wc -l) kept"
    fi
}

if [ "$seconds" = one ]; then               # called by xargs below
    seconds=$1
    one "${2%=*}" "${2#*=}"
    exit
fi
lines=$folder/lines
printf '%s\n' "$@" | xargs -n 1 -P "$(nproc 2> /dev/null || echo 2)" \
    tests/fuzz/run.sh one "$folder" "$seconds" > "$lines"
cat "$lines"
! grep -q '^not ok' "$lines" && [ "$(grep -c '^ok' "$lines")" = $# ]
