# shellcheck shell=bash
# How fresh the numbers are under a steady load: Kafka, dataflow, Postgres and api together, and a prober beside them. Sourced by bench.sh.
# shellcheck disable=SC2034,SC2154 # variables of the other files

warm_up_s=60
# Of the load's producer, as who writes so much sets it. With batches of 5 ms, not compressed, broker and kernel take twice as much of the
# cores on which all of this runs, and for what the kernel writes of the broker's log Postgres's flush waits. The prober waits for no batch.
producer_properties=${BENCH_PRODUCER:-linger.ms=20 compression.type=lz4}

# The load gives way to what is measured, because nobody's users are on their pipeline's machine: without that it has a third of two cores at
# 400,000 events/s. Whether it comes up to its rate is told.
load_nice=10

freshness() {
  local rate=${1:-} time_s=${2:-60} workers=${worker_counts[0]} turn api at="${1:+$1 events/s}"
  build_programs
  build_example tidemark-generator freshness
  find_kafka || die "freshness is measured with a real Kafka: set TIDEMARK_KAFKA_SH or KAFKA_BOOTSTRAP"
  find_postgres || die "freshness is measured with a real Postgres: apt-get install postgresql"
  heading tidemark-dataflow
  tr ' ' '\n' <<<"$producer_properties" >"$work/producer.properties"
  producer=(KAFKA_PROPERTIES="$work/producer.properties")
  load=(nice -n "$load_nice")
  if [[ -z $rate ]]; then half_of_catchup "$workers"; fi
  say "producer  $producer_properties"
  say "data      nice -n $load_nice tidemark-generator --rate $rate --streams 1000 --users 100000, 4 partitions; workers $workers"
  say "command   examples/freshness.rs --time ${time_s}s, after ${warm_up_s} s: from produce() to readable at /metrics?stream_id=…"
  start_live "$topic.live" "$rate" 1000 100000 "$workers"
  start_api
  sleep "$warm_up_s" # until caches are full, checkpoints are made, and the broker's code is compiled
  for ((turn = 0; turn < repeat; turn++)); do probe "$rate" "$time_s" "$workers"; done
}

# half_of_catchup WORKERS: sets `rate`, from a short backlog.
half_of_catchup() {
  local events=2000000
  traffic "$events" "1 hour" 1000 100000 4
  generate kafka "$topic"
  process kafka "$topic" postgres "$1"
  tell "until-end: kafka -> postgres, workers $1" "$events" until-end log=kafka store=postgres workers="$1"
  rate=$((rate / 2))
}

# Sets `api`.
start_api() {
  local port pid
  port=$(free_port)
  api=http://127.0.0.1:$port
  in_background api env API_ADDR="127.0.0.1:$port" DATABASE_URL="$database_url" RUST_LOG=warn "$bin/tidemark-api"
  await 20 api_answers "$port" "$pid" || die "the api does not answer: $(<"$work/api.log")"
}

api_answers() {
  require_running api "$2"
  http_get 127.0.0.1 "$1" /health >/dev/null
}

probe() {
  local rate=$1 time_s=$2 workers=$3 before after reached left figures
  before=$(committed)
  measure env KAFKA_BOOTSTRAP="$kafka" KAFKA_TOPIC="$topic.live" "$bin/examples/freshness" --api "$api" --time "${time_s}s"
  after=$(committed)
  require_running generator "$generator_pid"
  require_running dataflow "$dataflow_pid"
  reached=$(per "$((after - before))" "$seconds" 1)
  left=$(sql "select sum(end_offset - next_offset) from progress_partitions")
  read -r -a figures < <(tail -n 1 "$work/out")
  say "          asked for $rate events/s, committed $reached events/s; $left records not yet committed at the end"
  if ((reached * 100 < rate * 99)); then say "          the load fell short of its rate: the milliseconds are those of what was committed"; fi
  say "          milliseconds from produce to readable: ${figures[*]}"
  record freshness at="${at:-half of catch-up}" workers="$workers" warm_up="${warm_up_s}s" broker="$broker" producer="$producer_properties" \
    load_nice="$load_nice" asked_per_s="$rate" "${figures[@]}" committed_per_s="$reached" lag_records="$left" rss_kib="$(resident "$dataflow_pid" VmRSS)"
}
