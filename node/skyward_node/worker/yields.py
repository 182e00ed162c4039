"""What generators yield: sent in batches, as far as the client has granted.

The first element after a pause leaves at once; those that follow within a millisecond gather, and leave with a later
one, when the generator must wait, when it ends, or by the hand of the control thread if it blocks. So a slow stream is
not late, and a fast one costs a message for hundreds of elements.

Values that nothing can change any more, such as numbers, are *loose*: they gather unpickled (`driving`), in a deque
that the control thread may empty at any time, and are pickled many at a time. A pickle never holds more than a quarter
of what the consumer grants at a time, because all of its elements count as taken when the last of them is.

The lock is held while elements are written, so that they leave in order whoever sends them.
"""

from __future__ import annotations

import pickle
import threading
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import DeadlockError
from skyward.wire.codec import pack_body
from skyward.wire.credit import FIRST, SIZE, Budget
from skyward.wire.frames import Payload, Ref, payload_size, shared_among
from skyward.wire.messages import Items
from skyward.wire.statuses import OK
from skyward_node.worker.streams import GRACE

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import Callable, Iterable

    from skyward_node.worker.streams import Streams

    Pack = Callable[[Any], tuple[int, Payload]]

GATHER: Final = 1_000_000  # ns elements may gather: a message costs 20 µs, so 2 % of the time
BATCH: Final = 256  # pickles in one message
BATCH_SIZE: Final = 256 * 1024  # bytes in one message: what a socket buffer takes without waiting
ROW: Final = 256  # loose values in one pickle: a fifth cheaper than 64; more make it no cheaper
ROW_SIZE: Final = 512 * 1024  # bytes of such a pickle, if all its values are small
LOOSE: Final = 4_096  # loose values before they are looked at: 1 ms of the fastest generator there is


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

    def __init__(self, streams: Streams, task: int, pack: Pack) -> None:
        """``pack`` returns status and payload of an element that is not small."""
        self.pack = pack
        self._unsendable: Unsendable | None = None  # nothing that came after it is sent
        self._streams = streams
        self._task = task
        self._budget = Budget(FIRST, SIZE)
        self._changed = threading.Condition(threading.Lock())
        self._wake: Callable[[], object] | None = None  # of a coroutine that waits
        self._batch: list[Payload] = []
        self._counts: list[int] = []  # elements in each of these
        self._loose: deque[Any] = deque()
        self._row = 1  # loose values that one pickle may hold
        self._stint = 1  # loose values that the generator may yield before somebody looks
        self._started_at = 0  # when it began with them
        self._begun_at = 0  # the same while somebody must look whether it blocks, else 0
        self._size = 0
        self._seq = 0
        self._sent_at = 0
        self._closed = False
        self._refusal: str | None = None
        self.waited = 0  # ns that the generator waited for its consumer
        self.hurried = False  # the generator shall look at what is new when it next yields
        self.gather = self._loose.append
        streams.producers[task] = self

    # --- the slot -----------------------------------------------------------------------------

    def add(self, status: int, payload: Payload) -> bool:
        """Take in an element that was pickled at once; return whether one more may follow now."""
        if status != OK:
            raise Unsendable(status, payload)
        with self._changed:
            self._begun_at, self._stint = 0, 1
            self._pickle_loose()
            self._put(payload, 1)
            # The generator may change the memory it has yielded as soon as it goes on.
            loose = bool(payload.buffers) and any(type(buffer) is not Ref for buffer in payload.buffers)
            return self._go_on(perf_counter_ns(), now=loose)

    def stint(self) -> int:
        """Return how many loose values may be gathered now; at least 1, because more is allowed."""
        stint = min(self._stint, self._budget.items)
        self.hurried = False
        if self._closed:  # it says so first, and hurries us then
            self.hurried = True
        self._started_at = perf_counter_ns()
        if stint > 1:
            self._begun_at = self._started_at
            self._streams.watch()
        return stint

    def look(self) -> bool:
        """Send what was gathered, if it is time; return whether one more element may follow now."""
        now = perf_counter_ns()
        with self._changed:
            self._begun_at = 0
            took = now - self._started_at
            if took > GATHER:
                self._stint = 1
            elif took < GATHER // 4:
                self._stint = min(2 * self._stint, LOOSE)
            self._pickle_loose()
            return self._go_on(now)

    def _go_on(self, at: int, *, now: bool = False) -> bool:
        if now or len(self._batch) >= BATCH or self._size >= BATCH_SIZE or at - self._sent_at > GATHER:
            self._flush()
        self._check()
        allowed = self._budget.allows
        if self._batch and allowed:
            self._streams.watch()
        return allowed

    def _put(self, payload: Payload, count: int) -> None:
        if self._unsendable is not None:
            return
        self._batch.append(payload)
        self._counts.append(count)
        size = payload_size(*payload)
        self._size += size
        self._budget.spend(size, count)

    def _pickle_loose(self) -> None:
        take = self._loose.popleft
        while count := min(len(self._loose), self._row):
            values = [take() for _ in range(count)]
            row = Payload(pickle.dumps(values if count > 1 else values[0], 5))
            if len(row.data) <= ROW_SIZE:
                self._put(row, count)
            else:
                self._put_each(values)

    def _put_each(self, values: Iterable[Any]) -> None:
        """Take in values that are not small, though they seemed so: an int has any size."""
        for value in values:
            status, payload = self.pack(value)
            if status != OK and self._unsendable is None:
                self._unsendable = Unsendable(status, payload)  # raised where the generator is
            self._put(payload, 1)

    def wait(self) -> None:
        """Return when one more element may be sent; lend the slot if that takes long."""
        begun = perf_counter_ns()
        with self._changed:
            self._pickle_loose()
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

    def _check(self) -> None:
        if self._closed:
            raise Closed
        if self._unsendable is not None:
            raise self._unsendable

    def _look(self) -> None:
        self._check()
        if self._refusal is not None:
            raise DeadlockError(self._refusal)

    def end(self) -> Unsendable | None:
        """Send what is left; return why something could not be sent."""
        with self._changed:
            self._begun_at = 0
            self._pickle_loose()
            self._flush()
        return self._unsendable

    def _may_go_on(self) -> bool:
        ended = self._closed or self._refusal is not None or self._unsendable is not None
        return self._budget.allows or ended

    def _flush(self) -> None:
        batch = self._batch
        if not batch:
            return
        sizes, buffers, frames = pack_body(batch)
        total, counts = sum(self._counts), self._counts
        if total == len(batch):
            counts = []
        shared = shared_among(frames)
        message = Items(0, self._task, 0, self._seq, sizes, buffers, end=False, shared=shared, counts=counts)
        self._seq += total
        self._batch, self._counts, self._size = [], [], 0
        self._streams.send(message, frames)
        self._sent_at = perf_counter_ns()

    # --- the control thread -------------------------------------------------------------------

    def grant(self, items: int, size: int) -> None:
        """Take in credit."""
        with self._changed:
            self._budget.grant(items, size)
            if items:
                self._row = max(1, min(items // 4, ROW))
        self._notify()

    def flush_late(self, now: int) -> None:
        """Send what has waited for long, and let a generator that has become slow look at each element again."""
        if not self.has_late or now - max(self._sent_at, self._begun_at) <= GATHER:
            return
        with self._changed:
            if self._begun_at:
                if now - self._begun_at <= GATHER:
                    return  # it began again meanwhile
                self._begun_at = 0
                self.hurried = True
            self._pickle_loose()
            self._flush()

    @property
    def has_late(self) -> bool:
        """Return whether something waits to be sent, or may soon."""
        return bool(self._batch or self._begun_at)

    def close(self) -> None:
        """Stop at the next element, or now if the generator waits."""
        self._closed = True
        self.hurried = True
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


async def _set_within(event: Event, seconds: float) -> bool:
    import asyncio

    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
