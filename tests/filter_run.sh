#!/bin/sh
# filter_run.sh - the same again gives the same; commands take effect at the next clip; the log is
# short; failures in the middle of a run.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

# ---- determinism ----------------------------------------------------------------------------------

# same_frames SOURCE SOURCE
same_frames()
{
    frame_hashes "$1" > one && frame_hashes "$2" > two && equal "$(cat two)" "$(cat one)" frames
}

other_frames()
{
    frame_hashes "$1" > one && frame_hashes "$2" > two || return 1
    ! cmp -s one two || { why="the same frames"; return 1; }
}

two_runs_are_two_clips()
{
    frame_hashes "$SRC:seed=7" > one && frame_hashes "$SRC:seed=8" >> one &&
        frame_hashes "$SRC:seed=7:clips=2" > two && equal "$(cat two)" "$(cat one)" frames
}

both_ways()
{
    frame_hashes "$SRC" > one
    ff -filter_complex "$SRC" -f framemd5 hashes && grep -v '^#' hashes | sed 's/.*, *//' > two &&
        equal "$(cat two)" "$(cat one)" frames
}

run_case "the same seed gives the same bytes" same_frames "$SRC:prompt=a cat" "$SRC:prompt=a cat"
run_case "another seed gives others" other_frames "$SRC" "$SRC:seed=8"
run_case "another prompt gives others" other_frames "$SRC:prompt=a cat" "$SRC:prompt=a dog"
run_case "threads=1 and threads=2: the same bytes" same_frames "$SRC:threads=1" "$SRC:threads=2"
run_case "threads=1 and threads=4: the same bytes" same_frames "$SRC:threads=1" "$SRC:threads=4"
run_case "decode_chunk does not change a byte" same_frames "$SRC" "$SRC:decode_chunk=16"
run_case "clips=2 is the clip of the seed and that of the seed + 1" two_runs_are_two_clips
run_case "-f lavfi -i and -filter_complex: the same bytes" both_ways

# ---- commands ---------------------------------------------------------------------------------------

commanded=animatediff@g=${SRC#animatediff=}:clips=3:frames=4

# at COMMANDS NAME "values of the 12 frames, run lengths first"
at()
{
    tag "$2" "$commanded,sendcmd=c='$1'" > found
    equal "$(uniq -c found | awk '{ $1 = $1 "x"; print }' | tr '\n' ' ')" "$3 " "$2"
}

# A frame takes 1/8 s: 0.125 is in the first clip, 0.625 in the second. Text with blanks goes into
# a file of commands, in quotes.
prompts_from_file()
{
    echo "0.125 animatediff@g prompt 'one, two: three'; 0.625 animatediff@g prompt four;" > commands
    tag prompt "$commanded,sendcmd=f=commands" > found
    equal "$(uniq -c found | awk '{ $1 = $1 "x"; print }' | tr '\n' ' ')" '4x 4x one, two: three 4x four ' prompt
}
run_case "command: a prompt is taken at the next clip" prompts_from_file
run_case "command: of two prompts in one clip the last counts" at \
    '0.125 animatediff@g prompt one; 0.25 animatediff@g prompt two' prompt '4x 8x two'
run_case "command: negative_prompt" at '0.125 animatediff@g negative_prompt dull' negative_prompt '4x 8x dull'
run_case "command: steps" at '0.125 animatediff@g steps 3' steps '4x 2 8x 3'
run_case "command: guidance_scale" at '0.625 animatediff@g guidance_scale 1' guidance_scale '8x 7.5 4x 1'
run_case "command: a seed is that of the next clip" at '0.125 animatediff@g seed 100' seed '4x 7 4x 100 4x 101'
run_case "command: a refused one changes nothing" at \
    '0.125 animatediff@g steps 0; 0.25 animatediff@g seed x; 0.25 animatediff@g guidance_scale nan' steps '12x 2'

# A refusal has its sentence, and the answer to whoever sent it has it too.
refused_command()
{
    ff -v verbose -f lavfi -i "$commanded,sendcmd=c='0.125 animatediff@g $1 $2'" -f null - &&
        said "$1=$2: allowed is" && said "res:$1=$2: allowed is"
}
run_case "command: steps=0 is refused with its sentence" refused_command steps 0
run_case "command: guidance_scale=nan is refused with its sentence" refused_command guidance_scale nan

lora_command()
{
    at "0.125 animatediff@g motion_lora $GOLDEN/loras/zoom.safetensors@0.5" seed '4x 7 4x 8 4x 9' || return 1
    frame_hashes "$commanded,sendcmd=c='0.125 animatediff@g motion_lora $GOLDEN/loras/zoom.safetensors@0.5'" > one
    frame_hashes "$commanded:motion_lora=$GOLDEN/loras/zoom.safetensors@0.5" > two
    frame_hashes "$commanded" > three
    equal "$(sed 4q one)" "$(sed 4q three)" 'first clip, without' &&
        equal "$(sed 1,4d one)" "$(sed 1,4d two)" 'later clips, with the LoRA'
}

bad_lora_command()
{
    frame_hashes "$commanded" > one
    frame_hashes "$commanded,sendcmd=c='0.125 animatediff@g motion_lora /no/such/file'" > two
    said '/no/such/file' && equal "$(cat two)" "$(cat one)" frames
}
run_case "command: motion_lora is taken at the next clip, exactly as by option" lora_command
run_case "command: a LoRA that is not there is refused and changes nothing" bad_lora_command

# ---- the log ----------------------------------------------------------------------------------------

short_log()
{
    ff -f lavfi -i "$SRC:clips=3:steps=30" -f null - || return 1
    equal "$(grep -c '\[.*animatediff.*\] clip ' log)" 6 'lines about 3 clips' && said 'model plain (' &&
        said 'clip 2: seed 9, 16 frames, 30 steps of'
    equal "$(grep -c '\[.*animatediff.*\]' log)" "$(grep '\[.*animatediff.*\]' log | sort -u | wc -l)" 'different lines'
}

verbose_log()
{
    ff -v verbose -f lavfi -i "$SRC:steps=3" -f null - && said 'clip 0: step 3 of 3' && said 'clip 0: frame 16 of 16'
}
run_case "the log: model and device, two lines per clip, no more" short_log
run_case "the log: a line per step for those who ask (-v verbose)" verbose_log

# ---- a failing later clip -------------------------------------------------------------------------------

# A clip that cannot be begun: LCM has no more steps than it was distilled on, which the command
# does not know.
later_clip_fails()
{
    ff "$@" -pix_fmt yuv420p out.mp4 && { why="exit status 0"; return 1; }
    [ $status -lt 124 ] || [ $status -gt 160 ] || { why="ended with $status: hung or crashed"; return 1; }
    equal "$(frames out.mp4)" 4 'frames (the complete clip)'
}
impossible="$commanded:scheduler=lcm:original_steps=20,sendcmd=c='0.125 animatediff@g steps 21'"
run_case "a later clip fails: status not 0, complete clips stay (-f lavfi -i)" later_clip_fails -f lavfi -i "$impossible"
run_case "a later clip fails: status not 0, complete clips stay (-filter_complex)" later_clip_fails -filter_complex "$impossible"
finish
