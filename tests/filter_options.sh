#!/bin/sh
# filter_options.sh - every wrong option ends with a sentence that names it, its value and what is
# allowed, a status that is not 0, and no file. Right ones at the edge are taken.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

# refused OPTIONS SENTENCE [how]
refused()
{
    if [ "${3:-input}" = complex ]; then
        ff -filter_complex "$1" -pix_fmt yuv420p out.mp4
    else
        ff -f lavfi -i "$1" -pix_fmt yuv420p out.mp4
    fi && { why="was accepted"; return 1; }
    [ $status -lt 124 ] || [ $status -gt 160 ] || { why="ended with $status: hung or crashed"; return 1; }
    said "$2" || return 1
    [ ! -s out.mp4 ] || equal "$(frames out.mp4)" '' 'frames of the file'
}

# refuse OPTIONS "words the log must hold": behind -f lavfi -i not even an empty file is made
refuse()
{
    run_case "refused: $(printf %.60s "$1")" refuse_both "$1" "$2"
}
refuse_both()
{
    refused "$SRC:$1" "$2" && equal "$(ls out.mp4 2> /dev/null)" '' file && refused "$SRC:$1" "$2" complex
}

while IFS='|' read -r options sentence; do
    [ -z "$options" ] || refuse "$options" "$sentence"
done << 'TABLE'
steps=0|steps=0: allowed is a whole number from 1 to 1000
steps=-3|steps=-3: allowed is a whole number from 1 to 1000
steps=1001|steps=1001: allowed is a whole number from 1 to 1000
steps=12.7|steps=12.7: allowed is a whole number from 1 to 1000
steps=many|steps=many: allowed is a whole number from 1 to 1000
steps=|steps=: allowed is a whole number from 1 to 1000
steps=nan|steps=nan: allowed is a whole number from 1 to 1000
steps=99999999999999999999|steps=99999999999999999999: allowed is a whole number
seed=-2|seed=-2: allowed is a whole number from 0 to 9223372036854775807 or -1
seed=9223372036854775808|seed=9223372036854775808: allowed is a whole number from 0 to
seed=1e3|seed=1e3: allowed is a whole number from 0 to
guidance_scale=nan|guidance_scale=nan: allowed is a number from 0 to 100
guidance_scale=inf|guidance_scale=inf: allowed is a number from 0 to 100
guidance_scale=-1|guidance_scale=-1: allowed is a number from 0 to 100
guidance_scale=high|guidance_scale=high: allowed is a number from 0 to 100
scheduler=magic|scheduler=magic: allowed is
scheduler=|scheduler=: allowed is
beta_schedule=cubic|beta_schedule=cubic: allowed is auto, linear, scaled_linear, squaredcos_cap_v2
timestep_spacing=wide|timestep_spacing=wide: allowed is auto, linspace, leading, trailing
prediction_type=noise|prediction_type=noise: allowed is auto, epsilon, v_prediction, sample
steps_offset=-1|steps_offset=-1: allowed is a whole number from 0 to 999 or auto
eta=1.5|eta=1.5: allowed is a number from 0 to 1 or auto
clip_skip=12|clip_skip=12: allowed is a whole number from 0 to 11 or auto
clip_sample=maybe|clip_sample
use_karras_sigmas=2|use_karras_sigmas
original_steps=0|original_steps=0: allowed is a whole number from 1 to 1000
prompt_syntax=wild|prompt_syntax=wild: allowed is plain, weighted
rng=dice|rng=dice: allowed is cpu, cuda
rng_gpu=132|rng_gpu=132: allowed is MULTIPROCESSORSxTHREADS, such as 132x2048
rng_gpu=0x2048|rng_gpu=0x2048: allowed is
motion_norm=none|motion_norm=none: allowed is video, frame
size=100x64|size=100x64: both sides must be multiples of 8 up to 8192, the nearest size is 104x64
size=4x64|size=4x64: both sides must be multiples of 8 up to 8192, the nearest size is 8x64
size=16384x64|size=16384x64: both sides must be multiples of 8 up to 8192, the nearest size is 8192x64
s=big|big
rate=0|rate
rate=fast|rate
frames=0|frames=0: allowed is a whole number from 1 to 1024
frames=1025|frames=1025: allowed is a whole number from 1 to 1024
frames=33|32
clips=0|clips=0: allowed is a whole number from 1 to 2147483647 or -1
clips=-2|clips=-2: allowed is a whole number from 1 to 2147483647 or -1
device=tpu|device=tpu: allowed is
device=cuda\\:x|device=cuda:x: allowed is
precision=fp8|precision=fp8: allowed is auto, fp32, fp16, bf16
precision=fp16|fp16
decode_chunk=0|decode_chunk=0: allowed is a whole number from 1 to 1024
offload=disk|offload=disk: allowed is none, cpu
threads=-1|threads
no_such_option=1|no_such_option
model=/no/such/model|/no/such/model
motion_adapter=/no/such/file|/no/such/file
vae=/no/such/vae|/no/such/vae
tokenizer=/no/such/folder|/no/such/folder
lora=/no/such/lora|/no/such/lora
motion_lora=/no/such/lora@0.5|/no/such/lora
motion_lora=a@b@c|a@b@c
embedding=<x>@/no/such/file|/no/such/file
model=/etc/passwd|/etc/passwd
model=/dev/null|/dev/null
TABLE

# ---- prompts ----------------------------------------------------------------------------------

# prompt_refused SENTENCE OPTIONS
prompt_refused()
{
    refused "$SRC:$2" "$1"
}

latin1()
{
    prompt_refused 'prompt: byte 4 (0xE9) is not UTF-8' "$(printf 'prompt=caf \351')"
}

long_prompt()
{
    prompt=$(head -c 65537 /dev/zero | tr '\0' x)
    prompt_refused 'prompt: 65537 bytes; at most 65536 are allowed' "prompt=$prompt"
}

missing_file()
{
    prompt_refused "prompt_file=$WORK/none: No such file or directory" "prompt_file=$WORK/none"
}

folder_as_file()
{
    prompt_refused "negative_prompt_file=$WORK: not a regular file" "negative_prompt_file=$WORK"
}

fifo_as_file()
{
    mkfifo pipe
    prompt_refused "prompt_file=$WORK/pipe: not a regular file" "prompt_file=$WORK/pipe"
}

both()
{
    echo x > file
    prompt_refused "prompt_file=$WORK/file: prompt is given too; use one of them" "prompt=y:prompt_file=$WORK/file"
}

long_file()
{
    head -c 65537 /dev/zero | tr '\0' x > file
    prompt_refused 'prompt_file: 65537 bytes; at most 65536 are allowed' "prompt_file=$WORK/file"
}

zero_in_file()
{
    printf 'a\0b' > file
    prompt_refused 'prompt_file: byte 1 is zero' "prompt_file=$WORK/file"
}

latin1_in_file()
{
    printf 'ok \374' > file
    prompt_refused 'negative_prompt_file: byte 3 (0xFC) is not UTF-8' "negative_prompt_file=$WORK/file"
}

run_case "refused: a prompt that is not UTF-8" latin1
run_case "refused: a prompt of more than 64 KiB" long_prompt
run_case "refused: a prompt file that is not there" missing_file
run_case "refused: a folder as prompt file" folder_as_file
run_case "refused: a FIFO as prompt file, at once" fifo_as_file
run_case "refused: prompt and prompt_file together" both
run_case "refused: a prompt file of more than 64 KiB" long_file
run_case "refused: a zero byte in a prompt file" zero_in_file
run_case "refused: a prompt file that is not UTF-8" latin1_in_file

# ---- at the edge --------------------------------------------------------------------------------

accepted()
{
    ff -f lavfi -i "$SRC:$1" -f null -
}

for options in seed=9223372036854775807 seed=0 guidance_scale=0 guidance_scale=1 eta=auto clip_skip=auto \
               steps_offset=auto clip_sample=auto clip_sample=yes beta_schedule=auto rng=cuda rng_gpu=78x2048 \
               threads=0 decode_chunk=16 frames=1 frames=32 s=8x64 r=30000/1001 precision=auto device=auto \
               offload=cpu motion_norm=frame prompt_syntax=weighted; do
    run_case "accepted: $options" accepted "$options"
done

# The largest seed and the next: 63 bits, no sign.
seeds_go_round()
{
    equal "$(tag seed "$SRC:clips=2:steps=1:seed=9223372036854775807" | uniq | tr '\n' ' ')" \
        '9223372036854775807 0 ' seeds
}
run_case "the seed after the largest is 0" seeds_go_round
finish
