"""Messages on a byte stream: the framing of the socket pairs between a daemon and its workers.

    prefix = "SKY" 0x01 | count: u32 | count x length: u64        big-endian
    message = prefix | frame 0 | frame 1 | …

It owns where a message begins and ends. Invariants: what a peer claims is bounded before anything is
allocated, and a large frame that was announced costs memory only as its bytes come; large frames are
received where they stay; after rubbish nothing more is accepted, for there is no way to find the next
message.

It must not know what frames mean. PURE: bytes in, messages out; whoever owns the socket reads it.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.messages import MAX_BUFFERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

MAGIC: Final = b"SKY\x01"
MAX_COUNT: Final = MAX_BUFFERS + 2  # frames of a message: header, blob, buffers
JOIN: Final = 16_384  # bytes: a message up to this size is cheaper to copy than to scatter
LARGE: Final = 65_536  # bytes: from here up a frame is received in place
MAPPED: Final = 4 * 2**20  # bytes: from here up fresh pages cost more than a mapping of huge ones saves

_HEAD: Final = Struct(">4sI")
_ONE: Final = Struct(">4sIQ")  # the prefix of a message of one frame, as most are whose task is alone
PREFIX: Final = _ONE.size  # bytes before the only frame of a message
prefix_of_one: Final = partial(_ONE.pack, MAGIC, 1)  # by the bytes of that frame
_NOWHERE: Final = memoryview(b"")


@lru_cache(maxsize=256)
def _prefix(count: int) -> Struct:
    """Return the layout of the prefix of a message of ``count`` frames."""
    return Struct(f">4sI{count}Q")


# --- out -----------------------------------------------------------------------------------


def pack(frames: Sequence[Buffer]) -> list[Buffer]:
    """Return the buffers to send for a message, in order; large frames are not copied.

    Raises `ProtocolError` if no peer would take that many frames.
    """
    count = len(frames)
    if count == 1 and len(frames[0]) <= JOIN:
        return [prefix_of_one(len(frames[0])) + frames[0]]
    if not 0 < count <= MAX_COUNT:
        raise ProtocolError(f"a message of {count} frames")
    lengths = list(map(len, frames))
    prefix = _prefix(count).pack(MAGIC, count, *lengths)
    if sum(lengths) <= JOIN:
        return [b"".join((prefix, *frames))]
    return [prefix, *frames]


# --- in ------------------------------------------------------------------------------------


class Unpacker:
    """Cuts a stream into messages. Frames over ``max_frame`` bytes are refused.

    Usually bytes go in by `feed`. While a large frame is incomplete, `want` gives the memory where the
    next bytes belong: receive into it, say by `filled` how many came, and keep no view of it.

    Small frames come out as bytes, large ones in memory of their own: a bytearray, or a writable
    memoryview if they are very large.
    """

    __slots__ = (
        "_broken", "_done", "_frames", "_lengths", "_max_frame", "_need", "_place", "_rest", "_target", "between",
    )  # fmt: skip

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._done: list[list[Buffer]] = []  # complete messages that nobody has taken
        self._frames: list[Buffer] = []  # those of the current message that are complete
        self._lengths: tuple[int, ...] = ()  # of all frames of the current message; empty before its prefix
        self._rest = bytearray()  # too few bytes to go on with
        self._need = _HEAD.size  # bytes to go on with
        self._target: Buffer | None = None  # the large frame that is incomplete
        self._place = _NOWHERE  # what is still empty of it
        self._broken = ""
        self.between = True  # the next byte begins a message

    def feed(self, data: Buffer) -> None:
        """Take in bytes. Raises `ProtocolError` for rubbish, and from then on always."""
        if self._broken:
            raise ProtocolError(self._broken)
        if self._target is not None:
            room = min(len(self._place), len(data))
            self._place[:room] = memoryview(data)[:room]
            self.filled(room)
            data = data[room:]
        self.between = False
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._need:
                return
            data = rest
            self._rest = bytearray()
        try:
            used = self._parse(data)
        except ProtocolError as error:
            self._broken = str(error)
            raise
        if used < len(data):
            self._rest += memoryview(data)[used:]
        self.between = used == len(data) and not self._lengths

    def alone(self, data: bytes) -> bytes | None:
        """Return the only frame of a small message, if the data that has come is that and nothing else.

        None says that it is to be fed.
        """
        length = len(data) - PREFIX
        if not 0 < length <= JOIN - PREFIX or length > self._max_frame or not self.between:
            return None
        return data[PREFIX:] if data[:PREFIX] == prefix_of_one(length) else None

    def want(self) -> memoryview | None:
        """Return where the next bytes belong, if a large frame is incomplete; else None."""
        return None if self._target is None else self._place

    def filled(self, count: int) -> None:
        """Say that the first ``count`` bytes of what `want` returned have been received."""
        self._place = self._place[count:]
        if self._target is not None and not len(self._place):
            target, self._target = self._target, None
            self._place = _NOWHERE  # a view would keep the frame alive, and its owner from resizing it
            self._add(target)
            self.between = not self._lengths

    def messages(self) -> list[list[Buffer]]:
        """Return the messages that are complete, and forget them."""
        done, self._done = self._done, []
        return done

    def _parse(self, data: Buffer) -> int:
        """Take what can be taken of ``data``; return how many bytes that were."""
        at, end = 0, len(data)
        while self._target is None:
            need = self._need
            if not self._lengths:
                if end - at < need:
                    break
                at += self._open(data, at)
            elif need >= LARGE:
                at += self._begin(memoryview(data)[at : at + need], need)
            elif end - at < need:
                break
            else:
                self._add(bytes(data[at : at + need]))
                at += need
        return at

    def _open(self, data: Buffer, at: int) -> int:
        """Read a prefix, if it is there as a whole, and all frames if these are, too; return the bytes used, or 0."""
        magic: bytes
        count: int
        magic, count = _HEAD.unpack_from(data, at)
        if magic != MAGIC:
            raise ProtocolError(f"rubbish instead of a message: {magic!r}")
        if not 0 < count <= MAX_COUNT:
            raise ProtocolError(f"a message of {count} frames")
        size = _HEAD.size + 8 * count
        if len(data) - at < size:
            self._need = size
            return 0
        lengths: tuple[int, ...] = _prefix(count).unpack_from(data, at)[2:]
        if max(lengths) > self._max_frame:
            raise ProtocolError(f"a frame of {max(lengths)} bytes, more than {self._max_frame}")
        if (total := sum(lengths)) <= JOIN and size + total <= len(data) - at:
            ends = accumulate(lengths, initial=at + size)
            self._done.append([bytes(data[start:end]) for start, end in pairwise(ends)])
            self._need = _HEAD.size
            return size + total
        self._lengths = lengths
        self._need = lengths[0]
        return size

    def _begin(self, start: memoryview, size: int) -> int:
        """Make room for a large frame, and put its first bytes there; return how many these were."""
        target = _allocate(size)
        self._place = memoryview(target)
        self._target = target
        count = len(start)
        self._place[:count] = start
        self.filled(count)
        return count

    def _add(self, frame: Buffer) -> None:
        """Append a complete frame to the current message, and close that if it was the last."""
        frames, lengths = self._frames, self._lengths
        frames.append(frame)
        while len(frames) < len(lengths):
            self._need = lengths[len(frames)]
            if self._need:
                return
            frames.append(b"")  # here, because no byte need follow that would bring us back
        self._done.append(frames)
        self._frames = []
        self._lengths = ()
        self._need = _HEAD.size


def _allocate(size: int) -> Buffer:
    """Return writable memory. Raises `ProtocolError` if there is not that much."""
    try:
        if size < MAPPED:
            return bytearray(size)
        # Unlike a bytearray this is not filled with zeros first, so that pages are touched as bytes arrive;
        # huge pages make a third of the time of receiving a large array.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(pages)
    except (MemoryError, OSError, OverflowError, ValueError) as error:
        raise ProtocolError(f"no memory for a frame of {size} bytes") from error
