#!/bin/sh
# filter_output.sh - what comes out: files of every kind, frames, time stamps, metadata, prompts.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

# ---- files --------------------------------------------------------------------------------------

mp4()
{
    ff -f lavfi -i "$SRC" -c:v libx264 -pix_fmt yuv420p out.mp4 &&
        equal "$(frames out.mp4)" 16 frames &&
        equal "$(probe stream=width,height,r_frame_rate,pix_fmt out.mp4)" 32,32,yuv420p,8/1 stream &&
        equal "$(probe format=duration out.mp4)" 2.000000 duration
}

mp4_with_sound()
{
    ff -f lavfi -i "$SRC" -f lavfi -i anullsrc=r=44100:cl=stereo -shortest -c:a aac -pix_fmt yuv420p out.mp4 &&
        equal "$(frames out.mp4)" 16 frames &&
        equal "$(probe stream=codec_name out.mp4 | tr '\n' ' ')" 'h264 aac ' streams
}

plain_gif()
{
    ff -f lavfi -i "$SRC" out.gif && equal "$(frames out.gif)" 16 frames
}

good_gif()
{
    ff -filter_complex "$SRC,split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=bayer" out.gif &&
        equal "$(frames out.gif)" 16 frames
}

pictures()
{
    ff -f lavfi -i "$SRC" f%02d.png && equal "$(ls f*.png | wc -l)" 16 pictures
}

raw()
{
    ff -f lavfi -i "$SRC" -f rawvideo out.rgb && equal "$(stat -c %s out.rgb)" $((16 * 32 * 32 * 3)) bytes
}

# Rows of 3 * 40 bytes are padded in memory; the pixels must not notice.
narrow()
{
    ff -f lavfi -i "$SRC:size=40x64:frames=2" -f rawvideo out.rgb &&
        equal "$(stat -c %s out.rgb)" $((2 * 40 * 64 * 3)) bytes
}

hls()
{
    ff -f lavfi -i "$SRC:clips=3" -pix_fmt yuv420p -g 8 -hls_time 1 -hls_list_size 0 out.m3u8 &&
        equal "$(frames out.m3u8)" 48 frames && equal "$(ls out*.ts | wc -l)" 6 segments
}

two_outputs()
{
    ff -f lavfi -i "$SRC" -pix_fmt yuv420p out.mp4 -pix_fmt yuv420p -c:v libx264 out.flv &&
        equal "$(frames out.mp4)$(frames out.flv)" 1616 frames
}

run_case "MP4 by x264: 16 frames, 8 a second, 2 s" mp4
run_case "MP4 with a silent sound track" mp4_with_sound
run_case "GIF" plain_gif
run_case "GIF with a palette of its own" good_gif
run_case "16 PNG files" pictures
run_case "raw frames have exactly their bytes" raw
run_case "a width that is no multiple of 32" narrow
run_case "HLS: 3 clips are 48 frames in 6 segments" hls
run_case "two files from one run" two_outputs

# ---- in a graph ---------------------------------------------------------------------------------

# graph_gives WIDTH,HEIGHT FRAMES GRAPH
graph_gives()
{
    ff -filter_complex "$3" -pix_fmt yuv420p out.mp4 &&
        equal "$(frames out.mp4)" "$2" frames && equal "$(probe stream=width,height out.mp4)" "$1" size
}

run_case "scale" graph_gives 128,64 16 "$SRC,scale=128:64"
run_case "tile: one picture of all frames" graph_gives 128,128 1 "$SRC,tile=4x4"
run_case "two sources side by side" graph_gives 64,32 16 "$SRC[l];$SRC:seed=8[r];[l][r]hstack"
run_case "drawtext" graph_gives 32,32 16 "$SRC,drawtext=text='cat\, 1'"
run_case "fps" graph_gives 32,32 48 "$SRC,fps=24"
run_case "minterpolate" graph_gives 32,32 29 "$SRC,minterpolate=fps=16"
run_case "forward and back" graph_gives 32,32 32 "$SRC,split[x][y];[y]reverse[r];[x][r]concat"
run_case "loop" graph_gives 32,32 48 "$SRC,loop=loop=2:size=16"

two_inputs()
{
    ff -f lavfi -i "$SRC" -f lavfi -i "$SRC:seed=9" -filter_complex "[0][1]vstack" -pix_fmt yuv420p out.mp4 &&
        equal "$(frames out.mp4)" 16 frames && equal "$(probe stream=width,height out.mp4)" 32,64 size
}
run_case "two inputs, each in its own thread" two_inputs

# -frames:v must not be answered with less; an endless source ends with its output.
endless()
{
    ff -f lavfi -i "$SRC:clips=-1" -frames:v 20 -f framemd5 hashes && equal "$(grep -vc '^#' hashes)" 20 frames
}
run_case "an endless source ends with its output" endless

# ---- frames ---------------------------------------------------------------------------------------

# One line per frame: time stamp, duration, key, pixel format, aspect, range.
stamps()
{
    probe frame=pts,duration,pkt_duration,key_frame,pix_fmt,sample_aspect_ratio,color_range,pict_type \
        -of flat -f lavfi -i "$SRC:clips=2:frames=3:rate=10" > found
    equal "$(sed -n 's/.*\.pts=//p' found | tr '\n' ' ')" '0 1 2 3 4 5 ' 'time stamps' &&
        equal "$(sed -n 's/.*[._]duration=//p' found | sort -u)" 1 durations &&
        equal "$(sed -n 's/.*key_frame=//p' found | sort -u)" 1 'key frames' &&
        equal "$(sed -n 's/.*pix_fmt=//p' found | sort -u)" '"rgb24"' 'pixel formats' &&
        equal "$(sed -n 's/.*aspect_ratio=//p' found | sort -u)" '"1:1"' aspect &&
        equal "$(sed -n 's/.*color_range=//p' found | sort -u)" '"pc"' range
}
run_case "time stamps go on across clips; rgb24, 1:1, full range, key frames" stamps

# ---- metadata -------------------------------------------------------------------------------------

# tags_are NAME "values of all frames, one word each"
tags_are()
{
    equal "$(tag "$1" "$2" | tr '\n' ' ')" "$3 " "$1"
}

metadata()
{
    source=$SRC:frames=2:clips=2:prompt=a\ cat:negative_prompt=blur:seed=41:steps=3:guidance_scale=2.25:scheduler=ddim
    tags_are prompt "$source" 'a cat a cat a cat a cat' &&
        tags_are negative_prompt "$source" 'blur blur blur blur' &&
        tags_are seed "$source" '41 41 42 42' &&
        tags_are clip "$source" '0 0 1 1' &&
        tags_are frame "$source" '0 1 0 1' &&
        tags_are steps "$source" '3 3 3 3' &&
        tags_are guidance_scale "$source" '2.25 2.25 2.25 2.25' &&
        tags_are scheduler "$source" 'ddim ddim ddim ddim' &&
        equal "$(tag model "$source" | sort -u | sed 's/[0-9a-f]\{16\}$/HASH/')" 'plain HASH' model &&
        equal "$(tag adapters "$source:motion_lora=$GOLDEN/loras/zoom.safetensors@0.5" | sort -u | sed 's/[0-9a-f]\{16\}/HASH/g')" \
            'motion_adapter=plain-motion HASH motion_lora=zoom.safetensors HASH@0.5' adapters
}
run_case "every frame carries what made it" metadata

random_seed()
{
    tag seed "$SRC:frames=1:seed=-1" > one && tag seed "$SRC:frames=1:seed=-1" > two
    ! cmp -s one two || { why="twice the same random seed: $(cat one)"; return 1; }
    frame_hashes "$SRC:frames=1:seed=-1" > drawn
    seed=$(sed -n 's/.*clip 0: seed \([0-9]*\),.*/\1/p' log)
    frame_hashes "$SRC:frames=1:seed=$seed" > again
    equal "$(cat again)" "$(cat drawn)" "frame with the logged seed $seed"
}
run_case "a random seed differs, is logged, and gives the same frames again" random_seed

# ---- prompts ----------------------------------------------------------------------------------------

# arrives "prompt=..., escaped for the graph" "text in the metadata"
arrives()
{
    equal "$(tag prompt "$SRC:frames=1:steps=1:$1")" "$2" prompt
}

first_position()
{
    equal "$(tag prompt "animatediff=a cat:${SRC#animatediff=}:frames=1:steps=1")" 'a cat' prompt
}

from_file()
{
    printf 'a fox, 35mm: "it'\''s" [raw]; 50%% \\ ok\nsecond line\n\n' > prompt.txt
    tag prompt "$SRC:frames=1:steps=1:prompt_file=$WORK/prompt.txt" > found
    grep -q 'a fox, 35mm: .*it.s.* \[raw\]; 50% .* ok' found || { why="found $(cat found)"; return 1; }
    frame_hashes "$SRC:frames=1:prompt_file=$WORK/prompt.txt" > one
    printf '\357\273\277a fox, 35mm: "it'\''s" [raw]; 50%% \\ ok\nsecond line\r\n' > prompt.txt
    frame_hashes "$SRC:frames=1:prompt_file=$WORK/prompt.txt" > two
    equal "$(cat two)" "$(cat one)" 'frame without byte order mark and last newlines' || return 1
    printf 'a fox' > prompt.txt
    frame_hashes "$SRC:frames=1:prompt=a fox" > one
    frame_hashes "$SRC:frames=1:prompt_file=prompt.txt" > two
    equal "$(cat two)" "$(cat one)" 'frame from a file and from the option'
}

empty_file()
{
    : > prompt.txt
    equal "$(tag prompt "$SRC:frames=1:steps=1:prompt_file=prompt.txt")" '' prompt &&
        equal "$(wc -l < probe.log)" 0 'lines of errors'
}

run_case "prompt: commas, brackets, semicolons in quotes" arrives \
    "prompt='a fox, 35mm [raw]; ok'" 'a fox, 35mm [raw]; ok'
run_case "prompt: a colon with a backslash inside quotes" arrives "prompt='a fox\\: 35mm'" 'a fox: 35mm'
run_case "prompt: an apostrophe" arrives "prompt=it\\\\\\'s" "it's"
run_case "prompt: any script" arrives "prompt=一只红色的球 🎈" "一只红色的球 🎈"
run_case "prompt as the first option, without its name" first_position
run_case "prompt_file: nothing needs escaping" from_file
run_case "prompt_file: an empty one is an empty prompt" empty_file

# ---- weights in prompts -------------------------------------------------------------------------------

hashes_of()
{
    frame_hashes "$SRC:frames=2:steps=2:$1"
}

# differs "one" "other": options that give other frames; same: that give the same
differs()
{
    hashes_of "$1" > one && hashes_of "$2" > two && [ -s one ] || return 1
    ! cmp -s one two || { why="$1 and $2 give the same frames"; return 1; }
}

same()
{
    hashes_of "$1" > one && hashes_of "$2" > two && [ -s one ] || return 1
    equal "$(cat two)" "$(cat one)" frames
}

weighted=prompt_syntax=weighted
run_case "weighted: a weight changes the frames" differs \
    "prompt='a (red\\:1.4) ball':$weighted" "prompt=a red ball:$weighted"
run_case "weighted: and without one they are those of plain" same "prompt=a red ball:$weighted" "prompt=a red ball"
run_case "weighted: BREAK changes the frames" differs "prompt=a red BREAK ball:$weighted" "prompt=a red ball:$weighted"
run_case "weighted: words behind the 75th count" differs \
    "prompt=$(printf 'a %.0s' $(seq 75)):$weighted" "prompt=$(printf 'a %.0s' $(seq 75)) ball:$weighted"
run_case "plain: brackets are text" differs "prompt='a (red\\:1.4) ball'" "prompt='a (red\\:1.4) ball':$weighted"

# ---- against the reference ----------------------------------------------------------------------------

# golden CLIP OPTIONS: frames of tests/golden/clips, made by diffusers; at most 0.1 % of all bytes
# may be off by more than 1, none by more than 3
golden()
{
    ff -f lavfi -i "animatediff=device=cpu:precision=fp32:$2" -f rawvideo out.rgb || return 1
    equal "$(stat -c %s out.rgb)" "$(stat -c %s "$GOLDEN/clips/$1.rgb")" bytes || return 1
    cmp -l out.rgb "$GOLDEN/clips/$1.rgb" | awk -v size="$(stat -c %s out.rgb)" '
        function octal(s) { return substr(s, 1, length(s) - 2) * 64 + substr(s, length(s) - 1, 1) * 8 + substr(s, length(s)) }
        { d = octal("00" $2) - octal("00" $3); if (d < 0) d = -d; if (d > 1) off++; if (d > max) max = d }
        END { if (off > size / 1000 || max > 3) { print off + 0 " bytes off, by up to " max; exit 1 } }' > difference ||
        { why=$(cat difference); return 1; }
}

model=model=$GOLDEN/models/plain:motion_adapter=$GOLDEN/models/plain-motion
run_case "the frames are those of diffusers: DDIM, 16 frames" golden ddim \
    "$model:scheduler=ddim:beta_schedule=linear:steps=8:seed=42:size=64x64:prompt=a red ball rolling left:negative_prompt='worst quality, low quality, blurry'"
run_case "the frames are those of diffusers: two motion LoRAs" golden motion_loras \
    "$model:scheduler=euler:beta_schedule=linear:steps=8:seed=35:size=64x64:motion_lora=$GOLDEN/loras/pan.safetensors@0.8|$GOLDEN/loras/zoom.safetensors@0.5:prompt=a sailing boat on a calm sea at dawn"
run_case "the frames are those of diffusers: the model's own size" golden own_size \
    "model=$GOLDEN/models/saved:scheduler=euler:beta_schedule=linear:steps=6:seed=43:prompt=a red car by the sea"
run_case "the frames are those of diffusers: the largest seed, 30 steps" golden 30_steps \
    "$model:scheduler=ddim:beta_schedule=linear:steps=30:seed=9223372036854775807:size=64x64:frames=8:prompt='a horse galloping across the open plain':negative_prompt='worst quality, low quality, blurry'"
run_case "the frames are the reference's: weights, two chunks against one" golden ../weighted \
    "$model:scheduler=ddim:beta_schedule=linear:steps=4:seed=51:size=32x32:frames=4:guidance_scale=6:$weighted:prompt='a (red\\:1.4) ball [rolling] left BREAK by the (sea)':negative_prompt='(blurry\\:1.2), text'"
finish
