"""What streams, of results and of values, need of a pool, wherever it is: see `operations` for the rest.

A call that yields has a `ValueBuffer` as its task's sink; an argument that is fed element by element has a `Pump`. The
pool knows all of both, and ends them when it closes: see `underway`.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from skyward.pool.later import later
from skyward.runtime import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from skyward.answers.values import ValueBuffer, ValueStream
    from skyward.answers.waiting import Waiter
    from skyward.dispatch.tasks import Task
    from skyward.pool.feeding import Feeder
    from skyward.pool.making import TaskMaker
    from skyward.pool.placing import Placing
    from skyward.pool.pumping import Pump, pack
    from skyward.pool.snapshots import Snapshots
    from skyward.pool.underway import Underway
    from skyward.results import Sink
    from skyward.wire.frames import Payload

later(
    globals(),
    {
        "skyward.pool.placing": ("Placing",),
        "skyward.pool.pumping": ("pack",),
        "skyward.pool.snapshots": ("Snapshots",),
        "skyward.answers.values": ("ValueBuffer", "ValueStream"),
    },
)


class StreamOperations(Pool):
    """The part of a pool's operations that is about streams."""

    _maker: TaskMaker  # from the first use on
    _underway: Underway

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
        return self._snapshots.take(packed) if snapshot and packed.buffers else packed

    @cached_property
    def _snapshots(self) -> Snapshots:
        return Snapshots()

    def placing(self, *, snapshot: bool) -> Placing:
        """Return what places the buffers of a batch; with ``snapshot`` the caller may go on and change them."""
        return Placing(self._place, snapshot=snapshot)

    def yielding(self, sink: Sink, index: int) -> ValueBuffer:
        """Give the sink the iterator of a call that yields; return whom the call's outcome belongs to."""
        buffer = ValueBuffer(self)
        self._underway.add_values(buffer)
        sink.give(index, ValueStream(buffer, self))
        return buffer

    def feed_by(self, task: Task, pumps: tuple[Pump, ...]) -> None:
        """Have the pumps feed the arguments of a task, once it is sent."""
        task.feeds = pumps
        for pump in pumps:
            pump.task = task
            self._underway.add_pump(pump)

    def _feed_from(self, feeder: Feeder) -> None:
        self._underway.add_feeder(feeder)
        feeder.start()

    def pack_element(self, value: object) -> Payload:
        """Return an element of an argument as it waits to be sent; raises `SerializationError`."""
        packed = pack(value, self._maker.max_payload)
        return self._place(packed, snapshot=True) if packed.buffers else packed
