"""Calls through agents against the bridge's own child; a thousand idle agents; how soon a cut line is back."""

import statistics
import time

import agents
import generator
import processes
from sections import pairs, rest

RATIO_AT_1 = 3.0
CALLS_AT_16 = 5000
KIB_PER_AGENT = 30.0
RECONNECT_S = 2.0
# The bridge's own agent ends itself so soon after the bridge.
ORPHAN_S = 1
WARM_AGENTS = 20


def tunnel(run, report):
    _calls(run, report)
    _reconnect(run, report)
    _idle(run, report)


def _rest(bridge, server):
    body = '{"ref":"%s.echo","arguments":@ARGS@}' % server
    return ["--proto", "rest", "--body", body, "--header", bridge.bearer]


def _calls(run, report):
    command = str(run.harness / "echo_stdio")
    hints = {"echo": {"read_only": True}}
    child = {"transport": "stdio", "command": [command], "isolation": "shared", "hints": hints}
    servers = {
        "direct": child,
        "local": child | {"runner": "agent"},
        "remote": {"transport": "tunnel", "agent": "bench", "server": "echo", "hints": hints},
    }
    config = {"limits": run.limits(), "local_agent": {"orphan_s": ORPHAN_S}, "servers": servers}
    bridge = run.bridge(config)
    token = bridge.json("POST", "/v1/agents/tokens", {"agent_id": "bench"})["token"]
    agents.Agent(run, "bench", bridge.address, token, [{"name": "echo", "command": command}])
    for server in servers:
        bridge.wait_tools(server, 1)
        # The session is opened by the first call.
        generator.calls(run, f"{bridge.url}/v1/calls", 1, 0.2, _rest(bridge, server))
    targets = {
        "direct": "the bridge's own child",
        "local": "local agent (`runner: agent`, Unix socket)",
        "remote": "`agent run` (WebSocket)",
    }
    rows = []
    for concurrent in (1, 16):
        rounds = {server: [] for server in targets}
        for _ in range(run.rounds):
            for server, results in rounds.items():
                results.append(_round(run, bridge, server, concurrent))
        direct = rounds["direct"]
        rows += [pairs.row(concurrent, targets[server], results, direct) for server, results in rounds.items()]
        errors = sum(one["errors"] for results in rounds.values() for one in results)
        report.figure(f"errors at {concurrent}", errors, limit=0, fatal=True)
        pairs.first_error(report, f"at {concurrent}", [one for results in rounds.values() for one in results])
        for server in ("local", "remote"):
            if concurrent == 1:
                report.figure(f"p50 / direct at 1, {targets[server]}", pairs.against(rounds[server], direct), "×", RATIO_AT_1)
            else:
                rate = statistics.median(one["rps"] for one in rounds[server])
                report.at_least(f"calls/s at 16, {targets[server]}", rate, CALLS_AT_16)
    report.table(pairs.HEADER, rows)
    run.stop(bridge)
    report.equal("the local agent outlived its bridge for good", _left(bridge), 0)


def _left(bridge):
    """Processes of this bridge once its own agent must have ended itself."""
    end = time.monotonic() + ORPHAN_S + 30
    while time.monotonic() < end:
        # Every one of them has the bridge's directories in its environment or command line.
        left = processes.holding(str(bridge.home))
        if not left:
            return 0
        time.sleep(0.2)
    return len(left)


def _round(run, bridge, server, concurrent):
    cpu = processes.cpu_s(bridge.pid)
    result = generator.calls(run, f"{bridge.url}/v1/calls", concurrent, run.seconds, _rest(bridge, server))
    result["cpu_us"] = pairs.ratio((processes.cpu_s(bridge.pid) - cpu) * 1e6, result["total"])
    return result


def _reconnect(run, report):
    """One cut for many agents at once: each has its first, from good health, as a cut in the wild is."""
    port = processes.free_port()
    bridge = run.bridge({"limits": run.limits(), "servers": {}, "public_url": f"http://127.0.0.1:{port}"})
    loop = agents.Loop()
    gate = agents.Gate(loop, port, int(bridge.address.rpartition(":")[2]))
    names = [f"line-{number:03}" for number in range(run.lines)]
    for name in names:
        token = bridge.json("POST", "/v1/agents/tokens", {"agent_id": name})["token"]
        agents.Agent(run, name, f"127.0.0.1:{port}", token)
    _online(bridge, names, 1)
    began = time.monotonic()
    gate.cut()
    back = _online(bridge, names, 2)
    times = sorted(at - began for at in back.values())
    p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
    report.note(f"{len(times)} agents cut off at once: back after {statistics.median(times):.2f} s (median), {times[-1]:.2f} s (last).")
    report.figure("reconnect after a cut, p95", p95, "s", RECONNECT_S)
    gate.close()
    loop.stop()
    run.stop(bridge)


def _online(bridge, names, epoch):
    """When each was seen online in this epoch."""
    seen, end = {}, time.monotonic() + agents.SECONDS
    while len(seen) < len(names):
        for one in bridge.json("GET", "/v1/agents?limit=500")["items"]:
            if one["status"] == "online" and one["epoch"] >= epoch:
                seen.setdefault(one["agent_id"], time.monotonic())
        if time.monotonic() > end:
            raise RuntimeError(f"{len(names) - len(seen)} of {len(names)} agents never came")
        time.sleep(0.01)
    return seen


def _idle(run, report):
    bridge = run.bridge({"limits": run.limits(), "servers": {}})
    port = int(bridge.address.rpartition(":")[2])
    loop = agents.Loop()
    # Known already: an agent that never comes costs a line in the store, not what is measured here.
    idle = [agents.Idle(*one) for one in agents.tokens(bridge, WARM_AGENTS + run.agents)]
    warm, held = idle[:WARM_AGENTS], idle[WARM_AGENTS:]
    # Code, pools and buffers that do not belong to any one agent.
    _each(loop, warm, lambda one: one.connect(port))
    before = rest.at_rest(run, bridge)
    _each(loop, held, lambda one: one.connect(port))
    after = rest.at_rest(run, bridge)
    for name in ("rss_kib", "pss_kib"):
        each = (after[name] - before[name]) / len(held)
        report.figure(f"an idle agent of {len(held):,}, {name[:3].upper()}", each, "KiB", KIB_PER_AGENT)
    _each(loop, held, _offer)
    offered = rest.at_rest(run, bridge)
    report.figure("the same with one server of one tool, RSS", (offered["rss_kib"] - before["rss_kib"]) / len(held), "KiB")
    report.equal("agents that lost their line meanwhile", sum(1 for one in idle if one.lost), 0)
    _each(loop, idle, lambda one: one.close())
    loop.stop()
    run.stop(bridge)


async def _offer(agent):
    tool = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
    server = {"server": "files", "era": "legacy", "tools": [tool], "capabilities": {"tools": {}}, "protocol_version": "2025-11-25"}
    agent.say("TOOLS", {"generation": 1, "servers": [server]})
    await agent.writer.drain()


def _each(loop, items, work):
    """One after another, so that no burst is measured."""

    async def all_of_them():
        for item in items:
            await work(item)

    loop.run(all_of_them(), agents.SECONDS * 4)
