"""In which order a stream hands out its results.

PURE: indexes and items, no threads.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ordering(Generic[T]):
    """Holds results until their turn. ``ordered`` means submission order, else completion order."""

    __slots__ = ("_early", "_next", "_ordered", "_ready")

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[tuple[int, T]] = deque()
        self._early: dict[int, T] = {}  # results whose turn has not come
        self._next = 0

    def add(self, index: int, item: T) -> bool:
        """Take in a result; return whether one can be handed out now."""
        if not self._ordered:
            self._ready.append((index, item))
        else:
            self._early[index] = item
            while self._next in self._early:
                self._ready.append((self._next, self._early.pop(self._next)))
                self._next += 1
        return bool(self._ready)

    def take(self) -> tuple[int, T] | None:
        """Return the next (index, result), or None if its turn has not come."""
        return self._ready.popleft() if self._ready else None

    def clear(self) -> None:
        """Drop everything held."""
        self._ready.clear()
        self._early.clear()
