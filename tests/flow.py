"""A stream of results, and the test for the owner of its loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.answers.streams import ResultStream, StreamBuffer
from skyward.dispatch.tasks import SETTLED
from tests.outcomes import tasks, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.answers.waiting import Waiter
    from skyward.results import Outcome

LONG = 20.0  # seconds that nothing here takes


class WatchedBuffer(StreamBuffer):
    """A buffer to which something may happen just after its consumer has looked."""

    __slots__ = ("after_look",)

    after_look: list[Callable[[], None]]

    def take(self) -> tuple[int, Outcome] | None:
        """Look, and let the next thing happen."""
        taken = super().take()
        if self.after_look:
            self.after_look.pop(0)()
        return taken


class Flow:
    """A stream, and the hands of the loop's owner."""

    def __init__(self, total: int, *, ordered: bool = True, return_exceptions: bool = False) -> None:
        self.cancelled: list[int] = []  # indexes
        self.on_wait: list[Callable[[], None]] = []
        self.buffer = WatchedBuffer(
            total,
            ordered=ordered,
            return_exceptions=return_exceptions,
            cancel=lambda tasks: self.cancelled.extend(task.index for task in tasks),
            soon=lambda command: command(),
        )
        self.buffer.after_look = []
        self.tasks = tasks(total)
        for task in self.tasks:
            task.sink = self.buffer
        self.buffer.expect(self.tasks)
        self.stream: ResultStream[Any] = ResultStream(self.buffer, self.wait)

    def deliver(self, index: int, outcome: Outcome | None = None) -> None:
        """End a member, as the engine does."""
        task = self.tasks[index]
        task.state = SETTLED
        sink, task.sink = task.sink, None
        sink.deliver(task, value(index) if outcome is None else outcome)

    def after_looks(self, count: int, then: Callable[[], None]) -> None:
        """Do something just after the consumer has looked so many times."""
        self.buffer.after_look = [*[lambda: None] * (count - 1), then]

    def wait(self, waiter: Waiter) -> None:
        """Do what the test has prepared, until the waiter is done."""
        while not waiter.done:
            self.on_wait.pop(0)()
