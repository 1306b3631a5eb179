"""Start to first answer, and memory at rest, with no servers."""

import statistics
import time

import processes

START_MS = (150.0, 50.0)
IDLE_MIB = (30.0, 15.0)
STARTS = 10
REST_SECONDS = 5


def start(run, report):
    first, again, stops = [], [], []
    for number in range(STARTS):
        # A new home each time: the store is made and the first key generated.
        home = run.home(f"start{number}")
        for times in (first, again):
            bridge = run.bridge({"servers": {}}, home)
            times.append((bridge.first_answer_ms, bridge.first_list_ms))
            began = time.monotonic()
            if not run.stop(bridge):
                report.failed("the daemon did not end within 15 s of SIGTERM")
            stops.append((time.monotonic() - began) * 1000)
    rows = []
    for name, times in (("new directories", first), ("again", again)):
        answers, lists = ([one[at] for one in times] for at in (0, 1))
        cells = [f"{statistics.median(ms):.0f} ({min(ms):.0f}..{max(ms):.0f})" for ms in (answers, lists)]
        rows.append([name, *cells])
        report.figure(f"start to /healthz, {name}, median of {STARTS}", statistics.median(answers), "ms", *START_MS)
        report.figure(f"start to a first list, {name}, median of {STARTS}", statistics.median(lists), "ms", *START_MS)
    report.table(["start", "/healthz ms (min..max)", "first list ms (min..max)"], rows)
    report.figure("SIGTERM to the end, median", statistics.median(stops), "ms")
    bridge = run.bridge({"servers": {}})
    time.sleep(REST_SECONDS)
    report.figure(f"idle after {REST_SECONDS} s, RSS", processes.rss_kib(bridge.pid) / 1024, "MiB", *IDLE_MIB)
    report.figure(f"idle after {REST_SECONDS} s, PSS", processes.pss_kib(bridge.pid) / 1024, "MiB", *IDLE_MIB)
