"""The memory that tells whom to blame."""

from __future__ import annotations

import os

from skyward_node.cells import READY, Cells


def test_cells_are_shared_with_whoever_opens_the_descriptor() -> None:
    """What one side writes the other reads, also after the writer has gone."""
    mine, fd = Cells.create(3)
    theirs = Cells.open(fd, 3)
    assert mine.tasks() == ()
    theirs.view[1] = READY
    theirs.view[2] = 0
    theirs.close()
    assert mine.tasks() == (READY, 0)
    mine.close()


def test_cells_leave_no_descriptor() -> None:
    """Closing both sides closes everything."""
    before = os.listdir("/proc/self/fd")
    mine, fd = Cells.create(1)
    Cells.open(fd, 1).close()
    mine.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
