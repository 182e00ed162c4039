"""Something a thread can wait for, whoever brings it about.

PURE of sockets: the loop that polls, the worker's control thread, and tests all finish waiters.
"""

from __future__ import annotations

import threading


class Waiter:
    """A one-shot event for one waiting thread.

    Cheaper than `threading.Event`: the lock is made only when a thread really has to sleep.
    """

    __slots__ = ("_parking", "done", "promoted")

    def __init__(self) -> None:
        self.done = False
        self.promoted = False  # ownership of the loop was handed to the parked thread
        self._parking: threading.Lock | None = None  # held except for a moment at each wake-up

    def finish(self) -> None:
        """Let the waiting thread go on."""
        self.done = True
        self.unpark()

    def unpark(self) -> None:
        """Wake the parked thread, if there is one, to look again."""
        parking = self._parking
        if parking is not None and parking.locked():
            try:
                parking.release()
            except RuntimeError:  # another waker was faster
                pass

    def prepare_to_park(self) -> None:
        """From here on a wake-up is remembered until `park`."""
        if self._parking is None:
            self._parking = threading.Lock()
            self._parking.acquire()

    def park(self, timeout: float) -> None:
        """Sleep until woken, at most ``timeout`` seconds; `prepare_to_park` comes before."""
        assert self._parking is not None
        self._parking.acquire(timeout=max(0.0, min(timeout, threading.TIMEOUT_MAX)))
