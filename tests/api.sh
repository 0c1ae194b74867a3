#!/bin/sh
# api.sh - the library as another program sees it: the header alone in C and C++, the exported
# symbols, and programs built with what pkg-config says, linked to either library.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
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

# The compiler's words; a library with sanitizers wants them in the program too.
CC=$(sed -n 's/^CC *= *//p' build/config.mk)
sanitize=
if grep -q '^SANITIZE *= *yes' build/config.mk || [ "${SANITIZE:-no}" = yes ]; then
    sanitize=-fsanitize=address,undefined
fi

# ---- the header ------------------------------------------------------------------------------

printf '%s\n' '#include "animatediff.h"' '#include "animatediff.h"' \
    'int main(void) { return ad_version() == 0; }' > "$work/header.c"
cp "$work/header.c" "$work/header.cc"
mkdir "$work/include"
cp "$build/include/"*.h "$work/include"         # and nothing beside it

for standard in c99 c11 c17; do
    $CC -std=$standard -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -fsyntax-only \
        -I"$work/include" "$work/header.c" > "$work/log" 2>&1
    result "the header alone is $standard without a warning" $?
done
if command -v c++ > /dev/null; then
    for standard in c++11 c++17; do
        c++ -std=$standard -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
            -I"$work/include" "$work/header.cc" > "$work/log" 2>&1
        result "the header alone is $standard without a warning" $?
    done
else
    echo "skip - the header in C++: no c++ here"
fi

# ---- symbols ---------------------------------------------------------------------------------

# What is declared is what is there: functions of the header, and nothing else.
grep -oE '^AD_API .*\bad_[a-z_]+\(' "$build/include/animatediff.h" |
    grep -oE 'ad_[a-z_]+\($' | tr -d '(' | sort > "$work/declared"
nm -D --defined-only "$build/lib/libanimatediff.so" | awk '{ print $NF }' | sort > "$work/exported"
[ "$(wc -l < "$work/declared")" -gt 20 ] && diff "$work/declared" "$work/exported" > "$work/log"
result "the shared library exports the header's functions and nothing else" $?

nm -g --defined-only "$build/lib/libanimatediff.a" 2> /dev/null | awk 'NF == 3 { print $3 }' |
    grep -v '^ad_' | grep -vE '^__(asan|odr_asan|ubsan)' > "$work/log"
[ ! -s "$work/log" ]
result "all symbols of the static library begin with ad_" $?

# What others in the same process would notice.
nm -D --undefined-only "$build/lib/libanimatediff.so" | awk '{ print $NF }' | sed 's/@.*//' |
    grep -xE 'signal|sigaction|setlocale|setenv|putenv|chdir|setrlimit|atexit|exit|_exit|abort|printf|puts|perror' \
    > "$work/log"
[ ! -s "$work/log" ] || [ -n "$sanitize" ]
result "the library asks for no signal, locale, environment or terminal" $?

# ---- programs --------------------------------------------------------------------------------

cat > "$work/program.c" << 'END'
#include <stdio.h>
#include <string.h>
#include <animatediff.h>

int main(int argc, char **argv)
{
    AdContextParams cp;
    AdModelParams mp;
    AdContext *ctx = NULL;
    AdModel *model = NULL;
    AdSession *s = NULL;
    char version[32];

    ad_session_destroy(&s);
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
    snprintf(version, sizeof(version), "%d.%d.%d", AD_VERSION_MAJOR, AD_VERSION_MINOR,
             AD_VERSION_MICRO);
    if (argc != 3 || strcmp(ad_version(), version) || !ad_backend_name(0) || !ad_scheduler_name(0) ||
        ad_backend_name(-1) || ad_scheduler_name(-1) || ad_backend_name(1000) ||
        ad_scheduler_name(1000) || strcmp(ad_status_name(AD_ERR_FORMAT), "AD_ERR_FORMAT") ||
        !ad_status_name((AdStatus)12345))
        return 1;
    ad_context_defaults(&cp);
    cp.device = "ref";
    if (ad_context_create(&ctx, &cp) < 0 || *ad_context_error(ctx))
        return 2;
    ad_model_defaults(&mp);
    mp.model = argv[1];
    mp.motion_adapter = argv[2];
    if (ad_model_load(ctx, &model, &mp) < 0) {
        puts(ad_context_error(ctx));
        return 3;
    }
    ad_model_destroy(&model);
    ad_context_destroy(&ctx);
    puts(version);
    return model || ctx;
}
END

models=tests/golden/models
version=$(sed -n 's/^Version: //p' "$build/lib/pkgconfig/libanimatediff.pc")

# build_with NAME FOLDER PKG-CONFIG-ARGUMENT...: FOLDER is a prefix
build_with()
{
    name=$1 prefix=$2
    shift 2
    # shellcheck disable=SC2046,SC2086         # words
    $CC -Wall -Wextra -Werror $sanitize "$work/program.c" -o "$work/$name" $(
        PKG_CONFIG_PATH=$build/lib/pkgconfig pkg-config --define-variable=prefix="$prefix" \
            --cflags --libs "$@" libanimatediff) > "$work/log" 2>&1
}

if ! command -v pkg-config > /dev/null; then
    echo "skip - programs: no pkg-config here"
    exit $failed
fi

build_with shared "$(cd "$build" && pwd)"
result "pkg-config links a program to the shared library" $?
LD_LIBRARY_PATH=$build/lib "$work/shared" $models/plain $models/plain-motion > "$work/log" 2>&1 &&
    [ "$(cat "$work/log")" = "$version" ]
result "the program loads a model and knows pkg-config's version" $?

mkdir "$work/lib"
cp "$build/lib/libanimatediff.a" "$work/lib"    # alone, or the linker takes the other
build_with static "$work" --static
result "pkg-config --static links a program to the static library" $?
"$work/static" $models/plain $models/plain-motion > "$work/log" 2>&1 &&
    [ "$(cat "$work/log")" = "$version" ]
result "the program needs no shared libanimatediff" $?
exit $failed
