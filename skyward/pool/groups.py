"""Groups of calls, dispatched as the window allows; and what every operation needs of a pool, wherever it is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from skyward.pool.later import later
from skyward.pool.streams import StreamOperations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.answers.futures import Future
    from skyward.answers.limits import Limit
    from skyward.answers.streams import ResultStream, StreamBuffer
    from skyward.answers.tallying import TalliedBuffer, TalliedCollection
    from skyward.answers.waiting import Waiter
    from skyward.dispatch.tasks import Task, total_size
    from skyward.mesh.view import Tally
    from skyward.pool.bundling import Bundler
    from skyward.pool.feeding import Feeder, batches
    from skyward.pool.making import BatchMaker
    from skyward.pool.placing import Placing
    from skyward.pool.pumping import disown_all
    from skyward.results import Collection, Sink
    from skyward.work.pending import Group, PendingFunction

later(
    globals(),
    {
        "skyward.dispatch.tasks": ("total_size",),
        "skyward.pool.feeding": ("Feeder", "batches"),
        "skyward.pool.making": ("BatchMaker",),
        "skyward.answers.futures": ("Future",),
        "skyward.answers.limits": ("Limit",),
        "skyward.pool.pumping": ("disown_all",),
        "skyward.results": ("Collection",),
        "skyward.answers.streams": ("ResultStream", "StreamBuffer"),
        "skyward.answers.tallying": ("TalliedBuffer", "TalliedCollection"),
    },
)


class GroupOperations(StreamOperations):
    """The part of a pool's operations that is about groups, in terms of a few primitives."""

    _window_size: int  # bytes of arguments that may be under way

    # --- primitives ------------------------------------------------------------------------

    @abstractmethod
    def _check(self) -> None:
        """Raise unless the pool can be used here and now."""

    @abstractmethod
    def _submit(self, tasks: Sequence[Task], wait_for: Waiter | None = None) -> None:
        """Hand the tasks to the scheduler; with ``wait_for``, return when it is done."""

    @abstractmethod
    def _call_later(self, delay: float, command: Callable[..., None], owner: Any = None) -> None:
        """Run ``command`` where outcomes are delivered, after ``delay`` seconds, on ``owner`` if there is one still."""

    @abstractmethod
    def soon(self, command: Callable[[], None]) -> None:
        """Run a command where outcomes are delivered; takes no lock, because finalizers come here."""

    @abstractmethod
    def _wait_for_room(self, size: int) -> None:
        """Wait until ``size`` more bytes fit the window, unless this thread must not block."""

    @abstractmethod
    def _broadcast_ranks(self) -> tuple[int, ...]:
        """Return the ranks that are ready, at least one; wait for it if need be. They stay until `_broadcast_over`."""

    @abstractmethod
    def _broadcast_over(self) -> None:
        """Note that this thread does not count on the ranks any more."""

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

    # --- tasks -----------------------------------------------------------------------------

    def make_tasks(
        self, calls: Sequence[PendingFunction[Any]], sink: Sink, placing: Placing, start: int = 0
    ) -> list[Task]:
        """Serialize calls, members of a group from index ``start`` on; raises `SerializationError`."""
        return BatchMaker(self._maker, self, sink, placing).make(calls, self._bundler(sink, len(calls)), start)

    def _bundler(self, _sink: Sink, _calls: int) -> Bundler | None:
        """Return who puts short calls of a group together; None if nobody does."""
        return None

    # --- groups ----------------------------------------------------------------------------

    def _collection(self, group: Group) -> Collection:
        count = len(group.calls)
        options: dict[str, Any] = {"return_exceptions": group.return_exceptions, "cancel": self.cancel_tasks}
        iterators = sum([call.function.yields for call in group.calls])
        tally = self._track(group, count - iterators) if group.progress else None
        collection = Collection(count, **options) if tally is None else TalliedCollection(count, tally=tally, **options)
        collection.left -= iterators
        collection.limit = self._limit_of(group, collection)
        return collection

    def _track(self, _group: Group, _total: int | None) -> Tally | None:
        """Have somebody show how far the group is; None if there is nobody."""
        return None

    def _feed(self, group: Group, collection: Collection, *, snapshot: bool) -> list[Task]:
        """Dispatch a group as the window allows, all but its last batch, which is returned."""
        everything: list[Task] = []
        collection.tasks = everything
        waiting: list[Task] = []  # not handed in yet
        try:
            for batch in batches(self, group.calls, collection, self._window_size // 2, snapshot=snapshot):
                if not everything:
                    self._begin(collection.limit)
                everything += batch
                if waiting:
                    self._wait_for_room(total_size(waiting))
                if collection.is_off:  # a member has failed
                    waiting = waiting + batch
                    break
                self._submit_members(waiting, collection)
                waiting = batch
        except BaseException:
            self._drop(everything)
            raise
        if collection.is_off:
            disown_all(waiting)
            return []
        return waiting

    def _drop(self, tasks: Sequence[Task]) -> None:
        """Let go of tasks that nobody waits for, whether they were handed in or not."""
        self.cancel_tasks(tasks)
        disown_all(tasks)

    def _submit_members(self, tasks: Sequence[Task], collection: Collection) -> None:
        if tasks:
            self._submit(tasks)
            if collection.is_off:  # it has ended meanwhile, and knows nothing of these
                self.cancel_tasks(tasks)

    def _limit_of(self, group: Group, sink: Collection | StreamBuffer) -> Limit | None:
        return None if group.timeout is None else Limit(group.timeout, sink)

    def _begin(self, limit: Limit | None) -> None:
        if limit is not None:
            self._call_later(limit.timeout, Limit.expire, limit)

    def _group_future(self, group: Group) -> Future[Any]:
        if group.stream:
            raise TypeError("a stream has no future: use gather(..., stream=True) >> pool, or gather(...) > pool")
        future: Future[Any] = Future(self)
        collection = self._collection(group)
        if not group.calls:
            future.settle(collection)
            return future
        iterators_only = not collection.left
        collection.future = future
        last = self._feed(group, collection, snapshot=True)
        if last:
            future.tasks = collection.tasks
            try:
                self._wait_for_room(total_size(last))
                self._submit_members(last, collection)
            except BaseException:
                self._drop(collection.tasks)
                raise
        if iterators_only:
            collection.end()
        return future

    def _stream(self, group: Group) -> ResultStream[Any]:
        lazy = group.source is not None
        total = None if lazy else len(group.calls)
        options: dict[str, Any] = {
            "ordered": group.ordered,
            "return_exceptions": group.return_exceptions,
            "cancel": self.cancel_tasks,
            "soon": self.soon,
        }
        tally = self._track(group, total) if group.progress else None
        buffer = StreamBuffer(total, **options) if tally is None else TalliedBuffer(total, tally=tally, **options)
        buffer.limit = self._limit_of(group, buffer)
        if group.source is not None:
            self._feed_from(Feeder(self, group.source.take(), buffer, 0))
        else:
            tasks = next(batches(self, group.calls, buffer, self._window_size // 2, snapshot=True))
            if tasks:
                self._hand_in(tasks, buffer)
            if len(tasks) < len(group.calls):
                rest = iter(group.calls[len(tasks) :])
                self._feed_from(Feeder(self, rest, buffer, len(tasks), ahead=None))
        self._begin(buffer.limit)
        return ResultStream(buffer, self.wait_for, self.lent)

    def dispatch(self, tasks: list[Task], buffer: StreamBuffer) -> bool:
        """Hand in members of a stream when there is room; False if they are not wanted any more by then."""
        try:
            self._wait_for_room(total_size(tasks))
        except BaseException:
            disown_all(tasks)
            raise
        if not buffer.wants_more():
            disown_all(tasks)
            return False
        self._hand_in(tasks, buffer)
        if not buffer.wants_more():  # it was stopped meanwhile, and may not have known of these
            self.cancel_tasks(tasks)
        return True

    def _hand_in(self, tasks: list[Task], buffer: StreamBuffer) -> None:
        buffer.expect(tasks)
        try:
            self._submit(tasks)
        except BaseException:
            self._drop(tasks)
            raise

    def as_this_task(self, run: Callable[[], None]) -> Callable[[], None]:
        """Return ``run`` for another thread, where it may use this pool as this thread may."""
        return run
