"""`pool.map`: one function over many items, in chunks of its own choosing.

A chunk is a call of `chunks.Items`, which applies the function to several items and keeps them apart; `chunk_size` says
how many. Where items must stand alone (a time limit, a process for each, or no re-runs) every chunk has one. A chunk
that fails as a whole, because its worker died or its values have too many bytes together, is run again item by item, so
that only the culprit fails.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from skyward.errors import PoolClosedError, RemoteError, SerializationError, TaskError
from skyward.pool.chunk_size import ChunkSize
from skyward.pool.chunks import parts, values_of
from skyward.pool.mapped_function import MappedFunction
from skyward.results import CancelledError
from skyward.wire import failures

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from skyward.answers.futures import Future
    from skyward.config import Options
    from skyward.pool.chunks import Carried, Outcomes
    from skyward.pool.operations import PoolOperations

T = TypeVar("T")

AHEAD: Final = 3  # chunks under way per slot: one runs, one waits behind it, one is on its way


def _told(error: BaseException) -> BaseException:
    """Return the error, or in its place one that does not end the loop over all items."""
    if not isinstance(error, StopIteration):
        return error
    told = RuntimeError(f"the function raised {error!r}")
    told.__cause__ = error
    return told


class _Sent(NamedTuple):
    """A chunk under way, or one that could not leave."""

    items: list[Any]
    future: Future[Any] | None
    task: int = 0
    error: Exception | None = None


class _Failed(NamedTuple):
    """An item that has failed: an error of ours, or what its worker says."""

    error: Exception | bytes
    node: int = -1
    task: int = 0


class MapIterator(Generic[T]):
    """The results of ``pool.map``, in order. Iteration may go on after an item has failed.

    Items are pulled as results are taken, some chunks ahead. Closing it, leaving its ``with`` block, or
    dropping the last reference cancels what is under way.
    """

    def __init__(self, pool: PoolOperations, fn: Any, iterables: tuple[Iterable[Any], ...], options: Options) -> None:
        self._several = len(iterables) > 1
        self._function = MappedFunction(fn, several=self._several)
        if not iterables:
            raise TypeError("map needs at least one iterable: pool.map(f, items)")
        self._size = ChunkSize(alone=self._function.stands_alone(options))
        self._pool = pool
        self._items: Iterator[Any] = zip(*iterables, strict=False) if self._several else iter(iterables[0])
        self._exhausted = False
        self._sent: deque[_Sent] = deque()
        self._turn = threading.RLock()  # held by who sees to values; reentrant for an iterable that takes some itself
        self._pulled: list[Any] = []  # items that an interrupt has kept from being sent
        self._values: deque[T] = deque()  # of the items that are next; who takes one has it alone
        self._then: deque[deque[T] | _Failed] = deque()  # what follows them

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while True:
            try:
                return self._values.popleft()
            except IndexError:
                pass  # what is raised below has nothing to do with it
            with self._turn:
                if not self._values:  # else another thread has seen to them meanwhile
                    self._next_values()

    def _next_values(self) -> None:
        """Have values at hand, or raise what stands in the place of the next one."""
        while not self._then:
            self._fill()
            if not self._sent:
                raise StopIteration
            self._take(self._sent[0])
        self._show()

    def _show(self) -> None:
        """Have the next values at hand, or raise what stands in their place."""
        then = self._then.popleft()
        if not isinstance(then, _Failed):
            self._values = then
        elif isinstance(then.error, Exception):
            raise then.error
        else:
            raise _told(failures.to_exception(then.error, function=self._function.name, node=then.node, task=then.task))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                return self._values.popleft()
            except IndexError:
                pass
            with self._turn:
                awaited = None if self._values or self._then else self._take_if_there()
                if not self._values and self._then:
                    self._show()
            if awaited is not None:
                await self._until(awaited)

    def _take_if_there(self) -> Future[Any] | None:
        """Take in the outcomes of the first chunk if it is there; else return what has to be awaited before that."""
        self._fill()
        if not self._sent:
            raise StopAsyncIteration
        first = self._sent[0]
        if first.future is not None and not first.future.done():
            return first.future
        self._take(first)
        return None

    async def _until(self, future: Future[Any]) -> None:
        """Return when a chunk has ended, however it has."""
        import asyncio  # it is there when somebody awaits

        try:
            with self._pool.lent():
                ended, _ = await asyncio.wait([asyncio.wrap_future(future)])
        except BaseException:  # the consuming asyncio task was cancelled
            self.close()
            raise
        for each in ended:
            if not each.cancelled():
                each.exception()  # whoever takes it in raises it; here it only has to be looked at

    def _fill(self) -> None:
        """Keep some chunks per slot under way."""
        while not self._exhausted and len(self._sent) < AHEAD * max(1, self._slots()):
            items = self._pulled
            error: Exception | None = None
            size = max(len(items), self._size.items)
            try:
                items.extend(islice(self._items, size - len(items)))
            except Exception as caught:  # of an iterable: raised in its turn, after the items that came before
                error = caught
            self._pulled = []
            self._exhausted = len(items) < size
            if items:
                self._sent.extend(self._send_all(items))
            if error is not None:
                self._sent.append(_Sent([None], None, error=error))

    def _slots(self) -> int:
        return self._pool.slots

    def _send_all(self, items: list[Any]) -> list[_Sent]:
        sent = self._send_each(parts(items, several=self._several))
        self._size.note_parts(len(items), len(sent))
        return sent

    def _send_each(self, chunks: Iterable[tuple[list[Any], Carried | None]]) -> list[_Sent]:
        """Send chunks. What strikes meanwhile ends all, as while one is waited for: which have left nobody knows."""
        sent: list[_Sent] = []
        try:
            for items, carried in chunks:
                sent.append(self._send(items, carried))
        except BaseException:
            self._sent.extend(sent)
            self.close()
            raise
        return sent

    def _send(self, items: list[Any], carried: Carried | None) -> _Sent:
        try:
            future = self._pool.run_async(self._function.call(items if carried is None else carried))
        except SerializationError as error:
            return _Sent(items, None, error=self._function.explained(items, error))
        tasks = future.tasks
        return _Sent(items, future, tasks[0].id if tasks else 0)

    def _take(self, sent: _Sent) -> None:
        """Take in the outcomes of the first chunk; if it failed as a whole, send its items one by one."""
        if sent.future is not None:
            self._wait(sent.future)
        try:
            outcomes = self._outcomes(sent)
            values, wrong = values_of(outcomes)
        except CancelledError:  # only the pool's end cancels what is waited for: after an interrupt nobody waits
            self.close()
            raise PoolClosedError("the pool was closed") from None
        except Exception as error:
            alone = len(sent.items) == 1 or not isinstance(error, TaskError | SerializationError)
            again = [] if alone else self._send_each(([item], None) for item in sent.items)
            self._sent.popleft()
            self._sent.extendleft(reversed(again))
            if alone:
                self._then.extend(_Failed(error) for _ in sent.items)
        else:
            seconds, node, *_, most = outcomes
            then: list[deque[T] | _Failed] = []
            start = 0
            for place, failure in sorted(wrong.items()):
                if isinstance(failure, RemoteError):
                    failures.locate(failure, function=self._function.name, node=node, task=sent.task)
                then += [deque(values[start:place]), _Failed(failure, node, sent.task)]
                start = place + 1
            then.append(deque(values[start:] if start else values))
            starts = range(len(values), len(sent.items), most)  # what the worker has not come to
            left = [part for at in starts for part in self._send_all(sent.items[at : at + most])]
            self._sent.popleft()  # only now: an interrupt before this loses nothing
            self._sent.extendleft(reversed(left))
            self._then += then
            self._size.note_time(seconds / len(values), most)

    def _wait(self, future: Future[Any]) -> None:
        """Wait for a chunk. What strikes then, an interrupt or what a handler raises, ends all, and is no outcome."""
        try:
            future.wait_done(None)
        except BaseException:
            self.close()
            raise

    def _outcomes(self, sent: _Sent) -> Outcomes:
        if sent.future is None:
            assert sent.error is not None
            raise sent.error
        try:
            outcomes: Outcomes = sent.future.result()
        except Exception:
            raise
        except BaseException:  # an interrupt while the values are unpickled
            self.close()
            raise
        return outcomes

    def close(self) -> None:
        """Cancel what is under way; the iterator is at its end."""
        self._exhausted = True
        self._pulled.clear()
        self._values.clear()
        self._then.clear()
        sent, self._sent = self._sent, deque()
        for chunk in sent:
            if chunk.future is not None:
                self._pool.cancel_tasks(chunk.future.tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # noqa: S110 - interpreter exit can have taken our globals; the pool cancels the rest
            pass
