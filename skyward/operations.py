"""What can be done with a pool, wherever it is: on the client, or as a handle inside a task.

Both kinds turn calls into tasks here, in the thread that dispatches, so that what cannot be
serialized fails before anything is sent and arguments are as they were at that moment. They differ
in how tasks get to a scheduler and in who polls; those are the abstract methods.
"""

from __future__ import annotations

import sys
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, overload

from skyward.config import code_limit
from skyward.dispatch.tasks import ANY, Task
from skyward.futures import Future
from skyward.pending import is_call, is_group
from skyward.results import Collection, Single, Sink, broadcast_values, unwrap
from skyward.runtime import Pool, active_pool
from skyward.streams import ResultStream, StreamBuffer
from skyward.wire import payload

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from skyward.calls import Function
    from skyward.config import Options
    from skyward.mapping import MapIterator
    from skyward.pending import Group, PendingFunction, PendingFunctionGroup
    from skyward.waiting import Waiter
    from skyward.wire.functions import FunctionBlob, FunctionStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Dispatching(threading.local):
    """For which pool this thread serializes: a pool as an argument must be that one."""

    pool: Pool | None = None


_dispatching = _Dispatching()


class PoolOperations(Pool):
    """The operations of a pool, in terms of a few primitives."""

    _options: Options
    _max_payload: int  # bytes
    _functions: FunctionStore
    _ids: itertools.count[int]

    # --- primitives ------------------------------------------------------------------------

    @abstractmethod
    def _check(self) -> None:
        """Raise unless the pool can be used here and now."""

    @abstractmethod
    def _submit(self, tasks: Sequence[Task], wait_for: Waiter | None = None) -> None:
        """Hand the tasks to the scheduler; with ``wait_for``, return when it is done."""

    @abstractmethod
    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline (`time.monotonic`)."""

    @abstractmethod
    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
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
    def cancel_future(self, future: Future[Any]) -> bool:
        """Try to stop what the future waits for; return whether it was stopped."""

    @abstractmethod
    def call_back(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """Return how many tasks run at once on the nodes that are ready."""

    # --- describing work as tasks ----------------------------------------------------------

    def _tasks(self, calls: Iterable[PendingFunction[Any]], sink: Sink, *, snapshot: bool) -> list[Task]:
        """Serialize the calls; nothing is sent if any of them cannot be."""
        blobs: dict[int, FunctionBlob] = {}
        outer, _dispatching.pool = _dispatching.pool, self
        try:
            return [self._task(call, sink, index, blobs, snapshot=snapshot) for index, call in enumerate(calls)]
        finally:
            _dispatching.pool = outer

    def _task(
        self, call: PendingFunction[Any], sink: Sink, index: int, blobs: dict[int, FunctionBlob], *, snapshot: bool
    ) -> Task:
        function = call.function
        packed, modules = payload.dumps_call(call.args, call.kwargs, function=function)
        blob = blobs.get(id(function))
        if blob is None or modules:
            blob = self._functions.resolve(function, modules)
            if len(blob.body) > self._max_payload:
                self._check_code(function, len(blob.body))
            if not modules:
                blobs[id(function)] = blob
        if snapshot and packed.buffers:
            packed = payload.snapshot(packed)
        options = self._options
        retries = _first(call.retries, function.retries, options.retries)
        timeout = _first(call.timeout, function.timeout, options.timeout or 0.0)
        rank = ANY if call.rank is None else call.rank
        task = Task(next(self._ids), blob, packed.data, packed.buffers, sink, index, retries, timeout, rank)
        if task.size > self._max_payload:
            payload.refuse_size(function, task.size, self._max_payload)
        return task

    def _check_code(self, function: Function[..., Any], size: int) -> None:
        limit = code_limit(self._max_payload)
        if size > limit:
            payload.refuse_code(function, size, limit)

    # --- operators -------------------------------------------------------------------------

    def run(self, call: PendingFunction[T]) -> T:
        """Run the call on one node and return its value; ``call >> pool``."""
        self._check()
        _require_call(call)
        single = Single()
        self._run_to_end(self._tasks([call], single, snapshot=False), single)
        assert single.outcome is not None
        value: T = unwrap(single.outcome)
        return value

    @overload
    def run_async(self, call: PendingFunction[T]) -> Future[T]: ...
    @overload
    def run_async(self, call: PendingFunctionGroup[*Ts]) -> Future[tuple[*Ts]]: ...
    def run_async(self, call: Any) -> Future[Any]:
        """Start a call or a group and return a future; ``call > pool``."""
        self._check()
        if is_group(call):
            return self._group_future(call)
        _require_call(call)
        future: Future[Any] = Future(self)
        future.tasks = tasks = self._tasks([call], future, snapshot=True)
        self._wait_for_room(tasks[0].size)
        self._submit(tasks)
        return future

    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls of a group; a tuple of their values, or a stream; ``group >> pool``."""
        self._check()
        if not is_group(group):
            raise TypeError(f"expected a group of calls, like f(1) & f(2) or sky.gather(...), got {group!r}")
        if group.stream:
            return self._stream(group)
        collection, tasks = self._collect(group, snapshot=False)
        self._run_to_end(tasks, collection)
        return collection.values()

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready; values in rank order; ``call @ pool``."""
        self._check()
        _require_call(call)
        ranks = self._broadcast_ranks()
        collection = Collection(len(ranks), return_exceptions=True, cancel=self.cancel_tasks)
        (first,) = self._tasks([call], collection, snapshot=False)
        tasks = [self._copy(first, index, rank) for index, rank in enumerate(ranks)]
        self._run_to_end(tasks, collection)
        return broadcast_values(ranks, collection)

    def _copy(self, task: Task, index: int, rank: int) -> Task:
        id = next(self._ids)
        return Task(id, task.function, task.data, task.buffers, task.sink, index, task.retries, task.timeout, rank)

    def _run_to_end(self, tasks: Sequence[Task], waiter: Waiter) -> None:
        if not tasks:
            return
        try:
            self._submit(tasks, waiter)
        except BaseException:  # an interrupt cancels what this thread waits on
            self.cancel_tasks(tasks)
            raise

    @overload
    def map(self, fn: Function[..., Coroutine[Any, Any, T]], *iterables: Iterable[Any]) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Function[..., T], *iterables: Iterable[Any]) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Callable[..., T], *iterables: Iterable[Any]) -> MapIterator[T]: ...
    def map(self, fn: Any, *iterables: Iterable[Any]) -> MapIterator[Any]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order.

        Items are pulled lazily and travel in chunks. An item that fails raises when it is its turn;
        iteration may go on after it.
        """
        from skyward.mapping import MapIterator

        self._check()
        return MapIterator(self, fn, iterables, self._options)

    # --- groups ----------------------------------------------------------------------------

    def _collect(
        self, group: Group, future: Future[Any] | None = None, *, snapshot: bool
    ) -> tuple[Collection, list[Task]]:
        collection = Collection(len(group.calls), return_exceptions=group.return_exceptions, cancel=self.cancel_tasks)
        tasks = self._tasks(group.calls, collection, snapshot=snapshot)
        collection.tasks = tasks
        collection.future = future  # before the group's time can be over
        self._limit(group, collection)
        return collection, tasks

    def _limit(self, group: Group, sink: Collection | StreamBuffer) -> None:
        timeout = group.timeout
        if timeout is not None:
            self._call_later(timeout, lambda: sink.expire(timeout))

    def _group_future(self, group: Group) -> Future[Any]:
        if group.stream:
            raise TypeError("a stream has no future: use gather(..., stream=True) >> pool, or gather(...) > pool")
        future: Future[Any] = Future(self)
        collection, tasks = self._collect(group, future, snapshot=True)
        if not tasks:
            future.settle(collection)
            return future
        future.tasks = tasks
        self._wait_for_room(sum(task.size for task in tasks))
        self._submit(tasks)
        return future

    def _stream(self, group: Group) -> ResultStream[Any]:
        buffer = StreamBuffer(
            len(group.calls),
            ordered=group.ordered,
            return_exceptions=group.return_exceptions,
            cancel=self.cancel_tasks,
        )
        tasks = self._tasks(group.calls, buffer, snapshot=True)
        buffer.tasks = tasks
        self._limit(group, buffer)
        if tasks:
            self._submit(tasks)
        return ResultStream(buffer, self.wait_for)

    # --- travelling ------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        if _dispatching.pool is not self:
            raise TypeError(
                "a pool cannot be pickled; in a call it can travel to its own nodes, as a handle to the same pool"
            )
        return active_pool, ()


def _first(call: Any, function: Any, pool: Any) -> Any:
    """Return the first setting that was made: call beats decorator beats pool."""
    return call if call is not None else function if function is not None else pool


def _require_call(call: object) -> None:
    if not is_call(call):
        _refuse(call)


def _refuse(call: object) -> NoReturn:
    if is_group(call):
        raise TypeError("a group runs with `group >> pool` or `group > pool`; `@` takes a single call")
    raise TypeError(f"expected a call of a @sky.function, like f(1), got {call!r}")


def must_not_block() -> bool:
    """Return whether this thread runs an event loop, which blocking would stop."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None
