"""Credit: how far the producer of a stream may be ahead of its consumer.

A producer keeps a `Budget`, and sends no more than it was granted. A consumer keeps an `Allowance`, which says when to
grant more. It begins with a window of two elements, and doubles it whenever the producer had used all of it and the
consumer took that in quickly: so a fast stream soon travels in large batches, while a slow one is never far ahead of
its consumer, and shares its slot fairly with others. A window that the consumer left lying about for long is halved.

PURE: the clock is a number.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 2  # elements: what the consumer takes, and the one after it
MOST: Final = 16_384  # elements: 5 ms of the fastest stream there is, more than a link takes to answer
SIZE: Final = 8 * 2**20  # bytes: eight arrays of a megabyte keep a memory bus busy
QUICK: Final = 0.02  # seconds in which a consumer that waits for its producer has taken everything
SLOW: Final = 0.5  # seconds after which it has other things to do


class Budget:
    """What a producer may still send."""

    __slots__ = ("items", "size")

    def __init__(self, items: int = 0, size: int = 0) -> None:
        self.items = items
        self.size = size  # bytes; below 0 after an element that was larger than the rest

    def grant(self, items: int, size: int) -> None:
        """Take in a grant."""
        self.items += items
        self.size += size

    @property
    def allows(self) -> bool:
        """Return whether one more element may be sent, of whatever size."""
        return self.items > 0 and self.size > 0

    def spend(self, size: int, items: int = 1) -> None:
        """Count elements."""
        self.items -= items
        self.size -= size


class Allowance:
    """What a consumer has granted; see the module.

    Who receives and who takes may be two threads: each changes attributes of its own.
    """

    __slots__ = ("_adapted_at", "_came_size", "_granted", "_granted_size", "_spent_at", "_taken_size", "came", "taken",
                 "window")  # fmt: skip

    def __init__(self) -> None:
        self.window = FIRST
        self.came = 0  # elements
        self._came_size = 0  # bytes
        self._spent_at = -1.0  # when the producer had last sent all that it may
        self.taken = 0
        self._taken_size = 0
        self._granted = FIRST
        self._granted_size = SIZE
        self._adapted_at = -1.0  # the moment for which the window was adapted

    def receive(self, count: int, size: int, now: float) -> bool:
        """Count elements in; False if they are more than were granted."""
        within = self._came_size < self._granted_size or not count
        self.came += count
        self._came_size += size
        if self.came >= self._granted or self._came_size >= self._granted_size:
            self._spent_at = now
        return within and self.came <= self._granted

    def take(self, size: int, now: float, items: int = 1) -> tuple[int, int] | None:
        """Count elements out; return what to grant now, in elements and bytes."""
        self.taken += items
        self._taken_size += size
        spent_at = self._spent_at
        if spent_at != self._adapted_at and self.taken == self.came:
            self._adapted_at = spent_at
            self._adapt(now - spent_at)
        left = self._granted - self.taken
        items = self.window - left if 2 * left <= self.window else 0
        free = max(0, SIZE - (self._granted_size - self._taken_size))
        if not items and free < SIZE // 2:
            return None
        self._granted += items
        self._granted_size += free
        return items, free

    def _adapt(self, waited: float) -> None:
        if waited < QUICK:
            self.window = min(2 * self.window, MOST)
        elif waited > SLOW:
            self.window = max(self.window // 2, FIRST)
