"""How answers reach the user's threads: outcomes, and what collects them.

The owner of the loop delivers *outcomes*, still serialized; values are unpickled by the thread that
asks for them, so that a slow ``__setstate__`` holds up nobody else. An outcome is a plain tuple, for
there is one per task.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.answers.waiting import Waiter
from skyward.errors import (
    AbsentRankError,
    BroadcastError,
    NodeLostError,
    PoolClosedError,
    ProtocolError,
    RemoteError,
    TaskTimeoutError,
)
from skyward.machine.memory import opened
from skyward.wire import bundles, failures, payload
from skyward.wire.statuses import CANCELLED, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.answers.futures import Future
    from skyward.answers.limits import Limit
    from skyward.dispatch.tasks import Task
    from skyward.wire.frames import Buffer, Ref


class Given:
    """A value that is there as it is: the iterator of a call that yields."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Run:
    """The values of all calls of a bundle, still serialized: the outcome of each of these members of a group."""

    __slots__ = ("_data", "indexes", "is_dense")

    def __init__(self, indexes: Sequence[int], data: Buffer) -> None:
        self.indexes = indexes  # ascending
        self.is_dense = indexes[-1] - indexes[0] == len(indexes) - 1
        self._data = data

    def put(self, values: list[Any], *, in_place: bool) -> None:
        """Put the values where they belong; one that cannot be unpickled raises, or is the exception, ``in_place``."""
        try:
            ours = bundles.unpack_values(self._data, len(self.indexes))
        except ProtocolError as error:
            remote = RemoteError(type(error).__name__, str(error), reason="results cannot be unpickled here")
            if not in_place:
                raise remote from error
            ours = [remote] * len(self.indexes)
        if tuple in map(type, ours):
            ours = [_own(value, in_place=in_place) if isinstance(value, tuple) else value for value in ours]
        indexes = self.indexes
        if self.is_dense:
            values[indexes[0] : indexes[-1] + 1] = ours
            return
        for index, value in zip(indexes, ours, strict=True):
            values[index] = value


def _own(value: Any, *, in_place: bool) -> Any:
    try:
        return payload.loads_value(*value)
    except RemoteError as error:
        if in_place:
            return error
        raise


# (status, data, buffers, rank, task id, function name) from a node, or an exception made here, or a value.
Outcome = tuple[int, "Buffer", "tuple[Buffer, ...]", int, int, str] | BaseException | Given | Run

CancelledError: Final = concurrent.futures.CancelledError


def failed(outcome: Outcome) -> bool:
    """Return whether the outcome is no value."""
    return outcome[0] != OK if isinstance(outcome, tuple) else isinstance(outcome, BaseException)


def was_cancelled(outcome: Outcome) -> bool:
    """Return whether the task was cancelled, here or on its node."""
    return isinstance(outcome, CancelledError) or (isinstance(outcome, tuple) and outcome[0] == CANCELLED)


def unwrap(outcome: Outcome) -> Any:
    """Return the value of an outcome, or raise what it stands for."""
    if not isinstance(outcome, tuple):
        if isinstance(outcome, Given):
            return outcome.value
        assert isinstance(outcome, BaseException)  # nobody but a collection takes runs
        raise outcome
    status, data, buffers, rank, task, name = outcome
    if status == OK:
        try:
            return load(data, buffers)
        except RemoteError as error:
            failures.locate(error, function=name, node=rank, task=task)
            raise
    raise failures.to_exception(data, function=name, node=rank, task=task)


def load(data: Buffer, buffers: tuple[Buffer, ...]) -> Any:
    """Return a value that came from a node."""
    return payload.loads_value(data, opened(buffers, _open) if buffers else buffers)


def _open(ref: Ref) -> Buffer:
    memory: Buffer = ref.owner.open(ref)
    return memory


def unwrap_in_place(outcome: Outcome) -> Any:
    """Return the value of an outcome, or the exception it stands for."""
    try:
        return unwrap(outcome)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # CancelledError, and what a task raised, are values here
        return error


class Sink:
    """Whom the outcomes of some tasks belong to. Methods are called by the owner of the loop.

    No ABC: an `isinstance` check against one is slow where it fails, and each result of a future has one.
    """

    __slots__ = ()

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome of one task; called exactly once for each."""
        raise NotImplementedError

    def give(self, index: int, stream: Any) -> None:
        """Take the iterator of a call that yields: its value, which is there before anything has run."""
        raise NotImplementedError

    def on_started(self, *, unstoppable: bool) -> None:
        """Note that a task runs, or answers a cancel by going on. Nothing by default."""

    def on_cancel(self) -> None:
        """Note that the tasks are being cancelled because the user said so. Nothing by default."""


class Discard(Sink):
    """A sink for outcomes that nobody wants."""

    __slots__ = ()

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Drop it."""


DISCARD: Final = Discard()


class Single(Waiter, Sink):
    """The outcome of one call, for the thread that waits for it."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Outcome | None = None

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome."""
        self.outcome = outcome
        self.finish()

    def give(self, index: int, stream: Any) -> None:
        """Take the iterator of the call."""
        self.outcome = Given(stream)


class Collection(Waiter, Sink):
    """The outcomes of a group, in submission order.

    Done when all are there or, unless ``return_exceptions``, when one has failed; ``cancel`` is then
    called with the tasks that are left, by the owner of the loop. Members that yield are there from the
    beginning: ``left`` counts the others.
    """

    __slots__ = (
        "__weakref__", "_cancel", "_cancelling", "_given", "_return_exceptions", "_runs", "failure", "future", "left",
        "limit", "outcomes", "tasks",
    )  # fmt: skip

    def __init__(self, count: int, *, return_exceptions: bool, cancel: Callable[[Sequence[Task]], None]) -> None:
        super().__init__()
        self.outcomes: list[Outcome | None] = [None] * count
        self._runs: list[Run] = []
        self.left = count
        self.failure: Outcome | None = None
        self.tasks: list[Task] = []
        self.limit: Limit | None = None
        self.future: Future[Any] | None = None  # that stands for all
        self._return_exceptions = return_exceptions
        self._cancel = cancel
        self._given = False  # a member yields
        self._cancelling = False  # by `Future.cancel`: it is cancelled when all members have ended
        if count == 0:
            self.done = True

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome of the member ``task.index``."""
        self.take(task.index, outcome)

    def take_run(self, run: Run) -> None:
        """Take the values of several members."""
        if self.done:
            return
        indexes = run.indexes
        if run.is_dense:
            self.outcomes[indexes[0] : indexes[-1] + 1] = [run] * len(indexes)
        else:
            for index in indexes:
                self.outcomes[index] = run
        self._runs.append(run)
        self.left -= len(run.indexes)
        if self.left == 0:
            self.end()

    def take(self, index: int, outcome: Outcome) -> None:
        """Take the outcome of one member."""
        if self.done:
            return
        self.outcomes[index] = outcome
        self.left -= 1
        if failed(outcome) and not self._return_exceptions:
            self.failure = outcome
            if self._cancelling and was_cancelled(outcome) and self.left:  # the others run on, until they are stopped
                return
            self.end()
        elif self.left == 0:
            self.end()

    def give(self, index: int, stream: Any) -> None:
        """Take the iterator of the member ``index``."""
        self._given = True
        stream.end_with(self.limit)
        self.outcomes[index] = Given(stream)

    def expire(self, timeout: float) -> None:
        """The group's time is over: what is missing failed for that reason."""
        if self.done:
            return
        self.failure = None if self._return_exceptions else TaskTimeoutError(timeout, group=True)
        self.outcomes = [
            TaskTimeoutError(timeout, group=True) if outcome is None else outcome for outcome in self.outcomes
        ]
        self.end()

    def end(self) -> None:
        """Finish, and cancel whatever has no outcome yet."""
        if self.left or (self._given and self.failure is not None):  # nobody gets the iterators of a group that failed
            self._cancel(self.tasks)
        self.tasks = []
        self.finish()
        future, self.future = self.future, None  # it refers to this
        if future is not None:
            future.settle(self.failure if self.failure is not None else self)

    @property
    def is_off(self) -> bool:
        """Return whether members that were not dispatched are not wanted any more."""
        is_over = self.limit is not None and self.limit.is_over  # members that yield may be all that is missing
        return self.done and (self.left > 0 or self.failure is not None or is_over)

    def on_started(self, *, unstoppable: bool) -> None:
        """Pass it on to the future."""
        if self.future is not None:
            self.future.on_started(unstoppable=unstoppable)

    def on_cancel(self) -> None:
        """The members end one by one: some are dropped at once, others must be stopped, or cannot be."""
        self._cancelling = True

    def values(self) -> tuple[Any, ...]:
        """Return the members' values, or raise the group's failure."""
        if self.failure is not None:
            unwrap(self.failure)
        values, runs = cast("list[Any]", self.outcomes[:]), self._runs
        if sum([len(run.indexes) for run in runs]) < len(values):
            take = unwrap_in_place if self._return_exceptions else unwrap
            for index, outcome in enumerate(values):
                if type(outcome) is not Run:
                    values[index] = take(outcome)
        for run in runs:
            run.put(values, in_place=self._return_exceptions)
        self.outcomes, self._runs = [], []
        return tuple(values)


def broadcast_values(ranks: tuple[int, ...], collection: Collection) -> list[Any]:
    """Return the values of a broadcast by rank, or raise `BroadcastError` if a node failed."""
    values: list[Any] = []
    bad: list[int] = []
    for rank, outcome in zip(ranks, cast("list[Outcome]", collection.outcomes), strict=True):
        try:
            if isinstance(outcome, AbsentRankError):  # it was there when the call was made
                raise NodeLostError(rank, "it was gone before the call was sent")
            values.append(unwrap(outcome))
        except PoolClosedError:
            raise
        except (Exception, CancelledError) as error:
            values.append(error)
            bad.append(rank)
    if bad:
        raise BroadcastError(ranks, tuple(values), tuple(bad))
    return values
