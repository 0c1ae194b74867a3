#!/bin/sh
# filter_smoke.sh - the few things that every supported FFmpeg version must do; see make ffmpeg-matrix.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

lists_the_source()
{
    "$FFMPEG" -hide_banner -filters > log 2>&1
    said ' animatediff '
}

makes_mp4()
{
    ff -f lavfi -i "$SRC" -c:v libx264 -pix_fmt yuv420p out.mp4 && equal "$(frames out.mp4)" 16 frames
}

makes_gif()
{
    ff -filter_complex "$SRC,split[a][b];[a]palettegen[p];[b][p]paletteuse" out.gif &&
        equal "$(frames out.gif)" 16 frames
}

refuses_wrong_steps()
{
    ff -f lavfi -i "$SRC:steps=0" out.mp4 && { why="was accepted"; return 1; }
    said 'steps=0: allowed is a whole number from 1 to 1000' && equal "$(ls out.mp4 2> /dev/null)" '' file
}

takes_a_command()
{
    tag prompt "animatediff@g=${SRC#animatediff=}:prompt=one:clips=2,sendcmd=c='0.5 animatediff@g prompt two'" > found
    equal "$(uniq -c found | awk '{ print $1 $2 }' | tr '\n' ' ')" '16one 16two ' 'prompts of the frames'
}

# SIGINT while the second clip is computed leaves the first.
stops_between_steps()
{
    "$FFMPEG" -nostdin -hide_banner -v verbose -y "$@" -pix_fmt yuv420p out.mp4 > log 2>&1 &
    wait_for 'clip 1: step 1 of' log 60
    kill -INT $!
    wait $!
    equal $? 255 'exit status' && equal "$(frames out.mp4)" 16 frames
}

run_case "ffmpeg lists the source animatediff" lists_the_source
run_case "a clip becomes an MP4 file" makes_mp4
run_case "a clip becomes a GIF file" makes_gif
run_case "a wrong option is refused before any file is made" refuses_wrong_steps
run_case "a command changes the prompt at the next clip" takes_a_command
run_case "SIGINT leaves the complete clips (-f lavfi -i)" stops_between_steps \
    -f lavfi -i "$SRC:steps=400:clips=2"
run_case "SIGINT leaves the complete clips (-filter_complex)" stops_between_steps \
    -filter_complex "$SRC:steps=400:clips=2"
finish
