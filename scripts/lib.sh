# shellcheck shell=bash
# What several scripts need. Sourced, never run: it starts nothing and changes nothing by itself.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=${0##*/}

say() {
  printf '%s\n' "$*" >&2
}

die() {
  say "$me: $*"
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# --- programs ---------------------------------------------------------------------------------------------------

# Where cargo puts what it builds: it knows CARGO_TARGET_DIR and its configuration files itself.
target_dir() {
  (cd "$root" && cargo metadata --format-version 1 --no-deps) | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# tls_features: cargo's flag that builds TLS for Kafka into dataflow and generator, where pkg-config and the compiler find OpenSSL and libcurl. TIDEMARK_TLS=yes
# or no decides it instead.
tls_features() {
  case ${TIDEMARK_TLS:-} in
    yes) ;;
    no) return 0 ;;
    '')
      have pkg-config && pkg-config --exists openssl libcurl || return 0
      printf '#include <openssl/ssl.h>\n#include <curl/curl.h>\nint main(void) { return 0; }\n' |
        cc -x c - -lssl -lcrypto -lcurl -o /dev/null 2>/dev/null || return 0
      ;;
    *) die "TIDEMARK_TLS=$TIDEMARK_TLS: allowed: yes, no, or unset (TLS where OpenSSL and libcurl are found)" ;;
  esac
  printf '%s\n' --features=tidemark-dataflow/tls
}

# Builds the release programs and sets `bin` to their directory. TIDEMARK_BIN_DIR names programs that are built already.
build_programs() {
  local program
  if [[ -n ${TIDEMARK_BIN_DIR:-} ]]; then
    bin=$(cd "$TIDEMARK_BIN_DIR" && pwd) || die "TIDEMARK_BIN_DIR=$TIDEMARK_BIN_DIR is not a directory"
  else
    have cargo || die "cargo is not installed: get Rust from https://rustup.rs"
    have cc || die "no C compiler (cc): on Debian and Ubuntu, apt-get install build-essential"
    have make || die "make is not installed: on Debian and Ubuntu, apt-get install build-essential"
    say "building the release programs (minutes the first time, seconds later)"
    # shellcheck disable=SC2046 # no flag, or one without blanks
    (cd "$root" && cargo build --release --quiet $(tls_features)) || die "the build failed (above)"
    bin=$(target_dir)/release
  fi
  for program in tidemark-dataflow tidemark-api tidemark-generator; do
    [[ -x $bin/$program ]] || die "there is no program $bin/$program"
  done
}

# --- processes --------------------------------------------------------------------------------------------------

alive() {
  kill -0 "$1" 2>/dev/null
}

# await SECONDS COMMAND...: true as soon as the command is, false when the time is up.
await() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

gone() {
  local pid
  for pid in "$@"; do
    if alive "$pid"; then return 1; fi
  done
}

# --- ports and HTTP, with nothing but bash ------------------------------------------------------------------------

# port_taken HOST PORT: something listens there.
port_taken() {
  # shellcheck disable=SC2016 # the inner bash expands them
  timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
}

# Below the range that Linux gives to outgoing connections, which would take a port at any moment.
free_port() {
  local port tries
  for ((tries = 0; tries < 100; tries++)); do
    port=$((20000 + RANDOM % 12000))
    if ! port_taken 127.0.0.1 "$port"; then
      printf '%s\n' "$port"
      return 0
    fi
  done
  die "no free port found"
}

# http_get HOST PORT PATH: prints the body of a 200 answer; false for anything else.
http_get() {
  local answer
  # shellcheck disable=SC2016 # the inner bash expands them
  answer=$(timeout 3 bash -c '
    exec 3<>"/dev/tcp/$0/$1" || exit 1
    printf "GET %s HTTP/1.0\r\nHost: %s:%s\r\nConnection: close\r\n\r\n" "$2" "$0" "$1" >&3
    cat <&3' "$1" "$2" "$3" 2>/dev/null) || return 1
  [[ $answer == HTTP/1.?' 200 '* ]] || return 1
  printf '%s\n' "${answer#*$'\r\n\r\n'}"
}

# --- the stack of compose.yaml ------------------------------------------------------------------------------------

# docker compose as the user sees it in the repository: .env, then .env.local; the shell's own variables win.
compose() {
  local files=.env
  if [[ -e $root/.env.local ]]; then files+=,.env.local; fi
  (cd "$root" && COMPOSE_ENV_FILES=${COMPOSE_ENV_FILES:-$files} docker compose "$@")
}

# setting NAME: what compose takes for it.
setting() {
  local file value
  if [[ -n ${!1:-} ]]; then
    printf '%s\n' "${!1}"
    return 0
  fi
  for file in "$root/.env.local" "$root/.env"; do
    value=$(sed -n "s/^$1=//p" "$file" 2>/dev/null | tail -n 1)
    if [[ -n $value ]]; then
      printf '%s\n' "$value"
      return 0
    fi
  done
}

require_engine() {
  have docker || die "no docker here: install Docker, or use \`make run\`, which needs none"
  docker compose version >/dev/null 2>&1 || die "docker has no compose plugin: install docker-compose-plugin (v2.24 or later)"
  timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    die "no Docker engine answers: start it, or look at DOCKER_HOST (${DOCKER_HOST:-unset})"
}

# container SERVICE: its id, also when it has stopped; nothing if it was never made.
container() {
  compose ps --all --quiet "$1" 2>/dev/null | head -n 1
}

# in_kafka TOOL ARGS...: one of Kafka's own tools against the stack's broker, with a heap that fits beside the broker's.
in_kafka() {
  local tool=$1
  shift
  compose exec -T -e KAFKA_HEAP_OPTS=-Xmx96m kafka "/opt/kafka/bin/$tool.sh" --bootstrap-server kafka:9092 "$@" </dev/null
}

# stack_sql STATEMENT: rows with | between columns.
stack_sql() {
  compose exec -T postgres psql -U postgres -d realtime -XAtq -v ON_ERROR_STOP=1 -c "$1" </dev/null
}

# kill_service SERVICE: kill -9 of its process from outside, for a stop by the engine's own commands is no crash to it. Where this
# shell may not, a container that sees the machine's processes may.
kill_service() {
  local id pid
  id=$(container "$1")
  pid=$(docker inspect -f '{{.State.Pid}}' "$id") || return 1
  ((pid > 1)) || return 1
  kill -KILL "$pid" 2>/dev/null ||
    docker run --rm --pid host --user 0 --entrypoint bash "$(docker inspect -f '{{.Image}}' "$id")" -c "kill -KILL $pid"
}

# service_state SERVICE: as in "running healthy", "exited 2", "absent"; a service without a health check is healthy when it runs.
service_state() {
  local id
  id=$(container "$1")
  if [[ -z $id ]]; then
    echo absent
    return 0
  fi
  docker inspect -f '{{.State.Status}} {{if ne .State.Status "running"}}{{.State.ExitCode}}{{else if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}' \
    "$id" 2>/dev/null || echo absent
}

service_restarts() {
  docker inspect -f '{{.RestartCount}}' "$(container "$1")"
}
