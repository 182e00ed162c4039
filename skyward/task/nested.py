"""The pool a task runs in, as the task sees it: a handle whose calls go worker, own node, client.

The client schedules them like its own. Here they are only turned into bytes, sent up the worker's data
pipe, and matched with the answers that the worker's control thread hands in. While a task waits its
slot is lent, so that what it waits for can run.

Everything that changes what is awaited holds ``_lock``: answers, cancels and time limits come from
different threads.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
import weakref
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.answers.hand import Alarm, Hand
from skyward.answers.lending import Lent
from skyward.config import Options, Worker
from skyward.errors import PoolClosedError
from skyward.pool.later import arrive, later
from skyward.pool.operations import PoolOperations
from skyward.pool.underway import Underway
from skyward.runtime import instance_info
from skyward.wire.codec import pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Credit, Function, Items, Module, Revoke, Submit
from skyward.wire.shelf import CALLS, Shelf
from skyward.work.absent import Absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from skyward.answers.futures import Future
    from skyward.answers.values import ValueBuffer
    from skyward.answers.waiting import Waiter
    from skyward.dispatch.assignment import split
    from skyward.dispatch.tasks import END, Task, move
    from skyward.pool.making import TaskMaker
    from skyward.pool.pumping import Pump
    from skyward.results import CancelledError, Outcome
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob
    from skyward.wire.messages import Answer, Message

later(
    globals(),
    {
        "skyward.dispatch.assignment": ("split",),
        "skyward.dispatch.tasks": ("END", "move"),
        "skyward.pool.making": ("TaskMaker",),
        "skyward.results": ("CancelledError",),
        "skyward.answers.values": ("ValueBuffer",),
    },
)

# What is said to who asks for what only the holder of a pool can do.
_CLIENTS: Final = "a task has no {name} of the pool it runs in: nodes and their life are the client's"
BATCH: Final = 256  # calls in one message that takes calls back, as many as on the client
FIRST: Final = 2**62  # numbers of calls start at random below it: a re-run parent must not take its first run's answers


class NestedPool(PoolOperations):
    """The handle; see the module. Its arguments are what the worker lends it.

    ``send(message, body)`` writes to the daemon, ``current_task()`` tells for which task this thread runs,
    ``set_waiting(task, waiting)`` counts who waits in that task, whose slot is lent as long as anybody does, and
    ``post(command)`` runs a command in the thread that hands in answers, and takes no lock.
    """

    def __init__(
        self,
        send: Callable[[Message, Sequence[Buffer]], object],
        current_task: Callable[[], int | None],
        set_waiting: Callable[[int, bool], object],
        post: Callable[[Callable[[], None]], None],
        *,
        retries: int = 0,
        timeout: float | None = None,
        max_payload: int | None = None,
        reuse_processes: bool = True,
    ) -> None:
        self._send = send
        self._current_task = current_task
        self._set_waiting = set_waiting
        self._post = post
        worker = Worker(reuse_processes=reuse_processes)
        self._options = Options(retries=retries, timeout=timeout, max_payload=max_payload, worker=worker)
        self._window_size = 2**62  # bytes: the window is the client's
        self._underway = Underway()  # and nobody ends it: a stream ends with its task
        self._ids = itertools.count(random.SystemRandom().randrange(FIRST))
        self.awaited: dict[int, dict[int, Task]] = {}  # by parent and number of the call
        self._sent: Shelf[bool] = Shelf(CALLS)  # code that has gone up, and that the node still has
        self._renew_locks()
        os.register_at_fork(after_in_child=self._renew_locks)  # threads that are not in the child may hold them
        self._helping = threading.local()  # .parent, in threads that feed streams of a task
        self._callbacks = Hand("skyward-callbacks")
        self._alarm = Alarm("skyward-time-limits")

    # --- for the worker --------------------------------------------------------------------

    def answer(self, message: Answer, body: Sequence[Buffer]) -> None:
        """Take in outcomes."""
        rows = split_body(message.sizes, message.buffers, body)
        for call, status, rank, (data, buffers) in zip(
            message.calls, message.statuses, message.ranks, rows, strict=True
        ):
            with self._lock:
                task = self.awaited.get(message.parent, {}).pop(call, None)
                if task is not None:  # else it was cancelled meanwhile
                    self._settle(task, (status, data, buffers, rank, task.id, task.name))

    def ended(self, parent: int, *, goes_on: bool = False) -> None:
        """A task has ended: what it has not awaited is not answered any more.

        ``goes_on``: it is a bundle, of which a call has ended, so that the node has to be told.
        """
        with self._lock:
            awaited = self.awaited.pop(parent, {})
            for task in awaited.values():
                self._settle(task, CancelledError())
        if awaited and goes_on:
            self._revoke(parent, list(awaited))

    def _settle(self, task: Task, outcome: Outcome) -> None:
        move((task,), END)
        sink, task.sink = task.sink, None
        for feed in task.feeds:
            feed.stop()
        sink.deliver(task, outcome)

    # --- primitives of the operations --------------------------------------------------------

    def _check(self) -> None:
        self._parent()
        if not hasattr(self, "_maker"):  # most tasks call nothing
            arrive()
            self._maker = TaskMaker(self._options, self._ids, self._options.payload_limit())  # two do no harm

    def _parent(self) -> int:
        parent = self._current_task()
        if parent is None:
            parent = getattr(self._helping, "parent", None)
        if parent is None:
            raise PoolClosedError(
                "this thread runs no task of the pool: only a running task can use it, from its own thread or, with "
                "executor='thread', from one that has its context, as asyncio.to_thread gives it"
            )
        return parent

    @property
    def _is_helping(self) -> bool:
        return getattr(self._helping, "parent", None) is not None

    def _submit(self, tasks: Sequence[Task], wait_for: Waiter | None = None) -> None:
        parent = self._parent()
        for batch in split(list(tasks)) if tasks else ():
            self._send_calls(parent, batch)
        if wait_for is not None:
            self.wait_for(wait_for)

    def _renew_locks(self) -> None:
        self._lock = threading.RLock()  # held by who changes `awaited`
        self._sending = threading.RLock()  # code goes up in the order in which it is noted as used

    def _send_calls(self, parent: int, tasks: Sequence[Task]) -> None:
        blobs: dict[bytes, FunctionBlob] = {task.function.key: task.function for task in tasks}
        index = {key: number for number, key in enumerate(blobs)}
        sizes, buffers, body = pack_body([Payload(task.data, task.buffers) for task in tasks])
        message = Submit(
            epoch=0,
            parent=parent,
            functions=list(index),
            calls=[task.id for task in tasks],
            fns=[index[task.function.key] for task in tasks],
            sizes=sizes,
            buffers=buffers,
            retries=[task.retries for task in tasks],
            timeouts=[task.timeout for task in tasks],
            ranks=[task.rank for task in tasks],
            names=[task.name for task in tasks],
        )
        with self._lock:
            self.awaited.setdefault(parent, {}).update((task.id, task) for task in tasks)
        with self._sending:
            try:
                self._send_with_code(message, body, blobs.values())
            except BaseException:  # an interrupt, too: what has gone up cannot be told
                self._sent = Shelf(CALLS)
                raise
        for task in tasks:
            task.data, task.buffers, task.function = b"", (), None

    def _send_with_code(self, message: Submit, body: Sequence[Buffer], blobs: Iterable[FunctionBlob]) -> None:
        """Send calls up, after the code that the node does not have, or no longer."""
        sent = self._sent
        for blob in blobs:
            if blob.key in sent:
                continue
            for module in blob.modules:
                if not sent.has_module(module.key):
                    self._send(Module(0, module.key, module.name), [module.body])
            self._send(Function(0, blob.key, [module.key for module in blob.modules], blob.name), [blob.body])
            sent.put(blob.key, True, len(blob.body), [(module.key, len(module.body)) for module in blob.modules])
        self._send(message, body)
        for blob in blobs:
            sent.use(blob.key)
        sent.trim()

    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline (`time.monotonic`). The slot is lent meanwhile."""
        if waiter.done:
            return True
        with self.lent():
            return _sleep(waiter, deadline)

    def lent(self) -> AbstractContextManager[None]:
        """Lend the slot of the task that runs here for the length of a block."""
        parent = self._current_task()
        if parent is None or self._is_helping:  # a thread that holds no slot
            return nullcontext()
        return Lent(parent, self._set_waiting, self.soon)

    def cancel_tasks(self, tasks: Iterable[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; takes no lock, because finalizers come here."""
        unwanted = list(tasks)
        self._post(lambda: self._give_up(unwanted))

    def _give_up(self, tasks: Iterable[Task]) -> None:
        """End tasks here at once, and soon on their nodes."""
        revoked: dict[int, list[int]] = {}
        with self._lock:
            for task in tasks:
                for parent, awaited in self.awaited.items():
                    if awaited.pop(task.id, None) is not None:
                        revoked.setdefault(parent, []).append(task.id)
                        self._settle(task, CancelledError())
        for parent, calls in revoked.items():
            self._revoke(parent, calls)

    def _revoke(self, parent: int, calls: list[int]) -> None:
        for start in range(0, len(calls), BATCH):
            self._send(Revoke(0, parent, calls[start : start + BATCH]), ())

    # --- streams of values -------------------------------------------------------------------

    def relay(self, message: Items | Credit, body: Sequence[Buffer]) -> None:
        """Take in what a call yields, or what it wants of an argument (the worker's control thread)."""
        with self._lock:
            task = self.awaited.get(message.id, {}).get(message.call)
            sink = task.sink if task is not None else None
        if task is None:  # it has ended, or nobody wants it any more
            return
        if isinstance(message, Credit):
            if 0 < message.stream <= len(task.feeds):
                task.feeds[message.stream - 1].grant(message.items, message.size, message.read)
        elif isinstance(sink, ValueBuffer):
            sink.receive(split_body(message.sizes, message.buffers, body), message.counts)

    def grant(self, task: Task, items: int, size: int) -> None:
        """Let a call yield so many more elements and bytes."""
        parent = self._parent_of(task)
        if parent is not None:
            self._send(Credit(0, parent, 0, items, size, call=task.id), ())

    def push(self, pump: Pump) -> None:
        """Send what a pump has pulled (its own thread)."""
        task, batch = pump.task, pump.take()
        parent = None if task is None else self._parent_of(task)
        if task is None or parent is None or batch is None:
            return
        sizes, buffers, body = pack_body(batch.payloads)
        first, _, end, failed = batch
        self._send(Items(0, parent, pump.stream, first, sizes, buffers, end, failed, call=task.id), body)

    def _parent_of(self, task: Task) -> int | None:
        with self._lock:
            return next((parent for parent, awaited in self.awaited.items() if task.id in awaited), None)

    def feed_by(self, task: Task, pumps: tuple[Pump, ...]) -> None:
        """Have the pumps feed the arguments of a call, once it is sent."""
        super().feed_by(task, pumps)
        parent = self._parent()
        for pump in pumps:  # what an iterable calls, its task calls
            pump.wrap = partial(self._as_task, parent)

    def _call_later(self, delay: float, command: Callable[..., None], owner: Any = None) -> None:
        ref = None if owner is None else weakref.ref(owner)

        def run() -> None:
            if ref is None:
                command()
            elif (owner := ref()) is not None:
                command(owner)

        self._alarm.after(delay, lambda: self._deliver(run))

    def soon(self, command: Callable[[], None]) -> None:
        """Run a command where outcomes are delivered; takes no lock."""
        self._post(lambda: self._deliver(command))

    def _deliver(self, command: Callable[[], None]) -> None:
        with self._lock:
            command()

    def as_this_task(self, run: Callable[[], None]) -> Callable[[], None]:
        """Return ``run`` for another thread, where its calls are those of the task that runs here."""
        return self._as_task(self._parent(), run)

    def _as_task(self, parent: int, run: Callable[[], None]) -> Callable[[], None]:
        def helping() -> None:
            self._helping.parent = parent
            run()

        return helping

    def _wait_for_room(self, size: int) -> None:
        """Do nothing: the window is the client's, and a task that waits for it could wait for ever."""

    def _broadcast_ranks(self) -> tuple[int, ...]:
        info = instance_info()
        assert info is not None
        return tuple(peer.rank for peer in info.peers)

    def _broadcast_over(self) -> None:
        """Do nothing: the client does not know which nodes a task counts on."""

    @property
    def slots(self) -> int:
        """Return how many tasks run at once on the nodes of the pool."""
        info = instance_info()
        return info.total_workers if info is not None else 1

    @property
    def concurrency(self) -> int:
        """Return how many tasks the node of this task runs at once."""
        info = instance_info()
        return info.workers_per_node if info is not None else 1

    def current_nodes(self) -> int:
        """Return how many nodes are ready, as far as this one has heard; 0 where no task of the pool runs."""
        info = instance_info()
        return len(info.peers) if info is not None and self.is_active else 0

    @property
    def is_active(self) -> bool:
        """Return whether this thread runs a task of the pool, and so can use it."""
        return self._current_task() is not None or self._is_helping

    if not TYPE_CHECKING:  # nor is there any such attribute for who checks types
        resize, snapshot, open, close, shutdown = (Absent(_CLIENTS, told="") for _ in range(5))

    def cancel_future(self, future: Future[Any]) -> bool:
        """Give up the calls of a future; it does not matter to the task when they stop."""
        self._give_up(future.tasks)
        return future.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread."""
        self._callbacks.do(callback)

    def __repr__(self) -> str:
        return "<the pool this task runs in>"


def _sleep(waiter: Waiter, deadline: float | None) -> bool:
    waiter.prepare_to_park()
    while not waiter.done:
        remaining = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
        if remaining <= 0:
            return False
        waiter.park(remaining)
    return True
