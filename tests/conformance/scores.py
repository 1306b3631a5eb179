"""What the suites said, what is expected, and the page that tells both.

A score is {scenario: {status: count}}. The expectation file is the floor: it is lowered by hand or not at all."""

import collections
import datetime
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
FLOOR = HERE / "expected.json"
PAGE = HERE.parent.parent / "docs/conformance.md"


def score(results: dict) -> dict:
    return {name: dict(collections.Counter(c["status"] for c in checks or [])) for name, checks in results.items()}


def complaints(results: dict) -> dict:
    """What each failed check of a scenario said."""
    said = {}
    for name, checks in results.items():
        failed = [c for c in checks or [] if c["status"] in ("FAILURE", "WARNING")]
        if failed:
            said[name] = [f"{c['status']} {c['id']}: {c.get('errorMessage') or c['description']}" for c in failed]
    return said


def passed(one: dict) -> int:
    return sum(statuses.get("SUCCESS", 0) for statuses in one.values())


def failed(one: dict) -> int:
    return sum(statuses.get("FAILURE", 0) for statuses in one.values())


def brief(one: dict) -> str:
    words = f"{passed(one)}/{passed(one) + failed(one)}"
    for status in ("WARNING", "SKIPPED"):
        count = sum(statuses.get(status, 0) for statuses in one.values())
        if count:
            words += f", {count} {status.lower()}"
    return words


def load_floor() -> dict:
    return json.loads(FLOOR.read_text()) if FLOOR.exists() else {"cells": {}, "why": {}}


def below(cell: str, one: dict, floor: dict) -> list:
    """The scenarios of a cell that pass fewer checks than the floor says."""
    expected = floor["cells"].get(cell, {})
    return sorted(name for name, count in expected.items() if one.get(name, {}).get("SUCCESS", 0) < count)


def raise_floor(cells: dict, floor: dict):
    """Takes every count that is higher than the floor's. Never lowers one."""
    for cell, one in cells.items():
        expected = floor["cells"].setdefault(cell, {})
        for name, statuses in one.items():
            expected[name] = max(expected.get(name, 0), statuses.get("SUCCESS", 0))
    lines = []
    for cell in sorted(floor["cells"]):
        counts = floor["cells"][cell]
        rows = ",\n".join(f"   {json.dumps(name)}: {counts[name]}" for name in sorted(counts))
        lines.append(f"  {json.dumps(cell)}: {{\n{rows}\n  }}")
    cells_text = ",\n".join(lines)
    why = json.dumps(floor["why"], indent=1, sort_keys=True, ensure_ascii=False)
    FLOOR.write_text(f'{{\n "cells": {{\n{cells_text}\n }},\n "why": {why}\n}}\n')


def reason(name: str, era: str, why: dict) -> str:
    """The most particular sentence there is: of this upstream, of this scenario, of its family."""
    for key in (f"{name} @{era}", name, f"{name.split('-')[0]}-* @{era}"):
        if key in why:
            return why[key]
    return "not explained yet"


def differences(direct: dict, through: dict) -> list:
    """Scenarios that score less through the bridge: (name, direct, through)."""
    rows = []
    for name in sorted(set(direct) | set(through)):
        a, b = direct.get(name, {}), through.get(name, {})
        if b.get("SUCCESS", 0) < a.get("SUCCESS", 0) or b.get("FAILURE", 0) > a.get("FAILURE", 0):
            rows.append((name, brief({name: a}), brief({name: b})))
    return rows


def write_page(servers: list, clients: list, not_offered: list, versions: dict, why: dict):
    """`servers`: (suite, direct name, direct score, through name, through score)."""
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance` (`tests/conformance/run.py --write`); do not edit by hand.",
        f"Last run {datetime.date.today()}: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "The suites are pointed at one fixture server (`conformance-fixture`, on the official Rust SDK) directly, and at",
        "the same server through `/mcp/{server}` of the bridge. The direct score is the yardstick: a gateway cannot pass",
        "what its upstream fails, and should lose nothing of what it passes. `make test` fails when a score through the",
        "bridge sinks below `tests/conformance/expected.json`.",
        "",
        "What the numbers rest on: the fixture is ours, and speaks to clients of each era as a server of that era. To a",
        "client of before 2026-07-28 its tools ask over the connection, those that make tasks just take a while, and one",
        "runs as a task of 2025-11-25 only (that layer is written by hand: the SDK has dropped such tasks). So the rows",
        "with a legacy upstream and a modern client measure what the bridge translates, not what the SDK does.",
        "",
        "## Servers through the bridge",
        "",
        "Checks passed of those that passed or failed.",
        "",
        "| suite | direct to | score | through the bridge to | score |",
        "|---|---|---|---|---|",
    ]
    for suite, direct_name, direct, through_name, through in servers:
        through_brief = brief(through) if through is not None else "not run"
        lines.append(f"| {suite} | {direct_name} | {brief(direct)} | {through_name} | {through_brief} |")
    lines += ["", "### What differs", ""]
    rows = []
    for suite, _, direct, through_name, through in servers:
        for name, a, b in differences(direct, through or {}) if through is not None else []:
            rows.append(f"| {suite} | {through_name} | {name} | {a} | {b} | {reason(name, through_name, why)} |")
    if rows:
        lines += ["| suite | through the bridge to | scenario | direct | through | why |", "|---|---|---|---|---|---|"]
        lines += sorted(set(rows))
    else:
        lines.append("Nothing.")
    lines += ["", "## The bridge as a client", ""]
    lines += ["Each scenario starts a server of its own, which the bridge takes as an upstream and calls. Where the bridge"]
    lines += ["refuses a null that a tool's schema does not allow (http-custom-headers), the caller leaves it out, as told."]
    lines += ["", "| suite | scenario | score | why less |", "|---|---|---|---|"]
    for suite, name, one in clients:
        less = reason(f"client {name}", "", why) if failed(one) else ""
        lines.append(f"| {suite} | {name} | {brief(one)} | {less} |")
    lines += ["", "Not offered yet, and so not run: " + ", ".join(not_offered) + "."]
    PAGE.write_text("\n".join(lines) + "\n")
