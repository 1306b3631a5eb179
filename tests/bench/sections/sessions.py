"""Opening and closing: ten thousand stdio sessions leave no process, descriptor, thread or memory."""

import shutil
import time

import processes
from sections import rest, spread

# Memory after the cycles against memory after the warm-up.
MEMORY = 1.10


def sessions(run, report):
    # A name of its own, so that a child that lost its parent is still found.
    program = run.work / "echo_stdio"
    shutil.copy(run.harness / "echo_stdio", program)
    echo = {"transport": "stdio", "command": [str(program)], "isolation": "lane"}
    bridge = run.bridge({"limits": run.limits(), "servers": {"echo": echo}})
    bridge.wait_tools("echo", 1)
    warm = spread.spread(run, bridge, range(run.warm_cycles), cycle)
    spread.none_failed(report, f"{run.warm_cycles} cycles to warm up", warm)
    before = rest.at_rest(run, bridge)
    began = time.monotonic()
    numbers = range(run.warm_cycles, run.warm_cycles + run.cycles)
    failures = spread.spread(run, bridge, numbers, cycle)
    took = time.monotonic() - began
    report.note(f"{run.cycles:,} cycles, {spread.WORKERS} at once, in {took:.0f} s: {run.cycles / took:.0f}/s.")
    spread.none_failed(report, f"{run.cycles:,} cycles", failures)
    rest.as_before(report, bridge, before, MEMORY)
    lanes = [one for one in bridge.json("GET", "/v1/sessions?limit=500")["items"] if one.get("lane")]
    report.equal("sessions left in the list", len(lanes), 0)
    left = [pid for pid in processes.holding(str(program)) if pid not in processes.tree(bridge.pid)]
    report.equal("children that lost their parent", len(left), 0)


def cycle(client, number):
    """Opens and closes one session, in a lane of its own."""
    opened = client.json("POST", "/v1/sessions", {"server": "echo", "lane": f"c{number}"})
    client.json("DELETE", f"/v1/sessions/{opened['session_id']}")
    return None if opened["state"] == "ready" else f"opened {opened['state']}"
