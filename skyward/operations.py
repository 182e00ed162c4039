"""What can be done with a pool, wherever it is: on the client, or as a handle inside a task.

Both kinds turn calls into tasks here, in the thread that dispatches, so that what cannot be
serialized fails before anything is sent and arguments are as they were at that moment. They differ
in how tasks get to a scheduler and in who polls; those are the abstract methods.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, TypeVarTuple, overload

from skyward.dispatch.tasks import ANY, Task
from skyward.errors import PoolClosedError
from skyward.feeding import Feeder, batches
from skyward.futures import Future
from skyward.pending import is_call, is_group
from skyward.results import Collection, Single, Sink, broadcast_values, unwrap
from skyward.runtime import Pool, active_pool
from skyward.streams import ResultStream, StreamBuffer
from skyward.wire import payload
from skyward.wire.frames import size_of
from skyward.wire.functions import LONGEST_NAME

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from skyward.calls import BoundFunction, Function
    from skyward.config import Options
    from skyward.mapping import MapIterator
    from skyward.pending import Group, PendingFunction, PendingFunctionGroup, PendingStream
    from skyward.waiting import Waiter
    from skyward.wire.frames import Payload
    from skyward.wire.functions import FunctionBlob, FunctionStore

FEEDER_END: Final = 1.0  # seconds the thread of a stream may take to end: a user's iterator may not return at all

T = TypeVar("T")
A = TypeVar("A")
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
    _window_size: int  # bytes of arguments that may be under way
    _feeders: list[Feeder]  # of streams that are not fed to their end

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

    def _place(self, packed: Payload, *, snapshot: bool) -> Payload:
        """Return the arguments as they wait to be sent; with ``snapshot`` the caller may go on and change them."""
        return payload.snapshot(packed) if snapshot else packed

    @property
    @abstractmethod
    def slots(self) -> int:
        """Return how many tasks run at once on the nodes that are ready."""

    # --- describing work as tasks ----------------------------------------------------------

    def make_tasks(
        self, calls: Iterable[PendingFunction[Any]], sink: Sink, start: int = 0, *, snapshot: bool
    ) -> list[Task]:
        """Serialize calls, members of a group from index ``start`` on; raises `SerializationError`."""
        blobs: dict[int, FunctionBlob] = {}
        outer, _dispatching.pool = _dispatching.pool, self
        try:
            return [self._task(call, sink, index, blobs, snapshot=snapshot) for index, call in enumerate(calls, start)]
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
            if not modules:
                blobs[id(function)] = blob
        if packed.buffers:
            packed = self._place(packed, snapshot=snapshot)
        options = self._options
        retries = _first(call.retries, function.retries, options.retries)
        timeout = _first(call.timeout, function.timeout, options.timeout or 0.0)
        rank = ANY if call.rank is None else call.rank
        name = blob.name if call.label is None else f"{blob.name} {call.label!r}"[:LONGEST_NAME]
        task = Task(next(self._ids), blob, packed.data, packed.buffers, sink, index, retries, timeout, rank, name)
        if packed.buffers:
            task.size = len(packed.data) + size_of(packed.buffers)
        if task.size > self._max_payload:
            payload.refuse_size(function, task.size, self._max_payload)
        return task

    # --- operators -------------------------------------------------------------------------

    @overload
    def run(self, call: PendingFunction[T]) -> T: ...
    @overload
    def run(  # type: ignore[overload-overlap]  # a stream is a group; that it gives no tuple is the difference
        self, call: PendingStream[T]
    ) -> ResultStream[T]: ...
    @overload
    def run(self, call: PendingFunctionGroup[*Ts]) -> tuple[*Ts]: ...
    def run(self, call: Any) -> Any:
        """Run a call on one node for its value, or a group as `run_group` does; ``call >> pool``."""
        self._check()
        if is_group(call):
            return self.run_group(call)
        _require_call(call)
        single = Single()
        self._run_to_end(self.make_tasks([call], single, snapshot=False), single)
        assert single.outcome is not None
        return unwrap(single.outcome)

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
        future.tasks = tasks = self.make_tasks([call], future, snapshot=True)
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
        collection = Collection(len(group.calls), return_exceptions=group.return_exceptions, cancel=self.cancel_tasks)
        self._run_to_end(self._feed(group, collection, snapshot=False), collection)
        return collection.values()

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready; values in rank order; ``call @ pool``."""
        self._check()
        _require_call(call)
        ranks = self._broadcast_ranks()
        collection = Collection(len(ranks), return_exceptions=True, cancel=self.cancel_tasks)
        (first,) = self.make_tasks([call], collection, snapshot=False)
        tasks = [self._copy(first, index, rank) for index, rank in enumerate(ranks)]
        self._run_to_end(tasks, collection)
        return broadcast_values(ranks, collection)

    def _copy(self, task: Task, index: int, rank: int) -> Task:
        same = (task.retries, task.timeout, rank, task.name)
        copy = Task(next(self._ids), task.function, task.data, task.buffers, task.sink, index, *same)
        copy.size = task.size
        return copy

    def _run_to_end(self, tasks: Sequence[Task], waiter: Waiter) -> None:
        if not tasks:
            return
        try:
            self._submit(tasks, waiter)
        except BaseException:  # an interrupt cancels what this thread waits on
            self.cancel_tasks(tasks)
            raise

    @overload  # type: ignore[override]  # unlike any pool, it checks the items against the function
    def map(
        self,
        fn: Function[..., Coroutine[Any, Any, T]] | BoundFunction[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
    ) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Function[..., T] | BoundFunction[..., T], *iterables: Iterable[Any]) -> MapIterator[T]: ...
    @overload  # from the items a lambda's parameter has its type
    def map(self, fn: Callable[[A], Coroutine[Any, Any, T]], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Callable[[A], T], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        first: Iterable[Any],
        second: Iterable[Any],
        /,
        *more: Iterable[Any],
    ) -> MapIterator[T]: ...
    @overload
    def map(
        self, fn: Callable[..., T], first: Iterable[Any], second: Iterable[Any], /, *more: Iterable[Any]
    ) -> MapIterator[T]: ...
    def map(self, fn: Any, *iterables: Iterable[Any]) -> MapIterator[Any]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order.

        Items are pulled lazily and travel in chunks. An item that fails raises when it is its turn;
        iteration may go on after it.
        """
        from skyward.mapping import MapIterator

        self._check()
        return MapIterator(self, fn, iterables, self._options)

    # --- groups ----------------------------------------------------------------------------

    def _feed(self, group: Group, collection: Collection, *, snapshot: bool) -> list[Task]:
        """Dispatch a group as the window allows, all but its last batch, which is returned."""
        everything: list[Task] = []
        collection.tasks = everything
        waiting: list[Task] = []
        try:
            for batch in batches(self, group.calls, collection, self._window_size // 2, snapshot=snapshot):
                if waiting:
                    self._wait_for_room(sum([task.size for task in waiting]))
                if collection.done:  # a member has failed
                    return []
                self._submit_members(waiting, collection)
                if not everything:
                    self._limit(group, collection)
                everything += batch
                waiting = batch
        except BaseException:
            self.cancel_tasks(everything)
            raise
        return [] if collection.done else waiting

    def _submit_members(self, tasks: Sequence[Task], collection: Collection) -> None:
        if tasks:
            self._submit(tasks)
            if collection.done:  # it has ended meanwhile, and knows nothing of these
                self.cancel_tasks(tasks)

    def _limit(self, group: Group, sink: Collection | StreamBuffer) -> None:
        timeout = group.timeout
        if timeout is not None:
            self._call_later(timeout, lambda: sink.expire(timeout))

    def _group_future(self, group: Group) -> Future[Any]:
        if group.stream:
            raise TypeError("a stream has no future: use gather(..., stream=True) >> pool, or gather(...) > pool")
        future: Future[Any] = Future(self)
        collection = Collection(len(group.calls), return_exceptions=group.return_exceptions, cancel=self.cancel_tasks)
        if not group.calls:
            future.settle(collection)
            return future
        collection.future = future
        last = self._feed(group, collection, snapshot=True)
        if last:
            future.tasks = collection.tasks
            self._wait_for_room(sum([task.size for task in last]))
            self._submit_members(last, collection)
        return future

    def _stream(self, group: Group) -> ResultStream[Any]:
        lazy = group.source is not None
        buffer = StreamBuffer(
            None if lazy else len(group.calls),
            ordered=group.ordered,
            return_exceptions=group.return_exceptions,
            cancel=self.cancel_tasks,
        )
        if group.source is not None:
            self._start(Feeder(self, group.source.take(), buffer, 0))
        else:
            tasks = next(batches(self, group.calls, buffer, self._window_size // 2, snapshot=True))
            if tasks:
                buffer.expect(tasks)
                self._submit(tasks)
            if len(tasks) < len(group.calls):
                rest = iter(group.calls[len(tasks) :])
                self._start(Feeder(self, rest, buffer, len(tasks), ahead=None))
        self._limit(group, buffer)
        return ResultStream(buffer, self.wait_for)

    def _start(self, feeder: Feeder) -> None:
        self._feeders = [other for other in self._feeders if other.thread.is_alive()]
        self._feeders.append(feeder)
        feeder.start()

    def stop_feeders(self) -> None:
        """End the threads that feed streams, as far as users' iterators let them."""
        for feeder in self._feeders:
            if feeder.thread.is_alive():
                feeder.stop(PoolClosedError("the pool was closed"))
        deadline = time.monotonic() + FEEDER_END
        for feeder in self._feeders:
            if feeder.thread is not threading.current_thread():
                feeder.thread.join(max(0.0, deadline - time.monotonic()))
            feeder.give_up()

    def dispatch(self, tasks: list[Task], buffer: StreamBuffer) -> bool:
        """Hand in members of a stream when there is room; False if they are not wanted any more by then."""
        self._wait_for_room(sum([task.size for task in tasks]))
        if not buffer.wants_more():
            return False
        buffer.expect(tasks)
        self._submit(tasks)
        if not buffer.wants_more():  # it was stopped meanwhile, and may not have known of these
            self.cancel_tasks(tasks)
        return True

    def as_this_task(self, run: Callable[[], None]) -> Callable[[], None]:
        """Return ``run`` for another thread, where it may use this pool as this thread may."""
        return run

    def soon(self, command: Callable[[], None]) -> None:
        """Run a command where outcomes are delivered."""
        self._call_later(0.0, command)

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
