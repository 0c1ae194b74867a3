#!/bin/sh
# readme.sh - the examples of README.md for the demo model run as they are written, in an empty folder,
# and leave the files they name.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

PATH=$(dirname "$FFMPEG"):$PATH
DEMO=$ROOT/demo
export PATH DEMO
examples=$(mktemp -d "${TMPDIR:-/tmp}/animatediff.XXXXXX")
trap 'rm -rf "$WORK" "$examples"' EXIT
awk -v to="$examples" '
    /^```sh run$/ { file = sprintf("%s/%02d", to, ++count); next }
    /^```$/       { file = "" }
    file          { print > file }' README.md

# One denoising step is enough here: what is tested is the command.
example()
{
    sed 's/seed=[0-9]*/&:steps=1/g' "$1" > command
    sh -e command > log 2>&1 < /dev/null || { why="ended with $?"; return 1; }
    wanted=$(sed -n 's/^ffmpeg.* \([a-z]*\.[a-z0-9]*\)$/\1/p' "$1")
    for file in $wanted; do
        [ -s "$file" ] || { why="no $file"; return 1; }
        [ "$(frames "$file")" -ge 1 ] || { why="no frame in $file"; return 1; }
    done
}

for file in "$examples"/*; do
    run_case "README: $(grep -o '^ff.*' "$file" | cut -c 1-70)" example "$file"
done
[ "$(find "$examples" -type f | wc -l)" -ge 10 ] || { echo "not ok - README has ten examples to run"; exit 1; }
finish
