#!/usr/bin/env bash
# Runs generator, dataflow and api together until Ctrl-C.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: run.sh      (or: make run)

Builds the release programs, runs generator, dataflow and api together, prints the addresses once rows are served, and
stops all three on Ctrl-C. Without any setting, events are in files and metrics in SQLite under ./data; a second run
goes on where the first ended. Every setting of the programs is passed through (tidemark-dataflow --help lists them):

  DATA_DIR          directory of log, store, checkpoints and the programs' own logs   (./data)
  KAFKA_BOOTSTRAP   Kafka as host:port, instead of the file log
  KAFKA__...        a property of the Kafka client, as KAFKA__SECURITY_PROTOCOL=sasl_ssl (docs/connect.md)
  DATABASE_URL      Postgres as postgres://user:password@host:port/database, instead of SQLite
  EVENTS_PER_SEC    rate of the generator; 0 starts no generator                       (20)
  API_ADDR          address of the api                                                 (127.0.0.1:8000)
  METRICS_ADDR      address of the dataflow's own metrics, or off                      (127.0.0.1:9100)
  TIDEMARK_BIN_DIR  directory of programs built before: nothing is built
  TIDEMARK_TLS      yes or no: build TLS to Kafka in or not                            (where OpenSSL and libcurl are found)
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

ready_s=15 # until the first rows are served
stop_s=15  # until a program that was told to stop has ended

# --- settings ---------------------------------------------------------------------------------------------------

have flock || die "flock is not installed: on Debian and Ubuntu, apt-get install util-linux"
data=${DATA_DIR:-$root/data}
mkdir -p "$data/logs" || die "cannot create the data directory $data"
data=$(cd "$data" && pwd)
export DATA_DIR=$data NO_COLOR=1 # the programs' logs go to files

# The generator also knows the brokers as BOOTSTRAP; all three must mean the same log.
export KAFKA_BOOTSTRAP=${KAFKA_BOOTSTRAP:-${BOOTSTRAP:-}}
topic=${KAFKA_TOPIC:-${TOPIC:-stream.events}}
events_per_sec=${EVENTS_PER_SEC:-20}
api_addr=${API_ADDR:-127.0.0.1:8000}
metrics_addr=${METRICS_ADDR:-127.0.0.1:9100}

describe_log() {
  if [[ -n $KAFKA_BOOTSTRAP ]]; then
    printf 'Kafka topic %s at %s\n' "$topic" "$KAFKA_BOOTSTRAP"
  else
    printf 'files in %s (for Kafka set KAFKA_BOOTSTRAP=host:port)\n' "$data/log/$topic"
  fi
}

# Never shows a password.
describe_store() {
  local url=${DATABASE_URL:-${PG_URL:-}} place
  if [[ $url == *://* ]]; then
    place=${url#*://}
    place=${place##*@}
    printf 'Postgres at %s\n' "${place%%\?*}"
  elif [[ -n $url || -n ${DATABASE_URL_FILE:-} || -n ${PG_URL_FILE:-} ]]; then
    printf 'Postgres as DATABASE_URL or its file says\n'
  elif [[ -n ${PG_HOST:-} ]]; then
    printf 'Postgres at %s:%s/%s\n' "$PG_HOST" "${PG_PORT:-5432}" "${PG_DB:-realtime}"
  else
    printf 'SQLite in %s (for Postgres set DATABASE_URL=postgres://user:password@host:port/database)\n' "$data/tidemark.db"
  fi
}

# split_addr NAME HOST:PORT: sets host and port, where a client on this machine reaches it.
split_addr() {
  host=${2%:*}
  port=${2##*:}
  if ! [[ $2 == *:* && $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
    die "$1=$2: must be host:port with a port from 1 to 65535"
  fi
  host=${host#[}
  host=${host%]}
  case $host in
    0.0.0.0) host=127.0.0.1 ;;
    ::) host=::1 ;;
  esac
}

refuse_taken() {
  if port_taken "$host" "$port"; then
    die "port $port on $host is in use by another program: end that, or choose another with $1=host:port"
  fi
}

# --- the programs -----------------------------------------------------------------------------------------------

declare -A pid_of=()

# start NAME PROGRAM ARGS...: its output goes to a file; the run before keeps its own.
start() {
  local name=$1 log=$data/logs/$1.log
  shift
  if [[ -e $log ]]; then mv -f "$log" "$log.1"; fi
  "${apart[@]}" "$@" >"$log" 2>&1 </dev/null &
  pid_of[$name]=$!
}

# A session of their own keeps the terminal's Ctrl-C for this script, which stops them in order; the kernel stops them
# if this script is killed. Both keep the process id.
apart=()
if have setsid; then apart+=(setsid); fi
if have setpriv && setpriv --pdeathsig TERM true 2>/dev/null; then apart+=(setpriv --pdeathsig TERM); fi

# Before the dataflow looks for it. Sending nothing also tells at once whether the brokers can be reached.
create_topic() {
  local said
  said=$(timeout 60 "$bin/tidemark-generator" send /dev/null --create-topic --wait 15s 2>&1) || {
    say "$said"
    die "topic $topic at $KAFKA_BOOTSTRAP cannot be used (above)"
  }
}

show_log() {
  say "$me: the last lines of $data/logs/$1.log:"
  tail -n 20 "$data/logs/$1.log" >&2 || true
}

# Ends the run if a program has ended.
all_run() {
  local name status
  for name in "${!pid_of[@]}"; do
    alive "${pid_of[$name]}" && continue
    status=0
    wait "${pid_of[$name]}" || status=$?
    unset "pid_of[$name]"
    show_log "$name"
    die "$name ended by itself with status $status (its log is above); the others are stopped"
  done
}

# Stops what still runs; the status is 0 only if the user asked for the end and everything ended well.
finish() {
  local status=$? name one
  trap '' INT TERM HUP
  trap - EXIT
  for name in generator dataflow api; do
    if [[ -n ${pid_of[$name]:-} ]]; then kill -TERM "${pid_of[$name]}" 2>/dev/null || true; fi
  done
  if ((${#pid_of[@]} > 0)) && ! await "$stop_s" gone "${pid_of[@]}"; then
    for name in "${!pid_of[@]}"; do
      if alive "${pid_of[$name]}"; then
        say "$me: $name (pid ${pid_of[$name]}) did not end within $stop_s s and is killed"
        kill -KILL "${pid_of[$name]}" 2>/dev/null || true
        status=1
      fi
    done
  fi
  for name in "${!pid_of[@]}"; do
    one=0
    wait "${pid_of[$name]}" 2>/dev/null || one=$?
    # 143: it ended by the signal that it was sent.
    if ((one != 0 && one != 143)); then
      show_log "$name"
      say "$me: $name ended with status $one when it was told to stop"
      status=1
    fi
  done
  if ((status == 0)); then say "stopped; the data is kept in $data"; fi
  exit "$status"
}

serves() {
  all_run
  local body
  body=$(http_get "$host" "$port" "$1") || return 1
  [[ $body =~ $2 ]]
}

# --- the run ----------------------------------------------------------------------------------------------------

# The programs keep the lock too: while any of them lives, no other run and no reset touches their data.
exec 9>>"$data/run.lock"
flock -w 1 9 || die "another run uses $data: stop it first, or set DATA_DIR to another directory"

if [[ ${metrics_addr,,} != off ]]; then
  split_addr METRICS_ADDR "$metrics_addr"
  refuse_taken METRICS_ADDR
fi
split_addr API_ADDR "$api_addr"
refuse_taken API_ADDR

build_programs

say "log    $(describe_log)"
say "store  $(describe_store)"
trap finish EXIT
trap 'exit 0' INT TERM HUP

if [[ $events_per_sec =~ ^0+(\.0*)?$ ]]; then
  say "EVENTS_PER_SEC=$events_per_sec: no generator is started"
else
  if [[ -n $KAFKA_BOOTSTRAP ]]; then
    say "the generator writes made-up events into that topic (EVENTS_PER_SEC=0 starts none)"
    create_topic
  fi
  start generator "$bin/tidemark-generator"
fi
start dataflow "$bin/tidemark-dataflow" run
start api "$bin/tidemark-api"

if [[ $host == *:* ]]; then base=http://[$host]:$port; else base=http://$host:$port; fi
if ! await "$ready_s" serves '/metrics?minutes=10&limit=1' '"rows": *\[ *\{'; then
  if ! serves /health '"ok": *true'; then
    show_log dataflow
    show_log api
    die "$base/health does not say ok after $ready_s s (logs above)"
  fi
  say "no rows of the last 10 minutes after $ready_s s: no events, or a backlog (logs in $data/logs)"
fi

cat <<TEXT
Tidemark is running (Ctrl-C stops it)
  dashboard  $base/
  API docs   $base/docs
  health     $base/health
  logs       $data/logs
  try        curl '$base/metrics?minutes=10&limit=5'
TEXT

while true; do
  all_run
  sleep 0.5
done
