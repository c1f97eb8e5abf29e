# shellcheck shell=bash
# Catching up, beside the ceiling: the same topic consumed, parsed and thrown away. Sourced by bench.sh.
# shellcheck disable=SC2154 # variables of common.sh

catchup() {
  local events=${1:-5000000} log store turn
  choose logs "${BENCH_LOGS:-kafka}" file kafka
  choose stores "${BENCH_STORES:-postgres}" sqlite postgres
  build_programs
  build_example tidemark-dataflow ceiling
  leave_out_what_is_not_there
  heading tidemark-dataflow
  traffic "$events" "${BENCH_SPAN:-1 hour}" 1000 100000 4
  say "data      tidemark-generator $(printf '%q ' "${traffic[@]}")"
  say "command   tidemark-dataflow run --until-end --workers W, into an empty store; ceiling poll|batch: examples/ceiling.rs"
  for log in "${logs[@]}"; do
    generate "$log" "$topic"
    tell "generate -> $log" "$events" generate log="$log"
    # A broker's first reading of a new topic takes twice as long, and who comes first is not to pay for it.
    ceiling "$log" batch
  done
  for ((turn = 0; turn < repeat; turn++)); do
    for log in "${logs[@]}"; do one_turn "$log"; done
  done
  for log in "${logs[@]}"; do
    for store in "${stores[@]}"; do ratios "$log" "$store"; done
  done
}

# Whoever has no Kafka or no Postgres still learns something, unless they asked for just these.
leave_out_what_is_not_there() {
  if [[ " ${logs[*]} " == *' kafka '* ]] && ! find_kafka; then
    say "no Kafka: left out"
    read -r -a logs <<<"$(without kafka "${logs[@]}")"
    if [[ -z ${BENCH_LOGS:-} ]]; then logs=(file); fi
  fi
  if [[ " ${stores[*]} " == *' postgres '* ]] && ! find_postgres; then
    say "no Postgres: left out"
    read -r -a stores <<<"$(without postgres "${stores[@]}")"
    if [[ -z ${BENCH_STORES:-} ]]; then stores=(sqlite); fi
  fi
  ((${#logs[@]} > 0 && ${#stores[@]} > 0)) || die "nothing is left to measure"
}

without() {
  local name=$1 one
  shift
  for one in "$@"; do if [[ $one != "$name" ]]; then printf '%s ' "$one"; fi; done
}

# ceiling LOG WAY: measured.
ceiling() {
  local variables=(KAFKA_TOPIC="$topic" DATA_DIR="$work/data")
  if [[ $1 == kafka ]]; then variables+=(KAFKA_BOOTSTRAP="$kafka"); fi
  measure env "${variables[@]}" "$bin/examples/ceiling" "$2"
  grep -q "^$events records of .* $events of them events" "$work/out" || die "the ceiling read something else: $(<"$work/out")"
}

one_turn() {
  local log=$1 way store workers
  for way in poll batch; do
    if [[ $log/$way == file/poll ]]; then continue; fi
    ceiling "$log" "$way"
    tell "ceiling $way: $log" "$events" ceiling way="$way" log="$log"
    sample "$log $way cpu" "$cpu_ns"
    sample "$log $way wall" "$seconds"
  done
  for store in "${stores[@]}"; do
    for workers in "${worker_counts[@]}"; do
      process "$log" "$topic" "$store" "$workers"
      sed 's/^/          /' "$work/out" >&2
      tell "until-end: $log -> $store, workers $workers" "$events" until-end log="$log" store="$store" workers="$workers"
      sample "$log $store $workers cpu" "$cpu_ns"
      sample "$log $store $workers wall" "$seconds"
    done
  done
}

# ratios LOG STORE: dataflow over ceiling.
ratios() {
  local log=$1 store=$2 workers way of cpu wall line
  for workers in "${worker_counts[@]}"; do
    for way in poll batch; do
      if [[ -z ${samples["$log $way cpu"]:-} ]]; then continue; fi
      of="$log $store $workers"
      line="$log -> $store, workers $workers:"
      paired "$of cpu" "$log $way cpu"
      cpu=$ratio line+=" $(shown) x the CPU and"
      paired "$of wall" "$log $way wall"
      wall=$ratio line+=" $(shown) x the time of ceiling $way"
      say "$line"
      record ratio log="$log" store="$store" workers="$workers" ceiling="$way" events="$events" cpu_ratio="$cpu" wall_ratio="$wall"
    done
  done
}
