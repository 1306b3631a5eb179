#!/usr/bin/env bash
# The thin client stays thin: its release build, without debug info, is at most 12 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
limit_bytes=12000000
# Alone, so that no feature of the daemon is linked into it.
cargo build --quiet --release --locked --package paperbot-cli
size_bytes=$(stat -c %s "${CARGO_TARGET_DIR:-target}/release/paperbot-mcp")
echo "size: paperbot-mcp has $size_bytes of at most $limit_bytes bytes"
[ "$size_bytes" -le "$limit_bytes" ]
