"""A loop with a handler that does next to nothing."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from skyward.transport.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 30.0  # seconds that nothing here takes


class Rig:
    """A handler that polls nothing but the loop's own descriptor, and notes who drives it."""

    def __init__(self) -> None:
        self.loop = Loop(self, "skyward-test")
        self.inside = threading.Lock()  # held by the owner while it is in here
        self.errors: list[str] = []
        self.bugs: list[Exception] = []
        self.drivers: set[int] = set()
        self.awaited: dict[int, bool] = {}  # by thread, what its last turn was for
        self.busy = False
        self.polling = threading.Event()  # a thread is about to sleep in the poll
        self.due = LONG
        self.on_turn: deque[Callable[[], None]] = deque()

    def owned(self, action: Callable[[], None] = lambda: None) -> None:
        """Do something that only one thread at a time may do."""
        if not self.inside.acquire(blocking=False):
            self.errors.append("two owners")
            return
        self.drivers.add(threading.get_ident())
        try:
            action()
        finally:
            self.inside.release()

    def turn(self, timeout: float, *, awaited: bool) -> None:
        """Sleep until somebody posts, at most ``timeout`` seconds."""
        self.awaited[threading.get_ident()] = awaited

        def poll() -> None:
            if timeout:
                self.polling.set()
            if select.select([self.loop.wake_fd], [], [], timeout)[0]:
                os.eventfd_read(self.loop.wake_fd)
            if self.on_turn:
                self.on_turn.popleft()()

        self.owned(poll)

    def next_deadline(self) -> float:
        """Return the far future."""
        return time.monotonic() + self.due

    def is_busy(self) -> bool:
        """Return what the test has set."""
        return self.busy

    def on_bug(self, error: Exception) -> None:
        """Note it."""
        self.bugs.append(error)

    def wait_until_asleep(self) -> None:
        """Return when the owner is about to sleep in the poll, with nothing left to do."""
        self.polling.clear()
        self.loop.wake()
        assert self.polling.wait(LONG)


def thread(target: Callable[[], object]) -> threading.Thread:
    """Return a thread that runs the target."""
    made = threading.Thread(target=target)
    made.start()
    return made
