"""Memory of held HTTP sessions, and ten thousand of them held idle by one process."""

import collections
import datetime
import random
import time

import generator
import processes
from sections import rest, spread

KIB_PER_SESSION = (50.0, 15.0)
# Sessions called again after the heartbeats.
ASKED_AGAIN = 100
ROOM = 20_000


def held(run, report):
    _memory(run, report)
    _idle(run, report)


def _bridge(run, echo, heartbeat_s):
    config = {
        "limits": run.limits(),
        "sessions": {"max": ROOM, "max_per_user": ROOM, "max_per_workspace": ROOM, "heartbeat_s": heartbeat_s, "idle_s": 0},
        "servers": {"echo": echo.server(isolation="lane")},
    }
    bridge = run.bridge(config)
    bridge.wait_tools("echo", 1)
    # Code, pools and buffers that do not belong to any one session.
    spread.spread(run, bridge, [f"warm{number}" for number in range(20)], _call)
    return bridge


def _memory(run, report):
    echo = generator.Echo(run)
    bridge = _bridge(run, echo, 30)
    before = rest.at_rest(run, bridge)
    seen = echo.stats()
    failures = spread.spread(run, bridge, lanes(run.held), _call)
    after = rest.at_rest(run, bridge)
    spread.none_failed(report, f"{run.held:,} first calls", failures)
    report.equal(f"upstream sessions opened by {run.held:,} lanes", echo.since(seen)["initialize"], run.held)
    for name in ("rss_kib", "pss_kib"):
        each = (after[name] - before[name]) / run.held
        report.figure(f"a held session, {name[:3].upper()}", each, "KiB", *KIB_PER_SESSION)
    run.stop(bridge)


def _idle(run, report):
    echo = generator.Echo(run)
    bridge = _bridge(run, echo, run.heartbeat)
    empty = processes.facts(bridge.pid)
    began = time.monotonic()
    failures = spread.spread(run, bridge, lanes(run.idle), _call)
    report.note(f"{run.idle:,} sessions opened, each with one call, in {time.monotonic() - began:.0f} s.")
    spread.none_failed(report, f"{run.idle:,} first calls", failures)
    seen, cpu, began = echo.stats(), processes.cpu_s(bridge.pid), time.monotonic()
    waits = [_beaten(run, bridge, report, which) for which in ("first", "second")]
    spent, took = processes.cpu_s(bridge.pid) - cpu, time.monotonic() - began
    report.note(
        f"{echo.since(seen)['other']:,} heartbeats in {took:.0f} s, {spent / took * 100:.0f} % of one core (with being asked "
        "for all sessions every second)."
    )
    report.figure(f"a heartbeat of all, every {run.heartbeat} s", max(waits), "s", limit=2.0 * run.heartbeat)
    states = collections.Counter(one["state"] for one in _sessions(bridge))
    report.equal("sessions ready after two heartbeats", states["ready"], run.idle)
    if set(states) - {"ready"}:
        report.note(f"states: {dict(states)}")
    seen = echo.stats()
    again = random.Random(1).sample(lanes(run.idle), min(ASKED_AGAIN, run.idle))
    spread.none_failed(report, f"calls on {len(again)} of them", spread.spread(run, bridge, again, _call))
    after = echo.since(seen)
    report.equal("initialize of those calls", after["initialize"], 0)
    report.equal("calls upstream of those calls", after["tools_call"], len(again))
    now = processes.facts(bridge.pid)
    report.figure(f"memory with {run.idle:,} sessions, RSS", now["rss_kib"] / 1024, "MiB")
    report.figure("each of them, RSS", (now["rss_kib"] - empty["rss_kib"]) / run.idle, "KiB", *KIB_PER_SESSION)
    report.figure("files", now["files"], "")
    report.figure("threads", now["threads"], "")


def lanes(count):
    return [f"l{number}" for number in range(1, count + 1)]


def _beaten(run, bridge, report, which):
    """Waits until every session had a heartbeat answered from now on; how long that took."""
    began, clock = time.monotonic(), datetime.datetime.now(datetime.UTC)
    end = began + 6 * run.heartbeat + 30
    while True:
        pings = [one.get("last_ping") for one in _sessions(bridge)]
        fresh = sum(1 for at in pings if at and datetime.datetime.fromisoformat(at) >= clock)
        if fresh >= run.idle or time.monotonic() > end:
            break
        time.sleep(1)
    report.equal(f"sessions that had a {which} heartbeat answered", fresh, run.idle)
    return time.monotonic() - began


def _sessions(bridge):
    """All sessions of lanes `l…`."""
    found, cursor = [], ""
    while cursor is not None:
        page = bridge.json("GET", f"/v1/sessions?limit=500{cursor}")
        found += [one for one in page["items"] if one.get("lane", "").startswith("l")]
        cursor = f"&cursor={page['next_cursor']}" if page.get("next_cursor") else None
    return found


def _call(client, lane):
    """One call in a lane, its answer checked."""
    message = f"hello from {lane}."
    body = {"ref": "echo.echo", "arguments": {"message": message}, "lane": lane}
    answer = client.json("POST", "/v1/calls", body)
    right = not answer["is_error"] and answer["content"][0]["text"] == message
    return None if right else f"wrong answer in {lane}: {answer}"
