#!/usr/bin/env bash
# All tests of the workspace; without arguments also what the optional codec for rows between processes changes. Arguments go to
# `cargo test`.
#
# Tests against a real Kafka and a real Postgres run when these are set, and are skipped otherwise:
#   TIDEMARK_TEST_KAFKA        a broker, host:port
#   TIDEMARK_TEST_KAFKA_SH     kafka.sh, for tests that stop and kill brokers of their own
#   TIDEMARK_TEST_POSTGRES     URL of a superuser; tests make databases of their own
#   TIDEMARK_TEST_REQUIRE=1    a skipped test is a failed test
# TLS to Kafka is built in, and tested, where OpenSSL and libcurl are found; TIDEMARK_TLS=yes or no decides it.
# scripts/services.sh starts both and prints the three lines.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

have cargo || die "cargo is not installed: get Rust from https://rustup.rs"
absent=()
for name in TIDEMARK_TEST_KAFKA TIDEMARK_TEST_POSTGRES; do
  if [[ -z ${!name:-} ]]; then absent+=("$name"); fi
done
if ((${#absent[@]} > 0)); then
  if [[ ${TIDEMARK_TEST_REQUIRE:-} == 1 ]]; then die "TIDEMARK_TEST_REQUIRE=1, but not set: ${absent[*]}"; fi
  say "not set: ${absent[*]}. Their tests are skipped; eval \"\$(scripts/services.sh start)\" sets them"
fi
tls=$(tls_features)
if [[ -z $tls ]]; then say "without TLS to Kafka, and without its tests (OpenSSL or libcurl not found, or TIDEMARK_TLS=no)"; fi
# Most tests wait more than they compute.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
cargo test --workspace ${tls:+"$tls"} "$@"
if (($# == 0)); then
  # What a build without TLS refuses.
  if [[ -n $tls ]]; then cargo test -p tidemark-settings; fi
  # The login to Amazon MSK by IAM; the programs themselves do not differ.
  if [[ -n $tls ]]; then cargo test -p tidemark-generator -p tidemark-settings --features tidemark-generator/msk-iam --lib msk_iam; fi
  # As above, so that nothing is built twice.
  also=${tls:+,tls}
  # The codec's own tests, and two processes that talk by it.
  cargo test -p tidemark-dataflow --features "abomonation$also" --lib exchange::
  cargo test -p tidemark-dataflow --features "abomonation$also" --test cluster two_processes
  # A program that ends at named points of commit and checkpoint.
  cargo test -p tidemark-dataflow --features "failpoints$also" --test fail_points
fi
