"""One task, or one outcome, in one frame: what a batch of one says, for a fraction of what it costs.

A frame costs more than the few bytes that most calls have, and so does a column of one. Whoever does not treat them
apart takes them as the batches that they stand for. PURE.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from msgspec import Meta

from skyward.wire.messages import MAX_BATCH, U64, Byte, Key, Message, Results, Seconds, Tasks

MAX_SMALL: Final = 8_192  # bytes of a pickle that travels in a header: copying it costs less than a frame of its own

Small = Annotated[bytes, Meta(min_length=1, max_length=MAX_SMALL)]  # a pickle, or what stands in place of one


class Call(Message, frozen=True):
    """One task whose arguments are small, in one frame: what `Tasks` with a single entry says."""

    TYPE: ClassVar[int] = 16
    epoch: U64
    ack: U64
    function: Key
    id: U64
    data: Small
    retries: Annotated[int, Meta(ge=0, lt=MAX_BATCH)] = 0
    timeout: Seconds = 0.0

    @property
    def ids(self) -> list[int]:
        """The task, as a column."""
        return [self.id]

    def as_batch(self) -> tuple[Tasks, list[bytes]]:
        """Return the same as a batch, and its body."""
        retries = [self.retries] if self.retries else []
        timeouts = [self.timeout] if self.timeout else []
        columns = [self.id], [0], [len(self.data)], [0], retries, timeouts
        return Tasks(self.epoch, self.ack, [self.function], *columns), [self.data]


class Reply(Message, frozen=True):
    """One small outcome in one frame: what `Results` with a single entry says."""

    TYPE: ClassVar[int] = 45
    epoch: U64
    seq: U64
    id: U64
    status: Byte
    elapsed: U64
    data: Small

    @property
    def ids(self) -> list[int]:
        """The task, as a column."""
        return [self.id]

    def as_batch(self) -> tuple[Results, list[bytes]]:
        """Return the same as a batch, and its body."""
        columns = [self.id], [self.status], [len(self.data)], [0], [self.elapsed]
        return Results(self.epoch, self.seq, *columns), [self.data]
