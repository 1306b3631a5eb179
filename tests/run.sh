#!/usr/bin/env bash
# Everything `make test` does: sets up what the tests need, checks the form of the code, runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
# One build from nothing needs no record for the next edit; it would take gigabytes of disk.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
tests/install.sh
scratch=$(mktemp -d /tmp/paperbot-test.XXXXXX)
chmod 755 "$scratch"
trap 'tests/postgres.sh stop "$scratch/postgres"; rm -rf "$scratch"' EXIT
eval "$(tests/postgres.sh start "$scratch/postgres")"
cargo fmt --all --check
cargo clippy --workspace --all-targets --features paperbot-broker/measuring --locked -- --deny warnings
tests/deny.sh
RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --locked
# The end-to-end tests run the programs themselves: cargo builds them along with the tests.
cargo test --workspace --locked
tests/size.sh
# Last: the scores of the official conformance suites must not sink.
tests/conformance/run.py --quick
