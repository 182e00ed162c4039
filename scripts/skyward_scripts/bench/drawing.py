"""Draws panels of bars. It is a program of its own, which runs where matplotlib is."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any, Final

COLOURS: Final = {"skyward": "#c1440e", "reference": "#9a9a9a", "peer": "#3b6ea5"}
COLUMNS: Final = 3
WIDTH: Final = 5.5  # inches of a panel
BAR: Final = 0.22  # inches
LEAST: Final = 8  # bars that a panel has room for, so that one alone is no wall


def main(data: str, path: str) -> None:
    """Read panels from a file and write them as a PNG."""
    with open(data, encoding="utf-8") as file:
        panels: list[dict[str, Any]] = json.load(file)
    import_module("matplotlib").use("Agg")
    plot: Any = import_module("matplotlib.pyplot")
    rows = -(-len(panels) // COLUMNS)
    tallest = max(len(panel["bars"]) for panel in panels)
    size = (WIDTH * COLUMNS, rows * (BAR * tallest + 1.0))
    figure, axes = plot.subplots(rows, COLUMNS, figsize=size, squeeze=False)
    places = [place for row in axes for place in row]
    for place, panel in zip(places, panels, strict=False):
        _draw(place, panel)
    for place in places[len(panels) :]:
        place.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _draw(place: Any, panel: dict[str, Any]) -> None:
    bars = panel["bars"]
    medians = [median for _, _, median, _, _ in bars]
    low = [max(0.0, median - lowest) for _, _, median, lowest, _ in bars]
    high = [max(0.0, highest - median) for _, _, median, _, highest in bars]
    colours = [COLOURS[kind] for _, kind, *_ in bars]
    rows = range(len(bars))
    place.barh(rows, medians, xerr=(low, high), color=colours, ecolor="#333333", capsize=2)
    place.set_yticks(rows, [name for name, *_ in bars], fontsize=8)
    place.set_ylim(max(len(bars), LEAST) - 0.5, -0.5)  # best on top
    if min(medians) > 0 and max(medians) > 30 * min(medians):
        place.set_xscale("log")
    place.tick_params(axis="x", labelsize=8)
    place.set_title(panel["title"], fontsize=9)


if __name__ == "__main__":
    main(*sys.argv[1:])
