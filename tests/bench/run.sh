#!/usr/bin/env bash
# Measures the bridge against a direct call and against the cheapest broker there can be, in turns.
# PAPERBOT_BENCH_HARNESS names the folder of the load generator and its echo servers (default: ../shared/bench).
# Prints tables; docs/benchmarks.md holds the figures of the last run with machine and date.
set -euo pipefail
cd "$(dirname "$0")/../.."
harness=${PAPERBOT_BENCH_HARNESS:-../shared/bench}
[ -d "$harness" ] || { echo "bench: no load generator at $harness; set PAPERBOT_BENCH_HARNESS" >&2; exit 1; }
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
(cd "$harness" && CARGO_TARGET_DIR="$target/harness" cargo build --release --quiet)
cargo build --release --locked --quiet --package paperbot-api --bin paperbot-mcpd
# Alone, so that no feature of the daemon is linked into the client.
cargo build --release --locked --quiet --package paperbot-cli
python3 tests/bench/bench.py --bin "$target/release" --harness "$target/harness/release" "$@"
cargo bench --quiet --package paperbot-catalog --bench discovery
