"""Streams between two tasks of the pool: of what one yields, and of arguments that the other feeds.

The task that made the call is *above*, the one that runs it *below*. The client passes on between them, and opens
nothing. Elements come only as far as the other end has granted, which is watched here: so the memory that a stream
takes on the client is bounded, however fast one end is and however slow the other. Everything runs under ownership of
the loop.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from skyward.errors import ProtocolError
from skyward.machine.memory import opened
from skyward.mesh.nesting import Parent
from skyward.results import DISCARD
from skyward.wire.codec import split_body
from skyward.wire.frames import payload_size
from skyward.wire.messages import Credit, Items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.mesh.streaming import Streaming
    from skyward.wire.credit import Budget
    from skyward.wire.frames import Buffer


class Relay:
    """Passes on for one engine."""

    def __init__(self, engine: Engine, streaming: Streaming) -> None:
        self._engine = engine
        self._streaming = streaming

    def up(self, task: Task, message: Items | Credit, body: Sequence[Buffer] = ()) -> None:
        """Tell the task above what its call yields, or how much of an argument it takes."""
        parent = task.sink
        assert isinstance(parent, Parent)
        budget = parent.budget(task, message.stream)
        call, mate = parent.call_of(task), self._engine.crew.mates.get(parent.rank)
        if isinstance(message, Credit):
            budget.grant(message.items, message.size)
        else:
            _spend(budget, message, body)
            try:
                # Another node's worker cannot hold a lease: it gets the bytes.
                body = opened(tuple(body), lambda ref: ref.owner.open(ref))
            except OSError as error:  # out of descriptors
                parent.deliver(task, error)
                task.sink = DISCARD
                self._engine.cancel([task])
                return
        if mate is not None:
            self._streaming.tell(mate, lambda epoch: _readdressed(message, epoch, parent.id, call), body)

    def down(self, mate: Mate, message: Items | Credit, body: Sequence[Buffer] = ()) -> None:
        """Tell the task below what an argument brings, or how much it may yield."""
        if isinstance(message, Items) == (message.stream == 0):
            raise ProtocolError("a stream of a call in the wrong direction")
        found = self._engine.nesting.task_of(mate.rank, message.id, message.call)
        if found is None:
            return  # it has ended
        parent, task = found
        budget = parent.budget(task, message.stream)
        if isinstance(message, Credit):
            budget.grant(message.items, message.size)
            self._streaming.grant(task, message.items, message.size)
            return
        _spend(budget, message, body)
        below = self._streaming.mate_of(task)
        if below is not None:
            self._streaming.tell(below, lambda epoch: _readdressed(message, epoch, task.id, 0), body)


def _spend(budget: Budget, message: Items, body: Sequence[Buffer]) -> None:
    rows = split_body(message.sizes, message.buffers, body)
    for (data, buffers), count in zip(rows, message.counts or repeat(1), strict=False):
        if not budget.allows or budget.items < count:
            raise ProtocolError("more elements of a stream than were granted")
        budget.spend(payload_size(data, buffers), count)


def _readdressed(message: Items | Credit, epoch: int, id: int, call: int) -> Items | Credit:
    """Return the message for another node: about its own task, or a call of that."""
    if isinstance(message, Credit):
        return Credit(epoch, id, message.stream, message.items, message.size, message.read, call=call)
    stream, first, sizes, buffers = message.stream, message.first, message.sizes, message.buffers
    end, failed, counts = message.end, message.failed, message.counts
    return Items(epoch, id, stream, first, sizes, buffers, end, failed, call=call, counts=counts)
