#!/usr/bin/env bash
# The table program × state × signal: how long each program takes to end, and with which status. Fails if one takes longer than it says.
# A store that stands still is a Postgres: set TIDEMARK_TEST_POSTGRES for it (see scripts/test.sh).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

have cargo || die "cargo is not installed: get Rust from https://rustup.rs"
cargo build --quiet -p tidemark-dataflow -p tidemark-api -p tidemark-generator
exec cargo test --quiet -p tidemark-dataflow --test signals -- --nocapture
