# filter_lib.sh - what the tests of the filter share; sourced, not run.
#
# A case is a function; its name, in words, is what run_case prints. It fails when it returns not 0,
# and says why in $why. Programs under test: $FFMPEG and $FFPROBE; $WORK is an empty folder; the
# model is a random miniature from tests/golden, so nothing here judges pictures.
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh

cd "$(dirname "$0")/.." || exit 1
ROOT=$(pwd)
FFMPEG=$(readlink -f "${FFMPEG:-build/bin/ffmpeg}")
FFPROBE=$(readlink -f "${FFPROBE:-build/bin/ffprobe}")
GOLDEN=$ROOT/tests/golden
WORK=$(mktemp -d "${TMPDIR:-/tmp}/animatediff.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
failed=0
why=

# The smallest clip that goes through every part of the network: 16 frames.
SRC="animatediff=model=$GOLDEN/models/plain:motion_adapter=$GOLDEN/models/plain-motion:device=cpu:precision=fp32:scheduler=euler:steps=2:size=32x32:seed=7"

# run_case "name in words" FUNCTION [ARGUMENTS]
run_case()
{
    name=$1
    shift
    why=
    if (cd "$WORK" && rm -rf ./* .why && "$@" && exit 0; echo "$why" > .why; exit 1); then
        echo "ok - $name"
    else
        failed=$((failed + 1))
        echo "not ok - $name: $(cat "$WORK/.why"); log: $(tail -n 3 "$WORK/log" 2> /dev/null | tr '\n' '|' | cut -c 1-300)"
    fi
}

skip_case()
{
    echo "skip - $1: $2"
}

finish()
{
    [ $failed = 0 ]
    exit
}

# ff ARGUMENTS: run ffmpeg, what it says in ./log; the exit status is ffmpeg's
ff()
{
    timeout -k 5 300 "$FFMPEG" -nostdin -hide_banner -y "$@" > log 2>&1
    status=$?
    [ $status = 0 ] || why="ffmpeg ended with $status"
    return $status
}

# equal FOUND WANTED "what"
equal()
{
    [ "$1" = "$2" ] && return
    why=$(printf "%s: found '%.200s', wanted '%.200s'" "$3" "$1" "$2" | tr '\n' ' ')
    return 1
}

# said "words": are they in the log?
said()
{
    grep -qF -e "$1" log || { why="the log does not say '$1'"; return 1; }
}

# probe ENTRIES INPUT...: values only, one line per frame or stream
probe()
{
    entries=$1
    shift
    timeout -k 5 300 "$FFPROBE" -v error -count_frames -show_entries "$entries" -of csv=p=0 "$@" 2> probe.log
}

# How many video frames a file holds, counted by decoding it.
frames()
{
    probe stream=nb_read_frames -select_streams v "$1" | tr -d , | head -n 1
}

# tag NAME SOURCE: that metadata of every frame, one line each
tag()
{
    probe "frame_tags=lavfi.animatediff.$1" -of default=noprint_wrappers=1:nokey=1 -f lavfi -i "$2"
}

# frame_hashes SOURCE [more arguments]: one line per frame
frame_hashes()
{
    source=$1
    shift
    ff -f lavfi -i "$source" "$@" -f framemd5 hashes && grep -v '^#' hashes | sed 's/.*, *//'
}

milliseconds()
{
    echo $(($(date +%s%N) / 1000000))
}

# wait_for "words" FILE SECONDS
wait_for()
{
    tries=$(($3 * 20))
    until grep -qF -e "$1" "$2" 2> /dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { why="'$1' did not come within $3 s"; return 1; }
        sleep 0.05
    done
}

if ! [ -x "$FFMPEG" ] || ! [ -x "$FFPROBE" ]; then
    echo "not ok - $(basename "$0"): no $FFMPEG; first: make ffmpeg"
    exit 1
fi
