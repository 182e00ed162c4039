"""Calls that come at given moments, and what becomes of a pool's nodes meanwhile.

PURE: `Script.parse` reads what is written as ``0:40x0.5 20-50:4x0.5``: forty calls of half a second at once, and then,
from the twentieth second to the fiftieth, four of them a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_PIECE: Final = re.compile(
    r"(?P<begin>\d+(\.\d+)?)(-(?P<end>\d+(\.\d+)?))?:(?P<calls>\d+(\.\d+)?)x(?P<seconds>\d+(\.\d+)?)"
)


@dataclass(frozen=True, slots=True)
class Burst:
    """Calls that come at one moment."""

    at: float  # seconds from the begin
    calls: int
    seconds: float  # that each takes


@dataclass(frozen=True, slots=True)
class Script:
    """A load, in the order of time."""

    bursts: tuple[Burst, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``text`` describes; raises `ValueError` that names the piece that does not."""
        bursts = [burst for piece in text.split() for burst in _bursts(piece)]
        if not bursts:
            raise ValueError("a load has pieces such as 0:40x0.5, forty calls of half a second at the begin")
        return cls(tuple(sorted(bursts, key=lambda burst: burst.at)))

    @property
    def calls(self) -> int:
        """Return how many calls come."""
        return sum(burst.calls for burst in self.bursts)

    @property
    def work(self) -> float:
        """Return the seconds that all calls take together."""
        return sum(burst.calls * burst.seconds for burst in self.bursts)


def _bursts(piece: str) -> list[Burst]:
    match = _PIECE.fullmatch(piece)
    if match is None:
        raise ValueError(f"{piece!r} is neither AT:CALLSxSECONDS nor FROM-TO:RATExSECONDS")
    begin, calls, seconds = float(match["begin"]), float(match["calls"]), float(match["seconds"])
    if not calls or not seconds:
        raise ValueError(f"{piece!r} has no calls, or they take no time")
    if match["end"] is None:
        if not calls.is_integer():
            raise ValueError(f"{piece!r} has no whole number of calls")
        return [Burst(begin, int(calls), seconds)]
    count = round((float(match["end"]) - begin) * calls)
    if count < 1:
        raise ValueError(f"{piece!r} ends before a call comes")
    return [Burst(begin + number / calls, 1, seconds) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Moment:
    """A pool at one moment."""

    at: float  # seconds from the begin
    ready: int  # nodes
    starting: int
    waiting: int  # calls that no node has
    running: int  # calls that a node has


@dataclass(frozen=True, slots=True)
class Story:
    """What became of a pool while a script was played."""

    script: Script
    moments: Sequence[Moment]  # each holds until the next
    launches: int
    finished: float  # seconds from the begin to the last outcome

    @property
    def most(self) -> int:
        """Return how many nodes there were at the most, those that started included."""
        return max(moment.ready + moment.starting for moment in self.moments)

    @property
    def paid(self) -> float:
        """Return the seconds of all nodes together, from the launch of each to its end."""
        return sum(
            (moment.ready + moment.starting) * (after.at - moment.at) for moment, after in pairwise(self.moments)
        )

    @property
    def waited(self) -> float:
        """Return the seconds that a call waited for a node, on average."""
        total = sum(moment.waiting * (after.at - moment.at) for moment, after in pairwise(self.moments))
        return total / self.script.calls

    def nodes(self) -> list[int]:
        """Return the numbers of ready nodes, one after the other."""
        counts: list[int] = []
        for moment in self.moments:
            if not counts or counts[-1] != moment.ready:
                counts.append(moment.ready)
        return counts
