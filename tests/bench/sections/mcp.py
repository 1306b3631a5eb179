"""The MCP face: calls and a long list through `/mcp/{server}` against direct, and clients held over one upstream."""

import statistics

import generator
from sections import pairs
from sections.calls import CATALOG_MAX_AGE_S

TOOLS = 1000
LIST_RATIO = 1.5
KIB_PER_CLIENT = 50


def mcp(run, report):
    echo, big = generator.Echo(run), generator.Echo(run, TOOLS)
    servers = {"echo": echo.server(isolation="shared"), "big": big.server(isolation="shared")}
    bridge = run.bridge({"limits": run.limits(), "catalog_max_age_s": CATALOG_MAX_AGE_S, "servers": servers})
    if not _offered(bridge):
        report.not_offered("`/mcp/echo` answers 404 to GET and to `initialize`")
        return
    bridge.wait_tools("echo", 1)
    bridge.wait_tools("big", TOOLS)
    url, header = f"{bridge.url}/mcp/echo", ["--header", bridge.bearer]
    generator.calls(run, url, 1, 0.2, header)
    _calls(run, report, echo, pairs.Target("ours", url, header, bridge.pid))
    _lists(run, report, big, f"{bridge.url}/mcp/big", header)
    _clients(run, report, echo, bridge)


def _offered(bridge):
    """A face may say 404 to a stream without a session, so `initialize` is tried as well."""
    accept = {"accept": "application/json, text/event-stream"}
    if bridge.client.status("/mcp/echo", accept) != 404:
        return True
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    return bridge.client.ask("POST", "/mcp/echo", body, accept)[0] != 404


def _calls(run, report, echo, ours):
    rows = []
    for concurrent in pairs.CONCURRENT:
        rounds = pairs.in_turns(run, [pairs.Target("direct", echo.url), ours], concurrent, echo)
        rows += [pairs.row(concurrent, name, results, rounds["direct"]) for name, results in rounds.items()]
        pairs.figures(report, concurrent, rounds, pairs.MCP_CPU_US)
    report.table(pairs.HEADER, rows)


def _lists(run, report, big, url, header):
    times = {"direct": [], "ours": []}
    for _ in range(run.rounds):
        for name, target, more in (("direct", big.url, []), ("ours", url, header)):
            one = generator.generate(run, "list", target, ["--n", run.lists, "--dur", 20, *more], 20)
            times[name].append(one)
    for name, results in times.items():
        p50, last = statistics.median(one["p50_us"] for one in results), results[-1]
        report.note(f"tools/list {name}: p50 {p50 / 1000:.2f} ms, {last['bytes']:,} bytes in {last['pages']} pages.")
    report.equal("fewest tools in a list", min(one["tools"] for one in times["ours"]), TOOLS)
    found = pairs.against(times["ours"], times["direct"])
    report.figure(f"list of {TOOLS:,} tools, p50 / direct", found, "×", LIST_RATIO)


def _clients(run, report, echo, bridge):
    """Legacy clients, each with initialize, one call and a standing GET stream where it is granted."""
    before = echo.stats()
    arguments = ["--n", run.clients, "--get", "--call", "--close", "--hold", 3, "--limit", 60]
    held = generator.generate(
        run, "open", f"{bridge.url}/mcp/echo", [*arguments, "--header", bridge.bearer, "--pid", bridge.pid], 60
    )
    report.note(
        f"{held['opened']:,} clients opened in {held['open_secs']} s (p50 {held['open_p50_us'] / 1000:.1f} ms, p99 "
        f"{held['open_p99_us'] / 1000:.1f} ms), {held['with_sid']:,} with a session id, {held['get_streams']:,} with a stream, "
        f"{held['get_refused']:,} refused one."
    )
    if held["first_error"]:
        report.note(f"first error of opening: `{held['first_error']}`")
    report.equal("clients held", held["opened"], run.clients)
    alive, asked = held["probe_alive"].split("/")
    report.equal("of those asked again, alive", int(alive), int(asked))
    report.equal("initialize upstream for all clients", echo.since(before)["initialize"], 0)
    report.figure("a client held, RSS", held["kib_per_session_rss"], "KiB", KIB_PER_CLIENT)
    report.figure("a client held, PSS", held["kib_per_session_pss"], "KiB", KIB_PER_CLIENT)
