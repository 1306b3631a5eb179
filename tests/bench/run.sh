#!/usr/bin/env bash
# Builds what is measured and what measures it, then measures; arguments go to bench.py (`--only calls,soak`, `--quick`).
# PAPERBOT_BENCH_HARNESS names the folder of the load generator and its echo servers (default: ../shared/bench).
# docs/benchmarks.md says what is measured and holds the figures of the last quiet run.
set -euo pipefail
cd "$(dirname "$0")/../.."
harness=${PAPERBOT_BENCH_HARNESS:-../shared/bench}
[ -d "$harness" ] || { echo "bench: no load generator at $harness; set PAPERBOT_BENCH_HARNESS" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}
(cd "$harness" && CARGO_TARGET_DIR="$target/harness" cargo build --release --quiet)
cargo build --profile dist --locked --quiet --package paperbot-api --bin paperbot-mcpd
# Alone, so that no feature of the daemon is linked into the client.
cargo build --profile dist --locked --quiet --package paperbot-cli
cargo build --profile dist --locked --quiet --package paperbot-tests --bin bench-get --bin bench-keyed --bin bench-static
PYTHONDONTWRITEBYTECODE=1 exec python3 tests/bench/bench.py --bin "$target/dist" --harness "$target/harness/release" "$@"
