"""Makespan ÷ ideal for clusters of many sizes, as rows for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from skyward_scripts.simulation.cluster import simulate
from skyward_scripts.simulation.durations import DISTRIBUTIONS, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skyward_scripts.simulation.cluster import Churn, Run
    from skyward_scripts.simulation.costs import Costs

NODES: Final = (1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 1_000)
PER_SLOT: Final = 20  # tasks: enough that the beginning and the end do not decide everything
MEAN: Final = 0.1  # seconds a task takes
HEAD: Final = (
    "task times", "nodes", "tasks", "ideal s", "makespan s", "makespan ÷ ideal", "client busy", "messages a task",
    "scheduler µs a task", "waste ms",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One size of a cluster under one distribution."""

    distribution: str
    nodes: int
    slots: int
    tasks: int
    mean: float  # seconds
    makespan: float  # seconds
    ideal: float  # seconds
    ratio: float
    client: float  # share of the time in which the client's thread was busy
    messages: float  # per task, in both directions
    deciding: float  # µs per task that the scheduler took where the simulation ran
    waste: float  # ms, the longest stretch in which a node idled while work waited on another

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return asdict(self)


def measure(
    nodes: Iterable[int] = NODES,
    distributions: Iterable[str] = tuple(DISTRIBUTIONS),
    *,
    mean: float = MEAN,
    per_slot: int = PER_SLOT,
    slots: int = 1,
    costs: Costs | None = None,
    churn: Churn | None = None,
    seeds: Sequence[int] = (0,),
    stopwatch: Callable[[], float] | None = None,
) -> Iterator[Row]:
    """Yield a row for each distribution and size: of the seed whose ratio is the median."""
    for distribution in distributions:
        for count in nodes:
            runs = [
                simulate(
                    draw(distribution, per_slot * slots * count, mean, seed),
                    count,
                    slots=slots,
                    costs=costs,
                    churn=churn,
                    stopwatch=stopwatch,
                )
                for seed in seeds
            ]
            typical = median(run.ratio for run in runs) if len(runs) % 2 else runs[0].ratio
            yield _row(distribution, mean, next(run for run in runs if run.ratio == typical))


def _row(distribution: str, mean: float, run: Run) -> Row:
    return Row(
        distribution,
        run.nodes,
        run.slots,
        run.tasks,
        mean,
        round(run.makespan, 6),
        round(run.ideal, 6),
        round(run.ratio, 4),
        round(run.client, 3),
        round(run.messages / run.tasks, 2),
        round(run.deciding / run.tasks * 1e6, 1),
        round(run.watch.longest_waste * 1e3, 2),
    )


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [list(HEAD), ["---", *["---:"] * (len(HEAD) - 1)]]
    lines += [
        [
            row.distribution,
            f"{row.nodes:,}",
            f"{row.tasks:,}",
            f"{row.ideal:.3f}",
            f"{row.makespan:.3f}",
            f"{row.ratio:.3f}",
            f"{row.client:.0%}",
            f"{row.messages:.2f}",
            f"{row.deciding:.1f}",
            f"{row.waste:.1f}",
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
