"""What a run along curves has found, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward_scripts.bench.report import head, table
from skyward_scripts.bench.summary import show_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward_scripts.bench.curves.points import Curve
    from skyward_scripts.bench.results import Results, Showing
    from skyward_scripts.bench.workloads import Figure


def render(results: Results, curves: Sequence[Curve], *, quick: bool) -> str:
    """Return the whole report."""
    parts = ["\n".join(head(results.facts, quick=quick))]
    parts += [
        f"{curve.name}: {title}\n{_table(results, curve, figures)}"
        for curve in curves
        for title, figures in curve.tables.items()
    ]
    failures = failed(results)
    if failures:
        parts.append("\n".join(("Failed", *(f"  {line}" for line in failures))))
    return "\n\n".join(parts)


def failed(results: Results) -> list[str]:
    """Return a line about each point that has failed."""
    return results.failures({point for showings in results.showings.values() for point in showings})


def _table(results: Results, curve: Curve, figures: Sequence[Figure]) -> str:
    rows = [
        (point, *(_cell(showing, figure.name) for figure in figures), _cell(showing, "tasks"))
        for point, showing in results.showings.get(curve.name, {}).items()
        if showing.turns
    ]
    return table((curve.over, *(figure.heading for figure in figures), "tasks"), rows)


def _cell(showing: Showing, figure: str) -> str:
    found = showing.spread(figure)
    return "–" if found is None else show_spread(found)
