#!/usr/bin/env bash
# A real Kafka and a real Postgres for the tests, private to whoever starts them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: services.sh start [DIR [SERVICE...]]   start them (kafka and postgres by default) and print what to export
       services.sh crash [DIR [SERVICE...]]   end them as a crash would; start brings them back, data and ports as before
       services.sh stop [DIR]                 stop them and delete DIR

services: kafka, postgres, and standby, which copies that postgres and follows it

    eval "$(scripts/services.sh start)" && make test && scripts/services.sh stop

DIR is target/services by default. All listen on loopback only, on free ports; start may be repeated.

  TIDEMARK_KAFKA_SH      the script that runs a Kafka broker       (shared/kafka/kafka.sh beside this repository)
  TIDEMARK_POSTGRES_BIN  directory of initdb and pg_ctl            (the newest in /usr/lib/postgresql, else from PATH)
TEXT
}

start_s=60
mark=.tidemark-services
kafka_sh=${TIDEMARK_KAFKA_SH:-$root/../shared/kafka/kafka.sh}

# --- Postgres ---------------------------------------------------------------------------------------------------

postgres_bin() {
  local dir
  if [[ -n ${TIDEMARK_POSTGRES_BIN:-} ]]; then
    dir=$TIDEMARK_POSTGRES_BIN
  else
    dir=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    if [[ ! -x $dir/initdb ]] && have initdb; then dir=$(dirname "$(command -v initdb)"); fi
  fi
  [[ -x $dir/initdb && -x $dir/pg_ctl ]] || die "no Postgres server found: apt-get install postgresql, or set TIDEMARK_POSTGRES_BIN"
  printf '%s\n' "$dir"
}

# Postgres refuses to run as root: then it runs as the user that its package made.
as_postgres() {
  if ((EUID == 0)); then
    (cd / && setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/ "$@")
  else
    "$@"
  fi
}

# Sets `cluster` to the directory of its data. Under DIR, unless the server's user cannot get there; then on a disk, not in
# memory, so that a commit costs what a commit costs.
find_cluster() {
  if [[ -s $dir/postgres.path ]]; then
    cluster=$(<"$dir/postgres.path")
    return 0
  fi
  if ((EUID == 0)); then
    id postgres >/dev/null 2>&1 || die "Postgres does not run as root and there is no user postgres: apt-get install postgresql"
  fi
  mkdir -p "$dir/postgres"
  if as_postgres test -x "$dir/postgres"; then
    cluster=$dir/postgres
  else
    rmdir "$dir/postgres"
    cluster=$(mktemp -d /var/tmp/tidemark-postgres.XXXXXX)
  fi
  if ((EUID == 0)); then chown postgres: "$cluster"; fi
  printf '%s\n' "$cluster" >"$dir/postgres.path"
}

server_runs() {
  as_postgres "$pg/pg_ctl" -D "$cluster/$1" status >/dev/null 2>&1
}

# The server whose data is in this directory of the cluster; $2.port in DIR has its port.
start_server() {
  local data=$cluster/$1 port tries
  if server_runs "$1"; then return 0; fi
  for ((tries = 1; ; tries++)); do
    # Where it was before a crash: clients look for it there.
    if [[ ! -s $dir/$2.port ]]; then free_port >"$dir/$2.port"; fi
    port=$(<"$dir/$2.port")
    if as_postgres timeout $((start_s + 10)) "$pg/pg_ctl" -D "$data" -l "$cluster/$2.log" -w -t "$start_s" \
      -o "-c listen_addresses=127.0.0.1,::1 -c port=$port -c unix_socket_directories= -c max_connections=200" \
      start >"$dir/pg_ctl.log" 2>&1 </dev/null; then
      return 0
    fi
    rm -f "$dir/$2.port"
    if ((tries == 3)); then
      tail -n 20 "$dir/pg_ctl.log" "$cluster/$2.log" >&2 || true
      die "Postgres did not start (above)"
    fi
  done
}

# postgres_tool NAME ARGS...: one of the server's own tools; what it said is shown only if it fails.
postgres_tool() {
  local log=$dir/$1.log
  as_postgres timeout "$start_s" "$pg/$1" "${@:2}" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "$1 failed (above)"
  }
}

crash_server() {
  local pg cluster
  pg=$(postgres_bin)
  find_cluster
  as_postgres "$pg/pg_ctl" -D "$cluster/$1" -m immediate -w -t 30 stop >/dev/null
}

start_postgres() {
  local pg cluster
  pg=$(postgres_bin)
  find_cluster
  if [[ ! -s $cluster/data/PG_VERSION ]]; then
    postgres_tool initdb -D "$cluster/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync
  fi
  start_server data postgres
  exports+=("TIDEMARK_TEST_POSTGRES=postgres://postgres@127.0.0.1:$(<"$dir/postgres.port")/postgres")
}

crash_postgres() {
  crash_server data
}

start_standby() {
  local pg cluster
  pg=$(postgres_bin)
  find_cluster
  [[ -s $dir/postgres.port ]] || die "a standby needs the postgres that it copies: start that first"
  if [[ ! -s $cluster/standby/PG_VERSION ]]; then
    postgres_tool pg_basebackup -D "$cluster/standby" -R -c fast --no-sync -h 127.0.0.1 -p "$(<"$dir/postgres.port")" -U postgres
  fi
  start_server standby standby
  exports+=("TIDEMARK_TEST_STANDBY=postgres://postgres@127.0.0.1:$(<"$dir/standby.port")/postgres")
}

crash_standby() {
  crash_server standby
}

stop_postgres() {
  local pg cluster data
  [[ -s $dir/postgres.path ]] || return 0
  pg=$(postgres_bin)
  find_cluster
  for data in standby data; do
    if server_runs $data; then
      as_postgres "$pg/pg_ctl" -D "$cluster/$data" -m fast -w -t 30 stop >/dev/null 2>&1 ||
        as_postgres "$pg/pg_ctl" -D "$cluster/$data" -m immediate -w -t 30 stop >/dev/null ||
        die "Postgres in $cluster does not stop"
    fi
  done
  rm -rf -- "$cluster"
}

# --- Kafka ------------------------------------------------------------------------------------------------------

start_kafka() {
  local broker
  [[ -x $kafka_sh ]] ||
    die "no script that runs a Kafka broker at $kafka_sh: set TIDEMARK_KAFKA_SH, or TIDEMARK_TEST_KAFKA to a broker of yours"
  broker=$(TIDEMARK_KAFKA_WAIT=$start_s "$kafka_sh" start "$dir/kafka" 0) || die "Kafka did not start"
  exports+=("TIDEMARK_TEST_KAFKA=$broker" "TIDEMARK_TEST_KAFKA_SH=$(cd "$(dirname "$kafka_sh")" && pwd)/${kafka_sh##*/}")
}

crash_kafka() {
  "$kafka_sh" kill9 "$dir/kafka"
}

stop_kafka() {
  [[ -d $dir/kafka ]] || return 0
  "$kafka_sh" stop "$dir/kafka"
}

# --- the command ------------------------------------------------------------------------------------------------

# Runs as a trap too, where a bare `return` hands on the failure that led there: every return here says its status.
stop() {
  [[ -d $dir ]] || return 0
  [[ -e $dir/$mark ]] || die "$dir was not made by services.sh: it is left alone"
  stop_kafka
  stop_postgres
  rm -rf -- "$dir"
}

# The services that the arguments name, or Kafka and Postgres.
chosen() {
  local service
  services=("$@")
  ((${#services[@]} > 0)) || services=(kafka postgres)
  for service in "${services[@]}"; do
    [[ $service =~ ^(kafka|postgres|standby)$ ]] || die "'$service' is none of kafka, postgres, standby"
  done
}

crash() {
  local service services
  chosen "$@"
  [[ -e $dir/$mark ]] || die "$dir was not made by services.sh: it is left alone"
  for service in "${services[@]}"; do "crash_$service"; done
}

# Of a new directory nothing stays behind when one of them cannot start, and standard output is only what is to be exported.
start() {
  local service services
  chosen "$@"
  if [[ -d $dir && ! -e $dir/$mark && -n $(ls -A "$dir") ]]; then die "$dir is not empty and not of services.sh"; fi
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  # What was there before is somebody's data.
  if [[ ! -e $dir/$mark ]]; then trap 'stop' EXIT; fi
  touch "$dir/$mark"
  trap 'exit 130' INT TERM HUP
  exports=("TIDEMARK_SERVICES_DIR=$dir")
  for service in "${services[@]}"; do "start_$service"; done
  trap - EXIT
  for service in "${exports[@]}"; do printf 'export %q\n' "$service"; done
}

command=${1:-help}
dir=${2:-${TIDEMARK_SERVICES_DIR:-${CARGO_TARGET_DIR:-$root/target}/services}}
shift $(($# < 2 ? $# : 2))
case $command in
  start) start "$@" ;;
  crash) crash "$@" ;;
  stop) stop ;;
  help | -h | --help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
