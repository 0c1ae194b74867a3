#!/bin/sh
# pack.sh - what tests/gpu/run.sh needs of this machine where a GPU is but no packages can be had.
#
#     tests/gpu/pack.sh DIR       then there: DEPS=DIR tests/gpu/run.sh
#
# Headers and static libraries of jansson and utf8proc, under one megabyte.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu
to=${1:?DIR}
mkdir -p "$to/include" "$to/lib"
cp /usr/include/jansson.h /usr/include/jansson_config.h /usr/include/utf8proc.h "$to/include" 2> /dev/null ||
    cp "$(find /usr/include -name jansson_config.h | head -n 1)" /usr/include/jansson.h /usr/include/utf8proc.h "$to/include"
for library in libjansson.a libutf8proc.a; do
    cp "$(find /usr/lib -name $library | head -n 1)" "$to/lib"
done
echo "$to: $(du -sh "$to" | cut -f1)"
