#!/bin/sh
# get_ffmpeg.sh - have the source of one FFmpeg version unpacked, whichever way it can be had.
#
#     ./get_ffmpeg.sh VERSION CACHE FOLDER     prints FOLDER/ffmpeg-VERSION
#
# VERSION: 8.1.2 and the like, or "distribution" for the one this system packages. Three ways, in
# this order: a tarball already in CACHE; the release from ffmpeg.org; the same upstream tarball out
# of the source packages of the distribution (any suite of it). Called by configure.sh, and by the
# Makefile for more versions. Exit status 3: this version cannot be had.
#
# The distribution's packages are looked up with a configuration, lists and cache of our own below
# CACHE/apt. Nothing of the machine's own apt changes, no package is installed, root is not needed.
# SPDX-License-Identifier: LGPL-2.1-or-later
set -eu

[ $# = 3 ] || { sed -n '4s/^# \{0,1\}//p' "$0" >&2; exit 1; }
version=$1
mkdir -p "$2" "$3"
cache=$(cd "$2" && pwd)
folder=$(cd "$3" && pwd)

say()
{
    echo "  GET      $*" >&2
}

# SHA-256 of the release tarballs, which the distribution's "orig" tarballs are, byte for byte.
checksum()
{
    case $1 in
    5.1.9) echo d9b593bb2ba93d4b50f74177e0cdcd41747e708596367deed0c30348a71dd176 ;;
    7.1.5) echo de668509caf9e35e3cd162473441fdb29538c6d96ed080292b3cf9e6fc5d558f ;;
    8.1.2) echo 464beb5e7bf0c311e68b45ae2f04e9cc2af88851abb4082231742a74d97b524c ;;
    9.0.2) echo 8c3850283eb25fa026482078a04051e0be17347b09ef81a0849bec15a96e002e ;;
    esac
}

# genuine FILE VERSION: the checksum is right, or none is known (TLS or apt vouched for the file)
genuine()
{
    known=$(checksum "$2")
    sum=$(sha256sum < "$1" | cut -d' ' -f1)
    [ -z "$known" ] && say "no checksum is known for FFmpeg $2; it is $sum" && return 0
    [ "$known" = "$sum" ] && return 0
    say "$1: SHA-256 is $sum, must be $known; dropped"
    rm -f "$1"
    return 1
}

from_ffmpeg_org()
{
    url=https://ffmpeg.org/releases/ffmpeg-$1.tar.xz
    part=$cache/ffmpeg-$1.tar.xz.part
    say "$url"
    if command -v curl > /dev/null; then
        curl -fsL --connect-timeout 8 --speed-limit 1000 --speed-time 20 -o "$part" "$url"
    elif command -v wget > /dev/null; then
        wget -q --timeout=8 --tries=1 -O "$part" "$url"
    else
        false
    fi || { rm -f "$part"; say "ffmpeg.org cannot be reached from here"; return 1; }
    genuine "$part" "$1" && mv "$part" "$cache/ffmpeg-$1.tar.xz"
}

# ---- the distribution's source packages -----------------------------------------------------

apt=$cache/apt

# archive SUITE: where this machine gets a suite from; asks apt, which knows both of its file formats
archive()
{
    apt-get update --print-uris 2> /dev/null |
        sed -n "s|^'\(.*\)/dists/$1/InRelease' .*|\1|p" | head -n 1
}

# apt_private COMMAND...: apt-get or apt-cache that knows nothing but $apt
apt_private()
{
    command=$1
    shift
    "$command" -c "$apt/apt.conf" "$@"
}

# look_into SUITE: read the index of one suite into $apt
look_into()
{
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    keyring=/usr/share/keyrings/$system-archive-keyring.gpg
    [ -f "$keyring" ] && by="[signed-by=$keyring] " || by=
    echo "deb-src $by$mirror $1 main" > "$apt/sources.list"
    cat > "$apt/apt.conf" << CONF
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$apt/cache/archives";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Get::List-Cleanup "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    apt_private apt-get -q update > "$apt/log" 2>&1
}

# packaged VERSION: the package version in the suite of look_into whose upstream part is VERSION;
# "distribution" takes the newest
packaged()
{
    apt_private apt-cache showsrc --only-source ffmpeg 2> /dev/null |
        awk -v wanted="$1" '$1 == "Version:" { upstream = $2
            sub(/^[0-9]+:/, "", upstream); sub(/-[^-]*$/, "", upstream)
            if (wanted == "distribution" || wanted == upstream) print $2, upstream }' |
        sort -V | tail -n 1
}

from_distribution()
{
    command -v apt-get > /dev/null && [ -r /etc/os-release ] || return 1
    system=$(. /etc/os-release && echo "$ID")
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    mirror=$(archive "$codename")
    [ -n "$mirror" ] || return 1
    case $1 in
    distribution) suites=$codename ;;
    5.1.*)        suites="bookworm $codename" ;;
    7.1.*)        suites="trixie $codename" ;;
    *)            suites="sid testing stable $codename devel" ;;
    esac
    for suite in $suites; do
        say "FFmpeg $1 in the source packages of $suite"
        look_into "$suite" && found=$(packaged "$1") && [ -n "$found" ] || continue
        set -- ${found#* } ${found% *}
        [ -f "$cache/ffmpeg-$1.tar.xz" ] && genuine "$cache/ffmpeg-$1.tar.xz" "$1" && return 0
        (cd "$apt" && apt_private apt-get -q source --download-only --tar-only "ffmpeg=$2" > log 2>&1) || continue
        tarball=$(ls "$apt"/ffmpeg_"$1".orig.tar.* 2> /dev/null | grep -v '\.asc$' | head -n 1)
        [ -n "$tarball" ] && genuine "$tarball" "$1" || continue
        mv "$tarball" "$cache/ffmpeg-$1.tar.xz"
        rm -rf "$apt"
        return 0
    done
    return 1
}

# ---- have it ----------------------------------------------------------------------------------

if [ "$version" = distribution ]; then
    from_distribution distribution || exit 3
    version=${found#* }
elif ! { [ -f "$cache/ffmpeg-$version.tar.xz" ] && genuine "$cache/ffmpeg-$version.tar.xz" "$version"; }; then
    from_ffmpeg_org "$version" || from_distribution "$version" || exit 3
fi

tree=$folder/ffmpeg-$version
if ! [ -f "$tree/configure" ]; then
    rm -rf "$folder/unpacking"
    mkdir "$folder/unpacking"
    tar -xf "$cache/ffmpeg-$version.tar.xz" -C "$folder/unpacking"
    mv "$folder"/unpacking/* "$tree"        # one folder inside, whatever its name
    rmdir "$folder/unpacking"
fi
echo "$tree"
