#!/bin/sh
# filter_stream.sh - clips without end to a real RTMP server (nginx with its rtmp module) on loopback.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/filter_lib.sh"

nginx=$(command -v nginx || ls /usr/sbin/nginx 2> /dev/null)
module=$(ls /usr/lib/nginx/modules/ngx_rtmp_module.so 2> /dev/null)
port=$((20000 + $$ % 10000))
server=rtmp://127.0.0.1:$port
live="$SRC:steps=1:frames=10:rate=10:clips=-1"        # a clip lasts a second
video="-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 10"

start_server()
{
    mkdir rec hls
    sed "s|@PORT@|$port|; s|@DIR@|$PWD|; s|@MODULE@|$module|" "$ROOT/tests/nginx.conf.in" > nginx.conf
    "$nginx" -e "$PWD/error.log" -c "$PWD/nginx.conf" > nginx.log 2>&1 &
    pid=$!
    trap 'kill $pid 2> /dev/null' EXIT          # of the case, which is a shell of its own
    tries=100
    until [ -s nginx.pid ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { why="nginx did not start: $(cat nginx.log error.log)"; return 1; }
        sleep 0.1
    done
    sleep 0.2
}

stop_server()
{
    kill $pid
    wait $pid 2> /dev/null
}

# even_stamps FILE COUNT STEP: so many frames, each so many milliseconds after the one before
even_stamps()
{
    probe packet=pts_time -select_streams v "$1" | tr -d , | sort -n > stamps
    equal "$(wc -l < stamps)" "$2" 'frames' &&
        equal "$(awk 'NR > 1 { printf "%.0f\n", ($1 - last) * 1000 } { last = $1 }' stamps | sort -u)" "$3" \
            'milliseconds between frames'
}

six_clips()
{
    start_server || return 1
    # shellcheck disable=SC2086
    ff -re -f lavfi -i "$live" $video -frames:v 60 -f flv "$server/rec/six"
    stop_server
    [ $status = 0 ] && even_stamps rec/six.flv 60 100
}

with_sound()
{
    start_server || return 1
    # shellcheck disable=SC2086
    ff -re -f lavfi -i "$live" -f lavfi -i anullsrc=r=44100:cl=stereo $video -c:a aac -t 5 -f flv "$server/rec/sound"
    stop_server
    [ $status = 0 ] && even_stamps rec/sound.flv 50 100 &&
        equal "$(probe stream=codec_name rec/sound.flv | sort | tr '\n' ' ')" 'aac h264 ' streams
}

as_hls()
{
    start_server || return 1
    # shellcheck disable=SC2086
    ff -re -f lavfi -i "$live" $video -frames:v 50 -f flv "$server/hls/x"
    stop_server
    [ $status = 0 ] || return 1
    [ -s hls/x.m3u8 ] || { why="no playlist"; return 1; }
    cat hls/x-*.ts > whole.ts                   # the playlist of a live stream has no end
    equal "$(frames whole.ts)" 50 frames
}

# stream to the server and an archive beside it: tee with a fifo in front of the network
archive()
{
    "$FFMPEG" -nostdin -hide_banner -y -re -f lavfi -i "$live" -c:v libx264 -pix_fmt yuv420p -g 10 -flags +global_header \
        -map 0:v -frames:v "$1" -f tee \
        "[f=mpegts:flush_packets=1]archive.ts|[f=fifo:fifo_format=flv:attempt_recovery=1:recover_any_error=1:recovery_wait_time=1:drop_pkts_on_overflow=1:restart_with_keyframe=1:queue_size=240:onfail=ignore:format_opts=rw_timeout=5000000]$server/rec/tee" \
        > log 2>&1
}

tee_to_both()
{
    start_server || return 1
    archive 60
    status=$?
    stop_server
    equal $status 0 'exit status' && equal "$(frames archive.ts)" 60 'frames in the archive' &&
        even_stamps rec/tee.flv 60 100
}

server_goes_away()
{
    start_server || return 1
    (sleep 2; kill $pid) &
    archive 60
    equal $? 0 'exit status' && equal "$(frames archive.ts)" 60 'frames in the archive'
}

if [ -z "$nginx" ] || [ -z "$module" ]; then
    skip_case "RTMP" "no nginx with rtmp module here (packages nginx, libnginx-mod-rtmp)"
    exit 0
fi
run_case "RTMP: six endless clips arrive, no frame lost, even time stamps" six_clips
run_case "RTMP: with a silent sound track" with_sound
run_case "RTMP to HLS" as_hls
run_case "RTMP and an archive by tee and fifo: both complete" tee_to_both
run_case "the server goes away: the archive stays complete" server_goes_away
finish
