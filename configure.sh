#!/bin/sh
# configure.sh - find out what this machine has, install what is missing, write build/config.mk.
#
# Called by make when build/config.mk is missing, or by hand with switches (--help). It asks no
# questions; the second run finds everything in place, calls no package manager and takes a second.
# Leaves compiling to the Makefile and fetching FFmpeg to libavfilter_patch/get_ffmpeg.sh.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu

usage()
{
    cat << 'HELP'
./configure.sh [switches], then make. Without switches: all that this machine can use.

  --prefix=DIR            where make install puts everything [/usr/local]
  --build-cache=DIR       keeps downloads, 12 MB for each FFmpeg version
                          [$ANIMATEDIFF_CACHE, else build/cache]

FFmpeg: about 3 minutes of processor time, 100 MB of source, 80 MB of objects
  --ffmpeg-version=X      fetch this version (5.1 to 9.0) [8.1.2, else 9.0.2, else the system's]
  --ffmpeg-source=DIR     take this tree; it is patched in place (undo: patch_ffmpeg.sh DIR --reverse)
  --ffmpeg-options="..."  more switches for FFmpeg's configure, e.g. "--enable-gnutls
                          --enable-protocol=rtmps,tls" (their libraries are yours to install)
  --disable-ffmpeg        the library and its tests alone

Devices
  --disable-dnnl          no oneDNN: the CPU then computes with plain loops, some 50 times slower
  --enable-cuda           build the CUDA backend: needs nvcc and cuBLAS; minutes for all architectures
  --disable-cuda          do not [auto: when the toolkit and a driver are there]
  --cuda-path=DIR         the toolkit [$CUDA_HOME, else beside nvcc, else /usr/local/cuda]
  --cuda-arch=LIST        such as 80,90 or native (the card in this machine: the quickest build)
                          [75,80,86,89,90,100,120 as far as the toolkit knows them]

For developers
  --enable-asan           address and undefined behaviour sanitizers, in FFmpeg too; 3 times slower
  --debug                 -O0 -g, assertions in FFmpeg
  --cc=COMPILER           [$CC, else gcc, else cc, else clang]
  --no-install            only say which packages are missing
HELP
}

# ---- what the build needs: how to see it, and its package ------------------------------------
# command NAME | library NAME (pkg-config) | header NAME, then the Debian or Ubuntu package.

needed='
command gcc             gcc
command make            make
command pkg-config      pkg-config
library jansson         libjansson-dev
library libutf8proc     libutf8proc-dev'

needed_dnnl='
header oneapi/dnnl/dnnl.h  libdnnl-dev'

needed_ffmpeg='
command nasm            nasm
command xz              xz-utils
library zlib            zlib1g-dev
library x264            libx264-dev
library freetype2       libfreetype-dev
library fontconfig      libfontconfig-dev
library fribidi         libfribidi-dev
library harfbuzz        libharfbuzz-dev
library libzmq          libzmq3-dev'

# ---- switches ----------------------------------------------------------------------------------

top=$(cd "$(dirname "$0")" && pwd)
cd "$top"
arguments=
prefix=/usr/local
cache=${ANIMATEDIFF_CACHE:-$top/build/cache}
ffmpeg=yes ffmpeg_version='' ffmpeg_source='' ffmpeg_options=''
dnnl=yes cuda=auto cuda_path='' cuda_arch=''
asan=no debug=no install=yes
compiler=${CC:-}

die()
{
    echo "configure.sh: $*" >&2
    exit 1
}

for argument; do
    value=${argument#*=}
    case $argument in
    --prefix=*)         prefix=$value ;;
    --build-cache=*)    cache=$value ;;
    --ffmpeg-version=*) ffmpeg_version=$value ;;
    --ffmpeg-source=*)  ffmpeg_source=$value ;;
    --ffmpeg-options=*) ffmpeg_options=$value ;;
    --disable-ffmpeg)   ffmpeg=no ;;
    --disable-dnnl)     dnnl=no ;;
    --enable-cuda)      cuda=yes ;;
    --disable-cuda)     cuda=no ;;
    --cuda-path=*)      cuda_path=$value ;;
    --cuda-arch=*)      cuda_arch=$value ;;
    --enable-asan)      asan=yes ;;
    --debug)            debug=yes ;;
    --cc=*)             compiler=$value ;;
    --no-install)       install=no ;;
    -h|--help)          usage; exit 0 ;;
    *)                  die "unknown switch $argument (--help lists them)" ;;
    esac
    arguments="$arguments '$(printf %s "$argument" | sed "s/'/'\\\\''/g")'"
done
case $prefix in
/*) ;;
*)  die "--prefix=$prefix: must begin with /" ;;
esac
case $cache in
/*) ;;
*)  cache=$top/$cache ;;
esac

tell()
{
    printf '  %-12s%s\n' "$1" "$2"
}

# ---- packages ----------------------------------------------------------------------------------

has()
{
    case $1 in
    command) [ "$2" = gcc ] && [ -n "$compiler" ] || command -v "$2" > /dev/null ;;
    library) command -v pkg-config > /dev/null && pkg-config --exists "$2" ;;
    header)  echo "#include <$2>" | ${compiler:-cc} -E -x c - > /dev/null 2>&1 ;;
    esac
}

# missing LIST: the packages of those lines whose thing is not there
missing()
{
    echo "$1" | while read -r kind name package; do
        [ -z "$kind" ] || has "$kind" "$name" || printf '%s ' "$package"
    done
}

install_packages()
{
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    get="$sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a apt-get -q -y
         -o DPkg::Lock::Timeout=300 --no-install-recommends"
    mkdir -p build
    tell packages "$*"
    # shellcheck disable=SC2086         # a command with its arguments
    $get install "$@" > build/packages.log 2>&1 ||
        { $get update && $get install "$@"; } > build/packages.log 2>&1 || {
        tail -n 5 build/packages.log >&2
        die "packages could not be installed (build/packages.log); by hand: apt-get install $*"
    }
}

list=$needed
[ $dnnl = no ]   || list=$list$needed_dnnl
[ $ffmpeg = no ] || list=$list$needed_ffmpeg
packages=$(missing "$list")
if [ -n "$packages" ]; then
    [ $install = yes ] || die "missing packages: $packages"
    command -v apt-get > /dev/null ||
        die "missing: $packages(these are Debian's names; install what your system calls them)"
    # shellcheck disable=SC2086
    install_packages $packages
    packages=$(missing "$list")
    [ -z "$packages" ] || die "installed, and still not found: $packages"
fi

# ---- compiler and libraries --------------------------------------------------------------------

if [ -z "$compiler" ]; then
    for compiler in gcc cc clang; do
        ! command -v $compiler > /dev/null || break
    done
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# compiles "CODE" FLAGS...
compiles()
{
    echo "$1" > "$work/try.c"
    shift
    $compiler -std=c11 "$work/try.c" -o "$work/try" "$@" 2> "$work/try.log"
}

compiles 'int main(void) { return 0; }' || die "$compiler does not work: $(head -n 1 "$work/try.log")"
compiles '#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }' -fopenmp ||
    die "$compiler has no OpenMP (-fopenmp); gcc has it, clang needs libomp-dev"
tell compiler "$($compiler --version | head -n 1)"

dnnl_libs='' dnnl_version=''
if [ $dnnl = yes ]; then
    compiles '#include <oneapi/dnnl/dnnl.h>
        int main(void) { return !dnnl_version(); }' -ldnnl ||
        die "oneDNN's header is there but linking with -ldnnl fails: $(tail -n 1 "$work/try.log")"
    dnnl_version=$(printf '#include <oneapi/dnnl/dnnl_version.h>\nDNNL_VERSION_MAJOR DNNL_VERSION_MINOR\n' |
        $compiler -E -P -x c - | tail -n 1 | tr ' ' .)
    case $dnnl_version in
    2.[6-9]*|3.*) dnnl_libs=-ldnnl ;;
    *)            dnnl=no ;;
    esac
fi
if [ $dnnl = yes ]; then
    tell oneDNN "$dnnl_version"
else
    tell oneDNN "no${dnnl_version:+: $dnnl_version is too old, 2.6 or later is needed}; the CPU will be slow"
fi
tell jansson "$(pkg-config --modversion jansson), utf8proc $(pkg-config --modversion libutf8proc)"

# ---- CUDA --------------------------------------------------------------------------------------

# Sets cuda_path and nvcc.
find_cuda()
{
    set -- "$cuda_path"
    [ -n "$cuda_path" ] || set -- "${CUDA_HOME:-}" "${CUDA_PATH:-}" \
        "$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")" /usr/local/cuda
    for cuda_path; do
        nvcc=$cuda_path/bin/nvcc
        [ ! -x "$nvcc" ] || return 0
    done
    why="no toolkit: $nvcc is not there"
    return 1
}

has_driver()
{
    why="toolkit $cuda_path, but no driver; --enable-cuda builds it all the same"
    [ -e /dev/nvidiactl ] || [ -e /proc/driver/nvidia/version ]
}

# The architectures of the list that this nvcc knows, as its flags: code for each, and PTX for the
# newer ones so that later cards can run it too.
cuda_flags()
{
    known=$("$nvcc" --list-gpu-code | tr '\n' ' ')
    [ "$cuda_arch" != native ] ||
        cuda_arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | sort -u | tr -d . | tr '\n' ,)
    for arch in $(echo "${cuda_arch:-75,80,86,89,90,100,120}" | tr , ' '); do
        case " $known" in
        *" sm_$arch "*) ;;
        *) [ -z "$cuda_arch" ] && continue
           die "--cuda-arch=$cuda_arch: this nvcc does not know $arch; it knows $known" ;;
        esac
        archs="$archs $arch"
        flags="$flags -gencode arch=compute_$arch,code=sm_$arch"
        case $arch in
        90|100|120) flags="$flags -gencode arch=compute_$arch,code=compute_$arch" ;;
        esac
        # sm_90a (wgmma) came with 12.0; files *_sm90a.cu are compiled for it alone
        [ "$arch" = 90 ] && "$nvcc" -arch=sm_90a --dryrun -x cu -c /dev/null > /dev/null 2>&1 && sm90a=yes
    done
    return 0
}

nvcc='' flags='' archs='' sm90a=no why='' cuda_libs='' cudnn=0
case $cuda in
no)   cuda=no; why="switched off" ;;
yes)  find_cuda || die "--enable-cuda: $why" ;;
auto) if find_cuda && has_driver; then cuda=yes; else cuda=no; fi ;;
esac
if [ $cuda = yes ]; then
    cuda_flags
    for folder in "$cuda_path/lib64" "$cuda_path/lib" "$cuda_path/targets/$(uname -m)-linux/lib"; do
        [ ! -d "$folder" ] || cuda_libs="$cuda_libs -L$folder -Xlinker -rpath=$folder"
    done
    if echo '#include <cudnn.h>' | $compiler -E -I"$cuda_path/include" -x c - > /dev/null 2>&1; then
        cudnn=1
    fi
    tell CUDA "$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') for$archs$([ $sm90a = no ] || echo ' 90a'), cuDNN: $([ $cudnn = 1 ] && echo yes || echo no)"
else
    tell CUDA "no: $why"
fi

# ---- FFmpeg ------------------------------------------------------------------------------------

if [ $ffmpeg = no ]; then
    tell FFmpeg "switched off"
elif [ -n "$ffmpeg_source" ]; then
    [ -f "$ffmpeg_source/libavfilter/allfilters.c" ] || die "--ffmpeg-source=$ffmpeg_source: not an FFmpeg source tree"
    ffmpeg_source=$(cd "$ffmpeg_source" && pwd)
    [ ! -f "$ffmpeg_source/config.h" ] ||
        die "--ffmpeg-source=$ffmpeg_source: has been configured; 'make distclean' there first"
    ffmpeg_version=custom
    tell FFmpeg "$ffmpeg_source"
else
    for version in ${ffmpeg_version:-8.1.2 9.0.2 distribution}; do
        ffmpeg_source=$(libavfilter_patch/get_ffmpeg.sh "$version" "$cache" build/src) && break
        ffmpeg_source=
    done
    [ -n "$ffmpeg_source" ] ||
        die "FFmpeg ${ffmpeg_version:-} cannot be fetched, neither from ffmpeg.org nor from the source packages
of this system; unpack one by hand and say --ffmpeg-source=DIR, or --disable-ffmpeg"
    ffmpeg_version=${ffmpeg_source##*/ffmpeg-}
    tell FFmpeg "$ffmpeg_version"
fi

# ---- config.mk ---------------------------------------------------------------------------------

mkdir -p build
cat > "$work/config.mk" << CONFIG
# Written by configure.sh; read by the Makefile.
CONFIGURE_ARGUMENTS =$arguments
PREFIX         = $prefix
CACHE          = $cache
CC             = $compiler
SANITIZE       = $asan
DEBUG          = $debug
LIBRARY_CFLAGS = $(pkg-config --cflags jansson libutf8proc)
LIBRARY_LIBS   = $(pkg-config --libs jansson libutf8proc) $dnnl_libs
DNNL           = $dnnl
CUDA           = $cuda
NVCC           = $nvcc
CUDA_INCLUDE   = $cuda_path/include
CUDA_FLAGS     =$flags
CUDA_SM90A     = $sm90a
CUDA_LIBS      =$cuda_libs
CUDNN          = $cudnn
FFMPEG         = $ffmpeg
FFMPEG_VERSION = $ffmpeg_version
FFMPEG_SOURCE  = $ffmpeg_source
FFMPEG_OPTIONS = $ffmpeg_options
CONFIG
# The same again keeps its date, so that nothing is compiled anew.
cmp -s "$work/config.mk" build/config.mk || cp "$work/config.mk" build/config.mk
