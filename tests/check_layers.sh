#!/bin/sh
# check_layers.sh - does every file include only what its layer may?
#
# libavfilter_patch/ speaks AVFrame, engine/ speaks diffusion, kernels/ speaks tensors; each reaches
# the next through one header. A grep over #include lines and a few words; no compiler.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0

# rule "name in words" "lines that break it"
rule()
{
    if [ -z "$2" ]; then
        echo "ok - $1"
    else
        echo "not ok - $1: $(echo "$2" | head -n 3 | tr '\n' ' ')"
        failed=1
    fi
}

# includes PATTERN FILE...: #include lines that match, as file:line:text
includes()
{
    pattern=$1
    shift
    [ $# -gt 0 ] || return
    grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null "$@" | grep -E "include[[:space:]]*[<\"]($pattern)[>\"]"
}

# found FOLDER...: their C and CUDA files
found()
{
    find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2> /dev/null | sort
}

# shellcheck disable=SC2046         # lists of files; none has a blank
{
kernels=$(found kernels)
engine=$(found engine)
engine_headers=$(cd engine && echo *.h | tr ' ' '|' | sed 's/\./\\./g')
rule "kernels/ includes nothing of engine/" \
    "$(includes ".*engine/.*|$engine_headers" $kernels)"
rule "engine/ knows kernels/ by its headers, no backend by name" \
    "$(includes '(.*/)?(ref|cpu|cuda|null)(/|_).*' $engine)"
rule "engine/ asks for no element of a backend but through backend.h" \
    "$(grep -nE '\bad_(ref|cpu|cuda)_[a-z]' $engine)"
rule "CUDA headers stay in kernels/cuda" \
    "$(includes '(cuda|cublas|cudnn|nv|mma|cooperative_groups).*' $(echo "$kernels $engine" | tr ' ' '\n' | grep -v '^kernels/cuda'))"
rule "oneDNN stays in kernels/cpu/cpu_dnnl.c" \
    "$(includes '.*dnnl/?.*\.h' $kernels $engine | grep -vE '^kernels/cpu/cpu_dnnl\.c:|"(cpu_dnnl\.h)"')"
rule "jansson stays behind engine/json.h" \
    "$(includes 'jansson\.h' $kernels $engine | grep -v '^engine/json\.[ch]:')"
rule "utf8proc stays in one file" \
    "$(includes 'utf8proc\.h' $kernels $engine | cut -d: -f1 | sort -u | sed 1d)"
rule "FFmpeg stays in libavfilter_patch/" \
    "$(includes 'libav(util|filter|codec|format|device)/.*' $kernels $engine; grep -nw AVFrame $kernels $engine)"
rule "the filter knows of this project only animatediff.h" \
    "$(includes '.*(engine|kernels)/.*|ad_.*|backend\.h' $(found libavfilter_patch))"
rule "features are asked for in kernels/backend.c alone" \
    "$(grep -nE '^[[:space:]]*#[[:space:]]*(el)?if.*AD_HAVE_' $(echo "$kernels $engine" | tr ' ' '\n' | grep -vE '^kernels/(backend\.c|cuda/)'))"
rule "schedulers, noise, tokens and names know no tensor" \
    "$(includes '(.*/)?(tensor|arena|backend|nn|binder)\.h' $(ls engine/schedule*.[ch] engine/rng*.[ch] engine/tokenizer*.[ch] engine/vocabulary*.[ch] engine/names*.[ch] engine/windows*.[ch] engine/prompt*.[ch] 2> /dev/null))"
rule "graphs do not include each other, but unet the motion module" \
    "$(for graph in clip unet motion vae sparsectrl; do
           includes '(clip|unet|motion|vae|sparsectrl)\.h' engine/$graph.c 2> /dev/null
       done | grep -vE '^engine/([a-z]+)\.c:[0-9]+:.*"\1\.h"|^engine/unet\.c:.*"motion\.h"')"
rule "no printf, exit or abort in library code" \
    "$(grep -nE '(^|[^a-z_.>])(printf|puts|abort|exit|_exit)[[:space:]]*\(|fprintf[[:space:]]*\((stderr|stdout)' $(echo "$kernels $engine" | tr ' ' '\n' | grep '\.[ch]$' | grep -v '^engine/tools/'))"
rule "memory comes from ad_alloc" \
    "$(grep -nE '(^|[^a-z_>.])(malloc|calloc|realloc|strdup|aligned_alloc)[[:space:]]*\(' $(echo "$kernels $engine" | tr ' ' '\n' | grep '\.[ch]$' | grep -v "^kernels/memory\.c") | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(/?\*|//)')"
rule "file names are unique in the tree" \
    "$(for file in $kernels $engine; do basename "$file"; done | sort | uniq -d)"
}
exit $failed
