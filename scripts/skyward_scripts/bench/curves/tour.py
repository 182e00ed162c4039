"""The run: all points of all curves in each round, so that a machine that gets slower bends no curve.

A point that has failed is left out of the later rounds; the others go on, in another process.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward_scripts.bench.catalogue import SKYWARD
from skyward_scripts.bench.session import ContestantError, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward_scripts.bench.curves.points import Curve, Point
    from skyward_scripts.bench.results import Results, Turn
    from skyward_scripts.bench.stage import Stage

WARM: Final = 0.2  # seconds of no-op calls at least, before a point is measured


@dataclass(slots=True)
class Tour:
    """A run along curves."""

    curves: Sequence[Curve]
    stage: Stage
    results: Results  # each curve a workload, each point a contestant
    note: Callable[[str], None]  # told what happens
    runs: int
    quick: bool

    def run(self) -> None:
        """Do all rounds."""
        for number in range(self.runs):
            for curve in self.curves:
                self._walk(curve, number)

    def _walk(self, curve: Curve, number: int) -> None:
        session: Session | None = None
        try:
            for point in curve.points_for(quick=self.quick):
                if not self.results.showing(curve.name, point.name).failure:
                    self.note(f"{number + 1}/{self.runs}: {curve.name} {point.name}")
                    session = self._visit(session, curve, point, number)
        finally:
            if session is not None:
                session.end()

    def _visit(self, session: Session | None, curve: Curve, point: Point, number: int) -> Session | None:
        """Measure a point and return the process that may measure the next one, if there is such."""
        showing = self.results.showing(curve.name, point.name)
        try:
            session = session or self._start(curve)
            showing.turns[number] = _measure(session, curve, point, number)
        except ContestantError as error:
            showing.failure = str(error)
            self.note(f"{curve.name} {point.name}: {error}")
            return None
        if not curve.alone:
            return session
        session.end()
        return None

    def _start(self, curve: Curve) -> Session:
        session = Session(SKYWARD[0], sys.executable, self.stage)
        try:
            session.open(curve.workers)
        except BaseException:
            session.kill()
            raise
        return session


def _measure(session: Session, curve: Curve, point: Point, number: int) -> Turn:
    try:
        session.prepare(curve.measure, dict(point.sizes), WARM)
        return session.turn(number)
    except BaseException:
        session.kill()
        raise
