#!/bin/sh
# patch_ffmpeg.sh - put the source animatediff into an FFmpeg tree (5.1 to 9.0), or take it out.
#
#     ./patch_ffmpeg.sh TREE             copy four files, insert ten lines and a section of the manual
#     ./patch_ffmpeg.sh TREE --reverse   leave the tree as it was
#
# Called by the Makefile before FFmpeg is configured; by hand on any other tree. A line goes in
# before an anchor, a line that every supported version has exactly once; a line that is there
# already is left alone, so a second run changes nothing. Diffs would not do: their context differs
# between all versions. To see the change as a diff, run this on a git checkout.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tree=
reverse=no
for argument; do
    case $argument in
    --reverse) reverse=yes ;;
    -h|--help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *)         tree=$argument ;;
    esac
done

die()
{
    echo "patch_ffmpeg.sh: $*" >&2
    exit 1
}

[ -n "$tree" ] || die "which FFmpeg tree? (--help)"
cd "$tree" 2>/dev/null || die "$tree: no such folder"
[ -f libavfilter/allfilters.c ] && [ -f libavfilter/version.h ] && [ -f configure ] ||
    die "$tree: not an FFmpeg source tree (libavfilter/allfilters.c is missing)"

new=$(mktemp)
trap 'rm -f "$new"' EXIT

# $new takes the place of a file, which keeps its mode (configure is executable).
store()
{
    cmp -s "$new" "$1" || cat "$new" > "$1"
}

# version NAME: the number behind #define NAME in libavfilter's version headers
version()
{
    cat libavfilter/version*.h | awk -v name="$1" '$1 == "#define" && $2 == name { print $3; exit }'
}

# line FILE "start of the anchor" "line to insert before it"
line()
{
    if [ $reverse = yes ]; then
        L=$3 awk '$0 != ENVIRON["L"]' "$1" > "$new"
        store "$1"
    elif ! grep -qxF -e "$3" "$1"; then
        A=$2 L=$3 awk 'index($0, ENVIRON["A"]) == 1 { print ENVIRON["L"]; n++ } { print }
                       END { exit n != 1 }' "$1" > "$new" ||
            die "$tree/$1: no line, or more than one, begins with \"$2\"; nothing inserted there"
        store "$1"
    fi
}

files="vf_animatediff.c animatediff_options.c animatediff_options.h animatediff_stop.h"
major=$(version LIBAVFILTER_VERSION_MAJOR)
minor=$(version LIBAVFILTER_VERSION_MINOR)
[ "$((major * 1000 + minor))" -ge 8044 ] ||
    die "$tree: libavfilter $major.$minor is too old; FFmpeg 5.1 (8.44) or later is needed"
echo "$([ $reverse = yes ] && echo cleaning || echo patching) FFmpeg $(cat RELEASE 2>/dev/null || echo "(development)"), libavfilter $major.$minor"

for file in $files; do
    if [ $reverse = yes ]; then
        rm -f "libavfilter/$file"
    else                                    # not touched when equal: make looks at the time
        cmp -s "$here/$file" "libavfilter/$file" || cp "$here/$file" libavfilter/
    fi
done

line configure '  --enable-libaom ' \
    '  --enable-libanimatediff  enable AnimateDiff video generation via libanimatediff [no]'
line configure '    libaribb24' \
    '    libanimatediff'
line configure 'aresample_filter_deps=' \
    'animatediff_filter_deps="libanimatediff"'
line configure 'enabled libaom ' \
    'enabled libanimatediff    && require_pkg_config libanimatediff "libanimatediff >= 0.1" animatediff.h ad_version'

line libavfilter/Makefile 'OBJS-$(CONFIG_CELLAUTO_FILTER)' \
    'OBJS-$(CONFIG_ANIMATEDIFF_FILTER)            += vf_animatediff.o animatediff_options.o'

# AVFilter up to 7.1, FFFilter since; configure reads this line and wants the right word.
type=$(awk '$4 == "ff_vsrc_cellauto;" { print $3 }' libavfilter/allfilters.c)
line libavfilter/allfilters.c "extern const $type ff_vsrc_cellauto;" \
    "extern const $type ff_vsrc_animatediff;"

# The ffmpeg program tells the source about signals and asks it about failures. A program that
# looks otherwise works without: then Ctrl-C waits for the end of the clip.
program=fftools/ffmpeg.c
has()
{
    [ "$(grep -c "^$1" $program)" = 1 ]
}
if has '    exit_program(received_nb_signals ? 255 : main_return_code);'; then      # 5.1
    exit_anchor='    exit_program(received_nb_signals ? 255 : main_return_code);'
    exit_line='    main_return_code = av_animatediff_failed() ? 1 : main_return_code;'
else
    exit_anchor='    ret = received_nb_signals                 ? 255 :'
    exit_line='    ret = ret < 0 ? ret : av_animatediff_failed();'
fi
quit_anchor='        av_log(NULL, AV_LOG_INFO, "\n\n[q] command received.'
if has '#include "ffmpeg.h"' && has '    received_nb_signals++;' && has "$exit_anchor" &&
   [ "$(grep -cF "$quit_anchor" $program)" = 1 ]; then
    line $program '#include "ffmpeg.h"'         '#include "libavfilter/animatediff_stop.h"'
    line $program '    received_nb_signals++;'  '    av_animatediff_stop();'
    line $program "$exit_anchor"                "$exit_line"
    line $program "$quit_anchor" '        av_animatediff_stop();'
else
    echo "note: $program has another form; Ctrl-C will take effect at the end of a clip"
fi

# The manual: everything between the two marks is ours.
if [ -f doc/filters.texi ]; then
    begin='@c begin animatediff'
    F=$([ $reverse = yes ] || echo "$here/filters.texi") awk -v begin="$begin" '
        $0 == begin                 { ours = 1 }
        $0 == "@section buffer" && ENVIRON["F"] != "" {
            print begin
            while ((getline text < ENVIRON["F"]) > 0)
                print text
            print "@c end animatediff"
        }
        !ours
        $0 == "@c end animatediff"  { ours = 0 }' doc/filters.texi > "$new"
    store doc/filters.texi
fi
