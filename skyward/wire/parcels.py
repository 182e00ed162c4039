"""Large body frames in pieces: each piece is a message of its own, so that nothing waits long behind one.

ZeroMQ sends a message whole. On a link to another machine a frame of a gigabyte would hold up every heartbeat and
result behind it, and CURVE encrypts it in one go. So a sender cuts large frames into PART messages, one *parcel* a
frame; says with PARCELS which frames of the next message they are; and sends that message with these frames empty.

A frame that is sent again, because many tasks have the same array, is worth keeping: the receiver is asked to, and
after that the frame is named only. The sender says when nobody has it any more. It sends far ahead of that, so to have
all frames kept would cost the receiver the memory of all.

Whoever receives tasks that others run may put frames together where these can read them: then a reference takes the
frame's place (`skyward.machine.memory`).

It owns how pieces are numbered and joined, and what is kept. Invariants: what a peer claims costs memory only as its
bytes come, and never more than ``limit`` at a time, and as much again of what it has had kept; pieces that do not
follow one another are refused. PURE: no sockets.
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import ref as weak

from skyward.errors import ProtocolError
from skyward.wire.codec import buffer_places, encode
from skyward.wire.messages import MAX_BATCH, Parcels, Part, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skyward.wire.frames import Buffer, Ref
    from skyward.wire.messages import Message

SIZE: Final = 2**20  # bytes of a piece: the fastest on plain and on encrypted links
LARGEST: Final = 2 * SIZE  # bytes of a frame that is sent whole


class _Sent(weak[memoryview]):
    """A frame that was sent and that somebody still has."""

    __slots__ = ("number", "place", "size")

    number: int  # of the parcel that the receiver keeps; 0: it does not
    place: int  # among those that were sent
    size: int  # bytes


class Cutter:
    """Cuts what is sent over one connection."""

    __slots__ = ("_dropped", "_last", "_room", "_sent")

    def __init__(self) -> None:
        self._last = 0  # number of a parcel
        self.begin(0)

    def begin(self, room: int) -> None:
        """Begin with a receiver that has nothing, and keeps ``room`` bytes: without any, it need not be asked."""
        self._room = room
        self._sent: dict[int, _Sent] | None = {} if room else None  # by the frame's `id`, as long as it is there
        self._dropped: deque[_Sent] = deque()  # by finalizers, which may run in the middle of anything

    def cut(
        self, epoch: int, message: Message, body: Sequence[Buffer], *, repeated: bool = False
    ) -> Iterator[list[Buffer]]:
        """Yield the messages to send, as frames, that say what this one would.

        The receiver keeps large frames that it gets a second time, and those of a message that is ``repeated``.
        """
        large = [index for index, frame in enumerate(body) if len(frame) > LARGEST]
        if not large:
            yield [encode(message), *body]
            return
        if (said := self.drop(epoch)) is not None:  # first, so that there is room for what follows
            yield [encode(said)]
        rest = list(body)
        numbers: list[int] = []
        kept: list[int] = []
        for index in large:
            frame, rest[index] = rest[index], b""
            number = self._number_of(frame)
            if not number:
                self._last = number = self._last + 1
                if len(kept) < MAX_BATCH and self._note(frame, number, keep=repeated):
                    kept.append(number)
                yield from _pieces(epoch, number, memoryview(frame))
            numbers.append(number)
        yield [encode(Parcels(epoch, large, numbers, kept))]
        yield [encode(message), *rest]

    def drop(self, epoch: int) -> Parcels | None:
        """Return what tells the receiver which parcels it need not keep any more; None if it knows."""
        numbers: list[int] = []
        while self._dropped and len(numbers) < MAX_BATCH:
            gone = self._dropped.popleft()
            self._room += gone.size
            numbers.append(gone.number)
        return Parcels(epoch, [], [], [], numbers) if numbers else None

    def _number_of(self, frame: Buffer) -> int:
        """Return the number of the parcel that the receiver keeps for a frame; 0: there is none."""
        sent = self._sent.get(id(frame)) if self._sent else None
        return sent.number if sent is not None else 0

    def _note(self, frame: Buffer, number: int, *, keep: bool) -> bool:
        """Note a frame that is about to be sent; return whether it is kept, as it is if it was sent before."""
        if self._sent is None or type(frame) is not memoryview:  # of bytes nobody tells when they are gone
            return False
        keep = (keep or id(frame) in self._sent) and frame.nbytes <= self._room
        sent = _Sent(frame, self._forget)
        sent.number, sent.place, sent.size = number if keep else 0, id(frame), frame.nbytes
        self._sent[id(frame)] = sent
        self._room -= sent.size if keep else 0
        return keep

    def _forget(self, gone: weak[memoryview]) -> None:
        """Nobody has a frame any more; this may be any thread at any moment."""
        assert isinstance(gone, _Sent)
        sent, dropped = self._sent, self._dropped  # both of the same time: somebody may begin anew meanwhile
        if sent is not None and sent.get(gone.place) is gone:
            del sent[gone.place]
            if gone.number:
                dropped.append(gone)


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

    __slots__ = (
        "_allocate", "_expected", "_filled", "_frames", "_kept", "_limit", "_refs", "_reserve", "_room", "held",
    )  # fmt: skip

    def __init__(
        self,
        limit: int,
        reserve: Callable[[int], Ref | None] | None = None,
        allocate: Callable[[int], memoryview] = allocate,
        *,
        keep: int = 0,
    ) -> None:
        """``limit``: bytes of parcels that may wait for their messages; ``keep``: of those that it keeps after that.

        ``reserve`` gives memory that others read, and ``allocate`` what is used where that gives none.
        """
        self._limit = limit
        self._reserve = reserve
        self._allocate = allocate
        self._refs: dict[int, Ref] = {}  # to frames that lie in such memory
        self._frames: dict[int, memoryview] = {}
        self._filled: dict[int, int] = {}
        self._expected: Parcels | None = None
        self._kept: dict[int, tuple[memoryview, Ref | None]] = {}
        self._room = keep
        self.held = 0  # bytes that wait for their messages

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
        """Note which frames of the next message have come as parcels; or forget what is not to be kept any more."""
        if parcels.dropped:
            self._drop(parcels)
            return
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
        places: set[int] = set()
        if isinstance(message, Tasks) and len(body) == 1 + sum(message.buffers):  # else it is refused by its count
            places = buffer_places(message.sizes, message.buffers)
        kept = set(parcels.kept)
        for index, number in zip(parcels.frames, parcels.numbers, strict=True):
            frame, ref = self._kept.get(number) or self._take(number)
            if index >= len(body) or len(body[index]):
                raise ProtocolError(f"parcel {number} stands for no frame")
            if number in kept:
                self._keep(number, frame, ref)
            if ref is None:
                body[index] = frame
            else:
                body[index] = ref if index in places else ref.owner.open(ref)

    def _take(self, number: int) -> tuple[memoryview, Ref | None]:
        frame = self._frames.pop(number, None)
        if frame is None or self._filled.pop(number) != frame.nbytes:
            raise ProtocolError(f"parcel {number} is not there as a whole")
        self.held -= frame.nbytes
        return frame, self._refs.pop(number, None)

    def _drop(self, parcels: Parcels) -> None:
        if parcels.frames or parcels.kept:
            raise ProtocolError("parcels that are dropped, and others that are named")
        for number in parcels.dropped:
            kept = self._kept.pop(number, None)
            if kept is None:
                raise ProtocolError(f"parcel {number} is not kept")
            self._room += kept[0].nbytes

    def _keep(self, number: int, frame: memoryview, ref: Ref | None) -> None:
        if number not in self._kept:
            self._room -= frame.nbytes
        if self._room < 0:
            raise ProtocolError(f"parcel {number} is too much to be kept")
        self._kept[number] = frame, ref
