"""What a run has found, as values that can be written to a file and read again. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.summary import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Iterable

Turn = dict[str, float]  # figures by name; ``tasks`` and ``workers`` beside them


@dataclass(slots=True)
class Showing:
    """What one contestant has shown in one workload."""

    turns: dict[int, Turn] = field(default_factory=dict[int, Turn])  # by round
    failure: str = ""

    def values(self, figure: str) -> dict[int, float]:
        """Return a figure by round."""
        return {number: turn[figure] for number, turn in self.turns.items() if figure in turn}

    def spread(self, figure: str) -> Spread | None:
        """Return the median of a figure and its range, if it was measured."""
        values = list(self.values(figure).values())
        return spread(values) if values else None


@dataclass(slots=True)
class Results:
    """What a run has found, workload by workload, contestant by contestant."""

    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    showings: dict[str, dict[str, Showing]] = field(default_factory=dict[str, dict[str, Showing]])

    def showing(self, workload: str, contestant: str) -> Showing:
        """Return what a contestant has shown, which may be nothing yet."""
        return self.showings.setdefault(workload, {}).setdefault(contestant, Showing())

    def values(self, workload: str, contestant: str, figure: str) -> dict[int, float]:
        """Return a figure by round, empty if it was not measured."""
        showing = self.showings.get(workload, {}).get(contestant)
        return {} if showing is None else showing.values(figure)

    def failures(self, contestants: Iterable[str]) -> list[str]:
        """Return a line about each failure of these contestants."""
        wanted = set(contestants)
        return [
            f"{workload}: {name}: {showing.failure}"
            for workload, showings in self.showings.items()
            for name, showing in showings.items()
            if showing.failure and name in wanted
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "facts": self.facts,
            "workloads": {
                workload: {name: _plain(showing) for name, showing in showings.items()}
                for workload, showings in self.showings.items()
            },
        }


def _plain(showing: Showing) -> dict[str, Any]:
    figures = {name for turn in showing.turns.values() for name in turn}
    found = {name: showing.spread(name) for name in sorted(figures)}
    summary = {name: each._asdict() for name, each in found.items() if each is not None}
    return {"summary": summary, **asdict(showing)}


def from_json(told: dict[str, Any]) -> Results:
    """Return the results that were written as plain values."""
    results = Results(told["facts"])
    for workload, showings in told["workloads"].items():
        for name, showing in showings.items():
            turns = {int(number): turn for number, turn in showing["turns"].items()}
            results.showings.setdefault(workload, {})[name] = Showing(turns, showing["failure"])
    return results
