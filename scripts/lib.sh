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
    (cd "$root" && cargo build --release --quiet) || die "the build failed (above)"
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
