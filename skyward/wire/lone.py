"""One task, or one outcome, in one frame: what a batch of one says, for a fraction of what it costs.

A frame costs more than the few bytes that most calls have, and so does a column of one. Whoever does not treat them
apart takes them as the batches that they stand for. `Lone` tells them from everything else at a glance. PURE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Generic, TypeVar

from msgspec import DecodeError, Meta, msgpack

from skyward.wire.messages import MAX_BATCH, PROTOCOL, U64, Byte, Key, Message, Results, Seconds, Tasks
from skyward.wire.pipe import PREFIX, prefix_of_one

if TYPE_CHECKING:
    from collections.abc import Callable

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


M = TypeVar("M", Call, Reply)
LONGEST: Final = MAX_SMALL + 256  # bytes of a header that is looked at: more than its fields take
_MALFORMED: Final = (DecodeError, UnicodeDecodeError, RecursionError)
_encode: Final = msgpack.Encoder().encode


def frame_to_stream(frame: bytes) -> bytes:
    """Return what goes down a pipe for a message of this one frame."""
    return prefix_of_one(len(frame)) + frame


class Lone(Generic[M]):
    """One of these types: its messages to bytes, and from bytes that are such a message and nothing else.

    What is not, or not a good one, gives None: whoever decodes everything says what it is.
    """

    __slots__ = ("_decode", "_head")

    def __init__(self, kind: type[M]) -> None:
        self._head = bytes((PROTOCOL, kind.TYPE))
        self._decode: Callable[[bytes], M] = msgpack.Decoder(kind).decode

    def from_frame(self, frame: bytes) -> M | None:
        """Return the message of a frame 0."""
        if frame[:2] != self._head or len(frame) > LONGEST:
            return None
        try:
            return self._decode(frame[2:])
        except _MALFORMED:
            return None

    def from_stream(self, data: bytes) -> M | None:
        """Return the message of what has come down a pipe."""
        length = len(data) - PREFIX
        if data[PREFIX : PREFIX + 2] != self._head or data[:PREFIX] != prefix_of_one(length):
            return None
        try:
            return self._decode(data[PREFIX + 2 :])
        except _MALFORMED:
            return None

    def to_frame(self, message: M) -> bytes:
        """Return frame 0 of a message."""
        return self._head + _encode(message)

    def to_stream(self, message: M) -> bytes:
        """Return what goes down a pipe for a message."""
        header = _encode(message)
        return prefix_of_one(len(header) + 2) + self._head + header


CALLS: Final = Lone(Call)
REPLIES: Final = Lone(Reply)
