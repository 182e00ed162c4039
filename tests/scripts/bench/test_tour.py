"""The run along curves, and what it reports. Processes are scripted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward_scripts.bench.curves import tour
from skyward_scripts.bench.curves.points import Curve, Point
from skyward_scripts.bench.curves.report import failed, render
from skyward_scripts.bench.results import Results
from skyward_scripts.bench.session import ContestantError
from skyward_scripts.bench.stage import Stage
from skyward_scripts.bench.workloads import Figure
from tests.scripts.bench.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOG: list[str] = []
TABLES = {"a thing that grows": (Figure("", "tasks/s", "more"), Figure("client", "µs/task"))}
POINTS = tuple(Point(name, {"bytes": size}) for name, size in (("small", 1), ("middle", 2), ("large", 3)))
HELD = Curve("held", "by-size", "argument", TABLES, POINTS, ("small", "large"), {"most": 5})
ALONE = Curve("alone", "by-size", "argument", TABLES, POINTS[:2], ("small",), {}, workers=3, alone=True)


class Scripted:
    """A process that notes what is done with it."""

    refuses: bool = False
    fails: frozenset[int] = frozenset()  # at which sizes
    interrupted: bool = False

    def __init__(self, *_: object) -> None:
        self._size = 0

    def open(self, workers: int) -> None:
        """Start workers."""
        LOG.append(f"open {workers}")
        if self.refuses:
            raise ContestantError("no")

    def prepare(self, workload: str, sizes: dict[str, int], warm: float) -> None:
        """Say what comes."""
        assert workload == "by-size"
        self._size = sizes["bytes"]

    def turn(self, seed: int) -> dict[str, float]:
        """Take a turn."""
        LOG.append(f"turn {self._size} {seed}")
        if self.interrupted:
            raise KeyboardInterrupt
        if self._size in self.fails:
            raise ContestantError("lost")
        return {"": 10.0 * self._size + seed, "tasks": 7}

    def end(self) -> None:
        """End in peace."""
        LOG.append("end")

    def kill(self) -> None:
        """End at once."""
        LOG.append("kill")


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put scripted processes in the place of real ones."""
    LOG.clear()
    monkeypatch.setattr(tour, "Session", Scripted)
    yield
    LOG.clear()


def walk(path: Path, *curves: Curve, runs: int = 1, quick: bool = False) -> Results:
    """Run along curves."""
    results = Results(dict(FACTS))
    tour.Tour(curves, Stage(str(path)), results, lambda _: None, runs, quick).run()
    return results


def test_every_round_has_all_points(tmp_path: Path) -> None:
    """A process serves all points of a curve in a round, or one of them where each has its own."""
    walk(tmp_path, HELD, ALONE, runs=2)
    rounds = [
        [
            "open 2", *(f"turn {size} {number}" for size in (1, 2, 3)), "end",
            "open 3", f"turn 1 {number}", "end", "open 3", f"turn 2 {number}", "end",
        ]
        for number in (0, 1)
    ]  # fmt: skip
    assert [*rounds[0], *rounds[1]] == LOG


def test_quick_run_has_small_points(tmp_path: Path) -> None:
    """They are those that are named, with the sizes of a quick run."""
    assert list(walk(tmp_path, HELD, quick=True).showings["held"]) == ["small", "large"]
    assert [point.sizes for point in HELD.points_for(quick=True)] == [{"bytes": 1, "most": 5}, {"bytes": 3, "most": 5}]


def test_point_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is ended at once, and another one does the rest."""
    monkeypatch.setattr(Scripted, "fails", frozenset({2}))
    results = walk(tmp_path, HELD, runs=2)
    assert LOG == [
        "open 2", "turn 1 0", "turn 2 0", "kill", "open 2", "turn 3 0", "end",
        "open 2", "turn 1 1", "turn 3 1", "end",
    ]  # fmt: skip
    assert failed(results) == ["held: middle: lost"]
    assert "Failed\n  held: middle: lost" in render(results, [HELD], quick=False)


def test_pool_that_does_not_open_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each point that needs it."""
    monkeypatch.setattr(Scripted, "refuses", True)
    results = walk(tmp_path, ALONE)
    assert LOG == ["open 3", "kill"] * 2
    assert failed(results) == ["alone: small: no", "alone: middle: no"]


def test_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is ended when the run is."""
    monkeypatch.setattr(Scripted, "interrupted", True)
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path, HELD)
    assert LOG == ["open 2", "turn 1 0", "kill"]


def test_report_shows_medians_along_the_curve(tmp_path: Path) -> None:
    """One row for each point, with how many tasks there were, and a dash for what was not measured."""
    text = render(walk(tmp_path, HELD, runs=3), [HELD], quick=False)
    title, heading, *rows = text.partition("\n\n")[2].splitlines()
    assert title == "held: a thing that grows"
    assert heading.split() == ["argument", "tasks/s", "client", "µs/task", "tasks"]
    assert [row.split() for row in rows] == [
        ["small", "11.0", "(10.0–12.0)", "–", "7.00"],
        ["middle", "21.0", "(20.0–22.0)", "–", "7.00"],
        ["large", "31.0", "(30.0–32.0)", "–", "7.00"],
    ]
