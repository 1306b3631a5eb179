#!/usr/bin/env python3
"""Runs the pinned conformance suites directly at our fixture and through the bridge, in every pair of eras.

`run.py` everything; `--quick` what `make test` needs (only through the bridge); `--direct` only the fixture;
`--write` writes docs/conformance.md and raises tests/conformance/expected.json; `--verbose` says what failed.
Exits with 1 when a scenario scores less through the bridge than expected.json says. Python 3.10, no packages."""

import argparse
import json
import sys

import passthrough
import processes
import scores

LEGACY, MODERN = "2025-11-25", "2026-07-28"
# Name: (folder of the suite, its arguments, the era the suite's client speaks, part of --quick).
SUITES = {
    "0.1 active": ("released", ["--suite", "active"], "legacy", False),
    "0.1 all": ("released", ["--suite", "all"], "legacy", True),
    f"0.2 {LEGACY}": ("next", ["--suite", "all", "--spec-version", LEGACY], "legacy", True),
    f"0.2 {MODERN}": ("next", ["--suite", "all", "--spec-version", MODERN], "modern", False),
    f"0.2 requirements {MODERN}": ("next", ["--requirements", MODERN], "modern", True),
}
# (folder, arguments, scenarios). The auth scenarios wait for upstream OAuth.
CLIENT_SUITES = {
    "0.1": ("released", [], ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"]),
    f"0.2 {LEGACY}": (
        "next",
        ["--spec-version", LEGACY],
        ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry",
         "json-schema-2020-12-preservation"],
    ),
    f"0.2 {MODERN}": (
        "next",
        ["--spec-version", MODERN],
        ["tools_call", "request-metadata", "http-standard-headers", "http-custom-headers", "http-invalid-tool-headers",
         "json-schema-ref-no-deref", "json-schema-2020-12-preservation", "sep-2322-client-request-state"],
    ),
}
NOT_OFFERED = ["`auth/*` (upstream OAuth)", "`sep-2640-client-*` (skills)"]


def say(cell: str, results: dict, verbose: bool) -> dict:
    one = scores.score(results)
    print(f"{cell}: {scores.brief(one)}", flush=True)
    if verbose:
        for name, said in scores.complaints(results).items():
            print("\n".join([f"    {name}"] + [f"      {line}" for line in said]), flush=True)
    return one


def server_score(suite: str, url: str, verbose: bool, cell: str) -> dict:
    folder, arguments, _, _ = SUITES[suite]
    return say(cell, processes.run_suite(folder, ["server", "--url", url, *arguments]), verbose)


def asked_again(suite: str, url: str, cell: str, one: dict, floor: dict) -> list:
    """The suites wait fixed times, which a busy machine exceeds: what falls short is asked once more."""
    folder, arguments, _, _ = SUITES[suite]
    version = [] if folder == "released" else ["--spec-version", MODERN if MODERN in suite else LEGACY]
    for name in scores.below(cell, one, floor):
        print(f"  {name} falls short: asking once more", flush=True)
        again = processes.run_suite(folder, ["server", "--url", url, "--scenario", name, *version])
        one[name] = scores.score(again).get(name, {})
    return scores.below(cell, one, floor)


def direct_scores(chosen: list, verbose: bool) -> dict:
    """{(suite, era of the fixture): score}: in both eras at once, and in the suite's own alone."""
    found = {}
    for era in ("both", "legacy", "modern"):
        fixture = processes.Fixture(era)
        try:
            for suite in chosen:
                if era in ("both", SUITES[suite][2]):
                    cell = f"{suite}, direct to {era}"
                    found[(suite, era)] = server_score(suite, fixture.url, verbose, cell)
        finally:
            fixture.close()
    return found


def through_scores(chosen: list, verbose: bool, floor: dict) -> tuple:
    """{(suite, era of the upstream): score} and what sank below the floor."""
    fixtures = {era: processes.Fixture(era) for era in ("legacy", "modern")}
    bridge = processes.Bridge({era: fixture.url for era, fixture in fixtures.items()})
    proxy = passthrough.Passthrough(bridge.authority, bridge.key)
    found, sunk = {}, []
    try:
        for suite in chosen:
            for era in fixtures:
                cell = f"{suite}, through to {era}"
                url = f"http://{proxy.own}/mcp/{era}"
                one = server_score(suite, url, verbose, cell)
                sunk += [f"{cell}: {name}" for name in asked_again(suite, url, cell, one, floor)]
                found[(suite, era)] = one
    finally:
        proxy.close()
        bridge.close()
        for fixture in fixtures.values():
            fixture.close()
    return found, sunk


def client_scores(verbose: bool, floor: dict) -> tuple:
    """(suite, scenario, score) and what sank: the bridge is the client, driven by `conformance-client`."""
    command = processes.built("conformance-client")
    found, sunk = [], []
    for suite, (folder, arguments, names) in CLIENT_SUITES.items():
        for name in names:
            run = ["client", "--command", command, "--timeout", "60000", "--scenario", name, *arguments]
            expected = floor["cells"].get(f"client {suite}", {}).get(name, 0)
            one = say(f"client {suite}, {name}", processes.run_suite(folder, run), verbose)
            if scores.passed(one) < expected:
                one = say(f"  {name} falls short, once more", processes.run_suite(folder, run), verbose)
            if scores.passed(one) < expected:
                sunk.append(f"client {suite}: {name}")
            found.append((suite, name, one))
    return found, sunk


def versions() -> dict:
    found = {}
    for folder in ("released", "next"):
        package = processes.HERE / folder / "node_modules/@modelcontextprotocol/conformance/package.json"
        found[f"suite ({folder})"] = json.loads(package.read_text())["version"]
    lock = (processes.ROOT / "Cargo.lock").read_text()
    found["rmcp (the fixture's SDK)"] = lock.split('name = "rmcp"\nversion = "')[1].split('"')[0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--quick", "--direct", "--write", "--verbose"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write needs the direct scores, which --quick leaves out")
    chosen = [suite for suite in SUITES if SUITES[suite][3] or not options.quick]
    floor = scores.load_floor()
    direct = {} if options.quick else direct_scores(chosen, options.verbose)
    if options.direct:
        return 0
    through, sunk = through_scores(chosen, options.verbose, floor)
    clients, sunk_clients = client_scores(options.verbose, floor)
    sunk += sunk_clients
    cells = {f"{suite}, through to {era}": one for (suite, era), one in through.items()}
    for suite, name, one in clients:
        cell = f"client {suite}"
        cells.setdefault(cell, {})[name] = {"SUCCESS": scores.passed(one), "FAILURE": scores.failed(one)}
    if options.write:
        scores.raise_floor(cells, floor)
        rows = []
        for suite in chosen:
            own = SUITES[suite][2]
            for era in ("legacy", "modern"):
                # A client of the other era has no direct way to this upstream: the fixture in both eras stands in.
                yardstick = own if era == own else "both"
                rows.append((suite, yardstick, direct[(suite, yardstick)], era, through.get((suite, era))))
        scores.write_page(rows, clients, NOT_OFFERED, versions(), floor["why"])
    for line in sunk:
        print(f"sank below expected.json: {line}", file=sys.stderr)
    return 1 if sunk else 0


if __name__ == "__main__":
    sys.exit(main())
