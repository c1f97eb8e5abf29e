#!/usr/bin/env bash
# What is wrong with the stack, and what to do about it. Looks and changes nothing. Status 0: nothing is wrong.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: doctor.sh      (or: make doctor)

  DOCTOR_MIN_FREE_MB  less free disk than this is wrong      (2000)
  DOCTOR_MAX_LAG      more unread records than this, and not getting fewer, is wrong   (1000)
TEXT
}

case ${1:-} in
  '') ;;
  -h | --help | help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

min_free_mb=${DOCTOR_MIN_FREE_MB:-2000}
max_lag=${DOCTOR_MAX_LAG:-1000}
look_again_s=5 # between two looks at what should move

found=0

fine() {
  say "ok     $*"
}

# wrong WHAT DO: a line each.
wrong() {
  say "WRONG  $1"
  say "       do: $2"
  found=$((found + 1))
}

note() {
  say "note   $*"
}

finish() {
  if ((found > 0)); then
    say "$me: $found wrong"
    exit 1
  fi
  say "$me: nothing is wrong"
  exit 0
}

# --- the machine ----------------------------------------------------------------------------------------------------

docker_works() {
  if ! have docker; then
    wrong "Docker is not installed" "install it, or use \`make run\`, which needs none"
    return 1
  fi
  if ! timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    wrong "no Docker engine answers at ${DOCKER_HOST:-its default place}" \
      "start it (systemctl start docker), join the group docker, or correct DOCKER_HOST; \`make run\` needs none"
    return 1
  fi
  if ! docker compose version >/dev/null 2>&1; then
    wrong "docker has no compose plugin" "install docker-compose-plugin, v2.24 or later"
    return 1
  fi
  fine "Docker $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
}

settings_are_legal() {
  local said
  if ! said=$(compose --profile '*' config --quiet 2>&1); then
    wrong "the settings cannot be used: $said" "correct .env, .env.local or the variables of this shell"
    return 1
  fi
  fine "compose reads the settings"
}

check_disk() {
  local place free root_dir
  root_dir=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null || true)
  for place in "$root" "$root_dir"; do
    free=$(df -Pm "$place" 2>/dev/null | awk 'NR == 2 { print $4 }') || continue
    [[ -n $free ]] || continue # the engine's disk may be another machine's
    if ((free < min_free_mb)); then
      wrong "disk: only $free MB are free at $place" "free some: docker system df, docker builder prune; a full disk stops Kafka and Postgres"
    else
      fine "disk: $free MB free at $place"
    fi
  done
}

check_secrets() {
  local file
  while IFS= read -r file; do
    if [[ ! -s $file ]]; then
      wrong "the secret $file is missing or empty" "git checkout it, or make secrets"
    elif [[ $(stat -L -c %A "$file" 2>/dev/null || echo -------r--) != ???????r?? ]]; then
      wrong "the secret $file cannot be read by the containers' users" "chmod o+r it; keep strangers out with the directory's mode"
    fi
  done < <(compose config --format json | sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p')
  if grep -qs '^tidemark-development' "$root/compose/secrets/writer_password" && [[ ! -e $root/compose.override.yaml ]]; then
    note "the passwords are the published ones: fine on 127.0.0.1, otherwise make secrets before the first start"
  fi
}

# --- services -------------------------------------------------------------------------------------------------------

is_running() {
  [[ $(service_state "$1") == running* ]]
}

last_lines() {
  compose logs --no-color --no-log-prefix --tail 6 "$1" 2>/dev/null | cut -c -300 | sed 's/^/         | /' >&2
}

# check_port SERVICE VARIABLE: whether somebody else has the port that it would publish.
check_port() {
  local service=$1 variable=$2 port owner
  if is_running "$service"; then return 0; fi
  port=$(setting "$variable")
  if port_taken 127.0.0.1 "$port"; then
    owner=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ by \1 (pid \2)/p' | head -n 1)
    wrong "port $port of $service is taken${owner:- by another program}" "end that, or choose another: $variable=… in .env.local"
  fi
}

check_service() {
  local service=$1 now health id
  now=$(service_state "$service")
  id=$(container "$service")
  case $now in
    'running healthy') fine "$service runs" ;;
    'running starting') note "$service is starting" ;;
    'running unhealthy')
      health=$(docker inspect -f '{{range .State.Health.Log}}{{.Output}}{{end}}' "$id" | sed '/^$/d' | tail -n 1 | cut -c -200)
      wrong "$service is unhealthy: ${health:-its check takes too long}" "its last lines follow; make logs has more"
      last_lines "$service"
      ;;
    absent) wrong "$service is not there" "make up" ;;
    *)
      if [[ $(docker inspect -f '{{.State.OOMKilled}}' "$id") == true ]]; then
        wrong "$service ran out of memory" "raise its …_MEMORY in .env.local, then make up"
      else
        wrong "$service is $now" "its last lines follow and say why; correct that, then make up"
      fi
      last_lines "$service"
      ;;
  esac
}

# --- the data's path ------------------------------------------------------------------------------------------------

# offsets TIME: lines "partition offset" of the topic; TIME -2 is its start, -1 its end.
offsets() {
  in_kafka kafka-get-offsets --topic "$topic" --time "$1" 2>/dev/null | sed -n 's/^.*:\([0-9]*\):\([0-9]*\)$/\1 \2/p' | sort -n
}

# Lines "partition next_offset" of what the tables hold.
next_offsets() {
  stack_sql "select partition, next_offset from progress_partitions where topic = '$topic' order by partition" 2>/dev/null | tr '|' ' '
}

# unread: how many records are not in the tables yet.
unread() {
  # Both are sorted as text by join's rule.
  join <(offsets -1 | sort) <(next_offsets | sort) | awk '{ sum += $2 - $3 } END { printf "%.0f", sum }'
}

check_topic() {
  local ends
  ends=$(offsets -1)
  if [[ -z $ends ]]; then
    wrong "the topic $topic does not exist" "make up creates it; is KAFKA_TOPIC the name you mean?"
    return 1
  fi
  fine "topic $topic has $(grep -c . <<<"$ends") partitions"
}

# The tables' next record must still be in the log, and the log must reach up to it.
check_expired() {
  local partition low high next expired=no
  while read -r partition low high next; do
    if ((next < low)); then
      wrong "offsets expired: partition $partition begins at $low, the tables need $next: $((low - next)) records were deleted before they were read" \
        "raise TOPIC_RETENTION_MS; the processor refuses to go on over a gap: restore the records, or replace all rows: tidemark-dataflow rebuild --drop-history"
      expired=yes
    elif ((next > high)); then
      wrong "partition $partition ends at $high, but the tables have read up to $next: the topic was made anew" \
        "give it back its records, or start from empty tables: tidemark-dataflow rebuild --drop-history, or make reset"
      expired=yes
    fi
  done < <(join <(join <(offsets -2 | sort) <(offsets -1 | sort)) <(next_offsets | sort))
  if [[ $expired == no ]]; then fine "every record that the tables need next is in the log"; fi
}

check_progress() {
  local lag_before lag_after epoch_before epoch_after
  lag_before=$(unread)
  epoch_before=$(stack_sql 'select epoch from progress' 2>/dev/null || true)
  if [[ -z $epoch_before ]]; then
    wrong "the tables have no progress: nothing was ever committed" "look at stream-processor's log: make logs"
    return 0
  fi
  sleep "$look_again_s"
  lag_after=$(unread)
  epoch_after=$(stack_sql 'select epoch from progress' 2>/dev/null || true)
  if ((lag_after > 0 && epoch_after == epoch_before && lag_after >= lag_before)); then
    wrong "nothing was committed for $look_again_s s (epoch $epoch_after), and $lag_after records wait" \
      "is stream-processor stopped, paused or out of CPU? make ps, make logs"
  elif ((lag_after > max_lag && lag_after >= lag_before)); then
    wrong "lag: $lag_after records wait, and they get no fewer" "more WORKERS, or a faster disk for Postgres; docs/runbook.md"
  else
    fine "epoch $epoch_after, lag $lag_after records"
  fi
}

check_watermark() {
  local held
  held=$(stack_sql "select p.partition, p.state, extract(epoch from max(p.watermark) over () - p.watermark)::bigint
    from progress_partitions p where p.state = 'backlogged' order by p.watermark nulls first limit 1" 2>/dev/null || true)
  [[ -n $held ]] || return 0
  local partition partition_state behind
  IFS='|' read -r partition partition_state behind <<<"$held"
  if ((${behind:-0} > 300)); then
    wrong "the watermark is held by partition $partition ($partition_state), $behind s behind the others" "docs/runbook.md, TidemarkWatermarkHeld"
  fi
}

check_dead_letters() {
  local recent
  recent=$(stack_sql "select count(*), coalesce(string_agg(distinct reason, ', '), '') from dead_letters
    where record_time > now() - interval '10 minutes'" 2>/dev/null || true)
  case ${recent%%|*} in
    '' | 0) ;;
    *) note "${recent%%|*} dead letters of the last 10 minutes (${recent#*|}): select reason, error, payload from dead_letters" ;;
  esac
}

# --- the visit ------------------------------------------------------------------------------------------------------

docker_works || finish
settings_are_legal || finish
check_disk
check_secrets
check_port metrics-api API_PORT
check_port stream-processor METRICS_PORT
check_port kafka KAFKA_PORT
check_port postgres POSTGRES_PORT

services=(kafka postgres stream-processor metrics-api)
if [[ $(setting GENERATORS) != 0 ]]; then services+=(event-generator); fi
# The further processes of a cluster.
while read -r service; do services+=("$service"); done < <(compose config --services | grep '^stream-processor-' || true)
for service in "${services[@]}"; do check_service "$service"; done

topic=$(setting KAFKA_TOPIC)
if is_running kafka && is_running postgres && check_topic; then
  check_expired
  check_progress
  check_watermark
  check_dead_letters
fi
finish
