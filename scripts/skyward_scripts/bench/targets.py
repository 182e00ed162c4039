"""What skyward has to reach, and whether a run shows it. Pure.

Absolute figures drift with the machine's mood, so that nearly all bounds are on ratios. A ratio is taken within
each round, and the median of these counts. Where functions come from a module and from ``__main__`` the worse
of the two counts; where the other side is one of several, the best of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from skyward_scripts.bench.summary import Spread, show_spread, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward_scripts.bench.results import Results

Better = Literal["less", "more"]
Verdict = Literal["met", "not met", "not measured"]

COLUMNS: Final = ("fast by default", "faster than every peer")
BOTH: Final = ("skyward", "skyward-main")
RAY: Final = ("ray", "ray-actors")


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing to reach: a figure of ours, alone or divided by a figure of others in the same round."""

    workload: str
    figure: str
    better: Better
    limit: float
    ours: tuple[str, ...] = ("skyward",)
    others: tuple[str, ...] = ()
    unit: str = ""

    def measure(self, results: Results) -> Spread | None:
        """Return our figure or ratio, if it was measured."""
        worst, best = (max, min) if self.better == "less" else (min, max)
        ours = _by_round(results, self.workload, self.ours, self.figure, worst)
        if self.others:
            others = _by_round(results, self.workload, self.others, self.figure, best)
            ratios = [ours[number] / others[number] for number in sorted(ours.keys() & others.keys())]
        else:
            ratios = list(ours.values())
        return spread(ratios) if ratios else None

    def verdict(self, measured: Spread | None) -> Verdict:
        """Return whether the bound is kept."""
        if measured is None:
            return "not measured"
        kept = measured.median <= self.limit if self.better == "less" else measured.median >= self.limit
        return "met" if kept else "not met"

    def __str__(self) -> str:
        sign = "≤" if self.better == "less" else "≥"
        figure = f"{self.figure}: " if self.figure else ""
        if not self.others:
            return f"{figure}{sign} {self.limit:,g} {self.unit}".rstrip()
        others = " or ".join(self.others)
        factor = "" if self.limit == 1 else f"{self.limit:g} × "
        return f"{figure}{sign} {factor}{others}"


def _by_round(
    results: Results, workload: str, names: Sequence[str], figure: str, pick: Callable[..., float]
) -> dict[int, float]:
    """Return, for each round, the figure that ``pick`` takes of those contestants that have one."""
    found = [values for name in names if (values := results.values(workload, name, figure))]
    numbers = {number for values in found for number in values}
    return {number: pick(values[number] for values in found if number in values) for number in sorted(numbers)}


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table of targets: what "fast by default" asks, and what "faster than every peer" asks."""

    title: str
    default: tuple[Bound, ...]
    fastest: tuple[Bound, ...]


def _ratios(
    workload: str, figures: Sequence[str], better: Better, limit: float, others: Sequence[str],
    ours: tuple[str, ...] = ("skyward",),
) -> tuple[Bound, ...]:  # fmt: skip
    return tuple(Bound(workload, figure, better, limit, ours, tuple(others)) for figure in figures)


def _plain(
    workload: str, figures: Sequence[str], better: Better, limit: float, unit: str = "",
) -> tuple[Bound, ...]:  # fmt: skip
    return tuple(Bound(workload, figure, better, limit, unit=unit) for figure in figures)


WARM: Final = ("argument warm", "result warm")
POOL: Final = ("multiprocessing",)
IPC, CURVE, TCP = ("zmq-two-legs",), ("zmq-two-legs-curve",), ("skyward-tcp",)

TARGETS: Final[tuple[Target, ...]] = (
    Target(
        "lone call, ipc, p50",
        _ratios("lone", ("p50",), "less", 1.5, IPC, BOTH),
        _ratios("lone", ("p50",), "less", 0.8, IPC, BOTH),
    ),
    Target(
        "lone call, TCP + CURVE, p50",
        _ratios("lone", ("p50",), "less", 1.5, CURVE, TCP),
        _ratios("lone", ("p50",), "less", 0.9, CURVE, TCP),
    ),
    Target(
        "single no-op tasks/s in a gather, ipc",
        (*_ratios("gather", ("",), "more", 1.5, POOL, BOTH), *_ratios("gather", ("",), "more", 10, RAY, BOTH)),
        (
            *_ratios("gather", ("",), "more", 5, POOL, BOTH),
            *_ratios("gather", ("",), "more", 50, RAY, BOTH),
            *_ratios("gather", ("",), "more", 0.25, ("zmq-mesh",), BOTH),
        ),
    ),
    Target(
        "the same as futures",
        _ratios("futures", ("",), "more", 1, POOL, BOTH),
        _ratios("futures", ("",), "more", 2, POOL, BOTH),
    ),
    Target(
        "map of a no-op",
        _ratios("map", ("",), "more", 1, ("executor",), BOTH),
        _ratios("map", ("",), "more", 0.5, POOL, BOTH),
    ),
    Target(
        "single tasks/s, TCP + CURVE",
        _ratios("gather", ("",), "more", 0.7, ("skyward",), TCP),
        _ratios("gather", ("",), "more", 0.85, ("skyward",), TCP),
    ),
    Target(
        "stream ÷ ideal; first result",
        (*_plain("stream", ("÷ ideal",), "less", 1.2), *_plain("stream", ("first",), "less", 20, "ms")),
        (*_plain("stream", ("÷ ideal",), "less", 1.12), *_plain("stream", ("first",), "less", 5, "ms")),
    ),
    Target(
        "stragglers ÷ ideal",
        _plain("stragglers", ("÷ ideal",), "less", 1.06),
        _plain("stragglers", ("÷ ideal",), "less", 1.03),
    ),
    Target(
        "100 MB argument / result, local, warm",
        _plain("data", WARM, "more", 800, "MB/s"),
        (
            *_plain("data", WARM, "more", 3_000, "MB/s"),
            *_ratios("data", WARM, "more", 0.5, ("shared-memory",)),
            *_ratios("data", WARM, "more", 1, RAY),
        ),
    ),
    Target(
        "100 MB argument / result, TCP + CURVE",
        (),
        _ratios("data", WARM, "more", 0.8, ("zmq-chunks-curve",), TCP),
    ),
    Target(
        "64 MB to four workers, local",
        _plain("fan-out", ("",), "less", 0.3, "s"),
        _ratios("fan-out", ("",), "less", 1, RAY),
    ),
    Target(
        "items/s of a remote generator; MB/s of one of 1 MiB arrays",
        (*_ratios("values", ("",), "more", 1, RAY, BOTH), *_ratios("blocks", ("",), "more", 1, RAY)),
        (
            *_ratios("values", ("",), "more", 0.5, ("zmq-yields",), BOTH),
            *_ratios("blocks", ("",), "more", 0.5, ("zmq-yields",)),
        ),
    ),
    Target(
        "cold start to first result, 2 nodes",
        _plain("start", ("",), "less", 0.6, "s"),
        (*_plain("start", ("",), "less", 0.3, "s"), *_ratios("start", ("",), "less", 3, ("executor",))),
    ),
    Target(
        "import skyward",
        _plain("import", ("module",), "less", 100, "ms"),
        _plain("import", ("module",), "less", 60, "ms"),
    ),
    Target(
        "client memory per pending task, in a gather / as futures",
        (
            *_plain("memory-gather", ("",), "less", 1_000, "bytes"),
            *_plain("memory-futures", ("",), "less", 2_000, "bytes"),
        ),
        (
            *_plain("memory-gather", ("",), "less", 400, "bytes"),
            *_plain("memory-futures", ("",), "less", 1_200, "bytes"),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One bound of one target, and what the run says about it."""

    target: str
    column: str
    workload: str
    bound: str
    measured: str
    verdict: Verdict


def check(results: Results) -> list[Finding]:
    """Return what a run says about each bound, in the order of the table."""
    findings: list[Finding] = []
    for target in TARGETS:
        for column, bounds in zip(COLUMNS, (target.default, target.fastest), strict=True):
            for bound in bounds:
                measured = bound.measure(results)
                shown = "" if measured is None else show_spread(measured)
                findings.append(
                    Finding(target.title, column, bound.workload, str(bound), shown, bound.verdict(measured))
                )
    return findings


def count(findings: Sequence[Finding], column: str) -> dict[Verdict, int]:
    """Return how many targets of a column are met, and how many not: each is as good as its worst bound."""
    by_target: dict[str, set[Verdict]] = {}
    for finding in findings:
        if finding.column == column:
            by_target.setdefault(finding.target, set()).add(finding.verdict)
    worst: list[Verdict] = ["not met", "not measured", "met"]
    found = [next(each for each in worst if each in verdicts) for verdicts in by_target.values()]
    return {each: found.count(each) for each in worst}
