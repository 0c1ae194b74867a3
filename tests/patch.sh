#!/bin/sh
# patch.sh - patch_ffmpeg.sh on every FFmpeg tree below build/src: twice is once, --reverse leaves
# the tree byte for byte as it was, and a tree without an anchor is refused by name.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
patch=$(pwd)/libavfilter_patch/patch_ffmpeg.sh
cache=${ANIMATEDIFF_CACHE:-build/cache}
work=$(mktemp -d "${TMPDIR:-/tmp}/animatediff.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=0

result()
{
    if [ "$2" = 0 ]; then
        echo "ok - $1"
    else
        echo "not ok - $1: $(head -n 3 "$work/log" | tr '\n' ' ')"
        failed=1
    fi
}

# the files that the patch touches, out of a tarball
unpack()
{
    mkdir -p "$work/$2" && tar -xf "$1" -C "$work/$2" --strip-components=1 --wildcards \
        '*/configure' '*/RELEASE' '*/libavfilter/allfilters.c' '*/libavfilter/Makefile' \
        '*/libavfilter/version*.h' '*/fftools/ffmpeg.c' '*/doc/filters.texi'
}

for tarball in "$cache"/ffmpeg-*.tar.xz; do
    if [ ! -f "$tarball" ]; then
        echo "skip - patch: no release tarball in $cache"
        continue
    fi
    version=$(basename "$tarball" .tar.xz)
    unpack "$tarball" pristine
    cp -a "$work/pristine" "$work/tree"

    { "$patch" "$work/tree" > "$work/log" 2>&1 && cp -a "$work/tree" "$work/once" &&
      "$patch" "$work/tree" >> "$work/log" 2>&1 && diff -r "$work/tree" "$work/once" > "$work/log"; }
    result "$version: a second patch changes nothing" $?

    [ "$(diff -r "$work/pristine" "$work/tree" | grep -c '^> ')" -gt 9 ] &&
        ! diff -r "$work/pristine" "$work/tree" | grep '^<' > "$work/log"
    result "$version: lines are only inserted" $?

    "$patch" "$work/tree" --reverse > "$work/log" 2>&1 && diff -r "$work/pristine" "$work/tree" > "$work/log"
    result "$version: --reverse restores every byte" $?

    sed -i '/^aresample_filter_deps=/d' "$work/tree/configure"
    ! "$patch" "$work/tree" > "$work/log" 2>&1 && grep -q 'configure: no line.*aresample_filter_deps=' "$work/log"
    result "$version: a missing anchor is named" $?

    "$patch" "$work/tree" --reverse > /dev/null 2>&1
    rm -rf "$work/tree" && cp -a "$work/pristine" "$work/tree"
    sed -i 's/received_nb_signals++/received_nb_signals += 1/' "$work/tree/fftools/ffmpeg.c"
    "$patch" "$work/tree" > "$work/log" 2>&1 && grep -q '^note:' "$work/log" &&
        ! grep -q animatediff "$work/tree/fftools/ffmpeg.c"
    result "$version: a program of another form is left alone, with a note" $?
    rm -rf "$work/tree" "$work/once" "$work/pristine"
done

! "$patch" "$work" > "$work/log" 2>&1 && grep -q 'not an FFmpeg source tree' "$work/log"
result "a folder that is no FFmpeg tree is refused" $?
exit $failed
