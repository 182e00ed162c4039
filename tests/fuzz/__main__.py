"""The fuzzer's one command: `uv run --group fuzz python -m tests.fuzz --seconds 3600`.

Fuzzes every target for its part of so many seconds of CPU time, then replays what reached new code under
coverage.py. Prints executions, uncaught exceptions and the branches of the parser that were taken; fails if
there was an exception, or if too few were. What it found stays in the directory, and a later run goes on there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.fuzz.measure import measure
from tests.fuzz.targets import TARGETS

PATIENCE: Final = 20  # times its CPU time that a target may take: it is the last to be served on a busy machine
START: Final = 60.0  # seconds that starting and ending one may take
FLOOR: Final = 95.0  # percent of the parser's branches


def fuzz(name: str, directory: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz one target in a process of its own; return its report."""
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("finding-*"):
        old.unlink()
    report = place / "report.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(place), str(seconds), str(seed)]
    with (place / "log").open("w", encoding="utf-8") as log:
        try:
            ended = subprocess.run(
                command, stdout=log, stderr=log, check=False, timeout=START + PATIENCE * seconds
            ).returncode
        except subprocess.TimeoutExpired:
            ended = -1
    found: dict[str, Any] = {"executions": 0, "seconds": 0.0, "findings": {}}
    if report.exists():
        found = json.loads(report.read_text(encoding="utf-8"))
    if ended != 0:  # it hung, took too much memory, or the interpreter itself has failed
        found["findings"][f"the process ended with {ended}; see {place}/log"] = 1
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what bytes from a peer reach.")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of all targets together")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS, action="append", help="this target; may be given again")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"), help="corpora, findings and logs")
    return parser.parse_args(arguments)


def main() -> int:
    """Fuzz, measure, report; return the exit code."""
    options = parse()
    names: list[str] = options.only or list(TARGETS)
    whole = sum(TARGETS[name].share for name in names)

    def work(name: str) -> dict[str, Any]:
        return fuzz(name, options.directory, options.seconds * TARGETS[name].share / whole, options.seed)

    with ThreadPoolExecutor(options.jobs) as pool:
        reports = dict(zip(names, pool.map(work, names), strict=True))
    uncaught = tell(reports)
    corpora = {name: options.directory / name / "corpus" for name in names if TARGETS[name].parses}
    enough = not corpora or covers(corpora, options.directory)
    return 0 if enough and not uncaught else 1


def tell(reports: dict[str, dict[str, Any]]) -> int:
    """Print what the targets have found; return how many exceptions were uncaught."""
    for name, report in reports.items():
        found = report["findings"]
        print(f"{name:10} {report['executions']:10,} executions  {report['seconds']:8.1f} s  {len(found)} findings")
        for cause, count in found.items():
            print(f"    {count:8,} x {cause}")
    executions = sum(report["executions"] for report in reports.values())
    seconds = sum(report["seconds"] for report in reports.values())
    uncaught = sum(sum(report["findings"].values()) for report in reports.values())
    print(f"all        {executions:10,} executions  {seconds:8.1f} s of CPU time  {uncaught:,} uncaught exceptions")
    return uncaught


def covers(corpora: dict[str, Path], directory: Path) -> bool:
    """Print what the corpora take of the parser; return whether that is enough."""
    counts = ", ".join(f"{len(list(corpus.iterdir())):,} of {name}" for name, corpus in corpora.items())
    print(f"branches of the parser, on the seeds and what the fuzzer kept ({counts}):")
    *parts, total = measure(corpora, directory)
    for part in (*parts, total):
        print(f"    {part}")
    return total.percent > FLOOR


if __name__ == "__main__":
    sys.exit(main())
