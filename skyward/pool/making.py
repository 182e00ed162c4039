"""Calls become tasks here, in the thread that dispatches them.

So what cannot be serialized fails before anything is sent, and arguments are as they were at that moment. Most calls
pass nothing but numbers and text, and have no options of their own: they take a short way. All others, also those that
fail, take the long one. What is the same for all calls of a function is looked up once for a batch.
"""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from skyward.config import code_limit
from skyward.dispatch.tasks import ANY, Task
from skyward.pool.pumping import Place, disown, disown_all, take_inputs
from skyward.wire import payload
from skyward.wire.frames import payload_size
from skyward.wire.functions import LONGEST_NAME, FunctionStore
from skyward.work.pending import PendingFunction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from skyward.answers.values import ValueBuffer
    from skyward.calls import Function
    from skyward.config import Options
    from skyward.pool.bundling import Bundler, Like
    from skyward.pool.placing import Placing
    from skyward.pool.pumping import Pump
    from skyward.results import Sink
    from skyward.wire.frames import Payload
    from skyward.wire.functions import FunctionBlob

    Call: TypeAlias = PendingFunction[Any]

_index = attrgetter("index")


class _Serializing(threading.local):
    """Whose calls this thread serializes."""

    pool: object = None


_serializing = _Serializing()


def may_travel(pool: object) -> bool:
    """Return whether a pool may be part of what this thread serializes: to its own nodes it goes as a handle."""
    return _serializing.pool is pool


class TaskMaker:
    """Makes the tasks of one pool; what arguments have may be ``max_payload`` bytes, code somewhat more."""

    def __init__(self, options: Options, ids: Iterator[int], max_payload: int) -> None:
        self.max_payload = max_payload
        self.functions = FunctionStore()
        self._retries = options.retries
        self._timeout = options.timeout or 0.0
        self._ids = ids

    def resolve(self, function: Function[..., Any], modules: frozenset[str] = payload.NO_MODULES) -> FunctionBlob:
        """Return a function as it travels, with modules that arguments need; raises `SerializationError`."""
        blob = self.functions.resolve(function, modules)
        if len(blob.body) > (limit := code_limit(self.max_payload)):
            payload.refuse_code(function, len(blob.body), limit)
        return blob

    def retries_and_timeout(self, function: Function[..., Any]) -> tuple[int, float]:
        """Return retries and time limit of calls that do not say."""
        retries, timeout = function.retries, function.timeout
        return self._retries if retries is None else retries, self._timeout if timeout is None else timeout or 0.0

    def alone(self, call: Call, sink: Sink) -> Task | None:
        """Return the task of a call that may take the short way, if the code of its function was sent before.

        Who starts calls one by one pays for each of them what a batch pays once.
        """
        function = call.function
        if type(call) is not PendingFunction or call.kwargs or function.yields or function.inputs is not None:
            return None
        blob = self.functions.known(function)
        if blob is None or len(blob.body) > self.max_payload:
            return None
        return self.plain(call, (blob, *self.retries_and_timeout(function)), sink, 0)

    def plain(self, call: Call, like: Like, sink: Sink, index: int) -> Task | None:
        """Return the task of a call without options and keywords; ``like`` is what all calls of its function have.

        None if it has to take the long way, because of its arguments.
        """
        data = payload.dumps_plain(call.args)
        if data is None or len(data) > self.max_payload:
            return None
        blob, retries, timeout = like
        return Task(next(self._ids), blob, data, (), sink, index, retries, timeout, ANY, blob.name, len(data), True)

    def packed(self, call: Call, blob: FunctionBlob, arguments: Payload, sink: Sink, index: int) -> Task:
        """Return the task of any call with packed arguments; raises `SerializationError` if they are too large."""
        retries, timeout = self.retries_and_timeout(call.function)
        retries = retries if call.retries is None else call.retries
        timeout = timeout if call.timeout is None else call.timeout
        rank = ANY if call.rank is None else call.rank
        name = blob.name if call.label is None else f"{blob.name} {call.label!r}"[:LONGEST_NAME]
        data, buffers = arguments
        size = payload_size(data, buffers)
        if size > self.max_payload:
            payload.refuse_size(call.function, size, self.max_payload)
        return Task(next(self._ids), blob, data, buffers, sink, index, retries, timeout, rank, name, size, rank < 0)

    def for_node(self, task: Task, sink: Sink, index: int, rank: int) -> Task:
        """Return a task of the same call for one node; what feeds it is another's."""
        same = (task.retries, task.timeout, rank, task.name, task.size, False)
        return Task(next(self._ids), task.function, task.data, task.buffers, sink, index, *same)


class StreamingPool(Place, Protocol):
    """What calls that stream need from their pool."""

    def yielding(self, sink: Sink, index: int) -> ValueBuffer:
        """Give the sink the iterator of a call that yields; return whom the call's outcome belongs to."""
        ...

    def feed_by(self, task: Task, pumps: tuple[Pump, ...]) -> None:
        """Have the pumps feed the arguments of a task, once it is sent."""
        ...


class BatchMaker:
    """Makes tasks of calls that are serialized in one go, for one sink."""

    __slots__ = ("_blobs", "_like", "_maker", "_placing", "_pool", "_sink")

    def __init__(self, maker: TaskMaker, pool: StreamingPool, sink: Sink, placing: Placing) -> None:
        self._maker = maker
        self._pool = pool
        self._sink = sink
        self._placing = placing
        self._blobs: dict[int, FunctionBlob] = {}  # by id of the function
        self._like: dict[int, Like] = {}

    def make(self, calls: Sequence[Call], bundler: Bundler | None, start: int) -> list[Task]:
        """Return the tasks of calls, members of a group from index ``start`` on; raises `SerializationError`."""
        outer, _serializing.pool = _serializing.pool, self._pool  # an argument, or a function, may refer to it
        tasks: list[Task] = []
        try:
            for index, call in enumerate(calls, start):
                if bundler is None or not bundler.take(call, index, tasks, self.like):
                    tasks.append(self._make(call, index))
            if bundler is not None:
                bundler.close(tasks)
                tasks.sort(key=_index)  # a bundle stands where its first call does
            self._placing.end_batch(tasks)
            return tasks
        except BaseException:
            disown_all(tasks)
            raise
        finally:
            _serializing.pool = outer

    def like(self, function: Function[..., Any]) -> Like | None:
        """Return what all calls of a function have that have no options of their own; None of one that streams."""
        if function.inputs is not None or function.yields:
            return None
        blob = self._blobs[id(function)] = self._maker.resolve(function)
        like = self._like[id(function)] = blob, *self._maker.retries_and_timeout(function)
        return like

    def _make(self, call: Call, index: int) -> Task:
        function = call.function
        like = self._like.get(id(function)) or self.like(function)
        if like is None:
            return self._streaming(call, index)
        if type(call) is PendingFunction and not call.kwargs:
            task = self._maker.plain(call, like, self._sink, index)
            if task is not None:
                return task
        return self._whole(call, call.args, dict(call.kwargs), self._sink, index)

    def _streaming(self, call: Call, index: int) -> Task:
        """Return the task of a call that yields, or is fed."""
        pool, function = self._pool, call.function
        args, kwargs, pumps = call.args, dict(call.kwargs), tuple["Pump", ...]()
        if function.inputs is not None:
            args, kwargs, pumps = take_inputs(pool, function, args, kwargs)
        try:
            if not function.yields:
                task = self._whole(call, args, kwargs, self._sink, index)
            else:
                buffer = pool.yielding(self._sink, index)
                task = buffer.task = self._whole(call, args, kwargs, buffer, index)
            pool.feed_by(task, pumps)
        except BaseException:
            disown(pumps)
            raise
        return task

    def _whole(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], sink: Sink, index: int) -> Task:
        function = call.function
        packed, modules = payload.dumps_call(args, kwargs, function=function)
        blob = self._blobs.get(id(function))
        if blob is None or modules:
            blob = self._maker.resolve(function, modules)
            if not modules:
                self._blobs[id(function)] = blob
        # Who waits for a call that yields has no more than the iterator when he goes on.
        packed = self._placing.place(packed, args, kwargs, snapshot=function.yields)
        return self._maker.packed(call, blob, packed, sink, index)
