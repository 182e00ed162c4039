"""Streams that are fed, with a pool whose tasks end when a test says so."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import skyward as sky
from skyward.answers.streams import ResultStream, StreamBuffer
from skyward.errors import PoolClosedError, SerializationError
from skyward.pool.feeding import AHEAD, Feeder
from skyward.wire.payload import dumps_value
from skyward.wire.statuses import OK
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

WAIT = 10.0  # seconds for what takes none


@sky.function
def double(x: Any) -> Any:
    """Return twice the value."""
    return 2 * x


class Task:
    """A task as a pool makes it."""

    def __init__(self, index: int, value: Any, sink: Any, size: int) -> None:
        self.index, self.value, self.sink, self.size = index, value, sink, size
        self.state = 0


class Pool:
    """A pool whose tasks end when the test says so, in this thread."""

    slots = AHEAD  # nothing has to end before as many calls are made as can be ahead

    def __init__(self, size: int = 10) -> None:
        self.size = size  # bytes of each call
        self.dispatched: list[Task] = []
        self.cancelled: list[Task] = []
        self.made: list[int] = []  # calls serialized in one go
        self.commands: list[Callable[[], None]] = []
        self.closed = False
        self.room = threading.Event()
        self.room.set()

    def placing(self, *, snapshot: bool) -> None:
        """Place nothing."""

    def make_tasks(self, calls: Sequence[Any], sink: Any, placing: None, start: int) -> list[Any]:
        """Make a task of each call."""
        if any(call.args == ("unpicklable",) for call in calls):
            raise SerializationError("argument 'x'", ("x",), "no reason")
        self.made.append(len(calls))
        return [Task(index, call.args[0], sink, self.size) for index, call in enumerate(calls, start)]

    def dispatch(self, tasks: list[Any], buffer: StreamBuffer) -> bool:
        """Take tasks when there is room."""
        assert self.room.wait(WAIT)
        if self.closed:
            raise PoolClosedError("the pool is closed")
        if not buffer.wants_more():
            return False
        buffer.expect(tasks)
        self.dispatched += tasks
        return True

    def soon(self, command: Callable[[], None]) -> None:
        """Note a command for `turn`."""
        if self.closed:
            raise PoolClosedError("the pool is closed")
        self.commands.append(command)

    def as_this_task(self, run: Callable[[], None]) -> Callable[[], None]:
        """Change nothing: this is a client."""
        return run

    def turn(self) -> None:
        """Run what was to be done where outcomes are delivered."""
        while self.commands:
            self.commands.pop(0)()

    def end(self, count: int = 1, size: int = 10) -> None:
        """Let the next tasks end."""
        data = dumps_value(b"x" * size).data
        for task in self.dispatched[:count]:
            task.sink.deliver(task, (OK, data, (), 0, task.index, "double"))
        del self.dispatched[:count]

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Note tasks that nobody wants."""
        self.cancelled += tasks


class Feeding:
    """A stream that is fed, and its parts."""

    def __init__(self, calls: Iterator[Any], **options: Any) -> None:
        self.pool = cast("Any", Pool())
        kinds = {"ordered": True, "return_exceptions": False} | options
        self.buffer = StreamBuffer(None, cancel=self.pool.cancel, soon=self.pool.soon, **kinds)
        self.feeder = Feeder(self.pool, calls, self.buffer, 0)
        self.stream: ResultStream[Any] = ResultStream(self.buffer, self._wait)
        self.feeder.start()

    def _wait(self, waiter: Any) -> None:
        def happened() -> bool:
            self.pool.turn()
            return bool(waiter.done)

        until(happened, WAIT)

    def settle(self) -> None:
        """Wait until the feeder waits, or has ended."""
        until(lambda: self.feeder.hungry or not self.feeder.thread.is_alive(), WAIT)

    def join(self) -> None:
        """Wait for the feeder's end."""
        self.feeder.thread.join(WAIT)
        assert not self.feeder.thread.is_alive()
        self.pool.turn()
