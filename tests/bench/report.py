"""What a run found: Markdown on stdout as it comes, JSON at the end, each figure beside its limit."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

OK, FAILED, NOT_OFFERED = "ok", "FAILED", "not offered"
UNKNOWN = "unknown"


def _words(argv, cwd=None):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd=cwd)
        return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else UNKNOWN
    except OSError:
        return UNKNOWN


def load():
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def head(args, root):
    """Machine, kernel, date, versions, load: without them no figure means anything."""
    cpu = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    memory = next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    clean = _words(["git", "status", "--porcelain"], root) == UNKNOWN
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {cpu[0] if cpu else 'unknown CPU'}, {int(memory) // 1024} MiB",
        "kernel": platform.release(),
        "bridge": _words([args.bin / "paperbot-mcpd", "version"]),
        "commit": _words(["git", "rev-parse", "--short", "HEAD"], root) + ("" if clean else ", with changes"),
        "rustc": _words(["rustc", "--version"]),
        "python": platform.python_version(),
        "load average at the start": load(),
        "rounds": f"{args.rounds} of {args.seconds} s" + (", QUICK: the figures mean nothing" if args.quick else ""),
    }


class Report:
    def __init__(self, path, head):
        self.path = pathlib.Path(path)
        self.head = head
        self.sections = {}
        self.section = None
        self.say("## Machine\n")
        for name, value in head.items():
            self.say(f"- {name}: {value}")
        self.say("")

    def say(self, line=""):
        print(line, flush=True)

    def begin(self, name, title):
        self.section = {"status": OK, "words": [], "figures": [], "tables": [], "seconds": 0.0}
        self.sections[name] = self.section
        self.began = time.monotonic()
        self.say(f"## {title}\n")

    def note(self, words):
        """A sentence for the reader."""
        self.section["words"].append(words)
        self.say(words + "\n")

    def table(self, header, rows):
        self.section["tables"].append({"header": header, "rows": rows})
        self._print(header, rows)

    def _print(self, header, rows):
        self.say("| " + " | ".join(header) + " |")
        self.say("|" + "---|" * len(header))
        for row in rows:
            self.say("| " + " | ".join(str(cell) for cell in row) + " |")
        self.say("")

    def figure(self, what, value, unit="", limit=None, aim=None, fatal=False):
        """One number beside its limit. `fatal`: over the limit the section has failed, not just missed."""
        held = None if limit is None else value <= limit
        figure = {"what": what, "value": value, "unit": unit, "limit": limit, "aim": aim, "held": held}
        self.section["figures"].append(figure)
        if fatal and held is False:
            self.failed(f"{what}: {_number(value)} {unit}, limit {_number(limit)}")

    def at_least(self, what, value, limit, unit=""):
        """One number that may not be lower than its limit."""
        figure = {"what": what, "value": value, "unit": unit, "limit": f"≥ {_number(limit)}", "aim": None}
        self.section["figures"].append(figure | {"held": value >= limit})

    def equal(self, what, value, wanted):
        """A count that must be exact."""
        figure = {"what": what, "value": value, "unit": "", "limit": f"= {_number(wanted)}", "aim": None}
        self.section["figures"].append(figure | {"held": value == wanted})
        if value != wanted:
            self.failed(f"{what}: {_number(value)} instead of {_number(wanted)}")

    def failed(self, words):
        self.section["status"] = FAILED
        self.note(f"**FAILED**: {words}")

    def not_offered(self, words):
        self.section["status"] = NOT_OFFERED
        self.note(f"**not offered**: {words}")

    def end(self):
        self.section["seconds"] = round(time.monotonic() - self.began, 1)
        if self.section["figures"]:
            self._print(["what", "measured", "limit", "aim", ""], [_row(one) for one in self.section["figures"]])
        self.save()

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"head": self.head, "sections": self.sections}
        self.path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")

    def summary(self):
        """A line for each section; the exit code: 1 when a section failed. A missed limit of speed fails nothing."""
        self.head["load average at the end"] = load()
        self.say("## Summary\n")
        rows = []
        for name, section in self.sections.items():
            limited = [one for one in section["figures"] if one["held"] is not None]
            missed = [f"{one['what']} ({_row(one)[1]}, {_row(one)[2]})" for one in limited if not one["held"]]
            status = section["status"] if section["status"] == OK else f"**{section['status']}**"
            rows.append([name, status, section["seconds"], len(limited) - len(missed), "; ".join(missed) or "-"])
        self._print(["section", "status", "s", "limits held", "limits missed"], rows)
        self.say(f"load average at the end: {load()}; all figures: {self.path}")
        self.save()
        failed = [name for name, section in self.sections.items() if section["status"] == FAILED]
        if failed:
            print(f"bench: FAILED: {', '.join(failed)}", file=sys.stderr)
        return 1 if failed else 0


def _number(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _row(figure):
    unit = f" {figure['unit']}" if figure["unit"] else ""
    limit = figure["limit"]
    bound = "" if limit is None else limit if isinstance(limit, str) else f"≤ {limit:,g}{unit}"
    aim = "" if figure["aim"] is None else f"≤ {figure['aim']:,g}{unit}"
    verdict = {None: "", True: "held", False: "**missed**"}[figure["held"]]
    return [figure["what"], f"{_number(figure['value'])}{unit}", bound, aim, verdict]
