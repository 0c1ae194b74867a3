#!/bin/sh
# filter.sh - the source animatediff in the real ffmpeg; runs its parts one after the other.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
here=$(dirname "$0")
failed=0
for part in options output run signals stream; do
    "$here/filter_$part.sh" || failed=1
done
exit $failed
