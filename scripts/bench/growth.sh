# shellcheck shell=bash
# How cost grows: one thing is varied at a time, and every figure is a ratio to the first of its row. Sourced by bench.sh.
# shellcheck disable=SC2154 # variables of common.sh

# The point from which every row departs.
base_streams=1000 base_users=100000 base_partitions=4 base_workers=1 base_slice=100ms
# Less than the events cover, so that windows close.
growth_watermark="2 minutes"

growth() {
  local events=${1:-4000000} store span stores
  build_programs
  choose stores "${BENCH_STORES:-postgres}" sqlite postgres
  ((${#stores[@]} == 1)) || die "BENCH_STORES: growth takes one of: sqlite postgres"
  store=${stores[0]}
  if [[ $store == postgres ]] && ! find_postgres; then
    [[ -z ${BENCH_STORES:-} ]] || die "no Postgres"
    say "no Postgres: into sqlite"
    store=sqlite
  fi
  heading tidemark-dataflow
  span=${BENCH_SPAN:-10 minutes}
  say "data      $events events over $span of event time in the file log; $base_streams streams, $base_users users and $base_partitions partitions"
  say "command   tidemark-dataflow run --until-end --workers $base_workers into $store, SLICE=$base_slice WATERMARK='$growth_watermark', unless the row says otherwise"
  local -A rows=([streams]="100 1000 10000 100000" [users]="10000 100000 1000000 10000000" [partitions]="1 4 16"
    [workers]="1 2" [slice]="50ms 100ms 500ms")
  local what values
  for what in ${BENCH_ROWS:-streams users partitions workers slice}; do
    [[ -n ${rows[$what]:-} ]] || die "BENCH_ROWS: '$what' is none of: ${!rows[*]}"
    read -r -a values <<<"${rows[$what]}"
    row "$events" "$what" "${values[@]}"
  done
}

# row EVENTS WHAT VALUES...: all data first, so that the runs of a repetition stand close together.
row() {
  local events=$1 what=$2 value turn
  shift 2
  for value in "$@"; do make_point "$events" "$what" "$value"; done
  warm_up "$what" "$1"
  for ((turn = 0; turn < repeat; turn++)); do
    for value in "$@"; do run_point "$events" "$what" "$value"; done
  done
  for value in "$@"; do compare_point "$events" "$what" "$value" "$1"; done
  rm -rf -- "$work/data/log"
}

# at WHAT VALUE: sets streams, users, partitions, workers and slice of a point.
at() {
  streams=$base_streams users=$base_users partitions=$base_partitions workers=$base_workers slice=$base_slice
  printf -v "$1" '%s' "$2"
  log_of_point=growth-$streams-$users-$partitions
}

make_point() {
  local streams users partitions workers slice log_of_point
  at "$2" "$3"
  if [[ -d $work/data/log/$log_of_point ]]; then return 0; fi
  traffic "$1" "$span" "$streams" "$users" "$partitions"
  generate file "$log_of_point"
}

# Everything else is compared with the first point: it must not be the one for which caches are still cold.
warm_up() {
  local streams users partitions workers slice log_of_point
  at "$1" "$2"
  process file "$log_of_point" "$store" "$workers" SLICE="$slice" WATERMARK="$growth_watermark"
}

run_point() {
  local events=$1 what=$2 value=$3 streams users partitions workers slice log_of_point rows present=unknown
  at "$what" "$value"
  process file "$log_of_point" "$store" "$workers" SLICE="$slice" WATERMARK="$growth_watermark"
  if [[ $store == postgres ]]; then present=$(sql "select sum(active_viewers) from stream_state"); fi
  rows=$(awk '$1 " " $2 == "rows upserted" { print $3 }' "$work/out")
  tell "growth: $what $value ($present present)" "$events" growth varied="$what" streams="$streams" users="$users" partitions="$partitions" \
    workers="$workers" slice="$slice" store="$store" span="$span" present="$present" rows_per_event_ratio="$(awk -v r="$rows" -v e="$events" 'BEGIN { printf "%.4f", r / e }')"
  sample "$what $value cpu" "$cpu_ns"
  sample "$what $value wall" "$seconds"
  sample "$what $value peak" "$peak_kib"
}

# compare_point EVENTS WHAT VALUE FIRST
compare_point() {
  local what=$2 one="$2 $3" first="$2 $4" cpu wall line
  line=$(printf '%-10s %9s:' "$what" "$3")
  paired "$one cpu" "$first cpu"
  cpu=$ratio line+=" $(shown) x the CPU,"
  paired "$one wall" "$first wall"
  wall=$ratio line+=" $(shown) x the time,"
  paired "$one peak" "$first peak"
  say "$line $(shown) x the memory of $4"
  record growth-ratio varied="$what" value="$3" first="$4" events="$1" store="$store" cpu_ratio="$cpu" wall_ratio="$wall" peak_ratio="$ratio"
}
