"""One tenant's calls alone, and while another floods: who floods is refused, and nobody else waits for it."""

import multiprocessing
import time

import bridge as bridges
import generator

# What each user may do; the calm one stays under it, the flood comes at ten times the calm one's pace.
RATE = {"per_s": 50, "burst": 50}
CALM_PER_S = 40
FLOOD_FACTOR = 10
# Of the pace that was meant; a busy machine sends a little less.
PACE_KEPT = 0.8
# Contract: the calm tenant's p99 at most doubles. Below this many microseconds the machine's own noise decides.
P99_FACTOR = 2.0
NOISE_US = 2_000


def fairness(run, report):
    echo = generator.Echo(run)
    servers = {"echo": echo.server(), "echo-b": echo.server() | {"workspace": "calm"}}
    limits = {"rate": {"user": RATE, "global": {"per_s": 100_000, "burst": 100_000}}}
    bridge = run.bridge({"limits": limits, "servers": servers})
    flood_key = _key(bridge, "flood", "default")
    calm_key = _key(bridge, "calm", "calm")
    # Sessions are opened by the first calls.
    for key, server in ((flood_key, "echo"), (calm_key, "echo-b")):
        status, _ = _call(bridges.Client(bridge.address, key), server)
        if status != 200:
            raise RuntimeError(f"the first call of {server}: {status}")
    rows, quiet, loud = [], [], []
    for _ in range(run.rounds):
        alone = _calm(run, bridge, calm_key)
        with _Flood(bridge, flood_key) as flood:
            beside = _calm(run, bridge, calm_key)
        quiet += alone[0]
        loud += beside[0]
        rows.append([_p99(alone[0]), _p99(beside[0]), alone[1] + beside[1], round(flood.per_s), flood.refused, flood.other])
        report.equal("calls of the calm tenant that failed", alone[1] + beside[1], 0)
        report.equal("refusals of the flood without Retry-After, and other failures", flood.other, 0)
        report.at_least("calls a second of the flood", round(flood.per_s), PACE_KEPT * FLOOD_FACTOR * CALM_PER_S)
        report.at_least("calls of the flood that were refused", flood.refused, 1)
    header = ["p99 alone µs", "p99 beside the flood µs", "failed", "flood calls/s", "refused", "other failures"]
    report.table(header, rows)
    before, after = _p99(quiet), _p99(loud)
    limit = max(P99_FACTOR * before, before + NOISE_US)
    report.figure(f"p99 of the calm tenant beside the flood, {before:,} µs alone", after, "µs", limit)


def _key(bridge, user, workspace):
    if workspace != "default":
        # The file's servers made it already, unless this version does not know that.
        bridge.client.ask("POST", "/v1/workspaces", {"workspace": workspace})
    member = {"workspace": workspace, "roles": ["operator"]}
    bridge.json("POST", "/v1/users", {"user": user, "workspaces": [member]})
    return bridge.json("POST", "/v1/keys", {"user": user})["key"]


def _call(client, server):
    body = {"ref": f"{server}.echo", "arguments": {"message": "x"}}
    status, headers, _ = client.ask("POST", "/v1/calls", body)
    return status, headers


def _calm(run, bridge, key):
    """Microseconds of each call at a steady pace, and how many failed."""
    client, taken, failed = bridges.Client(bridge.address, key), [], 0
    began = time.monotonic()
    for number in range(round(run.seconds * CALM_PER_S)):
        wait = began + number / CALM_PER_S - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        at = time.perf_counter()
        status, _ = _call(client, "echo-b")
        taken.append((time.perf_counter() - at) * 1e6)
        failed += status != 200
    client.close()
    return taken, failed


class _Flood:
    """Ten times the pace, from a process of its own: the one that measures must not wait for it."""

    def __init__(self, bridge, key):
        context = multiprocessing.get_context("fork")
        self.stop, self.told = context.Event(), context.Queue()
        self.process = context.Process(target=_flood, args=(bridge.address, key, self.stop, self.told))

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.per_s, self.refused, self.other = self.told.get(timeout=60)
        self.process.join()


def _flood(address, key, stop, told):
    client = bridges.Client(address, key)
    began, number, refused, other = time.monotonic(), 0, 0, 0
    while not stop.is_set():
        wait = began + number / (FLOOD_FACTOR * CALM_PER_S) - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        status, headers = _call(client, "echo")
        patient = status == 429 and int(headers.get("retry-after") or 0) >= 1
        refused += patient
        other += status != 200 and not patient
        number += 1
    client.close()
    told.put((number / (time.monotonic() - began), refused, other))


def _p99(taken):
    ordered = sorted(taken)
    return round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]) if ordered else 0
