"""Lending the slot of a task while one of its threads, or one of its coroutines, waits for calls of the task's own.

Whoever waits holds a `Lent`, in a thread or a coroutine of the task: `NestedPool.wait_for`, ``await future``, ``async
for``, and the helpers of `concurrent.futures`. Many may be held at once; the worker counts them. On the client nothing
is lent, and a null context stands in.

Polling ``done()``, and events that callbacks set, are waits that nobody here sees.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType


class Lent:
    """The slot of a task, lent for the length of a block."""

    __slots__ = ("_set_waiting", "_soon", "_task")

    def __init__(
        self, task: int, set_waiting: Callable[[int, bool], object], soon: Callable[[Callable[[], None]], None]
    ) -> None:
        self._task = task
        self._set_waiting = set_waiting
        self._soon = soon

    def __enter__(self) -> None:
        self._set_waiting(self._task, True)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A coroutine that nobody awaits any more ends in the garbage collector, in the middle of anything.
        if kind is GeneratorExit:
            self._soon(self._end)
        else:
            self._end()

    def _end(self) -> None:
        self._set_waiting(self._task, False)


class LentEvent(threading.Event):
    """An event whose wait lends the slot."""

    def __init__(self, lent: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._lent = lent

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as any event does."""
        if self.is_set() or (timeout is not None and timeout <= 0):
            return self.is_set()
        with self._lent():
            return super().wait(timeout)


class Waiters(list[Any]):
    """The helpers of `concurrent.futures` that wait for a future: each sleeps on an event, which is made to lend."""

    __slots__ = ("_lent",)

    def __init__(self, lent: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._lent = lent

    def append(self, waiter: Any) -> None:
        """Take a helper in, before it sleeps: it holds the locks of all its futures, so its event is not set."""
        if not isinstance(waiter.event, LentEvent):
            waiter.event = LentEvent(self._lent)
        super().append(waiter)
