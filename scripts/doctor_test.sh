#!/usr/bin/env bash
# Breaks a stack of its own in one way after the other, and expects that doctor.sh names each in a line. The images must be built
# (make up, or docker compose build); project name and ports are nobody else's, and nothing of it stays.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

require_engine
have curl || die "curl is not installed: apt-get install curl"
# All but the image's names, which are read before.
IMAGE_TAG=$(setting IMAGE_TAG)
IMAGE_PREFIX=$(setting IMAGE_PREFIX)
export IMAGE_TAG IMAGE_PREFIX
unset COMPOSE_FILE COMPOSE_PROFILES
export COMPOSE_PROJECT_NAME=tidemark-doctor-$$ GENERATORS=1 EVENTS_PER_SEC=50 KAFKA_TOPIC=stream.events
topic=$KAFKA_TOPIC
taken=()
for name in API_PORT METRICS_PORT KAFKA_PORT POSTGRES_PORT PROMETHEUS_PORT GRAFANA_PORT; do
  port=$(free_port)
  while [[ " ${taken[*]:-} " == *" $port "* ]]; do port=$(free_port); done
  taken+=("$port")
  export "$name=$port"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-doctor.XXXXXX")
occupant=
finish() {
  local status=$?
  trap '' INT TERM
  trap - EXIT
  if [[ -n $occupant ]]; then docker rm --force "$occupant" >/dev/null 2>&1 || true; fi
  compose --profile '*' down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
  rm -rf -- "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

failed=0
broken=0

# names WHAT PATTERN [NAME=VALUE...]: doctor.sh finds something wrong, and a line of it says so.
names() {
  local what=$1 pattern=$2 line
  shift 2
  broken=$((broken + 1))
  if env "$@" "$root/scripts/doctor.sh" >"$work/said" 2>&1; then
    say "FAILED  $what: doctor found nothing wrong"
    failed=$((failed + 1))
  elif line=$(grep -m 1 -E -- "$pattern" "$work/said"); then
    say "ok      $what"
    say "        $line"
  else
    say "FAILED  $what: no line matches $pattern; doctor said:"
    cat "$work/said" >&2
    failed=$((failed + 1))
  fi
}

up() {
  compose up --detach --wait --wait-timeout 180 >"$work/up" 2>&1
}

is() {
  [[ $(service_state "$1") == "$2"* ]]
}

deleted_all_records() {
  local list
  list=$(in_kafka kafka-get-offsets --topic "$topic" | awk -F : '{ printf "%s{\"topic\":\"%s\",\"partition\":%s,\"offset\":%s}", (NR > 1 ? "," : ""), $1, $2, $3 }')
  compose exec -T kafka sh -c 'cat >/tmp/delete.json' <<<"{\"partitions\":[$list],\"version\":1}"
  in_kafka kafka-delete-records --offset-json-file /tmp/delete.json >/dev/null
}

# --- before it runs -------------------------------------------------------------------------------------------------

names "no Docker engine" '^WRONG  no Docker engine answers' DOCKER_HOST=tcp://127.0.0.1:1
names "a setting that compose cannot use" '^WRONG  the settings cannot be used: .*' API_PORT=eight-thousand
names "hardly any disk left" '^WRONG  disk: only [0-9]+ MB are free' DOCTOR_MIN_FREE_MB=1000000000
occupant=$(docker run --detach --rm --publish "127.0.0.1:$API_PORT:80" --entrypoint sleep "$IMAGE_PREFIX/metrics-api:$IMAGE_TAG" 600)
names "a port that somebody else has" "^WRONG  port $API_PORT of metrics-api is taken"
docker rm --force "$occupant" >/dev/null
occupant=

# --- while it runs --------------------------------------------------------------------------------------------------

up || {
  cat "$work/up" >&2
  die "the stack does not start (above)"
}
await 60 "$root/scripts/doctor.sh" >"$work/said" 2>&1 || {
  cat "$work/said" >&2
  die "doctor finds something wrong with a stack that is well (above)"
}
say "ok      a stack that is well: nothing is wrong"

names "a topic that is not there" '^WRONG  the topic no\.such\.topic does not exist' KAFKA_TOPIC=no.such.topic

WATERMARK=soon compose up --detach --no-deps stream-processor >/dev/null 2>&1
await 30 is stream-processor restarting || true
names "a setting that the processor cannot use" "WATERMARK|--watermark"
compose up --detach --no-deps stream-processor >/dev/null 2>&1
await 60 is stream-processor 'running healthy' || die "the processor does not come back"

compose pause stream-processor >/dev/null 2>&1
names "a processor that stands still while events come" '^WRONG  nothing was committed for [0-9]+ s .*records wait'
compose unpause stream-processor >/dev/null 2>&1

compose stop postgres >/dev/null 2>&1
await 90 is metrics-api 'running unhealthy' || true
names "a database that was stopped" '^WRONG  postgres is exited'
broken=$((broken + 1))
if grep -q '^WRONG  metrics-api is unhealthy: /health answers with status 503' "$work/said"; then
  say "ok      and the service that is unhealthy without it"
else
  say "FAILED  the service that is unhealthy without it; doctor said:"
  cat "$work/said" >&2
  failed=$((failed + 1))
fi
compose start postgres >/dev/null 2>&1
# `up --wait` gives up on what is still unhealthy, although it is about to come back by itself.
await 90 is metrics-api 'running healthy' || die "the api does not come back after its database was stopped"
up || {
  cat "$work/up" >&2
  die "the stack does not come back after its database was stopped (above)"
}

compose stop stream-processor >/dev/null 2>&1
sleep 2 # events that it will never read
deleted_all_records
names "records that expired before they were read" '^WRONG  offsets expired: partition [0-9]+ begins at'

say "doctor: $((broken - failed)) of $broken broken set-ups named"
((failed == 0))
