# shellcheck shell=bash
# What all benchmarks share: a place of their own, services, measuring a program, and how figures are told. Sourced by bench.sh.
# shellcheck disable=SC2034,SC2154 # variables of lib.sh and for the modes

cores=$(nproc)
repeat=${BENCH_REPEAT:-1}
read -r -a worker_counts <<<"${BENCH_WORKERS:-$(printf '1\n%s\n' "$cores" | sort -un | tr '\n' ' ')}"
broker_java=-XX:ParallelGCThreads=1
longest_s=3600 # the longest that one program may take

# --- a place of its own -----------------------------------------------------------------------------------------

given_kafka=${KAFKA_BOOTSTRAP:-${TIDEMARK_TEST_KAFKA:-}}
if [[ -n $given_kafka ]]; then broker=given; else broker=own; fi
given_postgres=${TIDEMARK_TEST_POSTGRES:-}
kafka=$given_kafka
postgres=$given_postgres
# Nothing of the caller's log or store may be touched or mixed in.
unset KAFKA_BOOTSTRAP BOOTSTRAP KAFKA_TOPIC TOPIC DATABASE_URL DATABASE_URL_FILE PG_URL PG_URL_FILE PG_HOST DATA_DIR PIPELINE
unset "${!GENERATOR_@}" "${!API_@}" EVENTS_PER_SEC STREAM_IDS USER_COUNT CHECKPOINT_DIR TIDEMARK_SERVICES_DIR WORKERS
unset STARTING_OFFSETS PROCESSES PROCESS HOSTFILE KAFKA_PROPERTIES
# To try one out is what a benchmark is for; but the results say so.
settings=
for name in SLICE WATERMARK MAX_AHEAD MAX_FUTURE_SKEW IDLE_AFTER VIEWER_TIMEOUT CHECKPOINT_EVERY ROLLUPS; do
  if [[ -n ${!name:-} ]]; then settings+="${settings:+ }$name=${!name}"; fi
done

place=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$place"
work=$(mktemp -d "$(cd "$place" && pwd)/bench.XXXXXX")
chmod 755 "$work" # Postgres runs as another user
mkdir "$work/data"
topic=tidemark.bench.${work##*.}
declare -A topics=() # those made in Kafka are its keys
databases=0   # made so far
database=     # the newest
running=      # the program that is being measured
background=() # programs that run meanwhile

finish() {
  local status=$? service
  trap '' INT TERM
  trap - EXIT
  stop_background || status=1
  if [[ -n $running ]] && alive "$running"; then # timeout made a group of itself and the program
    kill -TERM -- "-$running" 2>/dev/null || true
    await 10 gone "$running" || kill -KILL -- "-$running" 2>/dev/null || true
  fi
  drop_database || status=1
  for service in kafka postgres; do
    "$root/scripts/services.sh" stop "$work/services-$service" || status=1
  done
  rm -rf -- "$work"
  if [[ -n $given_kafka ]] && ((${#topics[@]} > 0)); then say "these topics stay at $given_kafka: ${!topics[*]}"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# in_background NAME COMMAND...: what it says goes to $work/NAME.out and .log. Sets `pid`.
in_background() {
  local name=$1
  shift
  "$@" >"$work/$name.out" 2>"$work/$name.log" </dev/null &
  pid=$!
  background+=("$pid")
}

# Ends the programs in the background, the newest first.
stop_background() {
  local index pid
  for ((index = ${#background[@]} - 1; index >= 0; index--)); do
    pid=${background[index]}
    kill -TERM "$pid" 2>/dev/null || true
    await 20 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  background=()
}

# require_running NAME PID: it must not have ended by itself.
require_running() {
  if ! alive "$2"; then
    tail -n 20 "$work/$1.log" >&2 || true
    die "$1 ended (above)"
  fi
}

# --- programs and services ----------------------------------------------------------------------------------------

# build_example PACKAGE NAME: its path is then $bin/examples/NAME.
build_example() {
  if [[ -z ${TIDEMARK_BIN_DIR:-} ]]; then
    say "building the example $2"
    (cd "$root" && cargo build --release --quiet -p "$1" --example "$2") || die "the build failed (above)"
  fi
  [[ -x $bin/examples/$2 ]] || die "there is no program $bin/examples/$2"
}

# start_service NAME VARIABLE: prints the variable's value, or nothing if the service cannot be had.
start_service() {
  local exports
  exports=$("$root/scripts/services.sh" start "$work/services-$1" "$1") || return 0
  (eval "$exports" && printf '%s\n' "${!2}")
}

# A broker of our own shares the cores with all that is measured. Several threads of its collector would wait for each other, and the
# broker for them, whenever one of them does not get a core: pauses of up to 0.4 s at 160,000 events/s on two cores.
find_kafka() {
  if [[ -z $kafka ]]; then
    kafka=$(JAVA_TOOL_OPTIONS="$broker_java ${JAVA_TOOL_OPTIONS:-}" start_service kafka TIDEMARK_TEST_KAFKA)
  fi
  [[ -n $kafka ]]
}

find_postgres() {
  if [[ -z $postgres ]]; then
    have psql || die "psql is not installed: apt-get install postgresql-client"
    postgres=$(start_service postgres TIDEMARK_TEST_POSTGRES)
  fi
  [[ -n $postgres ]]
}

# A fresh database in place of the last one; its URL is then $database_url.
new_database() {
  drop_database
  databases=$((databases + 1))
  database=tidemark_bench_$$_$databases
  psql -qX "$postgres" -c "create database $database" >/dev/null
  database_url=${postgres%/*}/$database
  # What the last run left to be written is not this one's to pay.
  psql -qX "$postgres" -c checkpoint
}

drop_database() {
  if [[ -n $database ]]; then psql -qX "$postgres" -c "drop database if exists $database with (force)" >/dev/null; fi
  database=
}

sql() {
  psql -qXAt -v ON_ERROR_STOP=1 "$database_url" -c "$1"
}

# choose VARIABLE WORDS ALLOWED...
choose() {
  local -n chosen=$1
  local one
  read -r -a chosen <<<"$2"
  for one in "${chosen[@]}"; do
    [[ " ${*:3} " == *" $one "* ]] || die "'$one' is none of: ${*:3}"
  done
}

# --- measuring --------------------------------------------------------------------------------------------------

# measure COMMAND...: its output goes to $work/out. Sets seconds, cpu_seconds and peak_kib by GNU time if it is installed,
# else by bash's `times` and the kernel's own record of the peak; and elsewhere, the cores that all else on this machine kept busy
# meanwhile, services and strangers alike.
measure() {
  local before after user system busy from=$EPOCHREALTIME program=(timeout "$longest_s")
  if [[ -x /usr/bin/time ]]; then program+=(/usr/bin/time -f '%e %U %S %M' -o "$work/time"); fi
  times >"$work/times"
  before=$(child_cpu)
  busy=$(busy_ticks)
  "${program[@]}" "$@" >"$work/out" 2>&1 </dev/null &
  running=$!
  # Not a child of this shell, so that its own time is not counted.
  if [[ ! -x /usr/bin/time ]]; then (watch_peak "$running" "$work/peak" &); fi
  if ! wait "$running"; then
    tail -n 20 "$work/out" >&2 || true
    die "failed: $*"
  fi
  running=
  busy=$(($(busy_ticks) - busy))
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
  elsewhere=$(awk -v busy="$busy" -v hz="$(getconf CLK_TCK)" -v own="$cpu_seconds" -v s="$seconds" \
    'BEGIN { cores = s > 0 ? (busy / hz - own) / s : 0; printf "%.2f", (cores > 0 ? cores : 0) }')
}

# Of all cores since the start of the machine: all but idle and waiting for a disk. What a hypervisor took is counted too.
busy_ticks() {
  awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9; exit }' /proc/stat
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
    peak=$(resident "${pid:-none}" VmHWM)
    if [[ -n $peak ]]; then printf '%s\n' "$peak" >"$2"; fi
    sleep 0.05
  done
}

# resident PID FIELD: KiB, by the kernel's VmRSS (now) or VmHWM (the peak).
resident() {
  sed -n "s/^$2:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$1/status" 2>/dev/null || true
}

per() {
  awk -v a="$1" -v b="$2" -v scale="$3" 'BEGIN { printf "%.0f", (b > 0 ? a / b * scale : 0) }'
}

# Samples of repeated runs, by a name.
declare -A samples=()

sample() {
  samples[$1]+=" $2"
}

# paired A B: sets ratio, least and most: the median, the smallest and the largest of the ratios of a sample of A to that of B from the
# same turn. The speed of a shared machine changes from turn to turn; within one it is much the same for both.
paired() {
  # shellcheck disable=SC2086 # numbers, to be taken apart
  read -r ratio least most < <(paste <(printf '%s\n' ${samples[$1]}) <(printf '%s\n' ${samples[$2]}) |
    awk '{ print ($2 > 0 ? $1 / $2 : 0) }' | sort -g | awk '{ all[NR] = $1 } END {
      printf "%.2f %.2f %.2f\n", NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2, all[1], all[NR] }')
}

# The last ratio for people: with its range, if there were several turns.
shown() {
  if ((repeat > 1)); then printf '%s (%s–%s)' "$ratio" "$least" "$most"; else printf '%s' "$ratio"; fi
}

# --- telling ------------------------------------------------------------------------------------------------------

# heading PROGRAM: once the programs are built and the services are there.
heading() {
  git_rev=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
  rustc_version=$(rustc --version 2>/dev/null || echo unknown)
  version=$("$bin/$1" --version 2>/dev/null || echo unknown)
  if [[ -n $postgres ]]; then version+=", Postgres $(psql -qXAt "$postgres" -c 'show server_version')"; fi
  machine_cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  memory_mib=$(awk '/^MemTotal:/ { printf "%d", $2 / 1024 }' /proc/meminfo)
  say "machine   $cores cores, $machine_cpu, $memory_mib MiB, load $(load)"
  say "versions  $version, git $git_rev, $rustc_version"
  if [[ -n $kafka && $broker == own ]]; then say "broker    one node, here, java $broker_java"; fi
  if [[ -n $settings ]]; then say "settings  $settings"; fi
}

# Runnable programs in the last minute: what else went on.
load() {
  cut -d' ' -f1 /proc/loadavg
}

json_text() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

json_value() {
  if [[ $1 =~ ^-?[0-9]+(\.[0-9]+)?$ ]]; then printf '%s' "$1"; else json_text "$1"; fi
}

# record BENCH NAME=VALUE...: one JSON line, and the machine with it. The name of a figure ends in its unit (_per_s, _ns_per_event,
# _kib, _bytes, _ms, _ratio, _cores, or is seconds); all other names say what was measured, and --compare matches by them.
record() {
  local pair line
  line="{\"bench\":\"$1\""
  shift
  for pair in "$@" ${settings:+"settings=$settings"} cores="$cores" memory_mib="$memory_mib" load="$(load)"; do
    line+=",\"${pair%%=*}\":$(json_value "${pair#*=}")"
  done
  # A commit's name can be all digits.
  for pair in cpu="$machine_cpu" git="$git_rev" rustc="$rustc_version" version="$version"; do
    line+=",\"${pair%%=*}\":$(json_text "${pair#*=}")"
  done
  printf '%s}\n' "$line"
}
