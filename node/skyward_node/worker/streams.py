"""The streams of a worker's tasks: where the slots, which run user code, and the control thread meet.

The control thread hands in credit and elements; it sends what a generator has yielded and not sent before it blocked;
and it says when nobody wants a task any more. A slot that waits for the other end of a stream lends itself, but not
before it has waited for a moment: most waits are over by then.

In process mode nobody else reads the data pipe, and what comes down there may be what the other end waits for: tasks
that shall be handed back. So the main thread reads it while it waits.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from skyward.machine.memory import Files, opened, read_copy
from skyward.wire.codec import mark_refs, split_body

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from skyward.wire.frames import Buffer, Ref
    from skyward.wire.messages import Credit, Items, Message
    from skyward_node.pipe_messages import Deadlock

GRACE: Final = 0.005  # seconds that a slot waits before it lends itself: far more than an answer takes on one machine


class Producer(Protocol):
    """What sends elements."""

    hurried: bool  # it shall look around at the next one

    def grant(self, items: int, size: int) -> None:
        """Take in credit."""
        ...

    def flush_late(self, now: int) -> None:
        """Send what has waited for long (`time.perf_counter_ns`)."""
        ...

    @property
    def has_late(self) -> bool:
        """Return whether something waits to be sent."""
        ...

    def close(self) -> None:
        """Stop: nobody wants any more."""
        ...

    def refuse(self, reason: str) -> None:
        """Fail instead of waiting."""
        ...


class Consumer(Protocol):
    """What takes elements."""

    def receive(self, rows: Sequence[tuple[Buffer, tuple[Buffer, ...]]], message: Items) -> None:
        """Take in elements."""
        ...

    def close(self) -> None:
        """Stop: the task has ended, or nobody wants it any more."""
        ...

    def refuse(self, reason: str) -> None:
        """Fail instead of waiting."""
        ...


class Streams:
    """All streams of one worker, by task."""

    def __init__(
        self,
        send: Callable[[Message, Sequence[Buffer]], None],
        set_waiting: Callable[[int, bool, bool], None],
        watch: Callable[[], None],
        files: Files,
        shield: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """``send`` and ``set_waiting`` tell the daemon; ``watch`` has the control thread look after late elements.

        ``shield`` holds back what may interrupt the user's code, which takes elements, while that holds a lock.
        """
        self.send = send
        self.shield = shield
        self.watch = watch
        self._set_waiting = set_waiting
        self._files = files
        self._data = -1
        self._read: Callable[[], bool] | None = None
        self._main = threading.get_ident()
        self._bell = -1
        self._sleeping = False
        self.producers: dict[int, Producer] = {}
        self.consumers: dict[int, dict[int, Consumer]] = {}  # by task and number of the stream
        self.closed: set[int] = set()  # tasks that nobody wants any more, as long as they have streams

    def read_while_waiting(self, data: int, read: Callable[[], bool]) -> None:
        """Have this thread call ``read`` while it waits and ``data`` is readable; it returns False at the end."""
        self._data, self._read, self._bell = data, read, os.eventfd(0, os.EFD_CLOEXEC)

    # --- for slots ----------------------------------------------------------------------------

    def sleep(self, task: int, changed: threading.Condition, ready: Callable[[], bool]) -> None:
        """Return when what a task waits for is there, its slot lent meanwhile."""
        with self.lent(task):
            if self._read is not None and threading.get_ident() == self._main:
                self._sleep_reading(ready, self._read)
            else:
                with changed:
                    changed.wait_for(ready)

    def _sleep_reading(self, ready: Callable[[], bool], read: Callable[[], bool]) -> None:
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        poller.register(self._data, select.POLLIN)
        self._sleeping = True  # whoever changes something looks at this afterwards
        try:
            while not ready():
                for fd, _ in poller.poll():
                    if fd == self._bell:
                        os.eventfd_read(fd)
                    elif not read():
                        poller.unregister(fd)
        finally:
            self._sleeping = False

    def read_in(self, loop: AbstractEventLoop) -> Callable[[], object]:
        """Have an event loop that waits read the data pipe; return how to end that."""
        read, data = self._read, self._data
        if read is None:
            return lambda: None

        def on_readable() -> None:
            if not read():
                loop.remove_reader(data)

        loop.add_reader(data, on_readable)
        return lambda: loop.remove_reader(data)

    @contextmanager
    def lent(self, task: int) -> Generator[None]:
        """Lend the slot of a task that waits for the other end of a stream."""
        self._set_waiting(task, True, True)
        try:
            yield
        finally:
            self._set_waiting(task, False, True)

    def open_memory(self, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Return buffers of an element, with copies of those that lie in the client's memory."""
        return opened(buffers, self._copy)

    def _copy(self, ref: Ref) -> bytearray:
        file = self._files.of(ref)  # which stays open at least for as long as we refer to it
        return read_copy(file.fd, ref)

    def end(self, task: int) -> None:
        """Forget a task that has ended."""
        self.producers.pop(task, None)
        for consumer in self.consumers.pop(task, {}).values():
            consumer.close()
        self.closed.discard(task)

    # --- for the control thread ---------------------------------------------------------------

    def wake(self) -> None:
        """Let the main thread look again at what it waits for."""
        if self._sleeping:
            os.eventfd_write(self._bell, 1)

    def credit(self, message: Credit) -> None:
        """Take in credit."""
        if (producer := self.producers.get(message.id)) is not None:
            producer.grant(message.items, message.size)

    def items(self, message: Items, body: list[Buffer]) -> None:
        """Take in elements."""
        consumer = self.consumers.get(message.id, {}).get(message.stream)
        if consumer is not None:
            consumer.receive(split_body(message.sizes, message.buffers, mark_refs(message, body)), message)

    def hurry(self) -> None:
        """Let all who send elements look around at the next one."""
        for producer in self.producers.values():
            producer.hurried = True

    def refuse(self, message: Deadlock) -> None:
        """Fail what the task waits for."""
        for stream in self._of(message.task):
            stream.refuse(message.reason)

    def close(self, task: int) -> None:
        """Nobody wants the task any more."""
        if streams := self._of(task):
            self.closed.add(task)
            for stream in streams:
                stream.close()

    def _of(self, task: int) -> list[Producer | Consumer]:
        producer = self.producers.get(task)
        return [*([] if producer is None else [producer]), *list(self.consumers.get(task, {}).values())]

    def look(self, now: int) -> None:
        """Send what has waited for long."""
        for producer in list(self.producers.values()):
            producer.flush_late(now)

    @property
    def has_late(self) -> bool:
        """Return whether something waits to be sent."""
        return any(producer.has_late for producer in list(self.producers.values()))
