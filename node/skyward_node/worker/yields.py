"""What generators yield: sent in batches, as far as the client has granted.

The first element after a pause leaves at once; those that follow within a millisecond gather, and leave with a later
one, when the generator must wait, when it ends, or by the hand of the control thread if it blocks. So a slow stream is
not late, and a fast one costs a message for hundreds of elements.

The lock is held while elements are written, so that they leave in order whoever sends them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import DeadlockError
from skyward.wire.codec import pack_body
from skyward.wire.credit import FIRST, SIZE, Budget
from skyward.wire.frames import Ref, shared_among, size_of
from skyward.wire.messages import Items
from skyward.wire.statuses import OK
from skyward_node.worker.streams import GRACE

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import AsyncGenerator, Generator

    from skyward.wire.frames import Payload
    from skyward_node.worker.interrupts import Interrupts
    from skyward_node.worker.streams import Streams

GATHER: Final = 1_000_000  # ns elements may gather: a message costs 20 µs, so 2 % of the time
BATCH: Final = 256  # elements in one message
BATCH_SIZE: Final = 256 * 1024  # bytes in one message: what a socket buffer takes without waiting

Pack = Callable[[Any], "tuple[int, Payload]"]


class Closed(Exception):
    """Nobody wants what the generator yields any more."""


class Unsendable(Exception):
    """An element cannot be sent: it is too large, or cannot be pickled."""

    def __init__(self, status: int, payload: Payload) -> None:
        super().__init__()
        self.status = status
        self.payload = payload


class Emitter:
    """Sends what one task yields."""

    def __init__(self, streams: Streams, task: int) -> None:
        self._streams = streams
        self._task = task
        self._budget = Budget(FIRST, SIZE)
        self._changed = threading.Condition(threading.Lock())
        self._wake: Callable[[], object] | None = None  # of a coroutine that waits
        self._batch: list[Payload] = []
        self._size = 0
        self._seq = 0
        self._sent_at = 0
        self._closed = False
        self._refusal: str | None = None
        self.waited = 0  # ns that the generator waited for its consumer
        streams.producers[task] = self

    # --- the slot -----------------------------------------------------------------------------

    def add(self, status: int, payload: Payload) -> bool:
        """Take in an element; return whether one more may follow now."""
        if status != OK:
            raise Unsendable(status, payload)
        with self._changed:
            self._batch.append(payload)
            size = len(payload.data) + (size_of(payload.buffers) if payload.buffers else 0)
            self._size += size
            self._budget.spend(size)
            # The generator may change the memory it has yielded as soon as it goes on.
            loose = bool(payload.buffers) and any(type(buffer) is not Ref for buffer in payload.buffers)
            full = len(self._batch) >= BATCH or self._size >= BATCH_SIZE
            if loose or full or perf_counter_ns() - self._sent_at > GATHER:
                self._flush()
            waits = bool(self._batch)
            allowed = self._budget.allows
        if self._closed:
            raise Closed
        if waits and allowed:
            self._streams.watch()
        return allowed

    def wait(self) -> None:
        """Return when one more element may be sent; lend the slot if that takes long."""
        begun = perf_counter_ns()
        with self._changed:
            self._flush()
            ready = self._changed.wait_for(self._may_go_on, GRACE)
        if not ready:
            self._streams.sleep(self._task, self._changed, self._may_go_on)
        self.waited += perf_counter_ns() - begun
        self._look()

    async def wait_async(self) -> None:
        """Do the same in a coroutine."""
        import asyncio

        begun = perf_counter_ns()
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._flush()
            self._wake = lambda: loop.call_soon_threadsafe(event.set)
        try:
            if not self._may_go_on() and not await _set_within(event, GRACE):
                await self._sleep_async(loop, event)
        finally:
            self._wake = None
            self.waited += perf_counter_ns() - begun
        if not self._may_go_on():  # the event was about bytes alone
            await self.wait_async()
        self._look()

    async def _sleep_async(self, loop: AbstractEventLoop, event: Event) -> None:
        with self._streams.lent(self._task):
            stop_reading = self._streams.read_in(loop)
            try:
                while not self._may_go_on():
                    event.clear()
                    if not self._may_go_on():  # it changed before the event was cleared
                        await event.wait()
            finally:
                stop_reading()

    def _look(self) -> None:
        if self._closed:
            raise Closed
        if self._refusal is not None:
            raise DeadlockError(self._refusal)

    def end(self) -> None:
        """Send what is left."""
        with self._changed:
            self._flush()

    def _may_go_on(self) -> bool:
        return self._budget.allows or self._closed or self._refusal is not None

    def _flush(self) -> None:
        batch = self._batch
        if not batch:
            return
        sizes, buffers, frames = pack_body(batch)
        message = Items(0, self._task, 0, self._seq, sizes, buffers, end=False, shared=shared_among(frames))
        self._seq += len(batch)
        self._batch, self._size = [], 0
        self._streams.send(message, frames)
        self._sent_at = perf_counter_ns()

    # --- the control thread -------------------------------------------------------------------

    def grant(self, items: int, size: int) -> None:
        """Take in credit."""
        with self._changed:
            self._budget.grant(items, size)
        self._notify()

    def flush_late(self, now: int) -> None:
        """Send what has waited for long."""
        if self._batch and now - self._sent_at > GATHER:
            with self._changed:
                self._flush()

    @property
    def has_late(self) -> bool:
        """Return whether something waits to be sent."""
        return bool(self._batch)

    def close(self) -> None:
        """Stop at the next element, or now if the generator waits."""
        self._closed = True
        self._notify()

    def refuse(self, reason: str) -> None:
        """Fail instead of waiting."""
        self._refusal = reason
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            wake = self._wake
        self._streams.wake()
        if wake is not None:
            wake()


def drive(
    emitter: Emitter,
    generator: Generator[Any, Any, Any],
    task: int,
    interrupts: Interrupts,
    pack: Pack,
    check_fork: Callable[[], object],
) -> None:
    """Run a generator to its end; only its own code can be interrupted."""
    try:
        while True:
            try:
                interrupts.arm(task)
                value = next(generator)
            except StopIteration:
                return
            finally:
                interrupts.armed = None
            check_fork()
            if not emitter.add(*pack(value)):
                del value  # while it waits the generator alone decides what it keeps
                emitter.wait()
    finally:
        generator.close()


async def drive_async(emitter: Emitter, generator: AsyncGenerator[Any, Any], pack: Pack) -> None:
    """Run an asynchronous generator to its end."""
    try:
        async for value in generator:
            if not emitter.add(*pack(value)):
                await emitter.wait_async()
    finally:
        await generator.aclose()


async def _set_within(event: Event, seconds: float) -> bool:
    import asyncio

    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
