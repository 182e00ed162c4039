"""The descriptors that join a worker to its daemon: two socket pairs, two pipes, and memory."""

from __future__ import annotations

import os
from _socket import AF_UNIX, socketpair
from typing import TYPE_CHECKING, Any

from skyward_node.cells import Cells
from skyward_node.executors.descriptors import check_reserve

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    from skyward_node.executors.arenas import Arenas


def make_ends(slots: int, arenas: Arenas) -> tuple[list[Any], list[Any], Cells]:
    """Return the daemon's ends, its memory for results last, the worker's, and its cells.

    Raises `OSError` when descriptors run out.
    """
    mine: list[Any] = []
    theirs: list[Any] = []
    try:
        for _ in range(2):
            ours, other = socketpair(AF_UNIX)
            mine.append(ours)
            theirs.append(other)
        for _ in range(2):
            read, write = os.pipe2(os.O_CLOEXEC)
            mine.append(read)
            theirs.append(write)
        cells, fd = Cells.create(slots)
        theirs.append(fd)
        arena = arenas.create()
        mine.append(arena)
        theirs.append(os.dup(arena))
        check_reserve(arena)
    except OSError:
        close_all([*mine, *theirs])
        raise
    return mine, theirs, cells


def close_all(fds: Sequence[socket | int]) -> None:
    """Close sockets and descriptors."""
    for fd in fds:
        if isinstance(fd, int):
            os.close(fd)
        else:
            fd.close()
