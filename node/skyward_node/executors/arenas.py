"""The memory that workers write large results into: the daemon makes it, and keeps it for as long as one may be read.

A worker's results lie in its arena until their client says that it has them: a client of this machine reads them
there, and for all others the daemon sends the bytes from there. So an arena outlives its worker: see `core.graves`.
What a worker claims about its results is looked at before it is believed.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final

from skyward.config import available_memory
from skyward.errors import ProtocolError
from skyward.machine.memory import create_file, read_copy

if TYPE_CHECKING:
    from skyward.wire.frames import Buffer, Ref

SHARE: Final = 4  # of the memory that is available: more than that one worker's results in flight never are


class Arenas:
    """The arenas of all workers, also of dead ones."""

    def __init__(self) -> None:
        self.size = available_memory() // SHARE  # of which only pages that are written to exist
        self._fds: dict[int, int] = {}
        self._views: dict[int, memoryview] = {}  # of those that were read: to map one anew costs more than a copy

    def create(self) -> int:
        """Return the descriptor of a new one; raises `OSError`."""
        return create_file(self.size)

    def add(self, worker: int, fd: int) -> None:
        """Keep the arena of a worker."""
        self._fds[worker] = fd

    def check(self, worker: int, ref: Ref) -> None:
        """Raise `ProtocolError` for a reference of a worker to anything but its own arena."""
        _, _, _, number, offset, length = ref.fields
        if number >> 32 != worker or not 0 < length <= self.size - offset:
            raise ProtocolError(f"a reference to {length} bytes at {offset} of memory that it does not have")

    def bytes_of(self, ref: Ref) -> Buffer:
        """Return what a reference that was checked stands for, where it lies, until its worker is told otherwise."""
        _, _, _, number, offset, length = ref.fields
        worker = number >> 32
        view = self._views.get(worker)
        if view is None:
            try:
                pages = mmap.mmap(self._fds[worker], self.size, mmap.MAP_SHARED, mmap.PROT_READ)
            except OSError:  # out of descriptors or of address space
                return read_copy(self._fds[worker], ref)
            view = self._views[worker] = memoryview(pages)
        return view[offset : offset + length]

    def bury(self, worker: int) -> None:
        """Forget the arena of a worker that is gone; the last view of what lies there ends it."""
        self._views.pop(worker, None)
        fd = self._fds.pop(worker, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Forget all of them."""
        for worker in list(self._fds):
            self.bury(worker)
