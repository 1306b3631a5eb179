"""Closed loops against several targets in turns, and what is made of their rounds."""

import statistics

import generator
import processes

# p50 against direct at so many callers: (must, aim).
RATIO = {1: (2.3, 1.6), 16: (4.0, 2.2), 64: (4.0, 2.2)}
CONCURRENT = tuple(RATIO)
CPU_AT, CPU_US = 16, (60.0, 30.0)
MCP_CPU_US = (50.0,)
HEADER = ["concurrent", "target", "p50 µs (min..max)", "p50 / direct", "p99 µs", "calls/s", "CPU µs/call", "errors"]


class Target:
    """A place calls go to. `pid`: whose CPU is counted."""

    def __init__(self, name, url, arguments=(), pid=None):
        self.name, self.url, self.arguments, self.pid = name, url, list(arguments), pid


def ratio(one, other):
    """0 when there is nothing to divide: a run in which nothing succeeded."""
    return one / other if other else 0.0


def round_of(run, target, concurrent, echo):
    """One run against one target, with the upstream's counters and the target's CPU around it."""
    cpu = processes.cpu_s(target.pid) if target.pid else 0.0
    before = echo.stats()
    result = generator.calls(run, target.url, concurrent, run.seconds, target.arguments)
    result["upstream"] = echo.since(before)
    spent = processes.cpu_s(target.pid) - cpu if target.pid else 0.0
    result["cpu_us"] = ratio(spent * 1e6, result["total"])
    return result


def in_turns(run, targets, concurrent, echo):
    """Rounds of all targets: {name: [result…]}."""
    rounds = {target.name: [] for target in targets}
    for _ in range(run.rounds):
        for target in targets:
            rounds[target.name].append(round_of(run, target, concurrent, echo))
    return rounds


def median(results, name):
    return statistics.median(one[name] for one in results)


def against(results, direct, name="p50_us"):
    """The median of the ratios of each round's pair, not the ratio of medians."""
    return statistics.median(ratio(one[name], other[name]) for one, other in zip(results, direct))


def row(concurrent, name, results, direct):
    p50 = [one["p50_us"] for one in results]
    return [
        concurrent,
        name,
        f"{statistics.median(p50):.0f} ({min(p50):.0f}..{max(p50):.0f})",
        f"{against(results, direct):.2f}×",
        f"{median(results, 'p99_us'):.0f}",
        f"{median(results, 'rps'):.0f}",
        f"{median(results, 'cpu_us'):.0f}" if any(one["cpu_us"] for one in results) else "-",
        sum(one["errors"] for one in results),
    ]


def figures(report, concurrent, rounds, cpu_us=CPU_US):
    """What the contract says of calls at so many callers."""
    ours, direct = rounds["ours"], rounds["direct"]
    if all(one["n"] and not one["errors"] for results in rounds.values() for one in results):
        must, aim = RATIO[concurrent]
        report.figure(f"p50 / direct at {concurrent}", against(ours, direct), "×", must, aim)
        if concurrent == CPU_AT:
            report.figure(f"CPU a call at {CPU_AT}", median(ours, "cpu_us"), "µs", *cpu_us)
    else:
        # Callers who are refused do not wait, and too many refusals end a caller: that is no speed.
        report.failed(f"errors or silence at {concurrent}: no figures of speed")
    others = sum(one["errors"] for name, results in rounds.items() if name != "ours" for one in results)
    if others:
        report.failed(f"{others} errors of direct and floor at {concurrent}: the yardstick is bent")
    check_answers(report, f"{concurrent} concurrent", ours)


def first_error(report, what, results):
    """Tells what the first answer was that was none."""
    first = next((one["first_error"] for one in results if one["first_error"]), None)
    if first:
        report.note(f"first error, {what}: `{first}`")


def check_answers(report, what, results):
    """No error, and the upstream saw each call once and nothing else."""
    errors = sum(one["errors"] for one in results)
    report.figure(f"errors, {what}", errors, limit=0, fatal=True)
    first_error(report, what, results)
    handshakes = sum(one["upstream"]["initialize"] for one in results)
    lists = sum(one["upstream"]["tools_list"] for one in results)
    report.equal(f"initialize upstream, {what}", handshakes, 0)
    report.equal(f"tools/list upstream, {what}", lists, 0)
    if errors == 0:
        sent = sum(one["upstream"]["tools_call"] for one in results)
        report.equal(f"calls upstream, {what}", sent, sum(one["total"] for one in results))
