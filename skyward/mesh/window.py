"""The byte window: how much a pool's callers may have under way before dispatch waits.

Bytes are admitted by whoever submits, at once, so that a burst of submissions is seen by the next one; they
are released by the owner of the loop, when a task is settled.
"""

from __future__ import annotations

import threading


class Window:
    """Counts bytes of arguments of unsettled tasks against a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._admitted = 0
        self._released = 0  # by the owner alone
        self._lock = threading.Lock()  # of ``_admitted``

    @property
    def outstanding(self) -> int:
        """Return how many bytes are under way."""
        return self._admitted - self._released

    def admit(self, size: int) -> None:
        """Count bytes in (any thread)."""
        with self._lock:
            self._admitted += size

    def release(self, size: int) -> None:
        """Count bytes out (the owner)."""
        self._released += size

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` more bytes fit. An empty window takes anything: what exceeds it must run, too."""
        outstanding = self.outstanding
        return outstanding <= 0 or outstanding + size <= self.limit
