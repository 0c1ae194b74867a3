#!/bin/sh
# seeds.sh - first inputs of a fuzz target, from tests/golden and by hand.
#
#     tests/fuzz/seeds.sh TARGET FOLDER
#
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu
cd "$(dirname "$0")/../.."
target=$1 folder=$2 golden=tests/golden
mkdir -p "$folder"

# seed NAME FIRST FILE...: the text FIRST, then the files
seed()
{
    name=$1 first=$2
    shift 2
    { printf '%b' "$first"; [ $# = 0 ] || cat "$@"; } > "$folder/$name"
}

# record NAME TYPE RANK AXIS...: of fuzz_adapter.c; five axes are always there
record()
{
    printf "\\$(printf %03o "${#1}")"
    printf %s "$1"
    printf "\\$(printf %03o $(($2 + 6 * $3)))"
    shift 3
    for axis; do
        case $axis in
        16) printf '\0' ;; 8) printf '\1' ;; 2) printf '\2' ;; 1) printf '\3' ;; 3) printf '\4' ;;
        4) printf '\5' ;; 32) printf '\7' ;; *) printf '\10' ;;
        esac
    done
}

# both NAME DOWN-SUFFIX UP-SUFFIX: two records
both()
{
    record "$1$2" 0 2 2 16
    record "$1$3" 0 2 16 2
    printf '\0\0\0\0\0'
}

case $target in
safetensors)        # without the length in front of the header, with two bytes of how many zeros
    for file in "$golden"/torch/*.safetensors "$golden"/embeddings/*.safetensors; do
        header=$(od -An -tu8 -N8 "$file" | tr -d ' ')
        { tail -c +9 "$file" | head -c "$header"; printf '\0\4'; } > "$folder/$(basename "$file")"
    done
    seed empty '{}\0\0'
    seed metadata '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}\4\0'
    seed unknown '{"a":{"dtype":"U8","shape":[2,0],"data_offsets":[0,0],"x":[{"y":-1.5e2},null,true]}}\0\0'
    ;;
torch)
    for file in "$golden"/torch/*.pt "$golden"/torch/refused/*.pt "$golden"/embeddings/*.pt; do
        seed "$(basename "$file")" '' "$file"
        python3 -c 'import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
sys.stdout.buffer.write(z.read(next(n for n in z.namelist() if n.endswith("/data.pkl"))))' \
            "$file" > "$folder/pickle" 2> /dev/null || continue
        seed "$(basename "$file").pkl" '\0' "$folder/pickle"
    done
    rm -f "$folder/pickle"
    ;;
config)
    seed text '\0' $golden/models/plain/text_encoder/config.json
    seed unet '\1' $golden/models/plain/unet/config.json
    seed model '\1' $golden/models/saved/unet/config.json
    seed motion '\2' $golden/models/plain-motion/config.json
    seed vae '\3' $golden/models/plain/vae/config.json
    for file in "$golden"/models/*/scheduler/scheduler_config.json; do
        seed "$(echo "$file" | tr / -)" '\4' "$file"
    done
    seed settings '\6{"unet.r":4,"unet.lora_alpha":6,"unet.rank_pattern":{"^mid_block.attentions.0.transformer_blocks.0.attn1.to_q":1,"to_q":2},"unet.alpha_pattern":{"a\\.b$":-1.5},"unet.use_rslora":true,"text_encoder.r":2}'
    seed index '\5{"metadata":{"total_size":8},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}'
    ;;
tokenizer)
    seed merges '\0' $golden/tokenizer/merges.txt
    seed short '\0#version: 0.2\ni n\nin g</w>\n'
    seed vocab '\1' $golden/tokenizer/vocab.json
    seed bundle '\2{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b",["a","b"]]}}'
    seed config '\3{"pad_token":{"content":"!"},"model_max_length":77}'
    ;;
prompt)
    seed plain '\0a photo of a cat, 4k, <|endoftext|> it'"'"'s 1990'
    seed utf8 '\0\303\211t\303\251 \342\230\203 \360\237\230\200 \352\260\200\341\204\200'
    seed weights '\1(a cat:1.3), [dog], ((deep)) \\(text\\) BREAK x'
    seed list '\2/a/b@0.8|c@-1e-1|d'
    seed taught '\3<cat>\na <cat>, <cat>_1 (<CAT>_2:0.5)'
    ;;
adapter)
    layer=lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q
    motion=down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q
    { printf '\0'; both $layer .lora_down.weight .lora_up.weight; } > "$folder/lora"
    { printf '\4'; both unet.$motion .lora_A.weight .lora_B.weight; } > "$folder/motion-lora"
    { printf '\0'; both lora_te_text_model_encoder_layers_0_mlp_fc1 .lora_down.weight .lora_up.weight; } > "$folder/text"
    # the same in short: layer 200 + n, suffix, matrix, axes; 14 is 2 axes of f32, 6 is 1
    seed short-lora '\0\0310\0\014\02\0\0310\01\014\0\02\0\0\0\0\0'
    seed short-alpha '\0\0310\0\014\02\0\0310\01\014\0\02\0310\03\0\0310\05\06\0\0\0\0\0\0'
    seed short-loha '\0\0310\011\014\0\02\0310\012\014\02\0\0310\013\014\0\02\0310\014\014\02\0\0\0\0\0\0'
    seed short-diff '\0\0310\026\014\0\0\0311\027\06\0\0\0\0\0\0'
    seed short-peft '\0\0310\034\06\0\0310\05\014\0\03\0\0\0\0\0'
    {
        printf '\0'
        for part in hada_w1_a hada_w2_a; do record $layer.$part 0 2 16 2; done
        for part in hada_w1_b hada_w2_b; do record $layer.$part 0 2 2 16; done
        printf '\0\0\0\0\0'
    } > "$folder/loha"
    { printf '\0'; record $layer.lokr_w1 0 2 4 4; record $layer.lokr_w2 0 2 4 4; printf '\0\0\0\0\0'; } > "$folder/lokr"
    { printf '\0'; record $layer.on_input 5 0; record $layer.weight 0 1 16; printf '\0\0\0\0\0'; } > "$folder/ia3"
    { printf '\5'; record emb_params 0 2 3 32; printf '\0\0\0\0\0'; } > "$folder/embedding"
    for first in 7 11 12 13; do         # as a model; as its three parts
        {
            printf "\\$first"
            record model.diffusion_model.input_blocks.0.0.weight 0 4 4 4 3 3
            record model.diffusion_model.input_blocks.1.0.in_layers.2.weight 0 4 4 4 3 3
            record model.diffusion_model.out.2.weight 0 4 4 4 3 3
            record model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight 0 2 4 8
            record cond_stage_model.transformer.text_model.embeddings.token_embedding.weight 0 2 8 8
            record first_stage_model.decoder.conv_in.weight 0 4 8 4 3 3
            record first_stage_model.decoder.up.0.block.0.conv2.weight 0 4 8 8 3 3
            printf '\0\0\0\0\0'
        } > "$folder/checkpoint-$first"
    done
    { printf '\6'; record $motion.weight 0 2 8 8; record down_blocks.3.motion_modules.1.pos_encoder.pe 0 3 1 24 8; printf '\0\0\0\0\0'; } > "$folder/modules"
    ;;
esac
