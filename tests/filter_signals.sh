#!/bin/sh
# filter_signals.sh - one SIGINT or SIGTERM ends a run within a denoising step and two seconds, and
# the file holds the complete clips.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

# 2 clips of 4 frames. A step takes 10 ms on a quick machine: so many of them that the clip is still
# being computed when the signal arrives. The time of a step is in the log.
slow="$SRC:size=128x128:frames=4:steps=150:clips=2"

# stops SIGNAL CLIP FRAMES ARGUMENTS: signal in the second step of that clip; so many frames stay
stops()
{
    signal=$1 clip=$2 stay=$3
    shift 3
    "$FFMPEG" -nostdin -hide_banner -v verbose -y "$@" -pix_fmt yuv420p out.mp4 > log 2>&1 &
    pid=$!
    wait_for "clip $clip: step 1 of" log 120 || { kill -9 $pid; return 1; }
    step=$(sed -n "s/.*clip $clip: step 1 of [0-9]*, \([0-9.]*\) s so far.*/\1/p" log | awk 'NR == 1 { print int($1 * 1000) }')
    sleep 0.1
    start=$(milliseconds)
    kill -"$signal" $pid
    wait $pid
    equal $? 255 'exit status' || return 1
    took=$(($(milliseconds) - start))
    [ $took -le $((step + 2000)) ] || { why="took $took ms after the signal; a step takes $step ms"; return 1; }
    grep -q "clip $((clip + 1)):" log && { why="began another clip"; return 1; }
    found=$(frames out.mp4)
    equal "${found:-0}" "$stay" frames
}

for signal in INT TERM; do
    run_case "SIG$signal in the first clip, -f lavfi -i: no frame" stops $signal 0 0 -f lavfi -i "$slow"
    run_case "SIG$signal in the first clip, -filter_complex: no frame" stops $signal 0 0 -filter_complex "$slow"
    run_case "SIG$signal in the second clip, -f lavfi -i: the first stays" stops $signal 1 4 -f lavfi -i "$slow"
    run_case "SIG$signal in the second clip, -filter_complex: the first stays" stops $signal 1 4 -filter_complex "$slow"
done

run_case "SIGINT with two inputs" stops INT 1 4 -f lavfi -i "$slow" -f lavfi -i "$slow" -filter_complex hstack

# While a clip plays out in real time.
in_real_time()
{
    "$FFMPEG" -nostdin -hide_banner -y -re -f lavfi -i "$SRC:clips=-1" -pix_fmt yuv420p out.mp4 > log 2>&1 &
    pid=$!
    wait_for 'clip 1:' log 60 || { kill -9 $pid; return 1; }
    start=$(milliseconds)
    kill -INT $pid
    wait $pid
    equal $? 255 'exit status' || return 1
    [ $(($(milliseconds) - start)) -le 2000 ] || { why="took more than 2 s"; return 1; }
    [ "$(frames out.mp4)" -ge 8 ] || { why="$(frames out.mp4) frames"; return 1; }
}
run_case "SIGINT while a clip plays out (-re)" in_real_time

# Four signals end any ffmpeg at once, from the handler.
four_signals()
{
    "$FFMPEG" -nostdin -hide_banner -v verbose -y -f lavfi -i "$slow:size=256x256" -f null - > log 2>&1 &
    pid=$!
    wait_for 'clip 0: seed' log 60 || { kill -9 $pid; return 1; }
    for i in 1 2 3 4 5 6; do
        kill -INT $pid 2> /dev/null
        sleep 0.02
    done
    start=$(milliseconds)
    wait $pid
    status=$?
    [ $status = 123 ] || [ $status = 255 ] || { why="ended with $status"; return 1; }
    [ $(($(milliseconds) - start)) -le 2000 ] || { why="took more than 2 s"; return 1; }
}
run_case "many signals: no hang, no crash" four_signals
finish
