#!/usr/bin/env bash
# Installs the pinned MCP servers the end-to-end tests talk to: npm and PyPI packages by lock file.
set -euo pipefail
cd "$(dirname "$0")"
for program in node npm python3; do
  command -v "$program" >/dev/null || { echo "install.sh: $program is missing: install Node.js 20 or newer and Python 3.10 or newer" >&2; exit 1; }
done
# A stamp of the lock file says whether what is installed is what is pinned.
fresh() { [ -f "$2" ] && [ "$(cat "$2")" = "$(sha256sum "$1")" ]; }
if ! fresh package-lock.json node_modules/.stamp; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  sha256sum package-lock.json > node_modules/.stamp
fi
if ! fresh requirements.lock .venv/.stamp; then
  rm -rf .venv
  python3 -m venv .venv 2>/dev/null || {
    rm -rf .venv
    # Debian ships venv apart from python3.
    sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo apt-get install -y -qq python3-venv >/dev/null
    python3 -m venv .venv
  }
  .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  sha256sum requirements.lock > .venv/.stamp
fi
