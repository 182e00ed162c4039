"""Unix sockets: how long their paths may be, and descriptors that travel over them.

Nodes take their sockets from `_socket`, of which `socket` is made. With its enumerations and `selectors` that takes 7
of the 176 ms in which a nursery imported what it needs, and a pool waits for those.
"""

from __future__ import annotations

from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET
from sys import byteorder
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

LONGEST_PATH: Final = 107  # bytes of the path of a Unix socket on Linux, without the final NUL
_SIZE: Final = 4  # bytes of a descriptor


def send_fds(sock: socket, message: bytes, fds: Sequence[int], flags: int = 0) -> None:
    """Send a message with descriptors; raises `OSError`."""
    packed = b"".join([fd.to_bytes(_SIZE, byteorder) for fd in fds])
    sock.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, packed)], flags)


def receive_fds(sock: socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Return a message of at most ``size`` bytes, and the descriptors that came with it; raises `OSError`.

    They are fewer than were sent when this process has no room for more, and none is inherited by programs it starts.
    """
    message, attached, _, _ = sock.recvmsg(size, CMSG_LEN(most * _SIZE), MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in attached:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            starts = range(0, len(data) - len(data) % _SIZE, _SIZE)
            fds += [int.from_bytes(data[start : start + _SIZE], byteorder) for start in starts]
    return message, fds
