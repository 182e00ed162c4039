"""What systemd is told, if it has started us: that we serve, and that we are about to end (``Type=notify``).

See sd_notify(3): a datagram on the socket that the environment names. Nobody there is no error.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket
from contextlib import closing, suppress
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


_address: str = ""


def take_over() -> None:
    """Note where systemd listens, and let nobody below us speak in our name. Before anything is started."""
    global _address  # noqa: PLW0603 - there is one systemd, and a process has one name
    _address = os.environ.pop(SOCKET, "")


def tell(state: str, status: str) -> None:
    """Tell the state, and what `systemctl status` shows beside it."""
    if not _address.startswith(("/", "@")):
        return
    # In the abstract namespace names begin with NUL, which no environment can hold.
    address = _address.replace("@", "\0", 1) if _address[0] == "@" else _address
    with suppress(OSError), closing(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)) as link:
        link.setblocking(False)
        link.sendto(f"{state}\nSTATUS={status}".encode(), address)
