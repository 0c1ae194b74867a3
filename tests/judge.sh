#!/bin/sh
# judge.sh - the demo model shows what the prompt says: clips from ffmpeg, looked at by demo/judge.py.
#
# The judge itself is tested first, on drawn clips whose content is known. Needs a Python with numpy:
# $PYTHON or python3. The model's whole table is in demo/README.md; here are a few clips.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

python=
for program in ${PYTHON:-} python3 /usr/bin/python3; do
    if "$program" -c 'import numpy' 2> /dev/null; then
        python=$program
        break
    fi
done
if [ -z "$python" ]; then
    skip_case "the judge and the demo model" "no Python with numpy (set PYTHON)"
    finish
fi

"$python" demo/test_judge.py 16 || failed=$((failed + 1))

# clip OPTIONS: one clip of the default model into clip.rgb
clip()
{
    ff -f lavfi -i "animatediff=device=cpu:$1" -f rawvideo -pix_fmt rgb24 clip.rgb
}

# shows OPTIONS WORD...: the judge sees all of these words in the clip
shows()
{
    clip "$1" || return
    shift
    "$python" "$ROOT/demo/judge.py" clip.rgb "$@" > seen && return
    why="wanted $*, seen: $(cut -c 1-200 seen)"
    return 1
}

colour_seen()
{
    "$python" "$ROOT/demo/judge.py" clip.rgb | sed 's/.*"colour": "\([a-z]*\)".*/\1/'
}

# negative OPTIONS: a thing of any colour; the same seed without that colour
negative()
{
    clip "$1" || return
    first=$(colour_seen)
    clip "$1:negative_prompt=$first" || return
    second=$(colour_seen)
    [ "$first" != "$second" ] && return
    why="it is $first with and without '$first' as the negative prompt"
    return 1
}

# camera OPTIONS NUMBER LOW HIGH: the whole picture moves so much (x, y in pixels, zoom, roll)
camera()
{
    clip "$1" || return
    "$python" "$ROOT/demo/judge.py" --camera clip.rgb > seen || return
    "$python" -c '
import json, sys
sys.exit(not float(sys.argv[2]) < json.load(open("seen"))[sys.argv[1]] < float(sys.argv[3]))' \
        "$2" "$3" "$4" && return
    why="$2 is not between $3 and $4: $(cat seen)"
    return 1
}

# told "PROMPT" SEED WORD...
told()
{
    prompt=$1 seed=$2
    shift 2
    run_case "$prompt" shows "prompt=$prompt:seed=$seed" "$@"
}

told "a red ball rolling left" 1                         red ball left sky
told "a white ring shrinking at night" 7                  white ring shrinking night
told "a pink heart growing on a meadow" 3                pink heart growing meadow
told "a blue square falling on a white background" 4     blue square falling white
# Never in the training: a purple ball, a green heart.
told "a purple ball rolling right in the desert" 5       purple ball right desert
told "a green heart rising at sunset" 6                  green heart rising sunset

run_case "negative prompt: the colour it names is gone" negative \
    "prompt=a ball standing still on a grey background:seed=7:steps=12"
still="prompt=an orange star standing still on a meadow:seed=8:steps=12"
loras=$ROOT/demo/motion_lora
run_case "no motion LoRA: the picture stands" camera "$still" x -3 3
run_case "motion LoRA pan-left: the picture moves right" camera \
    "$still:motion_lora=$loras/pan-left.safetensors" x 8 200
finish
