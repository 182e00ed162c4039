"""The iterator that a call of a generator function gives: its elements as the remote side yields them.

The owner of the loop delivers elements, still serialized; the consumer's thread unpickles them, and grants the producer
more as it takes them. Both touch only atomic operations of a deque and attributes of their own: there is no lock. A
consumer publishes its waiter *before* it looks a last time, so no delivery goes unnoticed.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from skyward.answers.consuming import Consumer
from skyward.dispatch.tasks import SETTLED
from skyward.errors import PoolClosedError, TaskTimeoutError
from skyward.results import Outcome, Sink, failed, load, unwrap
from skyward.wire.credit import Allowance
from skyward.wire.frames import payload_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from skyward.answers.limits import Limit
    from skyward.answers.waiting import Waiter
    from skyward.dispatch.tasks import Task
    from skyward.wire.frames import Buffer

T = TypeVar("T")

Row = tuple["Buffer", "tuple[Buffer, ...]", int]  # a pickle, its buffers, how many elements are in it


class StreamOwner(Protocol):
    """What a stream of values needs from its pool."""

    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline."""
        ...

    def lent(self) -> AbstractContextManager[None]:
        """Lend the slot of the task that runs here, if one does, for the length of a block that waits."""
        ...

    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; never blocks."""
        ...

    def grant(self, task: Task, items: int, size: int) -> None:
        """Let the task send so many more elements and bytes."""
        ...


class ValueBuffer(Sink):
    """Elements between the loop's owner, who delivers, and the one consumer, who takes."""

    __slots__ = (
        "__weakref__", "_allowance", "_opened", "_pool", "_rows", "closed", "end", "limit", "needed", "task", "waiter",
    )  # fmt: skip

    def __init__(self, pool: StreamOwner) -> None:
        self._pool = pool
        self._rows: deque[Row] = deque()
        self._opened: Row | None = None  # the consumer has its elements, and comes back when it has used them up
        self._allowance = Allowance()
        self.task: Task | None = None
        self.end: Outcome | None = None  # how the generator ended
        self.waiter: Waiter | None = None
        self.closed = False  # nobody takes anything any more
        self.limit: Limit | None = None  # of its group
        self.needed = False  # another call of the pool takes the elements: it ends when that does

    # --- the owner of the loop ----------------------------------------------------------------

    def receive(self, rows: Sequence[tuple[Buffer, tuple[Buffer, ...]]], counts: Sequence[int] = ()) -> bool:
        """Take in elements, so many in each row if ``counts`` says so; False if they are more than were granted."""
        if self.closed or self.end is not None:  # the latter by its time, or with its pool
            return True
        counted = [(data, buffers, count) for (data, buffers), count in zip(rows, counts or repeat(1), strict=False)]
        number = sum(counts) or len(rows)
        size = sum([payload_size(data, buffers) for data, buffers, _ in counted])
        self._rows.extend(counted)
        within = self._allowance.receive(number, size, time.monotonic())
        if (waiter := self.waiter) is not None:
            waiter.finish()
        return within

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take in how the generator has ended."""
        self.finish(outcome)

    def finish(self, outcome: Outcome) -> None:
        """No element follows."""
        if self.end is None:
            self.end = outcome
        if (waiter := self.waiter) is not None:
            waiter.finish()

    # --- the consumer -------------------------------------------------------------------------

    def take(self) -> Row | None:
        """Return the next row, or None if it is not here; all of the last one has been taken."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self._count(opened)
        if not self._rows:
            return None
        row = self._rows.popleft()
        if row[2] > 1:
            self._opened = row
        else:
            self._count(row)
        return row

    def _count(self, row: Row) -> None:
        grant = self._allowance.take(payload_size(row[0], row[1]), time.monotonic(), row[2])
        if grant is not None and self.end is None:
            assert self.task is not None
            self._pool.grant(self.task, *grant)

    @property
    def has_rows(self) -> bool:
        """Return whether an element is here."""
        return bool(self._rows)

    def close(self) -> None:
        """Drop what is here, and stop the generator."""
        self.closed = True
        self._rows.clear()
        if (waiter := self.waiter) is not None:  # another thread has closed the stream
            waiter.finish()
        self._stop()

    def give_up(self) -> None:
        """The pool closes: stop the generator, unless a call needs it."""
        if self.end is None and not self.needed:
            self.finish(PoolClosedError("the pool was closed"))
            self._stop()

    def expire(self, timeout: float) -> None:
        """The time of its group is over: no element follows, and the generator is stopped."""
        if self.end is None and not self.closed:
            self.finish(TaskTimeoutError(timeout, group=True))
            self._stop()

    def _stop(self) -> None:
        task = self.task
        if task is not None and task.state != SETTLED:
            for feed in task.feeds:
                feed.stop()
            self._pool.cancel_tasks([task])


class _Loaded:
    """An element of a row that another thread has opened."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class ValueStream(Consumer[T]):
    """An iterator over what a generator yields on a node; also an asynchronous one.

    Closing it, leaving its ``with`` block, or dropping the last reference stops the generator, whose ``finally`` runs.
    """

    def __init__(self, buffer: ValueBuffer, pool: StreamOwner) -> None:
        super().__init__(buffer, pool.wait_for, pool.lent)
        self._buffer = buffer
        self._ready: deque[T] = deque()  # elements of the last row

    def __next__(self) -> T:
        try:
            return self._ready.popleft()
        except IndexError:
            pass  # what is raised below has nothing to do with it
        return super().__next__()

    async def __anext__(self) -> T:
        return self._ready.popleft() if self._ready else await super().__anext__()

    def _take(self) -> Any:
        try:  # before what is behind them: another thread may have opened a row while this one waited
            return _Loaded(self._ready.popleft())
        except IndexError:
            return super()._take()

    def _is_over(self) -> bool:
        if self._ready:
            return False
        buffer = self._buffer
        if self._closed or buffer.closed:
            return True
        outcome = buffer.end
        if outcome is None or buffer.has_rows:
            return False
        self._closed = True
        if failed(outcome):
            unwrap(outcome)
        return True

    def _hand_out(self, item: Row | _Loaded) -> T:
        if isinstance(item, _Loaded):
            return cast("T", item.value)
        data, buffers, count = item
        self._taken += count
        try:
            loaded = load(data, buffers)
            if count == 1:
                value: T = loaded
                return value
            first, *rest = loaded
        except BaseException:
            self.close()
            raise
        self._ready.extend(rest)
        if self._buffer.closed:  # meanwhile, by another thread
            self._ready.clear()
        return cast("T", first)

    def need(self, *, needed: bool = True) -> None:
        """Note that a call of the pool takes the elements, so that closing the pool waits for that; or does no more."""
        self._buffer.needed = needed

    def end_with(self, limit: Limit | None) -> None:
        """Have the time limit of the group, if there is one, end it, too."""
        if limit is not None:
            self._buffer.limit = limit  # which knows us weakly
            limit.add(self._buffer)

    def _abandon(self) -> None:
        self._ready.clear()
        self._buffer.close()

    async def aclose(self) -> None:
        """Stop the generator; it is not waited for."""
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a stream of values cannot be pickled; as an argument of a call it is fed element by element where the "
            "parameter is annotated Iterator[...] or Iterable[...]"
        )

    def __repr__(self) -> str:
        task = self._buffer.task
        name = task.name if task is not None else "?"
        return f"<ValueStream of {name}, {self._taken - len(self._ready)} taken{', closed' if self._closed else ''}>"
