"""REST calls over one HTTP upstream: latency against direct and the floor, CPU, errors, upstream traffic; the soak."""

import sqlite3
import time

import generator
import processes
from sections import pairs, rest

# Proposed with the peers' figures, not in the contract: each caller at 64 may open one connection upstream.
CONNECTIONS = 64
# A refresh by the catalogue's age is no request of a call; it must not fall into a run.
CATALOG_MAX_AGE_S = 86_400
# Rows behind their answers: the writer may be this late.
ROWS_SECONDS = 30


def _bridge(run, echo):
    config = {
        "limits": run.limits(),
        "catalog_max_age_s": CATALOG_MAX_AGE_S,
        "servers": {"echo": echo.server(isolation="shared")},
    }
    bridge = run.bridge(config)
    bridge.wait_tools("echo", 1)
    # The session is opened by the first call.
    generator.calls(run, f"{bridge.url}/v1/calls", 1, 0.2, generator.rest(bridge))
    return bridge


def calls(run, report):
    echo = generator.Echo(run)
    floor = generator.Floor(run, echo)
    bridge = _bridge(run, echo)
    targets = [
        pairs.Target("direct", echo.url),
        pairs.Target("floor", floor.url, generator.FLOOR_REST, floor.pid),
        pairs.Target("ours", f"{bridge.url}/v1/calls", generator.rest(bridge), bridge.pid),
    ]
    rows = []
    for concurrent in pairs.CONCURRENT:
        rounds = pairs.in_turns(run, targets, concurrent, echo)
        rows += [pairs.row(concurrent, name, results, rounds["direct"]) for name, results in rounds.items()]
        pairs.figures(report, concurrent, rounds)
        if concurrent == CONNECTIONS:
            opened = max(one["upstream"]["conns"] for one in rounds["ours"])
            report.figure(f"connections opened upstream in a round at {concurrent}", opened, "", CONNECTIONS)
    report.table(pairs.HEADER, rows)
    report.figure("memory after the runs, RSS", processes.rss_kib(bridge.pid) / 1024, "MiB")


def soak(run, report):
    echo = generator.Echo(run)
    bridge = _bridge(run, echo)
    # Warm: as many connections and buffers as the run itself will have.
    url, arguments = f"{bridge.url}/v1/calls", generator.rest(bridge)
    generator.calls(run, url, 64, min(run.soak, 5), arguments)
    before = rest.at_rest(run, bridge)
    rows_before, seen_before = _rows(bridge), echo.stats()
    result = generator.calls(run, url, 64, run.soak, arguments)
    result["upstream"] = echo.since(seen_before)
    report.note(
        f"64 callers for {result['secs']} s: {result['total']:,} calls, {result['rps']:,.0f}/s, p50 {result['p50_us']:.0f} µs, "
        f"p99 {result['p99_us']:.0f} µs, longest {result['max_us'] / 1000:.1f} ms."
    )
    pairs.check_answers(report, "soak", [result])
    report.equal("reconnects of the generator", result["reconnects"], 0)
    rest.as_before(report, bridge, before)
    if rows_before is not None and result["errors"] == 0:
        report.equal("rows in the ledger", _written(bridge, rows_before + result["total"]) - rows_before, result["total"])


def _written(bridge, wanted):
    end = time.monotonic() + ROWS_SECONDS
    while (found := _rows(bridge)) < wanted and time.monotonic() < end:
        time.sleep(0.5)
    return found


def _rows(bridge):
    """Calls in the ledger, read beside the daemon; None when the store is not the SQLite of this version."""
    files = sorted((bridge.home / "data").rglob("*.db"))
    if not files:
        return None
    try:
        with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True, timeout=20) as store:
            return store.execute("SELECT count(*) FROM calls").fetchone()[0]
    except sqlite3.Error:
        return None
