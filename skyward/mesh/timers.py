"""What is to be done later, in the order of its moments.

A command that is for an object is dropped with it: the time limit of a group whose outcome nobody waits for any
more would otherwise keep all its results until the limit is over.

PURE: the clock is a number.
"""

from __future__ import annotations

import heapq
import itertools
import weakref
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP: Final = 1_024  # entries at which the first look for those whose object is gone is worth it


class Timers:
    """Commands, each with its moment."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Callable[..., None], weakref.ref[Any] | None]] = []
        self._ids = itertools.count()
        self._sweep_at = SWEEP

    def add(self, moment: float, command: Callable[..., None], owner: Any = None) -> None:
        """Note that ``command`` is due at ``moment``: on ``owner``, if one was named and is still there."""
        entry = (moment, next(self._ids), command, None if owner is None else weakref.ref(owner))
        heapq.heappush(self.heap, entry)
        if len(self.heap) >= self._sweep_at:
            self.heap = [kept for kept in self.heap if kept[3] is None or kept[3]() is not None]
            heapq.heapify(self.heap)
            self._sweep_at = max(SWEEP, 2 * len(self.heap))

    def run(self, now: float) -> None:
        """Do what is due."""
        while self.heap and self.heap[0][0] <= now:
            _, _, command, ref = heapq.heappop(self.heap)
            if ref is None:
                command()
            elif (owner := ref()) is not None:
                command(owner)

    def next(self) -> float:
        """Return the moment at which something is due; infinite if nothing is."""
        return self.heap[0][0] if self.heap else inf

    def clear(self) -> None:
        """Forget everything."""
        self.heap.clear()
