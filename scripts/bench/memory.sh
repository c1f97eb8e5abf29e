# shellcheck shell=bash
# What is resident: per present viewer, per open window, and all of the dataflow with a real Kafka. Sourced by bench.sh.
# shellcheck disable=SC2154 # variables of common.sh

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

# 1,000 streams and 10,000 viewers: with librdkafka's queues full while catching up, and with a steady rate.
resident_with_kafka() {
  local events=3000000 live_rate=20000 workers=${worker_counts[0]}
  traffic "$events" "1 hour" 1000 10000 4
  say "data      tidemark-generator $(printf '%q ' "${traffic[@]}")"
  generate kafka "$topic"
  process kafka "$topic" postgres "$workers"
  tell "resident while catching up, workers $workers" "$events" memory what=catchup streams=1000 viewers=10000 workers="$workers"
  say "data      tidemark-generator --rate $live_rate --streams 1000 --users 10000, for a minute"
  start_live "$topic.live" "$live_rate" 1000 10000 "$workers"
  sleep 60
  require_running generator "$generator_pid"
  require_running dataflow "$dataflow_pid"
  say "resident at $live_rate events/s: $(($(resident "$dataflow_pid" VmRSS) / 1024)) MiB, peak $(($(resident "$dataflow_pid" VmHWM) / 1024)) MiB"
  record memory what=live rate="$live_rate" streams=1000 viewers=10000 workers="$workers" \
    rss_kib="$(resident "$dataflow_pid" VmRSS)" peak_rss_kib="$(resident "$dataflow_pid" VmHWM)"
}
