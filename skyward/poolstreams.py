"""What streams, of results and of values, need of a pool, wherever it is: see `operations` for the rest.

A call that yields has a `ValueBuffer` as its task's sink; an argument that is fed element by element has a `Pump`. The
pool knows all of both, to end them when it closes.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from skyward.errors import PoolClosedError
from skyward.later import later
from skyward.runtime import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from weakref import WeakSet

    from skyward.dispatch.tasks import Task
    from skyward.feeding import Feeder
    from skyward.pumping import Pump, pack
    from skyward.results import Sink
    from skyward.values import ValueBuffer, ValueStream
    from skyward.waiting import Waiter
    from skyward.wire import payload
    from skyward.wire.frames import Payload

later(
    globals(),
    {
        "skyward.pumping": ("pack",),
        "skyward.values": ("ValueBuffer", "ValueStream"),
        "skyward.wire": ("payload",),
    },
)

FEEDER_END: Final = 1.0  # seconds the thread of a stream may take to end: a user's iterator may not return at all


class PoolStreams(Pool):
    """The part of a pool's operations that is about streams."""

    _max_payload: int  # bytes
    _feeders: list[Feeder]  # of streams that are not fed to their end
    _values: WeakSet[ValueBuffer]  # of calls that yield
    _pumps: WeakSet[Pump]  # of arguments that are fed element by element

    @abstractmethod
    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline (`time.monotonic`)."""

    def lent(self) -> AbstractContextManager[None]:
        """Lend the slot of the task that runs here, for the length of a block that waits; on the client none does."""
        return nullcontext()

    @abstractmethod
    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; never blocks."""

    @abstractmethod
    def grant(self, task: Task, items: int, size: int) -> None:
        """Let a task yield so many more elements and bytes; never blocks."""

    @abstractmethod
    def push(self, pump: Pump) -> None:
        """Send what a pump has pulled, soon; never blocks."""

    def _place(self, packed: Payload, *, snapshot: bool) -> Payload:
        """Return the arguments as they wait to be sent; with ``snapshot`` the caller may go on and change them."""
        return payload.snapshot(packed) if snapshot else packed

    def _yielding(self, sink: Sink, index: int) -> ValueBuffer:
        """Give the sink the iterator of a call that yields; return whom the call's outcome belongs to."""
        buffer = ValueBuffer(self)
        self._values.add(buffer)
        sink.give(index, ValueStream(buffer, self))
        return buffer

    def _feed_by(self, task: Task, pumps: tuple[Pump, ...]) -> None:
        task.feeds = pumps
        for pump in pumps:
            pump.task = task
            self._pumps.add(pump)

    def pack_element(self, value: object) -> Payload:
        """Return an element of an argument as it waits to be sent; raises `SerializationError`."""
        packed = pack(value, self._max_payload)
        return self._place(packed, snapshot=True) if packed.buffers else packed

    def stop_values(self) -> None:
        """Stop the generators that no call of the pool needs."""
        for buffer in list(self._values):
            buffer.give_up()

    def _start(self, feeder: Feeder) -> None:
        self._feeders = [other for other in self._feeders if other.thread.is_alive()]
        self._feeders.append(feeder)
        feeder.start()

    def stop_feeders(self) -> None:
        """End the threads that feed streams and pull arguments, as far as users' iterators let them."""
        pumps = list(self._pumps)
        for feeder in self._feeders:
            if feeder.thread.is_alive():
                feeder.stop(PoolClosedError("the pool was closed"))
        for pump in pumps:
            pump.stop()
        deadline = time.monotonic() + FEEDER_END
        for thread in [feeder.thread for feeder in self._feeders] + [pump.thread for pump in pumps]:
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        for feeder in self._feeders:
            feeder.give_up()
