"""Memory for large results that come in pieces, used again: fresh pages cost several times a copy, warm ones nothing.

A result lies in memory of its own, which belongs to whoever has the value, and this keeps a reference to it. When that
is the only one that is left nobody can see the memory any more, and the next result may be put there.
"""

from __future__ import annotations

import mmap
import sys
from typing import Final

from skyward.wire.parcels import allocate

MOST: Final = 256 * 2**20  # bytes that are kept an eye on: a few arrays on their way, as everywhere (`memory.WARM`)
IDLE: Final = 2.0  # seconds after which memory that nobody has used goes back to the system
FIT: Final = 2  # times what is needed that a piece of memory may have
OURS: Final = 2  # references to a spare's pages that nobody else has: the spare's, and that of `getrefcount`


class _Spare:
    """A piece of memory, and the moment at which it was last seen in use."""

    __slots__ = ("pages", "used")

    def __init__(self, pages: mmap.mmap) -> None:
        self.pages = pages
        self.used = 0.0  # not known yet

    @property
    def is_idle(self) -> bool:
        """Return whether nobody else refers to it. Who does not cannot begin to: so this is true until we do."""
        return sys.getrefcount(self.pages) <= OURS


class Spares:
    """What one pool uses again. Only the owner of the loop touches it."""

    def __init__(self) -> None:
        self._spares: list[_Spare] = []  # the last one is the one used last

    def __len__(self) -> int:
        """Return how many pieces of memory it keeps an eye on."""
        return len(self._spares)

    def allocate(self, size: int) -> memoryview:
        """Return memory of ``size`` bytes that nobody else has. Raises `ProtocolError` if there is none."""
        spares = self._spares
        for index, spare in enumerate(spares):
            if size <= len(spare.pages) <= FIT * size and spare.is_idle:
                spares.append(spares.pop(index))
                return memoryview(spare.pages)[:size]
        frame = allocate(size)
        pages = frame.obj
        assert isinstance(pages, mmap.mmap)
        if size <= MOST:
            spares.append(_Spare(pages))
            self._forget_oldest()
        return frame

    def _forget_oldest(self) -> None:
        """Keep an eye on so much only; what is in use is its user's alone from then on."""
        total = sum([len(spare.pages) for spare in self._spares])
        while total > MOST:
            total -= len(self._spares.pop(0).pages)

    def trim(self, now: float) -> None:
        """Let go of what nobody has used for some time."""
        if self._spares:
            for spare in self._spares:
                if not spare.used or not spare.is_idle:
                    spare.used = now
            self._spares = [spare for spare in self._spares if now - spare.used < IDLE]

    def close(self) -> None:
        """Let go of everything."""
        self._spares.clear()
