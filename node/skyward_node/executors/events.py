"""What the supervisor reports about workers. Frozen values, made for pattern matching in the core. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message


class Spawned(Struct, frozen=True, gc=False):
    """The worker's process exists. It could be sent tasks before."""

    worker: int
    pid: int


class Received(Struct, frozen=True, gc=False):
    """A message of a worker, one of `skyward_node.pipe_messages.WORKER_MESSAGES`. The receiver owns the body."""

    worker: int
    message: Message
    body: Sequence[Buffer] = ()


class Printed(Struct, frozen=True, gc=False):
    """Bytes that a worker, or a child of it, wrote to stdout (1) or stderr (2), as they came."""

    worker: int
    stream: int
    data: bytes


class OutputEnded(Struct, frozen=True, gc=False):
    """Nobody can write to a worker's stdout (1) or stderr (2) any more, while it lives: a task has closed it.

    Comes no later than the outcome of that task.
    """

    worker: int
    stream: int


class Exited(Struct, frozen=True, gc=False):
    """The worker is gone; comes once per worker, after everything it managed to send.

    One of ``exitcode`` and ``signal`` is set. ``peak_memory`` and ``memory_limit`` are bytes, None if
    unknown or unlimited; ``oom`` says that the kernel killed it for lack of memory; ``stderr`` holds
    the last lines it printed there. ``running`` are the tasks that its slots were running, or had run
    last: what came before them in the worker's queue has run, even if no result of it was sent. A process that came
    up and ran nothing says `READY` there. ``calls`` says which of its calls a bundle was running.
    """

    worker: int
    exitcode: int | None
    signal: int | None
    peak_memory: int | None = None
    memory_limit: int | None = None
    oom: bool = False
    stderr: tuple[str, ...] = ()
    running: tuple[int, ...] = ()
    calls: Mapping[int, int] = {}


class TemplateLost(Struct, frozen=True):
    """The template is gone, and no worker will start any more: the daemon ends itself."""


WorkerEvent = Spawned | Received | Printed | OutputEnded | Exited | TemplateLost
