"""The values that travel in the body of a message: opaque bytes, never looked into here.

A buffer that is a memoryview is contiguous, one-dimensional and of format ``B``, so that its length is
its size in bytes. PURE.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Buffer = bytes | bytearray | memoryview

_REF: Final = Struct(">IIQQQQ")
REF_SIZE: Final = _REF.size


class Ref(bytes):
    """A reference to shared memory, in place of the buffer that lies there; see `skyward.machine.memory`.

    ``owner`` is what keeps the memory from being used again, at whichever end this is.
    """

    owner: Any = None

    @classmethod
    def make(cls, pid: int, fd: int, arena: int, number: int, offset: int, length: int) -> Ref:
        """Return a reference to ``length`` bytes at ``offset`` of a descriptor of a process.

        ``arena`` names the memory for all times, ``number`` the region in it.
        """
        return cls(_REF.pack(pid, fd, arena, number, offset, length))

    @property
    def fields(self) -> tuple[int, int, int, int, int, int]:
        """Return (pid, fd, arena, number, offset, length)."""
        pid, fd, arena, number, offset, length = _REF.unpack(self)
        return pid, fd, arena, number, offset, length

    @property
    def number(self) -> int:
        """Return the number of its region."""
        return int.from_bytes(self[16:24], "big")

    @property
    def length(self) -> int:
        """Return how many bytes it stands for."""
        return int.from_bytes(self[-8:], "big")


class Repeated(tuple[Buffer, ...]):
    """The buffers of a task, some of which other tasks have, too."""

    __slots__ = ()


class Payload(NamedTuple):
    """One pickle, and the large buffers it refers to, in its order (pickle protocol 5)."""

    data: Buffer
    buffers: tuple[Buffer, ...] = ()


def size_of(frames: Iterable[Buffer]) -> int:
    """Return the bytes of some frames, those in shared memory included."""
    return sum([frame.length if type(frame) is Ref else len(frame) for frame in frames])


def payload_size(data: Buffer, buffers: Sequence[Buffer]) -> int:
    """Return the bytes of a pickle and its buffers."""
    return len(data) + size_of(buffers) if buffers else len(data)


def shared_among(body: Sequence[Buffer]) -> list[int]:
    """Return which frames after the first are references."""
    if len(body) == 1:
        return []
    return [index for index, frame in enumerate(body) if type(frame) is Ref]
