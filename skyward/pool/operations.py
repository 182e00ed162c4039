"""What can be done with a pool, wherever it is: on the client, or as a handle inside a task.

Both kinds turn calls into tasks in the same way (`making`). They differ in how tasks get to a scheduler and in who
polls; those are the abstract methods of `groups` and `streams`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from skyward.pool.groups import GroupOperations
from skyward.pool.later import later
from skyward.runtime import active_pool
from skyward.work.mistakes import described
from skyward.work.pending import PendingFunction, is_call, is_group

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Concatenate, TypeAlias

    from skyward.answers.futures import Future
    from skyward.answers.streams import ResultStream
    from skyward.answers.waiting import Waiter
    from skyward.calls import BoundFunction, Function
    from skyward.config import Options
    from skyward.dispatch.tasks import Task, total_size
    from skyward.pool.mapping import MapIterator
    from skyward.pool.pumping import refuse_broadcast
    from skyward.results import Collection, Outcome, Single, Sink, broadcast_values, unwrap
    from skyward.work.pending import PendingFunctionGroup, PendingStream

later(
    globals(),
    {
        "skyward.dispatch.tasks": ("total_size",),
        "skyward.answers.futures": ("Future",),
        "skyward.pool.pumping": ("refuse_broadcast",),
        "skyward.results": ("Collection", "Single", "broadcast_values", "unwrap"),
    },
)

T = TypeVar("T")
A = TypeVar("A")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

if TYPE_CHECKING:
    Marked: TypeAlias = Function[P, T] | BoundFunction[P, T]
    Items: TypeAlias = Iterable[Any]


class PoolOperations(GroupOperations):
    """The operations of a pool, in terms of a few primitives."""

    _options: Options

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
        task = self._maker.alone(call, single)
        if task is not None:
            self._run_to_end((task,), single)
        elif call.function.yields:
            self._wait_for_room_and_submit(self.make_tasks([call], single, self.placing(snapshot=True)))
        else:
            self._run_to_end(self.make_tasks([call], single, self.placing(snapshot=False)), single)
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
        task = self._maker.alone(call, future)
        if task is not None:
            future.tasks = (task,)
            self._submit_alone(task)
            return future
        tasks = self.make_tasks([call], future, self.placing(snapshot=True))
        if not call.function.yields:
            future.tasks = tasks
        self._wait_for_room_and_submit(tasks)
        return future

    def _submit_alone(self, task: Task) -> None:
        self._wait_for_room_and_submit([task])

    def _wait_for_room_and_submit(self, tasks: Sequence[Task]) -> None:
        try:
            self._wait_for_room(total_size(tasks))
            self._submit(tasks)
        except BaseException:
            self._drop(tasks)
            raise

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
        else:  # iterators only: there is nothing to wait for
            self._submit_members(last, collection)
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
        first = self.make_tasks([call], collection, self.placing(snapshot=False))[0]
        refuse_broadcast(first.feeds, call.function)
        tasks = [self._copy(first, collection, index, rank) for index, rank in enumerate(ranks)]
        self._run_to_end(tasks, collection)
        return broadcast_values(ranks, collection)

    def _broadcast_stream(self, call: PendingFunction[T], ranks: Sequence[int]) -> list[T]:
        """Run a call that yields once on every node; an iterator for each."""
        unused = Single()  # keeps the iterator of the first, which is only copied
        first = self.make_tasks([call], unused, self.placing(snapshot=True))[0]
        refuse_broadcast(first.feeds, call.function)
        collection = Collection(len(ranks), return_exceptions=False, cancel=self.cancel_tasks)
        tasks: list[Task] = []
        for index, rank in enumerate(ranks):
            buffer = self.yielding(collection, index)
            buffer.task = self._copy(first, buffer, index, rank)
            tasks.append(buffer.task)
        del unused
        self._submit(tasks)
        return list(collection.values())

    def _copy(self, task: Task, sink: Sink, index: int, rank: int) -> Task:
        copy = self._maker.for_node(task, sink, index, rank)
        self.feed_by(copy, tuple([pump.again() for pump in task.feeds]))
        return copy

    def _run_to_end(self, tasks: Sequence[Task], waiter: Waiter) -> None:
        if not tasks:
            return
        try:
            self._submit(tasks, waiter)
        except BaseException:  # an interrupt cancels what this thread waits on
            self._drop((isinstance(waiter, Collection) and waiter.tasks) or tasks)  # the group's, or these
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
        from skyward.pool.making import may_travel

        if not may_travel(self):
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
