"""Time that jumps from event to event, and threads that take it.

PURE: nothing waits.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Seconds, and what happens when. Things of one moment happen in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = itertools.count()

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call ``action`` once ``moment`` has come."""
        heapq.heappush(self._planned, (moment, next(self._count), action, arguments))

    def step(self) -> bool:
        """Go on to what happens next; False if nothing does."""
        if not self._planned:
            return False
        self.now, _, action, arguments = heapq.heappop(self._planned)
        action(*arguments)
        return True


class Desk:
    """A thread that works off what comes to it, in turns; while one lasts, more may come.

    ``work`` gets all there is at the beginning of a turn. It adds to ``spent`` what that takes, and plans what
    leaves the desk by `later`, so that nothing leaves before it is paid for.
    """

    def __init__(self, clock: Clock, work: Callable[[list[Any]], None]) -> None:
        self.spent = 0.0  # seconds of this turn so far
        self.busy = 0.0  # seconds of all turns
        self._clock = clock
        self._work = work
        self._waiting: list[Any] = []
        self._occupied = False

    def put(self, item: Any) -> None:
        """Have an item arrive now."""
        self._waiting.append(item)
        if not self._occupied:
            self._turn()

    def later(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan something ``delay`` seconds after what has been spent."""
        self._clock.at(self._clock.now + self.spent + delay, action, *arguments)

    def _turn(self) -> None:
        self._occupied = True
        self.spent = 0.0
        items, self._waiting = self._waiting, []
        self._work(items)
        self.busy += self.spent
        self._clock.at(self._clock.now + self.spent, self._rise)

    def _rise(self) -> None:
        self._occupied = False
        if self._waiting:
            self._turn()
