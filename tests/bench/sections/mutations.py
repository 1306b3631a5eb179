"""Calls of a tool that is not read-only, each with an idempotency key of its own: intent, effect and end on disk."""

import json
import sqlite3
import statistics
import subprocess

import generator

CALLERS = 64
PER_SECOND = 2000.0
BODY = '{"ref":"echo.echo","arguments":{"message":"an effect"}}'


def mutations(run, report):
    echo = generator.Echo(run)
    # What its tool says of itself is nothing, so without a hint it may change things.
    server = echo.server(isolation="shared", hints={})
    config = {"limits": run.limits(), "catalog_max_age_s": 86_400, "servers": {"echo": server}}
    bridge = run.bridge(config)
    bridge.wait_tools("echo", 1)
    argv = [run.bin / "bench-keyed", f"{bridge.url}/v1/calls", CALLERS, run.seconds, BODY, bridge.bearer]
    results = []
    for _ in range(run.rounds):
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=run.seconds * 4 + 60)
        if done.returncode != 0:
            report.failed(f"bench-keyed ended with {done.returncode}: {done.stderr[-400:]}")
            return
        results.append(json.loads(done.stdout))
    rows = [[one["total"], f'{one["rps"]:,.0f}', f'{one["p50_us"] / 1000:.1f}', f'{one["p99_us"] / 1000:.1f}'] for one in results]
    report.table(["calls", "per s", "p50 ms", "p99 ms"], rows)
    report.figure("answers that were no result", sum(one["errors"] for one in results), limit=0, fatal=True)
    rate = statistics.median(one["rps"] for one in results)
    report.at_least("calls that act, keyed, 64 callers", rate, PER_SECOND, "/s")
    _intents(bridge, report, sum(one["total"] for one in results))


def _intents(bridge, report, wanted):
    """Every one of them was written down before it was sent."""
    files = sorted((bridge.home / "data").rglob("*.db"))
    if not files:
        report.failed("no store was found")
        return
    with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True, timeout=20) as store:
        found = store.execute("SELECT count(*) FROM calls WHERE read_only = 0 AND state = 'succeeded'").fetchone()[0]
    if found < wanted:
        report.failed(f"{found} intents for {wanted} calls")
