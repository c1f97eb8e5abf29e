#!/usr/bin/env bash
# healthcheck PORT PATH: true if the program in this container answers 200. With nothing but bash, so that the image needs no
# HTTP client; the engine's timeout bounds it.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
IFS=' ' read -r _ status _ <&3
[[ $status == 200 ]] || {
  echo "$2 answers with status $status"
  exit 1
}
