#!/usr/bin/env bash
# healthcheck PORT PATH: true if the program in this container answers 200. With nothing but bash, so that the image needs no
# HTTP client; the engine's timeout bounds it.
set -euo pipefail
# HTTPS needs the programs themselves.
if [[ $1 == 8000 && -n ${API_TLS_CERT:-} ]]; then API_ADDR=127.0.0.1:$1 exec tidemark-api --healthcheck; fi
if [[ $1 == 9100 && -n ${METRICS_TLS_CERT:-} ]]; then exec tidemark-dataflow healthcheck "$1"; fi
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
IFS=' ' read -r _ status _ <&3
[[ $status == 200 ]] || {
  echo "$2 answers with status $status"
  exit 1
}
