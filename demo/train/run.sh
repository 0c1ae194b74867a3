#!/usr/bin/env bash
# run.sh - trains the demo model from nothing; `make demo-model` calls it.
#
# Two cores are enough (see demo/README.md for the hours); a GPU is used where torch finds one.
# Every stage keeps checkpoints in $DEMO_WORK and goes on from there when run again; a finished
# stage is passed over, and a stage whose gate fails stops everything.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export DEMO_WORK=${DEMO_WORK:-$here/../../build/demo-model}
venv=${DEMO_VENV:-$DEMO_WORK/venv}
mkdir -p "$DEMO_WORK"
cd "$here"

# Waiting threads must not spin, and freed memory must not go back to the kernel at every step.
export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592
export MALLOC_TOP_PAD_=268435456

if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 diffusers==0.37.1 transformers==4.57.6 \
        tokenizers==0.22.2 accelerate==1.15.0 peft==0.21.2 safetensors==0.8.0 scipy pillow
fi

# stage NAME COMMAND...: run once; the marker is written when the command succeeds.
stage() {
    local name=$1
    shift
    [ -e "$DEMO_WORK/done-$name" ] && return
    local start=$SECONDS
    echo "== $name"
    nice -n 10 "$venv/bin/python" "$@"
    echo "$name $((SECONDS - start)) s" | tee -a "$DEMO_WORK/times.txt"
    touch "$DEMO_WORK/done-$name"
}

stage vae            vae.py
stage vae-gate       gates.py vae
stage text           text.py
stage text-gate      gates.py text
stage clips          cache.py
stage frames         t2i.py
stage frames-gate    gates.py frames
stage motion         motion.py
stage package-model  package.py
stage clips-gate     evaluate.py 100
stage motion-lora    lora.py motion
stage style-lora     lora.py style
stage embedding      lora.py embedding
stage package        package.py
stage effects        effects.py
stage report         report.py
