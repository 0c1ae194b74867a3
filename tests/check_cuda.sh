#!/bin/sh
# check_cuda.sh - does nvcc compile the CUDA backend for every architecture, and as well as before?
#
#     tests/check_cuda.sh [--record]      --record: write kernels/cuda/registers.txt anew
#
# Compiles kernels/cuda/*.cu for each architecture and as PTX, warnings are errors, and compares each
# kernel's registers, stack and spilled bytes with kernels/cuda/registers.txt: more of any fails. The
# numbers are one compiler's; another version's are only asked not to spill where nothing spilled.
# An architecture without a line in the file is compiled, but not compared.
# Needs no GPU. Where there is no nvcc it says so, and nothing is checked.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
out=${BUILD:-build}/cuda-check
file=kernels/cuda/registers.txt
archs=${ARCHS:-75 80 86 89 90 100 120}
failed=0

nvcc=
for nvcc in "${NVCC:-}" "$(command -v nvcc)" "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ''; do
    [ ! -x "$nvcc" ] || break
done
if [ -z "$nvcc" ]; then
    echo "skip - CUDA for sm_75 to sm_120: NOT CHECKED, no nvcc on this machine"
    exit 0
fi
version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
mkdir -p "$out"

# compile FILE ARCH: object, and what ptxas says in FILE.ARCH.log
compile()
{
    name=$(basename "$1" .cu)
    case $2 in
    90|100|120) code="[sm_$2,compute_$2]" ;;
    *)          code=sm_$2 ;;
    esac
    "$nvcc" -O3 -std=c++17 -Xcompiler -fPIC,-Wall,-Werror -Werror all-warnings -Xptxas -v \
        -Ikernels -DAD_HAVE_CUDNN=0 -DAD_HAVE_SM90A=0 -gencode "arch=compute_$2,code=$code" \
        -c "$1" -o "$out/$name.$2.o" > "$out/$name.$2.log" 2>&1 || echo "$1 for sm_$2" >> "$out/failures"
}

rm -f "$out/failures" "$out"/*.log
jobs=0
for arch in $archs; do
    "$nvcc" --list-gpu-code | grep -qx "sm_$arch" || { echo "skip - CUDA for sm_$arch: nvcc $version does not know it"; continue; }
    for source in kernels/cuda/*.cu; do
        case $source in *_sm90a.cu) continue ;; esac
        compile "$source" "$arch" &
        jobs=$((jobs + 1))
        [ $((jobs % $(nproc))) != 0 ] || wait
    done
done
wait

for arch in $archs; do
    set -- "$out"/*."$arch".log
    [ -f "$1" ] || continue
    if bad=$(grep "for sm_$arch\$" "$out/failures" 2> /dev/null); then
        echo "not ok - CUDA for sm_$arch: $(echo "$bad" | tr '\n' ' ')$(cat "$@" | grep -E 'error|warning' | head -n 3)"
        failed=1
    else
        echo "ok - CUDA for sm_$arch compiles without warnings"
    fi
done

# "sm kernel registers stack spilled", one line a kernel, from what ptxas said
cat "$out"/*.log | awk '
    /Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; sm = q[4] }
    /bytes stack frame/        { stack = $1; spilled = $5 + $9 }
    /Used [0-9]+ registers/    { for (i = 1; i < NF; i++) if ($i == "Used") print sm, kernel, $(i + 1), stack, spilled }' |
    sort -u > "$out/found"

# The same as a table; names without their arguments.
filt=$(dirname "$nvcc")/cu++filt
[ -x "$filt" ] || filt=c++filt
"$filt" -p < "$out/found" 2> /dev/null | sed 's/void //; s/(anonymous namespace):://g; s/<unnamed>:://g; s/, /,/g; s/\[clone[^]]*\]//' > "$out/named"
{
    echo "# Registers, bytes of stack, bytes spilled of each kernel; tests/check_cuda.sh --record. nvcc $version"
    sort -k2,2 -k1,1V "$out/named" | awk '{ printf "%-7s %-58s %3d %5d %5d\n", $1, $2, $3, $4, $5 }'
} > "$out/registers.txt"
if [ "${1:-}" = --record ]; then
    cp "$out/registers.txt" "$file"
    exit $failed
fi

recorded=$(sed -n '1s/.*nvcc //p' "$file")
worse=$(awk -v same="$([ "$recorded" = "$version" ] && echo 1 || echo 0)" '
    /^#/ { next }
    NR == FNR { known[$1] = 1; r[$1, $2] = $3; s[$1, $2] = $4; p[$1, $2] = $5; next }
    !($1 in known) { next }
    !(($1, $2) in r) { print $1, $2, "is not recorded"; next }
    same && $3 > r[$1, $2] { print $1, $2 ":", $3, "registers,", r[$1, $2], "before" }
    same && $4 > s[$1, $2] { print $1, $2 ":", $4, "bytes of stack,", s[$1, $2], "before" }
    $5 > p[$1, $2] && (same || !p[$1, $2]) { print $1, $2 ":", $5, "bytes spilled,", p[$1, $2], "before" }' \
    "$file" "$out/registers.txt")
if [ "$failed" != 0 ]; then
    echo "skip - registers of the CUDA kernels: not all compiled"
elif [ -z "$worse" ]; then
    echo "ok - registers and spills of the CUDA kernels are as recorded ($file, nvcc $recorded)"
else
    echo "not ok - registers of the CUDA kernels: $(echo "$worse" | head -n 5 | tr '\n' ';') (accept: tests/check_cuda.sh --record)"
    failed=1
fi
exit $failed
