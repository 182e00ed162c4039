"""Real daemons on this machine beside the model: the same task times, one makespan each.

Tasks sleep, so that sixteen nodes need no sixteen processors.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import skyward as sky
from skyward_scripts.simulation.cluster import simulate
from skyward_scripts.simulation.durations import draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from skyward_scripts.simulation.costs import Costs

NODES: Final = (2, 4, 8, 16)
PER_SLOT: Final = 20
MEAN: Final = 0.1  # seconds
CLOSE_ENOUGH: Final = 0.15  # of the simulated makespan


@dataclass(frozen=True, slots=True)
class Comparison:
    """One real pool beside its model."""

    distribution: str
    nodes: int
    tasks: int
    mean: float  # seconds a task takes
    real: float  # seconds, the median of what was measured
    fastest: float  # seconds
    slowest: float  # seconds
    simulated: float  # seconds
    ideal: float  # seconds

    @property
    def error(self) -> float:
        """Return by how much of the simulated makespan the real one is longer."""
        return self.real / self.simulated - 1.0

    @property
    def ok(self) -> bool:
        """Return whether the two are close enough."""
        return abs(self.error) <= CLOSE_ENOUGH

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {**asdict(self), "error": round(self.error, 4), "ok": self.ok}


@sky.function
def nap(seconds: float) -> None:
    """Take that long."""
    time.sleep(seconds)


def make_nap(name: str) -> Any:
    """Return a function of its own that naps, of which nobody knows how long it takes."""

    def nap_anew(seconds: float) -> str:
        time.sleep(seconds)
        return name

    return sky.function(nap_anew)


def compare(
    nodes: Iterable[int] = NODES,
    distributions: Sequence[str] = ("constant", "uniform", "exponential", "pareto", "bimodal"),
    *,
    mean: float = MEAN,
    per_slot: int = PER_SLOT,
    rounds: int = 3,
    costs: Costs | None = None,
) -> Iterator[Comparison]:
    """Yield a comparison for each number of nodes and distribution."""
    for count in nodes:
        with sky.Compute(nodes=count) as pool:
            pool.broadcast(nap(0.0))  # all workers are there
            for name in distributions:
                durations = draw(name, per_slot * count, mean)
                real = [_measure(pool, durations, f"{name} {number}") for number in range(rounds)]
                run = simulate(durations, count, costs=costs)
                yield Comparison(
                    name, count, len(durations), mean, median(real), min(real), max(real), run.makespan, run.ideal
                )


def _measure(pool: sky.Compute, durations: Sequence[float], name: str) -> float:
    function = make_nap(name)
    start = time.monotonic()
    pool.run(sky.gather(*[function(duration) for duration in durations]))
    return time.monotonic() - start


def table(rows: Iterable[Comparison]) -> str:
    """Return the comparisons as a table in Markdown."""
    lines = [
        ["distribution", "nodes", "tasks", "ideal s", "simulated s", "real s (fastest–slowest)", "real ÷ simulated"],
        ["---", *["---:"] * 6],
    ]
    lines += [
        [
            row.distribution,
            str(row.nodes),
            str(row.tasks),
            f"{row.ideal:.3f}",
            f"{row.simulated:.3f}",
            f"{row.real:.3f} ({row.fastest:.3f}–{row.slowest:.3f})",
            f"{1 + row.error:.3f}",
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
