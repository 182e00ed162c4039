"""Results one by one: the iterator that ``gather(…, stream=True) >> pool`` returns."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from skyward.answers.consuming import Consumer
from skyward.dispatch.ordering import Ordering
from skyward.dispatch.tasks import SETTLED
from skyward.errors import PoolClosedError, TaskTimeoutError
from skyward.results import DISCARD, Given, Outcome, Sink, failed, unwrap, unwrap_in_place
from skyward.wire.frames import payload_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from skyward.answers.limits import Limit
    from skyward.answers.waiting import Waiter
    from skyward.dispatch.tasks import Task
    from skyward.pool.feeding import Feeder

OVERHEAD: Final = 300  # bytes that an outcome takes beside its value

T = TypeVar("T")


class StreamBuffer(Sink):
    """Outcomes between the loop's owner, who delivers, and the one consumer, who takes.

    Both sides touch only atomic operations of deques and single attributes: there is no lock. A
    consumer publishes its waiter *before* it looks a last time, so no delivery goes unnoticed.
    """

    __slots__ = (
        "__weakref__", "_brought", "_buffer", "_cancel", "_gifts", "_ordered", "_overdue", "_return_exceptions",
        "_soon", "_taken", "abandoned", "ended", "error", "feeder", "given", "handed_out", "limit", "stopped", "tasks",
        "total", "usual", "waiter",
    )  # fmt: skip

    def __init__(
        self,
        total: int | None,
        *,
        ordered: bool,
        return_exceptions: bool,
        cancel: Callable[[Sequence[Task]], None],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        """``soon`` runs a command where outcomes are delivered."""
        self._soon = soon
        self._buffer: Ordering[Outcome] = Ordering(ordered=ordered)
        self._cancel = cancel
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self.total = total  # None as long as it is not known
        self.tasks: dict[int, Task] = {}  # dispatched and not ended, by index
        self.feeder: Feeder | None = None  # brings members later
        self.stopped = False  # no more members are wanted
        self.error: BaseException | None = None  # why there are no more members, for the consumer
        self.ended = 0  # members that have an outcome
        self.limit: Limit | None = None
        self._overdue = 0.0  # seconds that the group had, once they are over
        self._brought = 0  # bytes of outcomes, counted by the loop's owner alone
        self._taken = 0  # of those that were taken, counted by the consumer alone
        self.usual = OVERHEAD  # bytes of an outcome, by the last ones: more counts at once, less little by little
        self._gifts: dict[int, Any] = {}  # iterators of members that yield and are not dispatched yet
        self.given = 0  # iterators of members that yield; counted by who dispatches
        self.handed_out = 0  # of these; counted by the consumer
        self.waiter: Waiter | None = None
        self.abandoned = False

    @property
    def held(self) -> int:
        """Return the bytes of outcomes that were not taken."""
        return self._brought - self._taken

    def wants_more(self) -> bool:
        """Return whether members that were not dispatched are wanted still."""
        return not self.stopped

    def expect(self, tasks: Sequence[Task]) -> None:
        """Note members that are about to be dispatched."""
        self.tasks.update([(task.index, task) for task in tasks if task.sink is self])
        if self._gifts:
            for task in tasks:
                if task.index in self._gifts:
                    self._hand_over(task.index, self._gifts.pop(task.index))

    def _hand_over(self, index: int, stream: Any) -> None:
        self.given += 1
        self._soon(lambda: self.add(index, Given(stream)))

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome of the member ``task.index``."""
        self.tasks.pop(task.index, None)
        self.add(task.index, outcome)

    def give(self, index: int, stream: Any) -> None:
        """Take the iterator of a member that yields; it is the consumer's, once the member is dispatched."""
        stream.end_with(self.limit)
        self._gifts[index] = stream

    def add(self, index: int, outcome: Outcome) -> None:
        """Take the outcome of a member."""
        if self.abandoned:
            return
        ready = self._buffer.add(index, outcome)
        self.ended += 1
        feeder = self.feeder
        if feeder is not None:
            size = _size(outcome)
            self._brought += size
            self.usual = size if size > self.usual else self.usual - (self.usual - size) // 8
            if feeder.hungry:
                feeder.look()
        if not self._return_exceptions and failed(outcome):
            self.stopped = True
            if feeder is not None:
                feeder.stop()
            # In submission order the members before this one still have their turn.
            rest = [task for at, task in self.tasks.copy().items() if at > index or not self._ordered]
            self._cancel(rest)
        if ready and (waiter := self.waiter) is not None:
            waiter.finish()

    def finish(self, total: int, error: BaseException | None = None) -> None:
        """There are so many members; ``error`` says why there are no more, if that is not as it should be."""
        self.error = self.error or error
        if self.total is None or self.error is not None:
            self.total = total if self.total is None else min(total, self.total)
        elif self._overdue:
            for index in range(total, self.total):
                self.add(index, TaskTimeoutError(self._overdue, group=True))
        if (waiter := self.waiter) is not None:
            waiter.finish()

    def expire(self, timeout: float) -> None:
        """The group's time is over: what is missing failed for that reason."""
        self._overdue = timeout
        if self.feeder is not None and self.feeder.thread.is_alive():
            self.feeder.stop()
            if self.total is None:  # not to wait for the user's iterator
                self.finish(self.feeder.index, TaskTimeoutError(timeout, group=True))
        missing = [task for task in self.tasks.copy().values() if task.state != SETTLED]
        for task in missing:
            task.sink = DISCARD
            self.tasks.pop(task.index, None)
            self.add(task.index, TaskTimeoutError(timeout, group=True))
        self._cancel(missing)

    def take(self) -> tuple[int, Outcome] | None:
        """Return the next outcome with its index, or None if its turn has not come."""
        taken = self._buffer.take()
        feeder = self.feeder
        if taken is not None and isinstance(taken[1], Given):
            self.handed_out += 1
        if taken is not None and feeder is not None:
            self._taken += _size(taken[1])
            if feeder.hungry:
                feeder.look()
        return taken

    def abandon(self) -> None:
        """Nobody will take anything any more: drop all, cancel what is left."""
        self.abandoned = self.stopped = True
        tasks, self.tasks = list(self.tasks.copy().values()), {}
        self._buffer.clear()
        if self.feeder is not None:
            self.feeder.stop()
        if (waiter := self.waiter) is not None:  # another thread has closed the stream
            waiter.finish()
        self._cancel(tasks)

    def value(self, outcome: Outcome) -> Any:
        """Return the value of an outcome; raise or return its failure, as the group says."""
        if isinstance(outcome, PoolClosedError) or not self._return_exceptions:
            return unwrap(outcome)
        return unwrap_in_place(outcome)


def _size(outcome: Outcome) -> int:
    return OVERHEAD + payload_size(outcome[1], outcome[2]) if isinstance(outcome, tuple) else OVERHEAD


class ResultStream(Consumer[T]):
    """An iterator over the results of a group, in submission or in completion order.

    Closing it, leaving its ``with`` block, or dropping the last reference cancels what is left.
    """

    def __init__(
        self,
        buffer: StreamBuffer,
        wait: Callable[[Waiter], Any],
        lent: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``lent`` is the pool's, for coroutines that wait."""
        super().__init__(buffer, wait, lent)
        self._buffer = buffer
        self._closed = buffer.total == 0

    def __len__(self) -> int:
        """Return the total number of results, taken or not; `TypeError` while the calls are still being made."""
        if self._buffer.total is None:
            raise TypeError("the length of this stream is not known: its calls come from an iterator")
        return self._buffer.total

    def indexed(self) -> Indexed[T]:
        """Return an iterator over (index in submission order, result); an asynchronous one, too."""
        take, take_async = self._next_shown, self._next_shown_async
        return Indexed(self, partial(take, self._hand_out_indexed), partial(take_async, self._hand_out_indexed))

    def _hand_out_indexed(self, item: tuple[int, Outcome]) -> tuple[int, T]:
        return item[0], self._hand_out(item)

    def _is_over(self) -> bool:
        if self._closed:  # by another thread
            return True
        buffer = self._buffer
        if buffer.total is None or self._taken < buffer.total:
            return False
        self._closed = True
        if buffer.error is not None:
            raise buffer.error
        return True

    def _hand_out(self, item: tuple[int, Outcome]) -> T:
        self._taken += 1
        if self._taken == self._buffer.total and self._buffer.error is None:
            self._closed = True
        try:
            value: T = self._buffer.value(item[1])
        except BaseException:
            self.close()
            raise
        return value

    def _abandon(self) -> None:
        self._buffer.abandon()

    def __repr__(self) -> str:
        total = self._buffer.total
        closed = ", closed" if self._closed and (total is None or self._taken < total) else ""
        return f"<ResultStream {self._taken} of {'?' if total is None else total} taken{closed}>"


class Indexed(Generic[T]):
    """An iterator over the results of a stream with their indexes in submission order; also an asynchronous one."""

    def __init__(
        self,
        stream: ResultStream[T],
        take: Callable[[], tuple[int, T]],
        take_async: Callable[[], Awaitable[tuple[int, T]]],
    ) -> None:
        self._stream = stream
        self._take = take
        self._take_async = take_async

    def __len__(self) -> int:
        """Return the total number of results, as the stream does."""
        return len(self._stream)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, T]:
        return self._take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, T]:
        return await self._take_async()

    def __repr__(self) -> str:
        return f"<indexed {self._stream!r}>"
