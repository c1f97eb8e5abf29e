#!/usr/bin/env bash
# Kills everything while traffic goes on, and compares every number with a recomputation at the end.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: storm.sh [KILLS]            a storm of so many kills (10), on a Kafka and a Postgres of its own
       storm.sh --recovery [RUNS]  how long it takes from kill -9 to fresh rows (5 times), with a million viewers present and five
                                   million events in the topic; release build, some minutes

Both print a table. Exit status 0: no number differs.

  STORM_SEED   decides traffic and kills       (another one each time; it is printed)
  STORM_RATE   events per second               (1500)

Kafka and Postgres come from services.sh, which says what it needs.
TEXT
}

test=nothing_that_dies_changes_a_number
flags=(--nocapture)
profile=()
case ${1:-} in
  -h | --help | help)
    usage
    exit
    ;;
  --recovery)
    shift
    test=recovery::fresh_rows_after_a_kill
    flags+=(--ignored)
    profile=(--release)
    ;;
esac
number=${1:-}
if [[ -n $number && ! $number =~ ^[1-9][0-9]*$ ]]; then
  usage >&2
  exit 2
fi
have cargo || die "cargo is not installed: get Rust from https://rustup.rs"

cd "$root"
export TIDEMARK_STORM_SEED=${STORM_SEED:-$RANDOM} TIDEMARK_STORM_RATE=${STORM_RATE:-} TIDEMARK_STORM_KILLS=$number TIDEMARK_STORM_RUNS=$number
# The test starts services of its own; that these are set only says that it may.
export TIDEMARK_TEST_REQUIRE=1
export TIDEMARK_TEST_KAFKA_SH=${TIDEMARK_TEST_KAFKA_SH:-${TIDEMARK_KAFKA_SH:-$root/../shared/kafka/kafka.sh}}
export TIDEMARK_TEST_POSTGRES=${TIDEMARK_TEST_POSTGRES:-of its own}
exec cargo test --quiet ${profile[@]+"${profile[@]}"} -p tidemark-dataflow --test storm -- "${flags[@]}" --exact "$test"
