"""Streams of values on the client: elements that come from nodes, and elements that go there.

Messages are numbered, and sent again after a break until the node confirms them. Everything runs under ownership of the
loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.answers.values import ValueBuffer
from skyward.dispatch.tasks import SENT
from skyward.errors import ProtocolError
from skyward.mesh.nesting import Parent
from skyward.mesh.relaying import Relay
from skyward.wire.codec import mark_refs, pack_body, split_body
from skyward.wire.frames import shared_among, size_of
from skyward.wire.messages import Credit, Items

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.pool.pumping import Pump
    from skyward.wire.frames import Buffer


class Streaming:
    """Moves elements and credit for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._relay = Relay(engine, self)

    # --- from the node ---------------------------------------------------------------------

    def on_items(self, mate: Mate, message: Items, body: list[Buffer]) -> None:
        """Take in what a task yields; raises `ProtocolError` for more than was granted."""
        engine = self._engine
        if message.shared:
            if engine.sharing is None:
                raise ProtocolError("shared memory that was not agreed upon")
            engine.sharing.receive(mate.rank, mark_refs(message, body))
        task = self._task(mate, message.id)
        if message.call:
            self._relay.down(mate, message, body)
        elif task is not None and not message.stream:
            task.movable = False  # an element was delivered: it is never run again
            if isinstance(task.sink, ValueBuffer):
                rows = split_body(message.sizes, message.buffers, body)
                if not task.sink.receive(rows, message.counts):
                    raise ProtocolError("more elements of a stream than were granted")
            elif isinstance(task.sink, Parent):
                self._relay.up(task, message, body)
        engine.talk.took(mate, size_of(body))

    def on_credit(self, mate: Mate, message: Credit) -> None:
        """Let an argument of a task be fed further, or a call of a task go on."""
        if message.call:
            self._relay.down(mate, message)
            return
        task = self._task(mate, message.id)
        if task is not None and message.stream and isinstance(task.sink, Parent):
            task.movable = False  # as below
            self._relay.up(task, message)
            return
        if task is None or not 0 < message.stream <= len(task.feeds):
            return
        task.movable = False  # its input is pulled: it is never run again
        pump: Pump = task.feeds[message.stream - 1]
        pump.grant(message.items, message.size, message.read)

    def _task(self, mate: Mate, id: int) -> Task | None:
        node = self._engine.scheduler.nodes.get(mate.rank)
        return None if node is None else node.in_flight.get(id)

    # --- to the node -----------------------------------------------------------------------

    def grant(self, task: Task, items: int, size: int) -> None:
        """Let a task yield so much more."""
        mate = self.mate_of(task)
        if mate is not None:
            self._engine.talk.release(mate)  # first, so that the worker finds room for what it yields
            self.tell(mate, lambda epoch: Credit(epoch, task.id, 0, items, size))

    def push(self, pump: Pump) -> None:
        """Send what a pump has pulled."""
        task = pump.task
        mate = None if task is None else self.mate_of(task)
        batch = pump.take()
        if task is None or mate is None or batch is None:
            return
        sizes, buffers, body = pack_body(batch.payloads)
        shared = shared_among(body)
        stream, (first, _, end, failed) = pump.stream, batch
        self.tell(mate, lambda epoch: Items(epoch, task.id, stream, first, sizes, buffers, end, failed, shared), body)

    def mate_of(self, task: Task) -> Mate | None:
        """Return the node that runs a task."""
        return self._engine.crew.mates.get(task.node) if task.state == SENT else None

    def tell(self, mate: Mate, make: Callable[[int], Items | Credit], body: Sequence[Buffer] = ()) -> None:
        """Send a message, and again until it is confirmed."""
        link = mate.link
        if link is not None:
            message = make(link.epoch)
            self._engine.talk.send(mate, link.unconfirmed.add(message, body), body)
