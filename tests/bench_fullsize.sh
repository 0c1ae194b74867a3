#!/bin/sh
# bench_fullsize.sh - our engine and the reference at the real sizes, in turns, in one run.
#
#     tests/bench_fullsize.sh [ROUNDS]
#
# Makes random weights of Stable Diffusion 1.5 and the v2 motion adapter (2.9 GB in $TMPDIR, deleted
# afterwards), then steps and frames of 256x256, 16 frames, guidance on, in bf16 and fp32. Needs
# torch and diffusers: PYTHON=python3 names the interpreter that has them. Prints medians and their
# ratios; what each run printed is kept in build/fullsize. The results belong into kernels/README.md.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3}
python=${PYTHON:-python3}
logs=build/fullsize
make build/tests/bench_session > /dev/null
weights=$(mktemp -d "${TMPDIR:-/tmp}/fullsize.XXXXXX")
trap 'rm -rf "$weights"' EXIT
rm -rf "$logs"
mkdir -p "$logs"
echo "making the weights"
"$python" tests/make_fullsize.py "$weights"

for round in $(seq "$rounds"); do
    for precision in bf16 fp32; do
        echo "round $round of $rounds, $precision"
        build/tests/bench_session "$weights/model" "$weights/adapter" 256 $precision 2 \
            > "$logs/ours-$precision-$round"
        "$python" tests/bench_diffusers.py "$weights/model" "$weights/adapter" 256 $precision 2 \
            > "$logs/reference-$precision-$round"
    done
done

# median WHAT FILES: of the lines "WHAT i: x s", without the first of each file, which warms up
median()
{
    what=$1
    shift
    for file; do
        sed -n "s/^$what [0-9]*: \([0-9.]*\) s$/\1/p" "$file" | sed 1d
    done | sort -n | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
}

printf '\n%-8s %-6s %10s %10s %8s\n' '' '' ours reference ratio
for precision in bf16 fp32; do
    for what in step frame; do
        ours=$(median $what "$logs"/ours-$precision-*)
        theirs=$(median $what "$logs"/reference-$precision-*)
        echo "$precision $what $ours $theirs" |
            awk '{ printf "%-8s %-6s %8.3f s %8.3f s %8.2f\n", $1, $2, $3, $4, $3 / $4 }'
    done
    awk '/^peak/ { print FILENAME ": " $0 }' "$logs"/*-$precision-1 | sed "s|^$logs/||"
done
