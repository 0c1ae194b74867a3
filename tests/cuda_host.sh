#!/bin/sh
# cuda_host.sh - the CUDA backend without a GPU: its files compiled as C++, threads as fibres.
#
#     tests/cuda_host.sh              QUICK=1: without the golden blocks, which take a minute
#
# Runs what lies in $BUILD/tests/cuda_host: programs of the other tests, with a stand-in beside them
# that takes the place of libanimatediff-cuda.so, and what tests the stand-in itself. What it finds
# and how: tests/cuda_host/host_memory.cpp.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
here=${BUILD:-build}/tests/cuda_host
logs=${BUILD:-build}/logs
failed=0

if ! [ -f "$here/libanimatediff-cuda.so" ]; then
    echo "skip - CUDA backend on its stand-in: no C++ compiler"
    exit 0
fi
mkdir -p "$logs"

# run NAME ARGUMENT...: what it prints, and one line more when it dies
run()
{
    log=$logs/cuda_host-$1.log
    "$here/$@" > "$log" 2>&1
    status=$?
    [ $status = 0 ] || grep -q '^not ok' "$log" ||
        echo "not ok - $1 on the stand-in ends with status $status: $(tail -n 1 "$log")" >> "$log"
    return $status
}

# The blocks take as long as all else: side by side.
blocks=$([ -n "${QUICK:-}" ] || echo test_blocks)
[ -z "$blocks" ] || run test_blocks cuda &
last=$!
run faulty          || failed=1
run test_faults     || failed=1

# The rest as on a real GPU, by the same script: operations, clips, the benchmarks' shortest.
rehearsal=${BUILD:-build}/gpu-rehearsal
rm -rf "$rehearsal"
OUT=$rehearsal LIMIT=900 tests/gpu/run.sh --rehearse > "$logs/cuda_host-rehearsal.log" 2>&1 || failed=1
wait $last          || failed=1
for program in faulty test_faults $blocks; do
    grep -E '^(ok|not ok|skip) - ' "$logs/cuda_host-$program.log"
done
grep -hE '^(ok|not ok|skip) - ' "$rehearsal"/*.log
if ! command -v python3 > /dev/null; then
    echo "skip - rehearsal of tests/gpu/run.sh: no python3 for its results"
elif python3 - "$rehearsal/results.json" << 'CHECK'
import json, sys
parts = {p["stage"]: p for p in json.load(open(sys.argv[1]))}
assert list(parts) == ["build", "ops", "clips", "table", "size256"], list(parts)
assert all(p["status"] == 0 and not p["failed"] for p in parts.values())
assert parts["ops"]["ok"] > 100 and parts["table"]["operations"] and parts["size256"]["numbers"][0]["step_ms"] > 0
CHECK
then
    echo "ok - rehearsal of tests/gpu/run.sh: every stage is in its results"
else
    echo "not ok - rehearsal of tests/gpu/run.sh: see $rehearsal and $logs/cuda_host-rehearsal.log"
    failed=1
fi
exit $failed
