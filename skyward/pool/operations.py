"""What can be done with a pool, wherever it is: on the client, or as a handle inside a task.

Both kinds turn calls into tasks here, in the thread that dispatches, so that what cannot be
serialized fails before anything is sent and arguments are as they were at that moment. They differ
in how tasks get to a scheduler and in who polls; those are the abstract methods of `groups` and `poolstreams`.
"""

from __future__ import annotations

import threading
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from skyward.config import code_limit
from skyward.pool.groups import GroupOperations
from skyward.pool.later import later
from skyward.runtime import active_pool
from skyward.work.mistakes import described
from skyward.work.pending import PendingFunction, is_call, is_group

if TYPE_CHECKING:
    import itertools
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Concatenate, TypeAlias

    from skyward.answers.futures import Future
    from skyward.answers.streams import ResultStream
    from skyward.answers.waiting import Waiter
    from skyward.calls import BoundFunction, Function
    from skyward.config import Options
    from skyward.dispatch.tasks import ANY, Task, total_size
    from skyward.pool.bundling import Bundler, Like
    from skyward.pool.mapping import MapIterator
    from skyward.pool.plain import plain_task
    from skyward.pool.poolstreams import PoolStreams
    from skyward.pool.pumping import Pump, disown, refuse_broadcast, take_inputs
    from skyward.results import Collection, Outcome, Single, Sink, broadcast_values, unwrap
    from skyward.wire import payload
    from skyward.wire.frames import size_of
    from skyward.wire.functions import LONGEST_NAME, FunctionBlob, FunctionStore
    from skyward.work.pending import PendingFunctionGroup, PendingStream

later(
    globals(),
    {
        "skyward.dispatch.tasks": ("ANY", "Task", "total_size"),
        "skyward.answers.futures": ("Future",),
        "skyward.pool.plain": ("plain_task",),
        "skyward.pool.pumping": ("disown", "refuse_broadcast", "take_inputs"),
        "skyward.results": ("Collection", "Single", "broadcast_values", "unwrap"),
        "skyward.wire": ("payload",),
        "skyward.wire.frames": ("size_of",),
        "skyward.wire.functions": ("LONGEST_NAME",),
    },
)

T = TypeVar("T")
A = TypeVar("A")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

if TYPE_CHECKING:
    Marked: TypeAlias = Function[P, T] | BoundFunction[P, T]
    Items: TypeAlias = Iterable[Any]


class _Dispatching(threading.local):
    """For which pool this thread serializes: a pool as an argument must be that one."""

    pool: PoolStreams | None = None


_dispatching = _Dispatching()
_index = attrgetter("index")


class PoolOperations(GroupOperations):
    """The operations of a pool, in terms of a few primitives."""

    _options: Options
    _max_payload: int  # bytes
    _functions: FunctionStore
    _ids: itertools.count[int]

    # --- describing work as tasks ----------------------------------------------------------

    def make_tasks(
        self, calls: Iterable[PendingFunction[Any]], sink: Sink, start: int = 0, *, snapshot: bool
    ) -> list[Task]:
        """Serialize calls, members of a group from index ``start`` on; raises `SerializationError`."""
        calls = list(calls) if not isinstance(calls, (list, tuple)) else calls
        known: dict[int, FunctionBlob] = {}
        plain: dict[int, Like] = {}
        bundler = self._bundler(sink, len(calls))
        look = partial(self._note_plain, known=known, plain=plain)
        outer, _dispatching.pool = _dispatching.pool, self  # it may be an argument, and a function may refer to it
        tasks: list[Task] = []
        try:
            for index, call in enumerate(calls, start):
                if bundler is None or not bundler.take(call, index, tasks, look):
                    tasks.append(self._make(call, sink, index, known, plain, snapshot))
            if bundler is not None:
                bundler.close(tasks)
                tasks.sort(key=_index)  # a bundle stands where its first call does
            return tasks
        except BaseException:
            for task in tasks:
                disown(task.feeds)
            raise
        finally:
            _dispatching.pool = outer

    def _make(
        self,
        call: PendingFunction[Any],
        sink: Sink,
        index: int,
        known: dict[int, FunctionBlob],
        plain: dict[int, Like],
        snapshot: bool,
    ) -> Task:
        """Serialize one call. What is the same for all calls of a function is looked up once for a group."""
        function = call.function
        like = plain.get(id(function)) or self._note_plain(function, known, plain)
        if (
            like is not None
            and type(call) is PendingFunction
            and not call.kwargs
            and (data := payload.dumps_plain(call.args)) is not None
        ):
            blob, retries, timeout = like
            task = Task(next(self._ids), blob, data, (), sink, index, retries, timeout, ANY, blob.name, len(data), True)
        else:
            task = self._task(call, sink, index, known, snapshot=snapshot)
        if task.size > self._max_payload:
            disown(task.feeds)
            payload.refuse_size(function, task.size, self._max_payload)
        return task

    def _bundler(self, _sink: Sink, _calls: int) -> Bundler | None:
        """Return who puts short calls of a group together; None if nobody does."""
        return None

    def _resolve(self, function: Function[..., Any], modules: frozenset[str]) -> FunctionBlob:
        blob = self._functions.resolve(function, modules)
        if len(blob.body) > self._max_payload:
            self._check_code(function, len(blob.body))
        return blob

    def _limits(self, function: Function[..., Any]) -> tuple[int, float]:
        """Return retries and timeout of a call that does not say."""
        options = self._options
        retries, timeout = function.retries, function.timeout
        return (
            options.retries if retries is None else retries,
            (options.timeout or 0.0) if timeout is None else timeout,
        )

    def _note_plain(
        self, function: Function[..., Any], known: dict[int, FunctionBlob], plain: dict[int, Like]
    ) -> Like | None:
        if function.inputs is not None or function.yields:
            return None
        blob = known[id(function)] = self._resolve(function, payload.NO_MODULES)
        like = plain[id(function)] = blob, *self._limits(function)
        return like

    def _task(
        self, call: PendingFunction[Any], sink: Sink, index: int, blobs: dict[int, FunctionBlob], *, snapshot: bool
    ) -> Task:
        function = call.function
        if function.inputs is None and not function.yields:
            return self._serialized(call, call.args, call.kwargs, sink, index, blobs, snapshot=snapshot)
        args, kwargs, pumps = call.args, call.kwargs, tuple["Pump", ...]()
        if function.inputs is not None:
            args, kwargs, pumps = take_inputs(self, function, args, kwargs)
        try:
            if not function.yields:
                task = self._serialized(call, args, kwargs, sink, index, blobs, snapshot=snapshot)
            else:
                buffer = self._yielding(sink, index)
                task = buffer.task = self._serialized(call, args, kwargs, buffer, index, blobs, snapshot=True)
            self._feed_by(task, pumps)
        except BaseException:
            disown(pumps)
            raise
        return task

    def _serialized(
        self,
        call: PendingFunction[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sink: Sink,
        index: int,
        blobs: dict[int, FunctionBlob],
        *,
        snapshot: bool,
    ) -> Task:
        function = call.function
        packed, modules = payload.dumps_call(args, kwargs, function=function)
        blob = blobs.get(id(function))
        if blob is None or modules:
            blob = self._resolve(function, modules)
            if not modules:
                blobs[id(function)] = blob
        if packed.buffers:
            packed = self._place(packed, snapshot=snapshot)
        retries, timeout = self._limits(function)
        retries = retries if call.retries is None else call.retries
        timeout = timeout if call.timeout is None else call.timeout
        rank = ANY if call.rank is None else call.rank
        name = blob.name if call.label is None else f"{blob.name} {call.label!r}"[:LONGEST_NAME]
        data, buffers = packed
        size = len(data) + (size_of(buffers) if buffers else 0)
        return Task(next(self._ids), blob, data, buffers, sink, index, retries, timeout, rank, name, size, rank < 0)

    def _check_code(self, function: Function[..., Any], size: int) -> None:
        limit = code_limit(self._max_payload)
        if size > limit:
            payload.refuse_code(function, size, limit)

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
        if not is_call(call):
            return self.run_group(call) if is_group(call) else _refuse(call)
        single = Single()
        task = plain_task(call, single, self._ids, self._functions, self._options, self._max_payload)
        if task is not None:
            self._run_to_end((task,), single)
        elif call.function.yields:
            self._wait_for_room_and_submit(self.make_tasks([call], single, snapshot=True))
        else:
            self._run_to_end(self.make_tasks([call], single, snapshot=False), single)
        return unwrap(cast("Outcome", single.outcome))

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
        task = plain_task(call, future, self._ids, self._functions, self._options, self._max_payload)
        if task is not None:
            future.tasks = (task,)
            self._submit_alone(task)
            return future
        tasks = self.make_tasks([call], future, snapshot=True)
        if not call.function.yields:
            future.tasks = tasks
        self._wait_for_room_and_submit(tasks)
        return future

    def _submit_alone(self, task: Task) -> None:
        self._wait_for_room_and_submit([task])

    def _wait_for_room_and_submit(self, tasks: Sequence[Task]) -> None:
        self._wait_for_room(total_size(tasks))
        self._submit(tasks)

    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls of a group; a tuple of their values, or a stream; ``group >> pool``."""
        self._check()
        if not is_group(group):
            raise TypeError(f"expected a group of calls, like f(1) & f(2) or sky.gather(...), got {group!r}")
        if group.stream:
            return self._stream(group)
        collection = self._collection(group)
        last = self._feed(group, collection, snapshot=False)
        if collection.left:
            self._run_to_end(last, collection)
        elif last:  # iterators only: there is nothing to wait for
            self._submit(last)
        return collection.values()

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready; values in rank order; ``call @ pool``."""
        self._check()
        _require_call(call)
        if call.rank is not None:
            raise TypeError(
                f"{call!r} is bound to node {call.rank}, and `@` runs a call on every node; "
                "`call.on(rank) >> pool` runs it on that node, `call @ pool`, without .on(), on all of them"
            )
        try:
            return self._broadcast(call, self._broadcast_ranks())
        finally:
            self._broadcast_over()

    def _broadcast(self, call: PendingFunction[T], ranks: tuple[int, ...]) -> list[T]:
        if call.function.yields:
            return self._broadcast_stream(call, ranks)
        collection = Collection(len(ranks), return_exceptions=True, cancel=self.cancel_tasks)
        first = self.make_tasks([call], collection, snapshot=False)[0]
        refuse_broadcast(first.feeds, call.function)
        tasks = [self._copy(first, collection, index, rank) for index, rank in enumerate(ranks)]
        self._run_to_end(tasks, collection)
        return broadcast_values(ranks, collection)

    def _broadcast_stream(self, call: PendingFunction[T], ranks: Sequence[int]) -> list[T]:
        """Run a call that yields once on every node; an iterator for each."""
        unused = Single()  # keeps the iterator of the first, which is only copied
        first = self.make_tasks([call], unused, snapshot=True)[0]
        refuse_broadcast(first.feeds, call.function)
        collection = Collection(len(ranks), return_exceptions=False, cancel=self.cancel_tasks)
        tasks: list[Task] = []
        for index, rank in enumerate(ranks):
            buffer = self._yielding(collection, index)
            buffer.task = self._copy(first, buffer, index, rank)
            tasks.append(buffer.task)
        del unused
        self._submit(tasks)
        return list(collection.values())

    def _copy(self, task: Task, sink: Sink, index: int, rank: int) -> Task:
        same = (task.retries, task.timeout, rank, task.name, task.size, False)
        copy = Task(next(self._ids), task.function, task.data, task.buffers, sink, index, *same)
        self._feed_by(copy, tuple([pump.again() for pump in task.feeds]))
        return copy

    def _run_to_end(self, tasks: Sequence[Task], waiter: Waiter) -> None:
        if not tasks:
            return
        try:
            self._submit(tasks, waiter)
        except BaseException:  # an interrupt cancels what this thread waits on
            self.cancel_tasks((isinstance(waiter, Collection) and waiter.tasks) or tasks)  # the group's, or these
            raise

    @overload  # type: ignore[override]  # unlike any pool, it checks the items against the function
    def map(self, fn: Marked[Concatenate[A, ...], Coroutine[Any, Any, T]], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Marked[Concatenate[A, ...], T], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(
        self, fn: Marked[..., Coroutine[Any, Any, T]], first: Items, second: Items, /, *more: Items
    ) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Marked[..., T], first: Items, second: Items, /, *more: Items) -> MapIterator[T]: ...
    @overload  # from the items a lambda's parameter has its type
    def map(self, fn: Callable[[A], Coroutine[Any, Any, T]], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Callable[[A], T], items: Iterable[A], /) -> MapIterator[T]: ...
    @overload
    def map(
        self, fn: Callable[..., Coroutine[Any, Any, T]], first: Items, second: Items, /, *more: Items
    ) -> MapIterator[T]: ...
    @overload
    def map(self, fn: Callable[..., T], first: Items, second: Items, /, *more: Items) -> MapIterator[T]: ...
    def map(self, fn: Any, *iterables: Items) -> MapIterator[Any]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order.

        Items are pulled lazily and travel in chunks. An item that fails raises when it is its turn;
        iteration may go on after it.
        """
        from skyward.pool.mapping import MapIterator

        self._check()
        return MapIterator(self, fn, iterables, self._options)

    # --- travelling ------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        if _dispatching.pool is not self:
            raise TypeError(
                "a pool cannot be pickled; in a call it can travel to its own nodes, as a handle to the same pool"
            )
        return active_pool, ()


def _require_call(call: object) -> None:
    if not is_call(call):
        _refuse(call)


def _refuse(call: object) -> NoReturn:
    if is_group(call):
        raise TypeError("a group runs with `group >> pool` or `group > pool`; `@` takes a single call")
    raise TypeError(f"expected a call of a @sky.function, like f(1), got {described(call)}")
