"""Large body frames in pieces: each piece is a message of its own, so that nothing waits long behind one.

ZeroMQ sends a message whole. On a link to another machine a frame of a gigabyte would hold up every heartbeat and
result behind it, and CURVE encrypts it in one go. So a sender cuts large frames into PART messages, one *parcel* a
frame; says with PARCELS which frames of the next message they are; and sends that message with these frames empty.

Whoever receives tasks that others run may put frames together where these can read them: then a reference takes the
frame's place (`skyward.machine.memory`).

It owns how pieces are numbered and joined. Invariants: what a peer claims costs memory only as its bytes come, and
never more than ``limit`` at a time; pieces that do not follow one another are refused. PURE: no sockets.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.codec import buffer_places, encode
from skyward.wire.messages import Parcels, Part, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skyward.wire.frames import Buffer, Ref
    from skyward.wire.messages import Message

SIZE: Final = 2**20  # bytes of a piece: the fastest on plain and on encrypted links
LARGEST: Final = 2 * SIZE  # bytes of a frame that is sent whole


class Cutter:
    """Cuts what is sent over one connection."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0  # number of a parcel

    def cut(self, epoch: int, message: Message, body: Sequence[Buffer]) -> Iterator[list[Buffer]]:
        """Yield the messages to send, as frames, that say what this one would."""
        large = [index for index, frame in enumerate(body) if len(frame) > LARGEST]
        if not large:
            yield [encode(message), *body]
            return
        rest = list(body)
        numbers: list[int] = []
        for index in large:
            self._last += 1
            numbers.append(self._last)
            yield from _pieces(epoch, self._last, memoryview(rest[index]))
            rest[index] = b""
        yield [encode(Parcels(epoch, large, numbers))]
        yield [encode(message), *rest]


def _pieces(epoch: int, number: int, frame: memoryview) -> Iterator[list[Buffer]]:
    size = frame.nbytes
    for offset in range(0, size, SIZE):
        yield [encode(Part(epoch, number, size, offset)), frame[offset : offset + SIZE]]


def allocate(size: int) -> memoryview:
    """Return fresh memory, of which only the pages that are written to exist. Raises `ProtocolError`."""
    try:
        return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except (OSError, OverflowError, ValueError) as error:
        raise ProtocolError(f"no memory for a parcel of {size} bytes") from error


class Joiner:
    """Puts together what came over one connection."""

    __slots__ = ("_allocate", "_expected", "_filled", "_frames", "_limit", "_refs", "_reserve", "held")

    def __init__(
        self,
        limit: int,
        reserve: Callable[[int], Ref | None] | None = None,
        allocate: Callable[[int], memoryview] = allocate,
    ) -> None:
        """``limit``: bytes of parcels that may wait for their messages.

        ``reserve`` gives memory that others read, and ``allocate`` what is used where that gives none.
        """
        self._limit = limit
        self._reserve = reserve
        self._allocate = allocate
        self._refs: dict[int, Ref] = {}  # to frames that lie in such memory
        self._frames: dict[int, memoryview] = {}
        self._filled: dict[int, int] = {}
        self._expected: Parcels | None = None
        self.held = 0  # bytes

    def add(self, part: Part, piece: Buffer) -> None:
        """Take in a piece. Raises `ProtocolError` for one that does not follow."""
        number, size = part.number, part.size
        frame = self._frames.get(number) or self._begin(number, size)
        at = self._filled[number]
        end = at + len(piece)
        if part.offset != at or size != frame.nbytes or not at < end <= size:
            raise ProtocolError(f"the piece at {part.offset} of parcel {number} does not follow")
        frame[at:end] = piece
        self._filled[number] = end

    def _begin(self, number: int, size: int) -> memoryview:
        if not LARGEST < size <= self._limit - self.held:
            raise ProtocolError(f"a parcel of {size} bytes: too small for one, or too much for {self._limit}")
        ref = self._reserve(size) if self._reserve is not None else None
        if ref is not None:
            self._refs[number] = ref
            frame: memoryview = ref.owner.view[:size]
        else:
            frame = self._allocate(size)
        self._frames[number] = frame
        self._filled[number] = 0
        self.held += size
        return frame

    def expect(self, parcels: Parcels) -> None:
        """Note which frames of the next message have come as parcels."""
        if self._expected is not None:
            raise ProtocolError("parcels that belong to no message")
        self._expected = parcels

    def join(self, message: Message, body: list[Buffer]) -> None:
        """Complete the body of a message, in place. Raises `ProtocolError` if a parcel is not there as a whole.

        References stay for buffers of tasks alone: whoever takes on a task knows when its memory may be used again.
        """
        parcels, self._expected = self._expected, None
        if parcels is None:
            return
        places = buffer_places(message.sizes, message.buffers) if self._refs and isinstance(message, Tasks) else ()
        for index, number in zip(parcels.frames, parcels.numbers, strict=True):
            frame = self._frames.pop(number, None)
            if frame is None or self._filled.pop(number) != frame.nbytes:
                raise ProtocolError(f"parcel {number} is not there as a whole")
            self.held -= frame.nbytes
            if index >= len(body) or len(body[index]):
                raise ProtocolError(f"parcel {number} stands for no frame")
            ref = self._refs.pop(number, None)
            if ref is None:
                body[index] = frame
            else:
                body[index] = ref if index in places else ref.owner.open(ref)
