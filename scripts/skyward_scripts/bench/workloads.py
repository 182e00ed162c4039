"""What is measured: names, sizes, figures. Pure: `measures` and `launches` do it.

A workload asks an operation of its contestants (`contestant`), and those that have it take part. All of them
do exactly the same work, in the same order, with the same seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Better = Literal["less", "more"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a workload yields."""

    name: str
    unit: str
    better: Better = "less"

    @property
    def heading(self) -> str:
        """Return what stands above the column."""
        return f"{self.name} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work, for all contestants that have the operation it needs."""

    name: str
    title: str
    operation: str  # that a contestant must have
    figures: tuple[Figure, ...]
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    quick: Mapping[str, int] = field(default_factory=dict[str, int])  # sizes that show that it works, and no more
    workers: int = 2
    fresh: bool = False  # each round has processes of its own
    outside: bool = False  # measured by whoever starts the contestant's process
    only: frozenset[str] | None = None  # a variant that tells little about most contestants

    def sizes_for(self, *, quick: bool) -> dict[str, int]:
        """Return the sizes, or those of a quick run."""
        return {**self.sizes, **(self.quick if quick else {})}


RATE: Final = (Figure("", "tasks/s", "more"),)
FEW: Final = frozenset({"skyward", "skyward-main", "skyward-tcp", "executor", "multiprocessing", "zmq-mesh"})
MEGA: Final = 1_000_000
# ``quiet``: ms without growth after which the client's memory counts as settled.

WORKLOADS: Final[tuple[Workload, ...]] = (
    Workload(
        "lone", "one no-op call after the other", "call",
        (Figure("p50", "µs"), Figure("p99", "µs")),
        {"calls": 2_000}, {"calls": 50},
    ),
    Workload(
        "gather", "independent no-op calls, each its own task, all at once", "gather", RATE,
        {"calls": 20_000}, {"calls": 400},
    ),
    Workload(
        "gather-1kB", "the same, each with an argument of 1 kB", "gather", RATE,
        {"calls": 20_000, "bytes": 1_000}, {"calls": 400}, only=FEW,
    ),
    Workload(
        "gather-mixed", "the same, three functions in turn", "gather", RATE,
        {"calls": 20_000, "functions": 3}, {"calls": 400}, only=FEW,
    ),
    Workload(
        "futures", "independent no-op calls, a future each", "futures", RATE,
        {"calls": 20_000}, {"calls": 400},
    ),
    Workload(
        "map", "map of a no-op over many items", "map",
        (Figure("", "items/s", "more"),),
        {"items": 500_000}, {"items": 5_000},
    ),
    Workload(
        "stream", "tasks of 0 to 2 ms, consumed in completion order", "stream",
        (Figure("÷ ideal", ""), Figure("first", "ms")),
        {"calls": 1_000}, {"calls": 100},
    ),
    Workload(
        "stragglers", "tasks of 5 ms, and a few of 200 ms among them", "uneven",
        (Figure("÷ ideal", ""),),
        {"short": 200, "long": 4}, {"short": 20, "long": 1},
    ),
    Workload(
        "data", "a float64 array of 100 MB as argument (summed there) and as result (summed here)", "send",
        tuple(
            Figure(f"{way} {pages}", "MB/s", "more")
            for way in ("argument", "result") for pages in ("cold", "warm")
        ),
        {"bytes": 100 * MEGA, "times": 5}, {"bytes": 2 * MEGA, "times": 2}, fresh=True,
    ),
    Workload(
        "fan-out", "one array of 64 MB to a function on each of four workers", "to_each",
        (Figure("", "s"),),
        {"bytes": 64 * MEGA}, {"bytes": 1 * MEGA}, workers=4,
    ),
    Workload(
        "values", "a remote generator of small values, taken as they come", "iterate",
        (Figure("", "items/s", "more"),),
        {"items": 500_000}, {"items": 2_000},
    ),
    Workload(
        "blocks", "a remote generator of arrays of 1 MiB, summed as they come", "iterate",
        (Figure("", "MB/s", "more"),),
        {"items": 500, "bytes": 2**20}, {"items": 10, "bytes": 2**20},
    ),
    Workload(
        "start", "from the start of the process to the first result", "call",
        (Figure("", "s"),), outside=True, fresh=True,
    ),
    Workload(
        "import", "import, best of several", "import_names",
        (Figure("module", "ms"), Figure("with names", "ms")),
        {"times": 5}, {"times": 2}, outside=True, fresh=True, only=frozenset({"skyward"}),
    ),
    Workload(
        "memory-gather", "the client's memory for each call that waits in a gather", "hold_gather",
        (Figure("", "bytes/call"),),
        {"calls": 100_000, "quiet": 700}, {"calls": 3_000, "quiet": 200}, fresh=True,
    ),
    Workload(
        "memory-futures", "the client's memory for each call that waits for its future", "hold_futures",
        (Figure("", "bytes/call"),),
        {"calls": 100_000, "quiet": 700}, {"calls": 3_000, "quiet": 200}, fresh=True,
    ),
)  # fmt: skip

BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
