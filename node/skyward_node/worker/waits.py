"""Who waits in each task, for its calls or for the other end of a stream: its slot is lent as long as anybody does.

A task may wait in several threads and coroutines at once. The daemon hears when the first of each kind begins and when
the last of it ends, in this order whichever thread does it: it is told under the lock. So finalizers, which may run in
the middle of anything, must change nothing here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from skyward_node.pipe_messages import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable


class Waits:
    """The waits of one worker's tasks."""

    def __init__(
        self, tell: Callable[[Waiting], object], lend: Callable[[int], object], take_back: Callable[[int], object]
    ) -> None:
        """``tell`` the daemon; ``lend`` the slot of a task inside this process, and ``take_back``, come before that."""
        self._tell = tell
        self._lend = lend
        self._take_back = take_back
        self._lock = threading.Lock()
        self._counts: dict[int, tuple[int, int]] = {}  # by task: of waits for calls, and for streams

    def begin(self, task: int, *, idle: bool) -> None:
        """Count one more wait; ``idle``: for the other end of a stream."""
        with self._lock:
            calls, streams = self._counts.get(task, (0, 0))
            if not calls + streams:
                self._lend(task)
            self._counts[task] = (calls, streams + 1) if idle else (calls + 1, streams)
            if not (streams if idle else calls):
                self._tell(Waiting(task, waiting=True, idle=idle))

    def end(self, task: int, *, idle: bool) -> None:
        """Count one less."""
        with self._lock:
            if task not in self._counts:  # it has ended before its wait
                return
            calls, streams = self._counts.pop(task)
            left = (calls, streams - 1) if idle else (calls - 1, streams)
            if any(left):
                self._counts[task] = left
            else:
                self._take_back(task)
            if not left[idle]:
                self._tell(Waiting(task, waiting=False, idle=idle))

    def forget(self, task: int) -> None:
        """A task has ended, perhaps before threads or coroutines of it that wait; the daemon hears of its end."""
        if task in self._counts:
            with self._lock:
                if self._counts.pop(task, None) is not None:
                    self._take_back(task)
