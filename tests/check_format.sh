#!/bin/sh
# check_format.sh - the part of the style that a machine can judge without spoiling tables: no tabs,
# no trailing blanks, 100 columns, Unix line ends, a last newline, a first comment that says what
# the file is, and its licence. .clang-format is for editors; it is not enforced, because it undoes
# aligned comments and argument tables.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C.UTF-8
export LC_ALL
failed=0

rule()
{
    if [ -z "$2" ]; then
        echo "ok - $1"
    else
        echo "not ok - $1: $(echo "$2" | head -n 3 | tr '\n' ' ')"
        failed=1
    fi
}

# Tracked files and new ones, as far as they exist.
files=$(git ls-files -co --exclude-standard 2> /dev/null || find . -type f -not -path './build/*' | sed 's|^\./||')
text=$(echo "$files" | grep -E '\.(c|h|cu|cuh|sh|py|md|texi|in)$|^(Makefile|\.ci/run|\.gitignore)$')
code=$(echo "$files" | grep -E '\.(c|h|cu|cuh)$')
scripts=$(echo "$files" | grep -E '\.sh$|^\.ci/run$')

# matches PATTERN FILES: file:line of the lines that match
matches()
{
    pattern=$1
    shift
    # shellcheck disable=SC2086
    printf '%s\n' $1 | while read -r file; do
        [ ! -f "$file" ] || grep -nHE "$pattern" "$file" | cut -d: -f1,2
    done
}

rule "no tabs outside the Makefile" "$(matches "$(printf '\t')" "$(echo "$text" | grep -v '^Makefile$')")"
rule "no trailing blanks" "$(matches ' $' "$(echo "$text" | grep -v '\.md$')")"
rule "no carriage returns" "$(matches "$(printf '\r')$" "$text")"
rule "at most 100 columns in C and CUDA" "$(matches '^.{101}' "$(echo "$code" | grep -v '^libavfilter_patch/')")"
rule "at most 120 columns in the filter" "$(matches '^.{121}' "$(echo "$code" | grep '^libavfilter_patch/')")"
rule "files end with a newline" "$(for file in $text; do
    [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || echo "$file"
done)"
rule "C files begin with a comment that names them" "$(for file in $(echo "$code" | grep -v '^libavfilter_patch/'); do
    [ ! -f "$file" ] || head -n 1 "$file" | grep -qF "/* $(basename "$file") - " || echo "$file"
done)"
rule "scripts name themselves in line 2" "$(for file in $scripts; do
    [ ! -f "$file" ] || head -n 2 "$file" | grep -qE "^# (\.ci/)?$(basename "$file") - " || echo "$file"
done)"
rule "C files and scripts name their licence" "$(for file in $code $scripts; do
    [ ! -f "$file" ] || head -n 40 "$file" | grep -qE 'SPDX-License-Identifier: LGPL-2.1-or-later|GNU Lesser General Public' ||
        echo "$file"
done)"
rule "files of 800 lines at most" "$(for file in $code $scripts; do
    [ ! -f "$file" ] || [ "$(wc -l < "$file")" -le 800 ] || echo "$file"
done)"
rule "scripts are valid shell" "$(for file in $scripts; do
    case $(head -n 1 "$file" 2> /dev/null) in
    *bash) bash -n "$file" 2>&1 ;;
    *)     sh -n "$file" 2>&1 ;;
    esac
done)"
exit $failed
