#!/usr/bin/env bash
# Everything `make test` does: sets up what the tests need, checks the form of the code, runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/upstreams/install.sh
scratch=$(mktemp -d /tmp/paperbot-test.XXXXXX)
chmod 755 "$scratch"
trap 'tests/postgres.sh stop "$scratch/postgres"; rm -rf "$scratch"' EXIT
eval "$(tests/postgres.sh start "$scratch/postgres")"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- --deny warnings
tests/deny.sh
RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --locked
# The end-to-end tests run the programs themselves.
cargo build --workspace --bins --locked
cargo test --workspace --locked
