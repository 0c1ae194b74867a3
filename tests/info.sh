#!/bin/sh
# info.sh - the program animatediff-info: what it prints where, its exit status, and that README's
# example is what it says.
# SPDX-License-Identifier: LGPL-2.1-or-later
cd "$(dirname "$0")/.." || exit 1
INFO=${BUILD:-build}/bin/animatediff-info
GOLDEN=tests/golden
work=$(mktemp -d "${TMPDIR:-/tmp}/animatediff.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=0

# says "name in words" STATUS "in stdout" "in stderr" ARGUMENTS: run it
says()
{
    name=$1 wanted=$2 out=$3 err=$4
    shift 4
    "$INFO" "$@" > "$work/out" 2> "$work/err"
    status=$?
    if [ $status != "$wanted" ]; then
        why="ended with $status, not $wanted"
    elif [ -n "$out" ] && ! grep -qF -- "$out" "$work/out"; then
        why="stdout has no '$out'"
    elif [ -n "$err" ] && ! grep -qF -- "$err" "$work/err"; then
        why="stderr has no '$err'"
    elif [ -z "$out" ] && [ -s "$work/out" ]; then
        why="stdout is not empty"
    elif [ -z "$err" ] && [ -s "$work/err" ]; then
        why="stderr is not empty"
    else
        echo "ok - $name"
        return
    fi
    echo "not ok - $name: $why"
    failed=1
}

says "a file is described" 0 "a motion LoRA; give it to motion_lora=" "" $GOLDEN/loras/pan.safetensors
says "several are" 0 "a VAE; give it to vae=" "" $GOLDEN/loras/pan.safetensors $GOLDEN/models/single-vae.safetensors
says "one that cannot be read does not hide the next" 1 "a VAE; give it to vae=" \
    "animatediff-info: /nowhere: no such file" /nowhere $GOLDEN/models/single-vae.safetensors
says "another file is refused in a sentence" 1 "" "animatediff-info: README.md: not a safetensors file" README.md
says "a device is no file" 1 "" "not a regular file" /dev/zero
says "no argument: how it is used" 2 "" "usage: animatediff-info FILE|FOLDER..."
says "help" 0 "usage: animatediff-info FILE|FOLDER..." "" --help

# README's example, word for word: the command's block, then its output's.
awk -v to="$work" '
    /^```sh info$/          { file = to "/command"; next }
    /^```text$/ && command  { file = to "/wanted"; next }
    /^```$/                 { command = command || file; file = "" }
    file                    { print > file }' README.md
if (PATH=$(dirname "$INFO"):$PATH; export PATH; sh -e "$work/command") > "$work/found" 2>&1 &&
    cmp -s "$work/found" "$work/wanted"; then
    echo "ok - README: $(cat "$work/command")"
else
    echo "not ok - README: $(cat "$work/command"): $(diff "$work/found" "$work/wanted" | head -n 3 | tr '\n' '|')"
    failed=1
fi
exit $failed
