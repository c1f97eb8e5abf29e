# shellcheck shell=bash
# What is resident: per present viewer, per open window, and all of the dataflow with a real Kafka. Sourced by bench.sh.
# shellcheck disable=SC2034,SC2154 # variables of common.sh, and of functions that read them

memory() {
  local viewers=${1:-10000000}
  build_programs
  build_example tidemark-dataflow memory
  # For what is printed; the rest can do without them.
  find_kafka || say "no Kafka: the dataflow's own memory is not measured"
  find_postgres || say "no Postgres: the dataflow's own memory is not measured"
  heading tidemark-dataflow
  grown viewers "$viewers" 1000
  grown windows 240 10000
  if [[ -n $kafka && -n $postgres ]]; then
    resident_with_kafka
  fi
}

# grown WHAT NUMBER STREAMS
grown() {
  local figures
  say "command   examples/memory.rs $1 $2 $3"
  measure "$bin/examples/memory" "$@"
  read -r -a figures < <(tail -n 1 "$work/out")
  say "          ${figures[*]}"
  record memory what="$1" number="$2" streams="$3" "${figures[@]:2}" peak_rss_kib="$peak_kib"
}

# 1,000 streams and 10,000 viewers: while catching up with librdkafka's queues full, and with a steady rate.
resident_with_kafka() {
  local events=3000000 workers=${worker_counts[0]}
  traffic "$events" "1 hour" 1000 10000 4
  say "data      tidemark-generator $(printf '%q ' "${traffic[@]}")"
  generate kafka "$topic"
  process kafka "$topic" postgres "$workers"
  tell "resident while catching up, workers $workers" "$events" memory what=catchup streams=1000 viewers=10000 workers="$workers"
  steady 1000 "$workers"
  steady 2000 "$workers"
}

# steady RATE WORKERS: twelve minutes of traffic that end now, so that all windows are open that ever are, then a minute at that rate.
steady() {
  local topic=$topic.$1 traffic_start
  traffic_start=$(date --utc --date='-12 minutes' +%FT%TZ)
  traffic "$(($1 * 720))" "12 minutes" 1000 10000 4
  say "data      tidemark-generator $(printf '%q ' "${traffic[@]}"), then --rate $1 --streams 1000 --users 10000 for a minute"
  generate kafka "$topic"
  start_live "$topic" "$1" 1000 10000 "$2"
  sleep 60
  require_running generator "$generator_pid"
  require_running dataflow "$dataflow_pid"
  say "resident at $1 events/s: $(($(resident "$dataflow_pid" VmRSS) / 1024)) MiB, peak $(($(resident "$dataflow_pid" VmHWM) / 1024)) MiB"
  record memory what=live rate="$1" streams=1000 viewers=10000 workers="$2" \
    rss_kib="$(resident "$dataflow_pid" VmRSS)" peak_rss_kib="$(resident "$dataflow_pid" VmHWM)"
  stop_background
}
