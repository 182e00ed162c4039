"""The byte window: how much a pool's callers may have under way before dispatch waits.

Bytes are admitted by whoever submits, at once, so that a burst of submissions is seen by the next one; they
are released by the owner of the loop, when a task is settled.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyward.answers.waiting import Waiter


class Window:
    """Counts bytes of arguments of unsettled tasks against a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._admitted = 0
        self.released = 0  # the owner's, who counts what is settled out
        self._lock = threading.Lock()  # of ``_admitted``
        self.waiting: list[tuple[int, Waiter]] = []  # who waits for room, and how much of it; the owner's

    @property
    def outstanding(self) -> int:
        """Return how many bytes are under way."""
        return self._admitted - self.released

    def admit(self, size: int) -> None:
        """Count bytes in (any thread)."""
        with self._lock:
            self._admitted += size

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit. An empty window takes anything: what exceeds it must run, too."""
        outstanding = self._admitted - self.released
        return outstanding <= 0 or outstanding + size <= self.limit

    def when_room(self, size: int, waiter: Waiter) -> None:
        """Finish the waiter when ``size`` more bytes fit (the owner)."""
        self.waiting.append((size, waiter))
        self.look()

    def look(self, *, closing: bool = False) -> None:
        """Finish the waiters for whom there is room now; all of them if the pool is ``closing`` (the owner)."""
        waiting, self.waiting = self.waiting, []
        for size, waiter in waiting:
            if closing or self.has_room(size):
                waiter.finish()
            else:
                self.waiting.append((size, waiter))
