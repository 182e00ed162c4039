"""What a run has found, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.facts import warnings
from skyward_scripts.bench.summary import show_spread, spread
from skyward_scripts.bench.targets import COLUMNS, check, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.results import Results, Showing
    from skyward_scripts.bench.workloads import Workload

Row = tuple[str, ...]


def render(results: Results, workloads: Sequence[Workload], entries: Sequence[Entry], *, quick: bool) -> str:
    """Return the whole report."""
    parts = ["\n".join(head(results.facts, quick=quick))]
    parts += [text for workload in workloads if (text := _workload(results, workload, entries))]
    parts += ["\n".join(lines) for lines in (_legend(results, entries), _failures(results, entries)) if lines]
    parts.append(_targets(results))
    return "\n\n".join(parts)


def head(facts: dict[str, Any], *, quick: bool) -> Iterator[str]:
    """Yield what a reader must know before any figure."""
    versions = ", ".join(f"{name} {text}" for name, text in facts["versions"].items() if text)
    yield f"{facts['date']}  commit {facts['commit'] or 'unknown'}"
    yield f"{facts['cpus']} × {facts['cpu']}, {facts['memory'] / 2**30:.0f} GiB, {facts['system']}"
    yield f"Python {facts['python']}, libzmq {facts['libzmq']}, {versions}"
    yield "Figures are medians of the rounds (lowest–highest)."
    for warning in warnings(facts):
        yield f"Warning: {warning}."
    if quick:
        yield "Warning: a quick run shows that everything works; its sizes are too small for figures to mean anything."


def _workload(results: Results, workload: Workload, entries: Sequence[Entry]) -> str:
    showings = results.showings.get(workload.name, {})
    rows: list[Row] = []
    for entry in entries:
        showing = showings.get(entry.name)
        if showing is not None and showing.turns:
            shown = [_figure(showing, figure.name) for figure in workload.figures]
            rows.append((entry.name, *shown, _counts(showing, "tasks"), _counts(showing, "workers")))
    if not rows:
        return ""
    headings = [figure.heading for figure in workload.figures]
    aims = ", ".join(sorted({f"{figure.better} is better" for figure in workload.figures}))
    return f"{workload.name}: {workload.title} ({aims})\n{table(('', *headings, 'tasks', 'workers'), rows)}"


def _figure(showing: Showing, name: str) -> str:
    found = showing.spread(name)
    return "–" if found is None else show_spread(found)


def _counts(showing: Showing, name: str) -> str:
    """Return how many tasks or workers there were, or from how many to how many."""
    values = list(showing.values(name).values())
    if not values:
        return ""
    _, lowest, highest = spread(values)
    return f"{lowest:,.0f}" if lowest == highest else f"{lowest:,.0f}–{highest:,.0f}"


def _legend(results: Results, entries: Sequence[Entry]) -> list[str]:
    shown = {name for showings in results.showings.values() for name, showing in showings.items() if showing.turns}
    lines = [f"  {entry.name}: {'; '.join((entry.title, *entry.remarks))}" for entry in entries if entry.name in shown]
    return ["Contestants, and what to know before comparing", *lines] if lines else []


def _failures(results: Results, entries: Sequence[Entry]) -> list[str]:
    lines = results.failures(entry.name for entry in entries)
    return ["Failed", *(f"  {line}" for line in lines)] if lines else []


def _targets(results: Results) -> str:
    rows: list[Row] = []
    last = ""
    findings = check(results)
    for finding in findings:
        if finding.workload not in results.showings:
            continue  # nobody has asked for it
        title = "" if finding.target == last else finding.target
        last = finding.target
        rows.append((title, finding.column, finding.bound, finding.measured, finding.verdict))
    sums: list[str] = []
    for column in COLUMNS:
        counts = count(findings, column)
        sums.append(f"{column}: {', '.join(f'{number} {verdict}' for verdict, number in counts.items())}")
    return "\n".join(("Targets", table(("", "column", "bound", "measured", ""), rows), *sums))


def table(headings: Row, rows: Sequence[Row]) -> str:
    """Return rows in columns that are as wide as they need be."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows)]
    return "\n".join(f"  {line}".rstrip() for line in lines)
