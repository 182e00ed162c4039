"""Workers that are gone, and whose memory holds results that the client may not have opened yet.

A result in shared memory lies in its worker's arena. The daemon keeps the arena open after the worker's end until
the client has acknowledged the last result that can lie there: it opens arenas before it acknowledges.

PURE: numbers in, numbers out.
"""

from __future__ import annotations

from collections import deque


class Graves:
    """The dead workers of one session."""

    __slots__ = ("_fresh", "_waiting")

    def __init__(self) -> None:
        self._fresh: list[int] = []  # died in this turn: their last results have no number yet
        self._waiting: deque[tuple[int, int]] = deque()  # (number of the last result, worker)

    def add(self, worker: int) -> None:
        """Note a worker that has died."""
        self._fresh.append(worker)

    def settle(self, last: int, acked: int) -> list[int]:
        """Return whose memory may go, at the end of a turn: ``last`` and ``acked`` are numbers of results."""
        if self._fresh:
            self._waiting.extend((last, worker) for worker in self._fresh)
            self._fresh.clear()
        done: list[int] = []
        while self._waiting and self._waiting[0][0] <= acked:
            done.append(self._waiting.popleft()[1])
        return done

    def clear(self) -> list[int]:
        """Return all of them: the session is over."""
        workers = [*self._fresh, *(worker for _, worker in self._waiting)]
        self._fresh.clear()
        self._waiting.clear()
        return workers

    def __bool__(self) -> bool:
        return bool(self._fresh or self._waiting)
