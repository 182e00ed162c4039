"""Which curves there are: what grows along them, and what is measured at each of their points. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward_scripts.bench.workloads import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Point:
    """One place on a curve."""

    name: str  # as its row begins
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Curve:
    """One thing that grows, and what is measured as it does."""

    name: str
    measure: str  # one of `measures.MEASURES`
    over: str  # what grows, above the points
    tables: Mapping[str, tuple[Figure, ...]]  # figures by the title of the table that shows them
    points: tuple[Point, ...]
    small: tuple[str, ...]  # the points of a quick run
    quick: Mapping[str, int]  # sizes that all of them have then
    workers: int = 2  # of the pool that a process of skyward begins with
    alone: bool = False  # every point has a process of its own

    def points_for(self, *, quick: bool) -> tuple[Point, ...]:
        """Return the points, or the few small ones of a quick run."""
        if not quick:
            return self.points
        return tuple(Point(each.name, {**each.sizes, **self.quick}) for each in self.points if each.name in self.small)


RATE: Final = Figure("", "tasks/s", "more")
CLIENT: Final = Figure("client", "µs/task")
NODES: Final = Figure("nodes", "µs/task")
WHILE: Final = {"millis": 1_000, "most": 100_000}  # how long a gather takes, about, and its calls at most
MOMENT: Final = {"millis": 20, "most": 1_000}
SIZES: Final = (("0", 0), ("100 B", 100), ("1 kB", 1_000), ("10 kB", 10_000), ("100 kB", 100_000), ("1 MB", 1_000_000))
TIMES: Final = (  # the shorter ones work: a sleep takes some 60 µs longer than it is told to
    ("0", 0, 0), ("10 µs", 10, 0), ("100 µs", 100, 0), ("1 ms", 1_000, 1), ("10 ms", 10_000, 1),
)  # fmt: skip
LONE: Final = 500  # lone calls on each number of nodes
WAITING: Final = ("10,000", "100,000", "1,000,000")


def _waiting(name: str, measure: str, title: str) -> Curve:
    points = tuple(Point(many, {"calls": int(many.replace(",", "")), "quiet": 700}) for many in WAITING)
    tables = {title: (Figure("", "bytes/call"),)}
    return Curve(name, measure, "calls", tables, points, WAITING[:1], {"calls": 3_000, "quiet": 200}, alone=True)


CURVES: Final[tuple[Curve, ...]] = (
    Curve(
        "size", "by-size", "argument",
        {"a gather of no-ops on two nodes, by the bytes of each call's argument": (
            RATE, Figure("data", "MB/s", "more"), CLIENT, NODES,
        )},
        tuple(Point(name, {**WHILE, "bytes": size}) for name, size in SIZES), ("0", "10 kB"), MOMENT,
    ),
    Curve(
        "time", "by-time", "a task",
        {"a gather on two nodes, by the time of a task (below 1 ms it works, else it sleeps)": (
            RATE, Figure("ideal", "tasks/s", "more"), Figure("÷ ideal", "", "more"), CLIENT, NODES,
        )},
        tuple(Point(name, {**WHILE, "micros": micros, "sleeps": sleeps}) for name, micros, sleeps in TIMES),
        ("0", "1 ms"), MOMENT,
    ),
    Curve(
        "nodes", "by-nodes", "nodes",
        {
            "a gather of no-ops, and lone calls, by the number of nodes": (
                RATE, CLIENT, NODES, Figure("p50", "µs"),
            ),
            "what the nodes themselves cost, CPU time in each second without calls": (
                Figure("open", "s"), Figure("close", "s"), Figure("idle client", "ms/s"), Figure("idle node", "ms/s"),
                Figure("node", "MB"),
            ),
        },
        tuple(Point(str(2**n), {**WHILE, "nodes": 2**n, "calls": LONE, "idle": 1_000}) for n in range(7)),
        ("1", "2"), {**MOMENT, "calls": 20, "idle": 50}, workers=1, alone=True,
    ),
    _waiting("waiting-gather", "memory-gather", "the client's memory for each call that waits in a gather"),
    _waiting("waiting-alone", "memory-alone", "the same, if calls are not put together"),
    _waiting("waiting-futures", "memory-futures", "the client's memory for each call that waits for its future"),
)  # fmt: skip

BY_NAME: Final = {curve.name: curve for curve in CURVES}
