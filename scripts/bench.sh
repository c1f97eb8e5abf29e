#!/usr/bin/env bash
# How fast the dataflow reads a backlog on this machine: events/s, CPU per event, peak memory, for every log and store
# that is there. Prints what is needed to do it again, and one JSON line per measurement on standard output.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: bench.sh [N]      (or: make bench N=2000000)

Makes N events (2000000) once in the file log and once in Kafka, and lets `tidemark-dataflow run --until-end` process each
into SQLite and into Postgres. Kafka and Postgres are started by services.sh; what it cannot start is left out, and said.

  KAFKA_BOOTSTRAP    a running Kafka to use instead (the topic made there is named, and stays)
  BENCH_LOGS         which of: file kafka              (both)
  BENCH_STORES       which of: sqlite postgres         (both)
  BENCH_WORKERS      numbers of workers, one run each  (1 and the number of cores)
  BENCH_REPEAT       runs of each combination          (1)
TEXT
}

case ${1:-} in
  -h | --help | help)
    usage
    exit
    ;;
esac
events=${1:-2000000}
if ! [[ $events =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi
cores=$(nproc)
read -r -a logs <<<"${BENCH_LOGS:-file kafka}"
read -r -a stores <<<"${BENCH_STORES:-sqlite postgres}"
read -r -a worker_counts <<<"${BENCH_WORKERS:-$(printf '1\n%s\n' "$cores" | sort -un | tr '\n' ' ')}"
repeat=${BENCH_REPEAT:-1}
for one in "${logs[@]}"; do [[ $one == file || $one == kafka ]] || die "BENCH_LOGS: '$one' is neither file nor kafka"; done
for one in "${stores[@]}"; do [[ $one == sqlite || $one == postgres ]] || die "BENCH_STORES: '$one' is neither sqlite nor postgres"; done
run_s=3600 # the longest that one program may take

# --- a place of its own -----------------------------------------------------------------------------------------

kafka=${KAFKA_BOOTSTRAP:-}
given_kafka=$kafka
# Nothing of the caller's log or store may be touched or mixed in.
unset KAFKA_BOOTSTRAP BOOTSTRAP KAFKA_TOPIC TOPIC DATABASE_URL DATABASE_URL_FILE PG_URL PG_URL_FILE PG_HOST DATA_DIR PIPELINE
unset "${!GENERATOR_@}" EVENTS_PER_SEC STREAM_IDS USER_COUNT CHECKPOINT_DIR TIDEMARK_SERVICES_DIR

place=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$place"
work=$(mktemp -d "$(cd "$place" && pwd)/bench.XXXXXX")
chmod 755 "$work" # Postgres runs as another user
topic=tidemark.bench.${work##*.}
made_topic=no
running= # the program that is being measured

finish() {
  local status=$? service
  trap '' INT TERM
  trap - EXIT
  if [[ -n $running ]] && alive "$running"; then # timeout made a group of itself and the program
    kill -TERM -- "-$running" 2>/dev/null || true
    await 10 gone "$running" || kill -KILL -- "-$running" 2>/dev/null || true
  fi
  for service in kafka postgres; do
    "$root/scripts/services.sh" stop "$work/services-$service" || status=1
  done
  rm -rf -- "$work"
  if [[ -n $given_kafka && $made_topic == yes ]]; then say "the topic $topic stays at $given_kafka: delete it there"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# --- measuring --------------------------------------------------------------------------------------------------

# measure COMMAND...: its output goes to $work/out. Sets seconds, cpu_seconds and peak_kib by GNU time if it is installed,
# else by bash's `times` and the kernel's own record of the peak.
measure() {
  local before after user system from=$EPOCHREALTIME program=(timeout "$run_s")
  if [[ -x /usr/bin/time ]]; then program+=(/usr/bin/time -f '%e %U %S %M' -o "$work/time"); fi
  times >"$work/times"
  before=$(child_cpu)
  "${program[@]}" "$@" >"$work/out" 2>&1 </dev/null &
  running=$!
  # Not a child of this shell, so that its own time is not counted.
  if [[ ! -x /usr/bin/time ]]; then (watch_peak "$running" "$work/peak" &); fi
  if ! wait "$running"; then
    tail -n 20 "$work/out" >&2 || true
    die "failed: $*"
  fi
  running=
  if [[ -x /usr/bin/time ]]; then
    read -r seconds user system peak_kib < <(tail -n 1 "$work/time")
    cpu_seconds=$(awk -v user="$user" -v sys="$system" 'BEGIN { print user + sys }')
  else
    times >"$work/times"
    after=$(child_cpu)
    seconds=$(awk -v from="$from" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }')
    cpu_seconds=$(awk -v before="$before" -v after="$after" 'BEGIN { print after - before }')
    peak_kib=$(<"$work/peak")
  fi
}

# CPU seconds of all children so far that this shell has waited for.
child_cpu() {
  awk 'NR == 2 { gsub(/[ms]/, " "); print $1 * 60 + $2 + $3 * 60 + $4 }' "$work/times"
}

# watch_peak TIMEOUT_PID FILE: the highest resident size, in KiB, of the program below that pid. The kernel keeps the peak, so
# only growth within the last 50 ms is missed.
watch_peak() {
  local pid='' peak
  while alive "$1"; do
    read -r pid _ <"/proc/$1/task/$1/children" || true
    peak=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/${pid:-none}/status" 2>/dev/null || true)
    if [[ -n $peak ]]; then printf '%s\n' "$peak" >"$2"; fi
    sleep 0.05
  done
}

per() {
  awk -v a="$1" -v b="$2" -v scale="$3" 'BEGIN { printf "%.0f", (b > 0 ? a / b * scale : 0) }'
}

json_text() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# --- what is there ----------------------------------------------------------------------------------------------

# start_service NAME VARIABLE: prints the variable's value, or nothing if the service cannot be had.
start_service() {
  local exports
  exports=$("$root/scripts/services.sh" start "$work/services-$1" "$1") || return 0
  (eval "$exports" && printf '%s\n' "${!2}")
}

without() {
  local name=$1 one
  shift
  for one in "$@"; do if [[ $one != "$name" ]]; then printf '%s ' "$one"; fi; done
}

build_programs

if [[ " ${logs[*]} " == *' kafka '* && -z $kafka ]]; then
  kafka=$(start_service kafka TIDEMARK_TEST_KAFKA)
  if [[ -z $kafka ]]; then
    say "no Kafka: left out"
    read -r -a logs <<<"$(without kafka "${logs[@]}")"
  fi
fi
postgres=
if [[ " ${stores[*]} " == *' postgres '* ]]; then
  postgres=$(start_service postgres TIDEMARK_TEST_POSTGRES)
  if [[ -z $postgres ]]; then
    say "no Postgres: left out"
    read -r -a stores <<<"$(without postgres "${stores[@]}")"
  fi
fi
((${#logs[@]} > 0 && ${#stores[@]} > 0)) || die "nothing is left to measure"

git_rev=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
rustc_version=$(rustc --version 2>/dev/null || echo unknown)
version=$("$bin/tidemark-dataflow" --version 2>/dev/null || echo unknown)
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory_mib=$(awk '/^MemTotal:/ { printf "%d", $2 / 1024 }' /proc/meminfo)

# --- the data ---------------------------------------------------------------------------------------------------

data_args=(--rate max --count "$events" --seed 1 --start 2026-01-01T00:00:00Z --span "1 hour" --streams 1000
  --users 100000 --partitions 4)

say "machine   $cores cores, $cpu, $memory_mib MiB"
say "versions  $version, git $git_rev, $rustc_version"
say "data      tidemark-generator $(printf '%q ' "${data_args[@]}")"

# generate LOG: the same events, written by the generator; how fast is told too.
generate() {
  case $1 in
    file) measure env DATA_DIR="$work/data" KAFKA_TOPIC="$topic" "$bin/tidemark-generator" "${data_args[@]}" ;;
    kafka)
      made_topic=yes
      measure env KAFKA_BOOTSTRAP="$kafka" KAFKA_TOPIC="$topic" "$bin/tidemark-generator" --create-topic "${data_args[@]}"
      ;;
  esac
  report generate "$1" none 1
}

# --- the runs ---------------------------------------------------------------------------------------------------

# report BENCH LOG STORE WORKERS
report() {
  local rate cpu_ns
  rate=$(per "$events" "$seconds" 1)
  cpu_ns=$(per "$cpu_seconds" "$events" 1000000000)
  printf '%-9s %-5s -> %-8s workers %-2s %9s events/s  %6s CPU ns/event  %5s MiB peak  %8s s\n' \
    "$1" "$2" "$3" "$4" "$rate" "$cpu_ns" "$((peak_kib / 1024))" "$seconds" >&2
  printf '{"bench":"%s","log":"%s","store":"%s","workers":%s,"events":%s,"seconds":%s,"events_per_s":%s,' \
    "$1" "$2" "$3" "$4" "$events" "$seconds" "$rate"
  printf '"cpu_ns_per_event":%s,"peak_rss_kib":%s,"cores":%s,"memory_mib":%s,"cpu":%s,"git":%s,"rustc":%s,"version":%s}\n' \
    "$cpu_ns" "$peak_kib" "$cores" "$memory_mib" "$(json_text "$cpu")" "$(json_text "$git_rev")" \
    "$(json_text "$rustc_version")" "$(json_text "$version")"
}

database=0

# process LOG STORE WORKERS: from the first event to the end, into an empty store.
process() {
  local variables=(KAFKA_TOPIC="$topic" METRICS_ADDR=off) command=("$bin/tidemark-dataflow" run --until-end --workers "$3")
  mkdir -p "$work/data"
  rm -rf -- "$work/data/checkpoints" "$work/data"/tidemark.db*
  variables+=(DATA_DIR="$work/data")
  if [[ $1 == kafka ]]; then variables+=(KAFKA_BOOTSTRAP="$kafka"); fi
  if [[ $2 == postgres ]]; then
    database=$((database + 1))
    psql -qX "$postgres" -c "create database bench$database" >/dev/null
    variables+=(DATABASE_URL="${postgres%/*}/bench$database")
  fi
  measure env "${variables[@]}" "${command[@]}"
  sed 's/^/          /' "$work/out" >&2
  report until-end "$1" "$2" "$3"
}

say "command   tidemark-dataflow run --until-end --workers W, into an empty store; seconds include its start"
for log in "${logs[@]}"; do generate "$log"; done
for log in "${logs[@]}"; do
  for store in "${stores[@]}"; do
    for workers in "${worker_counts[@]}"; do
      for ((turn = 0; turn < repeat; turn++)); do process "$log" "$store" "$workers"; done
    done
  done
done
