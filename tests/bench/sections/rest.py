"""The daemon before and after load, at rest: nothing may be left."""

import processes

# Children, pipes and sockets may take this long to be gone; idle threads of the runtime go after 10 s.
SETTLE_SECONDS = 30
KEPT = ("files", "threads", "processes")


def at_rest(run, bridge):
    """The facts after a fixed pause, without a connection of our own."""
    bridge.client.close()
    return processes.settled(bridge.pid, lambda now: False, run.settle)


def as_before(report, bridge, before, memory=None):
    """Waits until the daemon is as it was and says what is not. `memory`: RSS allowed, as a factor."""
    bridge.client.close()

    def back(now):
        small = memory is None or now["rss_kib"] <= before["rss_kib"] * memory
        return small and all(now[name] <= before[name] for name in KEPT)

    after = processes.settled(bridge.pid, back, SETTLE_SECONDS)
    for name in KEPT:
        report.figure(f"{name} after, {before[name]:,} before", after[name], limit=before[name], fatal=True)
    if after["files"] > before["files"]:
        report.note(f"files that were not open before: {dict(after['open'] - before['open'])}")
    # The store's pool grows with the busiest moment up to its bound: no leak, but told.
    report.figure(f"files of the store's pool after, {before['pool']} before", after["pool"])
    for name in ("rss_kib", "pss_kib"):
        limit = round(before[name] * memory) if memory else None
        report.figure(f"{name[:3].upper()} after, {before[name]:,} KiB before", after[name], "KiB", limit)
