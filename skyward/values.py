"""The iterator that a call of a generator function gives: its elements as the remote side yields them.

The owner of the loop delivers elements, still serialized; the consumer's thread unpickles them, and grants the producer
more as it takes them. Both touch only atomic operations of a deque and attributes of their own: there is no lock. A
consumer publishes its waiter *before* it looks a last time, so no delivery goes unnoticed.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from skyward.dispatch.tasks import SETTLED
from skyward.errors import PoolClosedError
from skyward.results import Outcome, Sink, failed, load, unwrap
from skyward.streams import AsyncWaiter
from skyward.waiting import Waiter
from skyward.wire.credit import Allowance
from skyward.wire.frames import size_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from skyward.dispatch.tasks import Task
    from skyward.wire.frames import Buffer

T = TypeVar("T")

Row = tuple["Buffer", "tuple[Buffer, ...]"]


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

    __slots__ = ("__weakref__", "_allowance", "_pool", "_rows", "closed", "end", "needed", "task", "waiter")

    def __init__(self, pool: StreamOwner) -> None:
        self._pool = pool
        self._rows: deque[Row] = deque()
        self._allowance = Allowance()
        self.task: Task | None = None
        self.end: Outcome | None = None  # how the generator ended
        self.waiter: Waiter | None = None
        self.closed = False  # nobody takes anything any more
        self.needed = False  # another call of the pool takes the elements: it ends when that does

    # --- the owner of the loop ----------------------------------------------------------------

    def receive(self, rows: Sequence[Row]) -> bool:
        """Take in elements; False if they are more than were granted."""
        if self.closed:
            return True
        self._rows.extend(rows)
        within = self._allowance.receive(len(rows), sum(map(_size, rows)), time.monotonic())
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
        """Return the next element, or None if it is not here."""
        if not self._rows:
            return None
        row = self._rows.popleft()
        grant = self._allowance.take(_size(row), time.monotonic())
        if grant is not None and self.end is None:
            assert self.task is not None
            self._pool.grant(self.task, *grant)
        return row

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

    def _stop(self) -> None:
        task = self.task
        if task is not None and task.state != SETTLED:
            for feed in task.feeds:
                feed.stop()
            self._pool.cancel_tasks([task])


def _size(row: Row) -> int:
    return len(row[0]) + (size_of(row[1]) if row[1] else 0)


class ValueStream(Generic[T]):
    """An iterator over what a generator yields on a node; also an asynchronous one.

    Closing it, leaving its ``with`` block, or dropping the last reference stops the generator.
    """

    def __init__(self, buffer: ValueBuffer, pool: StreamOwner) -> None:
        self._buffer = buffer
        self._pool = pool
        self._taken = 0
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        row = self._next_row()
        while row is None:
            waiter = self._buffer.waiter = Waiter()
            if self._is_over():
                raise StopIteration
            row = self._next_row()
            if row is None:
                self._wait_or_close(waiter)
                row = self._next_row()
        return self._load(row)

    def _next_row(self) -> Row | None:
        return None if self._closed else self._buffer.take()

    def _is_over(self) -> bool:
        """Return whether nothing more will come; raise what ended it, if that is not as it should be."""
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

    def _wait_or_close(self, waiter: Waiter) -> None:
        try:
            self._pool.wait_for(waiter)
        except BaseException:  # an interrupt stops what this thread waits for
            self.close()
            raise
        finally:
            self._buffer.waiter = None

    def _load(self, row: Row) -> T:
        self._taken += 1
        try:
            value: T = load(*row)
        except BaseException:
            self.close()
            raise
        return value

    async def __anext__(self) -> T:
        row = self._next_row()
        while row is None:
            waiter = self._buffer.waiter = AsyncWaiter()
            if self._is_over():
                raise StopAsyncIteration
            row = self._next_row()
            if row is None:
                try:
                    with self._pool.lent():
                        await waiter.wait()
                except BaseException:  # the consuming asyncio task was cancelled
                    self.close()
                    raise
                finally:
                    self._buffer.waiter = None
                row = self._next_row()
        return self._load(row)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def need(self) -> None:
        """Note that a call of the pool takes the elements, so that closing the pool waits for that."""
        self._buffer.needed = True

    def close(self) -> None:
        """Stop the generator, whose ``finally`` runs; the iterator is at its end."""
        if not self._closed:
            self._closed = True
            self._buffer.close()

    async def aclose(self) -> None:
        """Do the same; it does not wait for the generator."""
        self.close()

    def __enter__(self) -> ValueStream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> ValueStream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a stream of values cannot be pickled; as an argument of a call it is fed element by element where the "
            "parameter is annotated Iterator[...] or Iterable[...]"
        )

    def __del__(self) -> None:
        # Interpreter exit can have taken our globals; the pool cancels what is left anyway.
        with contextlib.suppress(Exception):
            self.close()

    def __repr__(self) -> str:
        task = self._buffer.task
        name = task.name if task is not None else "?"
        return f"<ValueStream of {name}, {self._taken} taken{', closed' if self._closed else ''}>"
