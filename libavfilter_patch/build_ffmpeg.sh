#!/bin/sh
# build_ffmpeg.sh - configure and build a patched FFmpeg: small, but with all that clips are used for.
#
#     ./build_ffmpeg.sh SOURCE BUILD PKGCONFIG      quiet; BUILD/ffmpeg, BUILD/ffprobe and two logs
#
# Called by the Makefile; SOURCE is a tree after patch_ffmpeg.sh, BUILD a folder beside it, PKGCONFIG
# the folder with libanimatediff.pc. The environment may hold JOBS (make -j), EXTRA (more switches
# for FFmpeg's configure), DEBUG=yes (symbols, assertions) and SANITIZE=yes (address and undefined
# behaviour sanitizers). Everything that is not in the lists below is left out: that is the
# difference between one minute and five.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu

[ $# = 3 ] || { sed -n '4,5s/^# \{0,1\}//p' "$0"; exit 1; }
source=$(cd "$1" && pwd)
build=$2
pkgconfig=$(cd "$3" && pwd)
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}

decoders=rawvideo,wrapped_avframe,h264,gif,png,apng,mjpeg,bmp,ppm,ffv1,mpeg4,aac,mp3,flac,vorbis,opus,\
pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le
encoders=rawvideo,wrapped_avframe,libx264,libx264rgb,gif,png,apng,mjpeg,bmp,ppm,ffv1,mpeg4,aac,pcm_s16le,pcm_f32le
parsers=h264,aac,png,mjpeg,gif,bmp,mpeg4video,mpegaudio,flac,vorbis,opus
demuxers=gif,apng,image2,image2pipe,image_png_pipe,image_jpeg_pipe,image_bmp_pipe,image_ppm_pipe,mov,flv,\
live_flv,hls,mpegts,matroska,rawvideo,yuv4mpegpipe,nut,concat,aac,mp3,flac,ogg,wav,ffmetadata
muxers=gif,apng,image2,image2pipe,mp4,mov,flv,hls,mpegts,matroska,rawvideo,yuv4mpegpipe,nut,null,framecrc,\
framemd5,framehash,md5,hash,tee,fifo,segment,stream_segment,wav,ffmetadata
protocols=file,pipe,fd,data,tcp,udp,unix,http,rtmp,hls,concat,concatf,crypto,tee
bsfs=extract_extradata,h264_mp4toannexb,aac_adtstoasc,h264_metadata,setts,dump_extra,null
filters=animatediff,\
scale,format,noformat,null,copy,fps,framerate,minterpolate,framestep,tile,untile,palettegen,paletteuse,\
split,asplit,hstack,vstack,xstack,drawtext,drawbox,drawgrid,overlay,pad,crop,setpts,asetpts,settb,asettb,\
setsar,setdar,setparams,setrange,trim,atrim,loop,aloop,reverse,areverse,select,aselect,concat,fade,afade,\
xfade,acrossfade,blend,tblend,tmix,metadata,ametadata,showinfo,signalstats,psnr,ssim,identity,realtime,\
arealtime,sendcmd,asendcmd,zmq,azmq,color,testsrc,testsrc2,nullsrc,nullsink,anullsrc,anullsink,sine,aformat,\
anull,aresample,volume,amix,atempo,hflip,vflip,transpose,rotate,eq,unsharp,hue,gblur,boxblur,vignette,noise,\
negate,curves,colorbalance,lut,lutrgb,lutyuv,geq,colorkey,alphamerge,alphaextract,extractplanes,shuffleframes,\
movie,amovie,thumbnail,tpad,apad,freezedetect,scdet,mpdecimate,interleave,zoompan,perspective,scroll,perms,\
fifo,afifo,buffer,buffersink,abuffer,abuffersink

switches="--enable-gpl --enable-version3 --enable-libanimatediff --enable-libx264 --enable-libfreetype
          --enable-libfontconfig --enable-libfribidi --enable-libzmq --enable-zlib --disable-doc --disable-ffplay"
# drawtext needs it since 6.1, which is when the switch came
grep -q -e '--enable-libharfbuzz' "$source/configure" && switches="$switches --enable-libharfbuzz"
if [ "${DEBUG:-no}" = yes ]; then
    switches="$switches --disable-stripping --assert-level=2 --enable-memory-poisoning"
else
    switches="$switches --disable-debug"
fi
if [ "${SANITIZE:-no}" = yes ]; then
    switches="$switches --disable-stripping --extra-cflags=-fsanitize=address,undefined
              --extra-cflags=-fno-omit-frame-pointer --extra-ldflags=-fsanitize=address,undefined"
fi
switches="$switches --disable-everything --disable-autodetect --enable-indev=lavfi
          --enable-decoder=$decoders --enable-encoder=$encoders --enable-parser=$parsers
          --enable-demuxer=$demuxers --enable-muxer=$muxers --enable-protocol=$protocols
          --enable-bsf=$bsfs --enable-filter=$filters ${EXTRA:-}"

# fail WHAT LOG: the end of the log, then stop
fail()
{
    tail -n 15 "$2" >&2
    echo "build_ffmpeg.sh: $1; the whole log: $2" >&2
    exit 1
}

mkdir -p "$build"
cd "$build"
here=$(pwd)

# Where the program looks for the library: beside itself, in the build tree and after make install.
# An environment variable, because $ORIGIN does not survive configure's and make's quoting.
LD_RUN_PATH='$ORIGIN/../lib'
PKG_CONFIG_PATH=$pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export LD_RUN_PATH PKG_CONFIG_PATH

# Again when a switch, FFmpeg's configure or the list of its filters changed.
wanted="$switches $source $(cksum "$source/configure" "$source/libavfilter/allfilters.c")"
if ! { [ -f ffbuild/config.mak ] && [ -f switches ] && [ "$(cat switches)" = "$wanted" ]; }; then
    echo "  CONFIGURE FFmpeg $(cat "$source/RELEASE" 2>/dev/null)"
    # shellcheck disable=SC2086     # switches is a list of words
    "$source/configure" $switches > configure.log 2>&1 ||
        fail "FFmpeg's configure failed (what the compiler said: $build/ffbuild/config.log)" "$here/configure.log"
    # A filter whose library is not found is only a warning of configure.
    grep -q '^#define CONFIG_ANIMATEDIFF_FILTER 1' config_components.h ||
        fail "FFmpeg's configure left the animatediff filter out" "$here/configure.log"
    echo "$wanted" > switches
fi
echo "  MAKE     FFmpeg $(cat "$source/RELEASE" 2>/dev/null)"
make -j"$jobs" ffmpeg ffprobe > make.log 2>&1 || fail "building FFmpeg failed" "$here/make.log"
