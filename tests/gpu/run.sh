#!/bin/sh
# run.sh - everything that needs a GPU, as one command for a bare machine: tests, then times.
#
#     tests/gpu/run.sh [STAGE...]             all stages, or those named, in the order given
#     tests/gpu/run.sh --list                 their names, limits and what they do
#     tests/gpu/run.sh --rehearse             the same at the smallest scale on the stand-in (no GPU)
#
# Needs a GPU with its driver, nvcc, a C compiler and python3 with torch. Where the headers of jansson
# and utf8proc are missing, DEPS=DIR names a folder that tests/gpu/pack.sh filled on another machine.
# WHEELS=DIR: a folder of wheels with diffusers, for the stage `reference`.
# Each stage ends within its limit in seconds (LIMIT=n: another for all) and leaves its part in
# $OUT (build/gpu) at once: results.json and results.md are whole after every stage.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/../.." || exit 1

rehearse=${REHEARSE:-}
[ "${1:-}" != --rehearse ] || { rehearse=yes; shift; }
if [ -n "$rehearse" ]; then
    bin=${BUILD:-build}/tests/cuda_host
    out=${OUT:-${BUILD:-build}/gpu-rehearsal}
else
    bin=build/tests
    out=${OUT:-build/gpu}
fi
frames=16
[ -z "$rehearse" ] || frames=1
python=${PYTHON:-python3}
weights=${WEIGHTS:-${TMPDIR:-/tmp}/animatediff-weights}

# name, limit in seconds, what
stages='
build      240 the engine, the CUDA backend for this card, the tests
ops         60 every operation against kernels/ref, f32, f16, bf16
blocks      60 layers and small networks against diffusers
clips       60 tiny clips in fp32, fp16, bf16 against the CPU
noise       60 our Philox noise against torch on this card
leaks       90 200 tiny clips, memory before and after
sanitize   150 compute-sanitizer memcheck and racecheck
weights     60 random weights of Stable Diffusion 1.5 and the v2 adapter
table       60 every operation of a step of 256x256: time, TFLOP/s, GB/s
size256     60 clips of 256x256x16: step, clip, VAE, memory
size512     90 clips of 512x512x16: step, clip, VAE, memory
reference  150 diffusers on this card: eager, SDPA, compile
'

# ---- stages -----------------------------------------------------------------------------------

# A configuration without oneDNN and FFmpeg: jansson and utf8proc from DEPS.
configure_bare()
{
    nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    home=$(dirname "$(dirname "$nvcc")")
    mkdir -p build
    cat > build/config.mk << CONFIG
CONFIGURE_ARGUMENTS = --enable-cuda --disable-ffmpeg
PREFIX         = /usr/local
CACHE          = build/cache
CC             = ${CC:-cc}
SANITIZE       = no
DEBUG          = no
LIBRARY_CFLAGS = -DUTF8PROC_STATIC -I$(cd "$DEPS" && pwd)/include
LIBRARY_LIBS   = -L$(cd "$DEPS" && pwd)/lib -ljansson -lutf8proc
DNNL           = no
CUDA           = yes
NVCC           = $nvcc
CUDA_INCLUDE   = $home/include
CUDA_FLAGS     = -gencode arch=compute_$arch,code=sm_$arch
CUDA_SM90A     = no
CUDA_LIBS      = -L$home/lib64 -Xlinker -rpath=$home/lib64
CUDNN          = 0
FFMPEG         = no
CONFIG
}

programs='test_ops test_blocks test_cuda_clips bench_session bench_clip make_noise'

stage_build()
{
    if [ -n "$rehearse" ]; then
        for program in $programs; do
            [ -x "$bin/$program" ] || { echo "not ok - build: $bin/$program is missing"; return 1; }
        done
    else
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
        if [ -n "${DEPS:-}" ]; then
            configure_bare
        else
            ./configure.sh --enable-cuda --cuda-arch=native --disable-ffmpeg || return 1
        fi
        # shellcheck disable=SC2086
        make -j"$(nproc)" cuda lib model $(echo " $programs" | sed "s| | $bin/|g") || return 1
    fi
    echo "ok - build"
}

stage_ops()    { "$bin/test_ops" cuda; }
stage_blocks() { "$bin/test_blocks" cuda; }
stage_clips()  { "$bin/test_cuda_clips"; }
stage_leaks()  { "$bin/test_cuda_clips" 200; }
stage_noise()  { "$python" tests/gpu/noise.py "$bin/make_noise"; }

stage_sanitize()
{
    tool=$(command -v compute-sanitizer || echo "$(dirname "$(command -v nvcc)")/compute-sanitizer")
    [ -x "$tool" ] || { echo "skip - compute-sanitizer: not on this machine"; return 0; }
    for what in "memcheck test_ops cuda" "racecheck test_ops cuda" "memcheck test_cuda_clips 1"; do
        # shellcheck disable=SC2086
        set -- $what
        if timeout 60 "$tool" --tool "$1" --error-exitcode 9 "$bin/$2" "$3" > "$out/sanitize-$1-$2.log" 2>&1; then
            echo "ok - compute-sanitizer $what"
        else
            echo "not ok - compute-sanitizer $what: status $?, $(tail -n 1 "$out/sanitize-$1-$2.log")"
        fi
    done
}

stage_weights()
{
    [ -f "$weights/model.safetensors" ] || "$python" tests/gpu/make_weights.py "$weights"
}

# What is timed: the full size, or the golden miniature.
model()
{
    if [ -n "$rehearse" ]; then
        set -- "$1" tests/golden/models/plain tests/golden/models/plain-motion 32
    else
        set -- "$1" "$weights/model.safetensors" "$weights/adapter" "$1"
    fi
    shift
    printf '%s\n' "$1 $2 $3"
}

stage_table()
{
    # shellcheck disable=SC2046
    BENCH_FRAMES=$frames BENCH_AGAIN=$([ -n "$rehearse" ] && echo 1 || echo 40) \
        "$bin/bench_session" $(model 256) fp16 1 cuda
}

# size PIXELS: 25 and 30 steps with guidance, 4 without, 4 in bf16 with it
stage_size()
{
    runs='fp16:25:7.5 fp16:30:7.5 fp16:4:1 bf16:4:7.5'
    [ -z "$rehearse" ] || runs='fp16:1:1'
    for run in $runs; do
        # shellcheck disable=SC2046
        "$bin/bench_clip" $(model "$1") $(echo "$run" | tr : ' ') cuda $frames || return 1
    done
}

stage_size256() { stage_size 256; }
stage_size512() { stage_size 512; }

stage_reference()
{
    if [ -n "${WHEELS:-}" ]; then
        "$python" -m pip install -q --no-index --find-links "$WHEELS" --target "$out/site" diffusers transformers
        export PYTHONPATH="$out/site"
    fi
    "$python" tests/gpu/reference.py "$weights"
}

# ---- running ----------------------------------------------------------------------------------

if [ "${1:-}" = --list ]; then
    echo "$stages" | sed '/^$/d'
    exit 0
fi
mkdir -p "$out"
if [ "${1:-}" = --stage ]; then         # from below, with a limit
    "stage_$2"
    exit
fi

# run NAME: within its limit, its lines in NAME.log, its part in the results
run()
{
    limit=${LIMIT:-$(echo "$stages" | awk -v s="$1" '$1 == s { print $2 }')}
    [ -n "$limit" ] || { echo "no stage \"$1\"; tests/gpu/run.sh --list" >&2; exit 2; }
    start=$(date +%s)
    REHEARSE=$rehearse OUT=$out timeout -k 5 "$limit" tests/gpu/run.sh --stage "$1" > "$out/$1.log" 2>&1
    status=$?
    echo "$status $(($(date +%s) - start)) $limit" > "$out/$1.status"
    "$python" tests/gpu/report.py "$out" "$1" || echo "$1: status $status (no report: $python)"
    [ $status = 0 ] || failed=1
}

failed=0
[ $# -gt 0 ] || [ -z "$rehearse" ] || set -- build ops clips table size256
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(echo "$stages" | awk 'NF { print $1 }')
for stage; do
    run "$stage"
done
echo "results: $out/results.json, $out/results.md"
exit $failed
