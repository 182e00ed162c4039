"""Pictures of results, drawn by matplotlib in an environment of its own: nothing else needs it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from skyward_scripts.bench.catalogue import CHART
from skyward_scripts.bench.environments import InstallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.environments import Environments
    from skyward_scripts.bench.results import Results
    from skyward_scripts.bench.stage import Stage
    from skyward_scripts.bench.workloads import Workload

Bar = tuple[str, str, float, float, float]  # contestant, kind, median, lowest, highest


def panels(results: Results, workloads: Sequence[Workload], entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return one panel per figure: what it shows, and a bar for each contestant, best first."""
    found: list[dict[str, object]] = []
    for workload in workloads:
        showings = results.showings.get(workload.name, {})
        for figure in workload.figures:
            bars: list[Bar] = []
            for entry in entries:
                showing = showings.get(entry.name)
                spread = None if showing is None else showing.spread(figure.name)
                if spread is not None:
                    bars.append((entry.name, entry.kind, spread.median, spread.lowest, spread.highest))
            bars.sort(key=lambda bar: bar[2], reverse=figure.better == "more")
            if bars:
                title = f"{workload.name}: {figure.heading} ({figure.better} is better)"
                found.append({"title": title, "bars": bars})
    return found


def draw(wanted: list[dict[str, object]], path: str, stage: Stage, environments: Environments) -> None:
    """Write a PNG; raises `InstallError` if matplotlib is not to be had or fails."""
    python = environments.python(CHART)
    scratch = stage.scratch()
    data = os.path.join(scratch, "panels.json")
    with open(data, "w", encoding="utf-8") as file:
        json.dump(wanted, file)
    env = {**os.environ, "PYTHONPATH": stage.path, "MPLCONFIGDIR": scratch}
    command = [python, "-m", "skyward_scripts.bench.drawing", data, os.path.abspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise InstallError(f"the chart was not drawn: {done.stderr.strip()}")
