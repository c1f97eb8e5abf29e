# shellcheck shell=bash
# Making events, and letting the dataflow process them: what several modes do. Sourced by bench.sh.
# shellcheck disable=SC2034,SC2154 # variables of the other files

# Where the generated traffic begins: in the past, so that nothing of it is ahead of the clock.
traffic_start=2026-01-01T00:00:00Z

# NAME=VALUE... for the generator where it writes to Kafka.
producer=()
# What the generator is started by.
load=()

# traffic EVENTS SPAN STREAMS USERS PARTITIONS: sets `traffic`, the generator's arguments for a backlog.
traffic() {
  traffic=(--rate max --count "$1" --seed 1 --start "$traffic_start" --span "$2" --streams "$3" --users "$4" --partitions "$5")
}

# generate LOG TOPIC: a backlog of `traffic`; measured.
generate() {
  case $1 in
    file) measure env DATA_DIR="$work/data" KAFKA_TOPIC="$2" "$bin/tidemark-generator" "${traffic[@]}" ;;
    kafka)
      topics[$2]=1
      measure env "${producer[@]}" KAFKA_BOOTSTRAP="$kafka" KAFKA_TOPIC="$2" "$bin/tidemark-generator" --create-topic "${traffic[@]}"
      ;;
  esac
}

# process LOG TOPIC STORE WORKERS [NAME=VALUE...]: from the first event to the end, into an empty store; measured.
process() {
  local log=$1 store=$3 variables=(KAFKA_TOPIC="$2" METRICS_ADDR=off DATA_DIR="$work/data" "${@:5}")
  rm -rf -- "$work/data/checkpoints" "$work/data"/tidemark.db*
  if [[ $log == kafka ]]; then variables+=(KAFKA_BOOTSTRAP="$kafka"); fi
  if [[ $store == postgres ]]; then
    new_database
    variables+=(DATABASE_URL="$database_url")
  fi
  measure env "${variables[@]}" "$bin/tidemark-dataflow" run --until-end --workers "$4"
}

# tell WHAT EVENTS NAME=VALUE...: what `measure` found, of so many events: a line for people and one of JSON. Sets `rate` and `cpu_ns`.
tell() {
  rate=$(per "$2" "$seconds" 1)
  cpu_ns=$(per "$cpu_seconds" "$2" 1000000000)
  printf '%-42s %9s events/s  %6s CPU ns/event  %5s MiB peak  %8s s  (%s cores busy elsewhere)\n' \
    "$1" "$rate" "$cpu_ns" "$((peak_kib / 1024))" "$seconds" "$elsewhere" >&2
  record "${@:3}" events="$2" seconds="$seconds" events_per_s="$rate" cpu_ns_per_event="$cpu_ns" peak_rss_kib="$peak_kib" \
    elsewhere_cores="$elsewhere"
}

# start_live TOPIC RATE STREAMS USERS WORKERS: generator and dataflow together, from Kafka into a fresh database, until
# stop_background. Sets dataflow_pid and generator_pid.
start_live() {
  local pid
  new_database
  topics[$1]=1
  in_background generator "${load[@]}" env "${producer[@]}" KAFKA_BOOTSTRAP="$kafka" KAFKA_TOPIC="$1" \
    "$bin/tidemark-generator" --create-topic --partitions 4 --rate "$2" --streams "$3" --users "$4" --seed 1
  generator_pid=$pid
  rm -rf -- "$work/data/checkpoints"
  in_background dataflow env KAFKA_BOOTSTRAP="$kafka" KAFKA_TOPIC="$1" DATABASE_URL="$database_url" DATA_DIR="$work/data" \
    METRICS_ADDR=off RUST_LOG=warn "$bin/tidemark-dataflow" run --workers "$5"
  dataflow_pid=$pid
  await 60 rows_are_there || die "no row after 60 s: $(tail -n 3 "$work/dataflow.log" "$work/generator.log")"
}

rows_are_there() {
  require_running generator "$generator_pid"
  require_running dataflow "$dataflow_pid"
  [[ $(sql "select exists (select from stream_metrics_minute)" 2>/dev/null) == t ]]
}

# Records that the store has.
committed() {
  sql "select coalesce(sum(next_offset), 0) from progress_partitions"
}
