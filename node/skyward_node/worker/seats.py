"""Which slot of the node each thread's task runs on, and how many threads run tasks at a time.

A thread worker has more threads than slots once tasks have lent theirs, so a thread is no slot: what
`sky.instance_info().worker` says is its seat. A thread has a *turn* while it may take tasks. There are as many turns as
slots, and one more for each task that has lent its own; when such a task goes on, a turn is owed, and the next thread
that finds a task pays it: it leaves the task to the others, and rests until somebody lends again.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Seats:
    """The slots, how many tasks run on each, and whose turn it is."""

    def __init__(self, count: int) -> None:
        self.owed = 0  # turns of threads that are too many
        self._taken = [0] * count
        self._lent = 0
        self._over = False
        self._lock = threading.Lock()
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._give(count)

    def _give(self, count: int) -> None:
        for _ in range(count):
            self._turns.put(None)

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

    # --- turns ------------------------------------------------------------------------------

    def wait_for_turn(self) -> None:
        """Rest until this thread may take tasks."""
        self._turns.get()

    def lend(self, seat: int) -> int:
        """Give a slot back for a while, and a turn with it; return how many threads there have to be for that."""
        with self._lock:
            self._taken[seat] -= 1
            self._lent += 1
            if self.owed:
                self.owed -= 1
            else:
                self._give(1)
            return 0 if self._over else len(self._taken) + self._lent

    def take_back(self) -> int:
        """Return the slot on which a task goes on that had lent its own; one thread more than should runs then."""
        with self._lock:
            self._lent -= 1
            self.owed += 1
        return self.take()

    def pay(self, put_back: Callable[[], None]) -> bool:
        """Return whether this thread is one too many, and rests now; then what it has found is ``put_back``."""
        with self._lock:
            if not self.owed or self._over:
                return False
            self.owed -= 1
            put_back()
        self.wait_for_turn()
        return True

    def end(self, threads: int) -> None:
        """Let all threads go on, to their end: nothing is put back any more."""
        with self._lock:
            self._over = True
        self._give(threads)
