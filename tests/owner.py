"""The pool, as futures see it, with the test for the owner of its loop."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from skyward.answers.futures import Future
from skyward.results import CancelledError
from tests.outcomes import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.answers.waiting import Waiter
    from skyward.dispatch.tasks import Task

LONG = 20.0  # seconds that nothing here takes


class Owner:
    """A pool, as its futures see it. Waiting runs what the test has prepared, or sleeps."""

    def __init__(self) -> None:
        self.cancelled: list[Task] = []
        self.stops = False  # a cancel succeeds
        self.on_wait: list[Callable[[], None]] = []
        self.waits = 0

    def wait_for(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait until the waiter is done."""
        self.waits += 1
        if self.on_wait:
            self.on_wait.pop(0)()
        waiter.prepare_to_park()
        while not waiter.done:
            remaining = LONG if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return False
            waiter.park(remaining)
        return True

    def lent(self) -> AbstractContextManager[None]:
        """Lend nothing."""
        return nullcontext()

    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Note it."""
        self.cancelled += tasks

    def cancel_future(self, future: Future[Any]) -> bool:
        """Cancel, if it shall succeed."""
        self.cancelled += future.tasks
        if self.stops:
            future.settle(CancelledError())
        return future.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Run it in a thread."""
        thread = threading.Thread(target=callback, name="callbacks")
        thread.start()


def make() -> tuple[Owner, Future[Any], Task]:
    """Return a future of one task."""
    owner = Owner()
    future: Future[Any] = Future(owner)
    (task,) = tasks(1)
    future.tasks = [task]
    return owner, future, task


def state(future: Future[Any]) -> tuple[bool, bool, bool]:
    """Return whether it is done, runs, was cancelled."""
    return future.done(), future.running(), future.cancelled()
