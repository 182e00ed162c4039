"""Which slot of the node each thread's task runs on: what `sky.instance_info().worker` says.

A thread worker has more threads than slots once tasks have lent theirs, so a thread is no slot.
"""

from __future__ import annotations

import threading


class Seats:
    """The slots, and how many tasks run on each."""

    def __init__(self, count: int) -> None:
        self._taken = [0] * count
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the lowest slot on which nothing runs.

        More tasks than slots run while those go on that had lent theirs: then some share one.
        """
        with self._lock:
            least = min(self._taken) if 0 not in self._taken else 0
            seat = self._taken.index(least)
            self._taken[seat] += 1
            return seat

    def leave(self, seat: int) -> None:
        """Give a slot back."""
        with self._lock:
            self._taken[seat] -= 1
