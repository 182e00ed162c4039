"""A rig that drives real workers without a daemon: for tests, measurements, and checks of new executors.

It plays the part of the core: it forks a template, orders workers through a `Supervisor`, hands them
calls, and gathers what they say. One thread uses it.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from skyward.calls import function as mark
from skyward.machine.memory import opened
from skyward.model import NodeConfig
from skyward.wire import failures, payload
from skyward.wire.codec import encode, pack_body, split_body
from skyward.wire.functions import FunctionStore
from skyward.wire.lone import Reply
from skyward.wire.messages import Cancel, Function, Member, Module, Output, Progress, Results, Returned, Tasks
from skyward.wire.statuses import OK, Failure
from skyward_node import template
from skyward_node.executors.events import Exited, Printed, Received, Spawned
from skyward_node.executors.supervisor import Supervisor
from skyward_node.pipe_messages import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward_node.executors.events import WorkerEvent

PATIENCE: Final = 20.0  # seconds a test waits for what should take milliseconds
CHUNK: Final = 64  # calls in a message


class Rig:
    """Workers, and what came of them. Use it in a ``with`` statement."""

    def __init__(self, **config: Any) -> None:
        self.config = NodeConfig(bind="", **config)
        self.template = template.start(self.config)
        self.supervisor = Supervisor(self.config, self.template)
        self.events: list[WorkerEvent] = []
        self.pids: dict[int, int] = {}
        self.results: dict[int, tuple[int, Any]] = {}  # by task: status, and value or Failure
        self.order: list[int] = []  # tasks as their results came
        self.repeated: list[int] = []  # tasks that had more than one result
        self.started: list[int] = []
        self.returned: list[int] = []
        self.exits: dict[int, list[Exited]] = {}
        self.printed: dict[int, dict[int, bytes]] = {}
        self._store = FunctionStore()
        self._known: set[tuple[int, bytes]] = set()
        self._next_worker = 1
        self._next_task = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.supervisor.close()

    # --- workers ----------------------------------------------------------------------------

    def spawn(self, slots: int = 1, env: dict[str, str] | None = None, **context: Any) -> int:
        """Start a worker and tell it its place; return its number."""
        worker = self._next_worker
        self._next_worker += 1
        self.supervisor.spawn(worker, slots, env or {})
        self.supervisor.send(worker, [encode(self.context(slots, **context))])
        return worker

    def context(self, slots: int = 1, **fields: Any) -> Context:
        """Return what a worker of a pool of one node is told."""
        values: dict[str, Any] = {
            "session": bytes(16),
            "rank": 0,
            "job": "job",
            "members": [Member(0, "localhost", "localhost")],
            "slots": [slots],
            "head_port": 0,
            "index": 0,
            "cancel_grace": 1.0,
            "max_payload": 0,
        }
        return Context(**(values | fields))

    def pid(self, worker: int) -> int:
        """Return the pid of a worker, waiting for it to be born."""
        self.until(lambda: worker in self.pids)
        return self.pids[worker]

    # --- calls --------------------------------------------------------------------------------

    def submit(self, worker: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
        """Give a worker one call; return its task id."""
        return self.submit_all(worker, function, [args], **kwargs)[0]

    def submit_all(
        self, worker: int, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], **kwargs: Any
    ) -> list[int]:
        """Give a worker a call for each tuple of arguments, in chunks; return the task ids."""
        ids = list(range(self._next_task, self._next_task + len(arguments)))
        self._next_task += len(ids)
        self._give(worker, ids, function, arguments, kwargs)
        return ids

    def submit_again(self, worker: int, task: int, function: Callable[..., Any], *args: Any) -> None:
        """Give a worker a task that was handed back."""
        self._give(worker, [task], function, [args], {})

    def _give(
        self, worker: int, ids: list[int], function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]],
        kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        key = self._give_code(worker, function)
        for start in range(0, len(ids), CHUNK):
            some = [payload.dumps_call(args, kwargs, names=())[0] for args in arguments[start : start + CHUNK]]
            sizes, buffers, body = pack_body(some)
            header = Tasks(0, 0, [key], ids[start : start + CHUNK], [0] * len(some), sizes, buffers)
            self.supervisor.send(worker, [encode(header), *body])

    def _give_code(self, worker: int, function: Callable[..., Any]) -> bytes:
        blob = self._store.resolve(mark(function), frozenset())
        if (worker, blob.key) not in self._known:
            self._known.add((worker, blob.key))
            for module in blob.modules:
                self.supervisor.send(worker, [encode(Module(0, module.key, module.name)), module.body])
            header = Function(0, blob.key, [module.key for module in blob.modules], blob.name)
            self.supervisor.send(worker, [encode(header), blob.body])
        return blob.key

    def cancel(self, worker: int, ids: Sequence[int], *, running: bool = True) -> None:
        """Cancel tasks, or only those that have not started."""
        self.supervisor.send(worker, [encode(Cancel(0, list(ids), running))], control=True)

    def value(self, task: int) -> Any:
        """Wait for a task's value; AssertionError if it failed."""
        status, value = self.outcome(task)
        assert status == OK, value
        return value

    def failure(self, task: int) -> Failure:
        """Wait for a task's failure; AssertionError if it has a value."""
        status, value = self.outcome(task)
        assert status != OK, value
        assert isinstance(value, Failure)
        return value

    def outcome(self, task: int) -> tuple[int, Any]:
        """Wait for a task's status, and value or failure."""
        self.until(lambda: task in self.results)
        return self.results[task]

    def call(self, worker: int, function: Callable[..., Any], *args: Any) -> Any:
        """Run one call and return its value."""
        return self.value(self.submit(worker, function, *args))

    def exit_of(self, worker: int) -> Exited:
        """Wait for a worker's end."""
        self.until(lambda: worker in self.exits)
        return self.exits[worker][0]

    # --- events -------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Take in events until the condition holds. Raises `TimeoutError` after ``patience`` seconds."""
        deadline = time.monotonic() + patience
        self.pump()
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing came of it; last events: {self.events[-5:]}")
            self.pump(left)

    def lone_outcome(self) -> tuple[int, Reply] | None:
        """Return a worker and its small outcome, if that is all that is there; else take in the events."""
        ready = self.supervisor.poller.poll(0)
        found = self.supervisor.outcome(ready)
        if found is None:
            self._take_in(ready)
        return found

    def pump(self, patience: float = 0.0) -> None:
        """Take in the events that are there, or come within ``patience`` seconds."""
        self._take_in(self.supervisor.poller.poll(patience))

    def _take_in(self, ready: Sequence[tuple[Any, int]]) -> None:
        for event in self.supervisor.events(ready):
            self.events.append(event)
            match event:
                case Spawned(worker, pid):
                    self.pids[worker] = pid
                case Printed(worker, stream, data) | Received(worker, Output(stream=stream), [data]):
                    streams = self.printed.setdefault(worker, {1: b"", 2: b""})
                    streams[stream] += data
                case Exited(worker):
                    self.exits.setdefault(worker, []).append(event)
                case Received(_, Results() as message, body):
                    self._keep(message, body)
                case Received(_, Reply() as message):
                    self._keep(*message.as_batch())
                case Received(_, Progress() as message):
                    self.started += message.started
                case Received(_, Returned() as message):
                    self.returned += message.ids
                case _:
                    pass

    def _keep(self, message: Results, body: Sequence[Any]) -> None:
        rows = split_body(message.sizes, message.buffers, body)
        for task, status, (data, frames) in zip(message.ids, message.statuses, rows, strict=True):
            buffers = opened(frames, self.supervisor.arenas.bytes_of)
            value = payload.loads_value(data, buffers) if status == OK else failures.decode(data)
            self.repeated += [task] if task in self.results else []
            self.results[task] = status, value
            self.order.append(task)


def descendants(pid: int) -> set[int]:
    """Return the pids of all processes below one."""
    below: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    parents = [pid]
    while parents:
        children = below.get(parents.pop(), [])
        found.update(children)
        parents += children
    return found


def alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_dead(pids: Sequence[int], patience: float = PATIENCE) -> None:
    """Wait for processes that need not be children to end; AssertionError if one does not in time."""
    poller = select.poll()
    deadline = time.monotonic() + patience
    for pid in pids:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            poller.register(pidfd, select.POLLIN)
            ended = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            poller.unregister(pidfd)
            os.close(pidfd)
            assert ended, f"process {pid} is alive"
