#!/usr/bin/env bash
# Hits everything while traffic goes on, and compares every number with a recomputation at the end.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: storm.sh [BLOWS] [--blows KIND,...]   a storm of this many blows (10), on two Kafka brokers and a Postgres of its own
                [--tls]                       the dataflow reaches both by TLS, and the brokers by a login
       storm.sh --recovery [RUNS]            how long it takes from kill -9 to fresh rows (5 times), with a million viewers present
                                             and five million events in the topic; release build, some minutes

kinds of blows (all by default):
  kill         kill -9 of processes (once with checkpoint files lost), of a broker, of Postgres
  takeover     zombies, a second run by mistake, stops, also while a service is away
  pause        SIGSTOP of processes, brokers, Postgres; with 30 blows or more for up to 45 s
  clock        the wall clock of processes steps, by seconds and by minutes, also while they are paused
  network      the way to Postgres or to the brokers is cut, hangs, is slow, forgets
  broker       one of two brokers is out of reach while producers reach it
  descriptors  no descriptor is left; nobody reads standard error
  store        the store goes back to what it held some seconds ago
  retention    records expire that no start needs, and checkpoints are lost; in storms with an even seed, or if it is asked for, and
               then without hours and days

Both print a table. Exit status 0: no number differs, no record that was on time was rejected, no standstill was kept quiet.

  STORM_SEED   decides traffic and blows       (another one each time; it is printed)
  STORM_RATE   events per second               (1500)

Kafka and Postgres need what services.sh says.
TEXT
}

test=nothing_that_happens_changes_a_number
flags=(--nocapture)
profile=()
number=
kinds=
tls=
while (($# > 0)); do
  case $1 in
    -h | --help | help)
      usage
      exit
      ;;
    --recovery)
      test=recovery::fresh_rows_after_a_kill
      flags+=(--ignored)
      profile=(--release)
      ;;
    --tls)
      tls=yes
      ;;
    --blows)
      kinds=${2:-}
      [[ -n $kinds ]] || die "--blows needs kinds, as in --blows pause,clock"
      shift
      ;;
    *)
      number=$1
      if [[ ! $number =~ ^[1-9][0-9]*$ ]]; then
        usage >&2
        exit 2
      fi
      ;;
  esac
  shift
done
for kind in ${kinds//,/ }; do
  [[ $kind =~ ^(kill|takeover|pause|clock|network|broker|descriptors|store|retention)$ ]] ||
    die "'$kind' is no kind of blow; allowed: kill, takeover, pause, clock, network, broker, descriptors, store, retention"
done
have cargo || die "cargo is not installed: get Rust from https://rustup.rs"

cd "$root"
export TIDEMARK_STORM_SEED=${STORM_SEED:-$RANDOM} TIDEMARK_STORM_RATE=${STORM_RATE:-} TIDEMARK_STORM_KINDS=$kinds
export TIDEMARK_STORM_TLS=$tls TIDEMARK_STORM_BLOWS=$number TIDEMARK_STORM_RUNS=$number
# The test starts services of its own; that these are set only says that it may.
export TIDEMARK_TEST_REQUIRE=1
export TIDEMARK_TEST_KAFKA_SH=${TIDEMARK_TEST_KAFKA_SH:-${TIDEMARK_KAFKA_SH:-$root/../shared/kafka/kafka.sh}}
export TIDEMARK_TEST_POSTGRES=${TIDEMARK_TEST_POSTGRES:-of its own}
# /health is asked meanwhile.
cargo build --quiet ${profile[@]+"${profile[@]}"} -p tidemark-api
exec cargo test --quiet ${profile[@]+"${profile[@]}"} -p tidemark-dataflow ${tls:+--features=tls} --test storm -- "${flags[@]}" --exact "$test"
