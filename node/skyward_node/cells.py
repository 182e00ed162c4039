"""What each slot of a worker runs, in memory that the daemon can read after the worker's death.

Results are sent in batches, so a worker may die with results that nobody has seen. The daemon must know
which task to blame, and which have run. A cell is written in 40 ns per task; a message would cost 5 µs.

A cell is written before its task begins, and not when it ends: it says what was begun last. So a process that runs
one task at a time, and tells of them in order, has begun nothing new if its last result is of the task in its cell.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

IDLE: Final = 2**64 - 1  # no task has this id
READY: Final = 2**64 - 2  # nor this one: a process has come up, and has begun nothing
_CELL: Final = 8  # bytes


class Cells:
    """One task id per slot, and the call of it that runs if it is a bundle; shared by daemon and worker."""

    __slots__ = ("_all", "_map", "places", "view")

    def __init__(self, fd: int, slots: int) -> None:
        self._map = mmap.mmap(fd, 2 * slots * _CELL)
        self._all = memoryview(self._map).cast("Q")
        self.view, self.places = self._all[:slots], self._all[slots:]

    @classmethod
    def create(cls, slots: int) -> tuple[Cells, int]:
        """Return cells that are idle, and the descriptor by which a worker opens them."""
        fd = os.memfd_create("skyward-cells", os.MFD_CLOEXEC)
        try:
            os.truncate(fd, 2 * slots * _CELL)
            cells = cls(fd, slots)
        except OSError:
            os.close(fd)
            raise
        for slot in range(slots):
            cells.view[slot] = IDLE
        return cells, fd

    @classmethod
    def open(cls, fd: int, slots: int) -> Cells:
        """Return the cells behind a descriptor, which is closed."""
        try:
            return cls(fd, slots)
        finally:
            os.close(fd)

    def tasks(self) -> tuple[int, ...]:
        """Return the tasks in the cells, or that the process was `READY`."""
        return tuple(id for id in self.view if id != IDLE)

    def calls(self) -> dict[int, int]:
        """Return the call that runs of each task in the cells; it says nothing of one that is no bundle."""
        return dict(zip(self.view, self.places, strict=True))

    def close(self) -> None:
        """Unmap the memory."""
        for view in (self.view, self.places, self._all):
            view.release()
        self._map.close()
