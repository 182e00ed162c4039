"""A pool whose tasks run in this process, when somebody waits for them or the test says so.

Everything is as in a real pool up to the scheduler: calls become tasks, arguments and values are pickled.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from skyward.config import Options
from skyward.dispatch.tasks import ANY, QUEUED, SETTLED
from skyward.errors import PoolClosedError
from skyward.pool.later import arrive
from skyward.pool.making import TaskMaker
from skyward.pool.operations import PoolOperations
from skyward.pool.underway import Underway
from skyward.results import CancelledError
from skyward.wire import failures, payload
from skyward.wire.functions import FunctionStore
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.answers.futures import Future
    from skyward.answers.waiting import Waiter
    from skyward.calls import Function
    from skyward.dispatch.tasks import Task
    from skyward.pool.pumping import Pump
    from skyward.results import Outcome
    from skyward.wire.functions import FunctionBlob

NO_MODULES: frozenset[str] = frozenset()


def _awaited(value: Any) -> Any:
    """Return the value; of a coroutine, as a worker does, what comes of it."""
    return asyncio.run(value) if asyncio.iscoroutine(value) else value


class KnowingStore(FunctionStore):
    """A store that can also tell the function behind a blob."""

    def __init__(self) -> None:
        super().__init__()
        self.resolved: list[str] = []
        self._functions: dict[bytes, Callable[..., Any]] = {}

    def resolve(self, function: Function[..., Any], extra_modules: frozenset[str] = NO_MODULES) -> FunctionBlob:
        """Return the function as it travels."""
        blob = super().resolve(function, extra_modules)
        self.resolved.append(blob.name)
        self._functions[blob.key] = function.__wrapped__
        return blob

    def behind(self, blob: FunctionBlob) -> Callable[..., Any]:
        """Return the function itself."""
        return self._functions[blob.key]


class OperatedPool(PoolOperations):
    """Two nodes that are this process. With ``lazy`` nothing runs before `serve`."""

    def __init__(self, *, lazy: bool = False, **options: Any) -> None:
        self._options = Options(**options)
        self._window_size = 2**30
        self._underway = Underway()
        arrive()  # as when a pool opens
        self.store = KnowingStore()
        self._maker = TaskMaker(self._options, itertools.count(1), self._options.payload_limit())
        self._maker.functions = self.store
        self.lazy = lazy
        self.closed = False
        self.queue: list[Task] = []
        self.submitted: list[list[Task]] = []
        self.cancelled: list[int] = []
        self._doomed: list[Task] = []  # cancelled, and not yet told
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.room: list[int] = []
        self.ranks: tuple[int, ...] = (0, 1)
        self.over = 0  # broadcasts that do not count on the ranks any more
        self.failures: dict[int, BaseException] = {}  # outcomes of tasks by id, in place of running them
        self.interrupt: BaseException | None = None  # raised from the next wait
        self.slot_count = 2

    # --- the test's end --------------------------------------------------------------------

    def serve(self, count: int = -1) -> None:
        """Run what is queued, or so many of them."""
        while self.queue and count:
            count -= 1
            self.settle(self.queue[0])
        self._tell_the_cancelled()

    def settle(self, task: Task, outcome: Outcome | None = None) -> None:
        """End a task: by running it, or like this."""
        self.queue.remove(task)
        task.state = SETTLED
        task.sink.deliver(task, self._run(task) if outcome is None else outcome)

    def _tell_the_cancelled(self) -> None:
        while self._doomed:
            task = self._doomed.pop(0)
            task.state = SETTLED
            task.sink.deliver(task, CancelledError())

    def _run(self, task: Task) -> Outcome:
        if task.id in self.failures:
            return self.failures[task.id]
        blob: FunctionBlob = task.function
        rank = 0 if task.rank == ANY else task.rank
        try:
            args, kwargs = payload.loads_call(bytes(task.data), tuple(map(bytearray, task.buffers)))
            value = payload.dumps_value(_awaited(self.store.behind(blob)(*args, **kwargs)))
        except Exception as error:
            failure = failures.from_exception(error)
            return (failure.status, failures.encode(failure), (), rank, task.id, blob.name)
        return (OK, value.data, value.buffers, rank, task.id, blob.name)

    # --- primitives ------------------------------------------------------------------------

    def _check(self) -> None:
        if self.closed:
            raise PoolClosedError("closed")

    def _submit(self, tasks: Sequence[Task], wait_for: Waiter | None = None) -> None:
        self.submitted.append(list(tasks))
        self.queue += [task for task in tasks if task.state == QUEUED]
        if wait_for is not None:
            self.wait_for(wait_for)

    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Run tasks until the waiter is done."""
        error, self.interrupt = self.interrupt, None
        if error is not None:
            raise error
        self._tell_the_cancelled()
        while not waiter.done and self.queue and not self.lazy:
            self.serve(1)
        if not waiter.done and deadline is None:
            raise AssertionError("it would wait for ever")
        return waiter.done

    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Drop what is queued of these; as in a real pool, that is told later."""
        doomed = [task for task in tasks if task in self.queue]
        self.queue = [task for task in self.queue if task not in doomed]
        self.cancelled += [task.id for task in doomed]
        self._doomed += doomed

    def grant(self, task: Task, items: int, size: int) -> None:
        """Never called: nothing here yields."""

    def push(self, pump: Pump) -> None:
        """Never called: nothing here is fed."""

    def _call_later(self, delay: float, command: Callable[..., None], owner: Any = None) -> None:
        self.later.append((delay, command if owner is None else partial(command, owner)))

    def soon(self, command: Callable[[], None]) -> None:
        """Note it."""
        self.later.append((0.0, command))

    def _wait_for_room(self, size: int) -> None:
        self.room.append(size)

    def _broadcast_ranks(self) -> tuple[int, ...]:
        return self.ranks

    def _broadcast_over(self) -> None:
        self.over += 1

    def cancel_future(self, future: Future[Any]) -> bool:
        """Cancel its tasks."""
        self.cancel_tasks(list(future.tasks))
        self._tell_the_cancelled()
        return future.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Run it here."""
        callback()

    @property
    def slots(self) -> int:
        """Return how many tasks run at once."""
        return self.slot_count
