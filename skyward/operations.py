"""What can be done with a pool, wherever it is: on the client, or as a handle inside a task.

Both kinds turn calls into tasks here, in the thread that dispatches, so that what cannot be
serialized fails before anything is sent and arguments are as they were at that moment. They differ
in how tasks get to a scheduler and in who polls; those are the abstract methods.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from skyward.calls import PendingFunction, PendingFunctionGroup, gather
from skyward.dispatch.tasks import ANY, Task
from skyward.results import Collection, Future, Single, Sink, broadcast_values, unwrap
from skyward.runtime import Pool
from skyward.streams import DISCARD, ResultStream, StreamBuffer
from skyward.wire import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skyward.calls import Function
    from skyward.config import Options
    from skyward.waiting import Waiter
    from skyward.wire.functions import FunctionBlob, FunctionStore

T = TypeVar("T")

HEAD = 0


class PoolOperations(Pool):
    """The operations of a pool, in terms of a few primitives."""

    _options: Options
    _functions: FunctionStore
    _ids: itertools.count[int]

    # --- primitives ------------------------------------------------------------------------

    @abstractmethod
    def _check(self) -> None:
        """Raise unless the pool can be used here and now."""

    @abstractmethod
    def _submit(self, tasks: Sequence[Task], *, wait_for: Waiter | None = None) -> None:
        """Hand the tasks to the scheduler; with ``wait_for``, return when it is done."""

    @abstractmethod
    def _wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline."""

    @abstractmethod
    def _cancel(self, tasks: Sequence[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; never blocks."""

    @abstractmethod
    def _call_later(self, delay: float, command: Callable[[], None]) -> None:
        """Run ``command`` where outcomes are delivered, after ``delay`` seconds."""

    @abstractmethod
    def _wait_for_room(self, size: int) -> None:
        """Wait until ``size`` more bytes fit the window, unless this thread must not block."""

    @abstractmethod
    def _broadcast_ranks(self) -> tuple[int, ...]:
        """Return the ranks that are ready, at least one; wait for it if need be."""

    @abstractmethod
    def _new_future(self) -> Future[Any]:
        """Return a future that belongs to this pool."""

    # --- describing work as tasks ----------------------------------------------------------

    def _tasks(self, calls: Iterable[PendingFunction[Any]], sink: Sink, *, snapshot: bool) -> list[Task]:
        """Serialize the calls; nothing is sent if any of them cannot be."""
        self._check()
        blobs: dict[Function[..., Any], FunctionBlob] = {}
        return [self._task(call, sink, index, blobs, snapshot=snapshot) for index, call in enumerate(calls)]

    def _task(
        self,
        call: PendingFunction[Any],
        sink: Sink,
        index: int,
        blobs: dict[Function[..., Any], FunctionBlob],
        *,
        snapshot: bool,
        rank: int | None = None,
    ) -> Task:
        function = call.function
        packed, modules = payload.dumps_call(call.args, call.kwargs, function=function)
        blob = blobs.get(function)
        if blob is None or modules:
            blob = self._functions.resolve(function, modules)
            if not modules:
                blobs[function] = blob
        if snapshot and packed.buffers:
            packed = payload.snapshot(packed)
        options = self._options
        retries = next(r for r in (call.retries, function.retries, options.retries) if r is not None)
        timeout = next((t for t in (call.timeout, function.timeout, options.timeout) if t is not None), 0.0)
        if rank is None:
            rank = ANY if call.rank is None else call.rank
        task = Task(
            next(self._ids), blob, packed.data, packed.buffers, sink, index, retries, timeout, rank
        )
        if task.size > options.payload_limit:
            payload.refuse_size(function, task.size, options.payload_limit)
        return task

    # --- operators -------------------------------------------------------------------------

    def run(self, call: PendingFunction[T]) -> T:
        """Run the call on one node and return its value; ``call >> pool``."""
        if isinstance(call, PendingFunctionGroup):
            return self.run_group(call)
        single = Single()
        tasks = self._tasks([_checked(call)], single, snapshot=False)
        try:
            self._submit(tasks, wait_for=single)
        except BaseException:  # an interrupt cancels what this thread waits on
            self._cancel(tasks)
            raise
        assert single.outcome is not None
        value: T = unwrap(single.outcome)
        return value

    def run_async(self, call: Any) -> Future[Any]:
        """Start a call or a group and return a future; ``call > pool``."""
        if isinstance(call, PendingFunctionGroup):
            return self._group_future(call)
        future = self._new_future()
        future.tasks = tasks = self._tasks([_checked(call)], future, snapshot=True)
        self._wait_for_room(tasks[0].size)
        self._submit(tasks)
        return future

    def run_group(self, group: PendingFunctionGroup[Any]) -> Any:
        """Run the calls of a group; a tuple of their values, or a stream; ``group >> pool``."""
        if group.stream:
            return self._stream(group)
        collection, tasks = self._collect(group, snapshot=False)
        try:
            self._submit(tasks, wait_for=collection)
        except BaseException:
            self._cancel(tasks)
            raise
        return collection.values()

    def run_parallel(self, *calls: PendingFunction[Any]) -> tuple[Any, ...]:
        """Run the calls at once and return the tuple of their values."""
        values: tuple[Any, ...] = self.run_group(gather(*calls))
        return values

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready; values in rank order; ``call @ pool``."""
        _checked(call)
        self._check()
        ranks = self._broadcast_ranks()
        collection = Collection(len(ranks), return_exceptions=True, cancel=self._cancel)
        first = self._task(call, collection, 0, {}, snapshot=False, rank=ranks[0])
        tasks = [first]
        for index, rank in enumerate(ranks[1:], 1):
            copy = Task(
                next(self._ids), first.function, first.data, first.buffers, collection, index,
                first.retries, first.timeout, rank,
            )  # fmt: skip
            tasks.append(copy)
        try:
            self._submit(tasks, wait_for=collection)
        except BaseException:
            self._cancel(tasks)
            raise
        return broadcast_values(ranks, collection)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order.

        Items are pulled lazily and travel in chunks. An item that fails raises when it is its turn;
        iteration may go on after it.
        """
        from skyward.mapping import MapIterator

        self._check()
        return MapIterator(self, fn, iterables)

    # --- groups ----------------------------------------------------------------------------

    def _collect(self, group: PendingFunctionGroup[Any], *, snapshot: bool) -> tuple[Collection, list[Task]]:
        collection = Collection(
            len(group.calls), return_exceptions=group.return_exceptions, cancel=self._cancel
        )
        tasks = self._tasks(group.calls, collection, snapshot=snapshot)
        collection.tasks = tasks
        self._limit(group, collection)
        return collection, tasks

    def _limit(self, group: PendingFunctionGroup[Any], sink: Collection | StreamBuffer) -> None:
        timeout = group.timeout
        if timeout is not None:
            self._call_later(timeout, lambda: sink.expire(timeout))

    def _group_future(self, group: PendingFunctionGroup[Any]) -> Future[Any]:
        if group.stream:
            raise TypeError("a stream has no future: use gather(..., stream=True) >> pool, or gather(...) > pool")
        future = self._new_future()
        collection, tasks = self._collect(group, snapshot=True)
        future.tasks = tasks
        if not tasks:
            future.deliver(None, collection)
            return future
        collection.on_finish = lambda: future.deliver(None, _group_outcome(collection))
        self._wait_for_room(sum(task.size for task in tasks))
        self._submit(tasks)
        return future

    def _stream(self, group: PendingFunctionGroup[Any]) -> ResultStream[Any]:
        buffer = StreamBuffer(
            len(group.calls),
            ordered=group.ordered,
            return_exceptions=group.return_exceptions,
            cancel=self._cancel,
        )
        tasks = self._tasks(group.calls, buffer, snapshot=True)
        buffer.tasks = tasks
        self._limit(group, buffer)
        if tasks:
            self._submit(tasks)
        return ResultStream(buffer, self._wait)


def _checked(call: Any) -> Any:
    if not isinstance(call, PendingFunction):
        raise TypeError(f"expected a call of a @sky.function, like f(1), got {call!r}")
    return call


def _group_outcome(collection: Collection) -> Any:
    """Return what the group's future ends with: its failure, or all values."""
    return collection.failure if collection.failure is not None else collection


def must_not_block() -> bool:
    """Return whether this thread runs an event loop, which blocking would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


__all__ = ["ANY", "DISCARD", "HEAD", "PoolOperations", "must_not_block"]
