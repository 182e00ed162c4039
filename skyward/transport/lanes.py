"""Lanes: beside its ZeroMQ connection, a way between client and daemon of one machine for calls that are alone.

ZeroMQ hands every message to a thread of its own, on either side. For a call that somebody waits for, and its answer,
that makes four wake-ups, which take longer than all the rest. A lane is a plain Unix socket, and has none of them.

Nothing overtakes anything by that: a message takes the lane only while nothing can be under way on the *road*, which
is the ZeroMQ connection, in its direction. The client knows it when the last that it has said there was a task, and
the outcome has come. A node knows it when the task that it answers came by the lane and confirms all results before,
and nothing has been said since. What is said on the road after that cannot overtake it either: whoever reads the road
looks at the lane before it acts on what has come, and what the lane has brought goes first. So a lane needs no numbers,
no acknowledgements and no heartbeats of its own.

A lane begins with a token from the node, which the node sends back when it knows whose lane it is; before that nobody
uses it. When a lane ends under a task the client greets again, and what was not confirmed is said again on the road.

This is a driver: who may use the lane is decided by those who have it (`links`, `skyward_node.lanes`).
"""

from __future__ import annotations

import os
import stat
from _socket import (
    AF_UNIX,
    MSG_NOSIGNAL,
    SHUT_RDWR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    socket,
)
from contextlib import suppress
from typing import Any, Final

from skyward.machine.passing import LONGEST_PATH

MOST: Final = 16_384  # bytes of a message: more than any task or outcome of one frame has
WAITING: Final = 64  # lanes that may wait to be taken in
_SUFFIX: Final = ".lane"
_SCHEME: Final = "ipc://"
_KIND: Final = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC  # which keeps messages apart
_QUIETLY: Final = MSG_NOSIGNAL  # a lane that has ended is no reason to be killed, where SIGPIPE is not ignored


def path_beside(path: str) -> str:
    """Return where a daemon whose ROUTER has this path takes in lanes; "" if no socket can be there."""
    beside = path.removesuffix(".sock") + _SUFFIX
    return beside if len(os.fsencode(beside)) <= LONGEST_PATH else ""


def listen(path: str) -> socket | None:
    """Return a socket that takes in lanes of our own user; None if there can be none."""
    try:
        listener = socket(AF_UNIX, _KIND)
    except OSError:
        return None
    mask = os.umask(0o177)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):  # of a daemon that was killed: one that serves has the road, too
                os.unlink(path)
        listener.bind(path)
        listener.listen(WAITING)
    except OSError:
        listener.close()
        return None
    finally:
        os.umask(mask)
    return listener


def accept(listener: socket) -> socket:
    """Return the next lane that waits to be taken in; raises `OSError`."""
    known: Any = listener  # by a private name, of which `socket` makes its `accept`
    fd: int = known._accept()[0]
    lane = socket(fileno=fd)
    lane.setblocking(False)
    return lane


def dial(endpoint: str, token: bytes) -> socket | None:
    """Return a lane to the daemon at an ``ipc://`` endpoint, which knows us by the token; None if there is none."""
    path = path_beside(endpoint.removeprefix(_SCHEME)) if endpoint.startswith(_SCHEME) else ""
    if not path:
        return None
    try:
        lane = socket(AF_UNIX, _KIND)
    except OSError:  # no descriptor is left: there is the road
        return None
    try:
        lane.connect(path)
        lane.send(token, _QUIETLY)
    except OSError:  # also if too many wait there already
        lane.close()
        return None
    return lane


def receive(lane: socket) -> bytes | None:
    """Return the next message without blocking; empty when the lane has ended, None if there is none."""
    try:
        return lane.recv(MOST)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def send(lane: socket, message: bytes) -> bool:
    """Send a message without blocking; return whether it has gone."""
    try:
        lane.send(message, _QUIETLY)
    except OSError:  # full, or at its end
        return False
    return True


def close(lane: socket) -> None:
    """End a lane; forked children may have a copy of it."""
    with suppress(OSError):
        lane.shutdown(SHUT_RDWR)
    lane.close()
