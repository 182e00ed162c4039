"""Small threads that serve the user's code, so that it cannot hold up the loop: callbacks and output."""

from __future__ import annotations

import heapq
import itertools
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hand:
    """A thread, started on first need, that runs commands one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._commands: queue.SimpleQueue[Callable[[], None] | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.ran = 0  # commands

    def do(self, command: Callable[[], None]) -> None:
        """Run the command soon, in order."""
        self._commands.put(command)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def is_current(self) -> bool:
        """Return whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def finish(self, timeout: float) -> bool:
        """Return True when all that was handed in has run, False after ``timeout`` seconds; never waits for itself."""
        if self._thread is None or self.is_current():
            return True
        done = threading.Event()
        self._commands.put(done)
        return done.wait(timeout)

    def close(self, timeout: float) -> None:
        """Run what was handed in, then end; give up after ``timeout`` seconds."""
        with self._lock:
            self._closed = True
        self._commands.put(None)
        if self._thread is not None and not self.is_current():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            if isinstance(command, threading.Event):
                command.set()
                continue
            _run(command)
            del command  # while this waits for the next one it keeps nothing of the user's
            self.ran += 1


def _run(command: Callable[[], None]) -> None:
    try:
        command()
    except BaseException:  # it ends nothing but itself, and is told like what ends a thread
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Alarm:
    """A thread, there while something is due, that runs commands at their times."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []  # a heap
        self._count = itertools.count()
        self._thread: threading.Thread | None = None

    def after(self, delay: float, command: Callable[[], None]) -> None:
        """Run ``command`` in ``delay`` seconds."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._count), command))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (command := self._next()) is not None:
            _run(command)
            del command  # as above

    def _next(self) -> Callable[[], None] | None:
        """Return the next command when its time has come, or None, and the thread ends, if there is none."""
        with self._changed:
            while self._due:
                remaining = self._due[0][0] - time.monotonic()
                if remaining <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(min(remaining, threading.TIMEOUT_MAX))
            self._thread = None
            return None
