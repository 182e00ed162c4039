"""The nursery: a process that has imported what daemons and their workers need, and forks daemons from that.

A launcher that wants several nodes on its machine pays for one interpreter and its imports, once, and a node that is
replaced later is there at once. The daemons are the launcher's children, not ours: see `skyward_node.cloning`. None of
them depends on us after its birth.

It has one thread and no ZeroMQ context, so forking from it is safe. It reads requests from a SOCK_SEQPACKET pair, each
with five descriptors, and nothing else: the configuration, as JSON; the log, which becomes stdout and stderr;
where the pid of the daemon is written, or nothing; the daemon's ``ready_fd``; and its ``lifeline_fd``.
EOF means that the launcher is gone, or wants no more.
"""

from __future__ import annotations

import gc
import os
from _socket import socket
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from skyward.machine.passing import receive_fds
from skyward.model import NodeConfig
from skyward_node import cloning, processes

if TYPE_CHECKING:
    from skyward_node.archive import Archive

MOST_FDS: Final = 5
REQUEST: Final = 16  # bytes; a request says nothing but by its descriptors

# What a daemon imports until it serves, and what its template does.
NEEDED: Final = (
    "skyward_node.boot",
    "skyward_node.server",
    "skyward_node.router",
    "skyward_node.identity",
    "skyward_node.executors.supervisor",
    "skyward_node.lanes",
    "skyward_node.child",
    "skyward.pool.chunks",
    "skyward.wire.pickler",
)


def serve(fd: int, archive: Archive) -> NodeConfig | None:
    """Fork daemons for whoever is at the other end of ``fd``; return in each its configuration, and None at the end."""
    if not cloning.is_possible():
        return None  # the launcher starts them by itself
    requests = _settle(fd)
    for name in NEEDED:
        import_module(name)
    archive.close()
    gc.freeze()  # and is left alone, so that its pages are shared
    with closing(requests):
        while True:
            message, fds = receive_fds(requests, REQUEST, MOST_FDS)
            if not message:
                return None
            config = _fork(fds)
            if config is not None:
                return config


def _settle(fd: int) -> socket:
    """Keep nothing of the launcher's but the socket, and have it out of the way of the standard streams."""
    kept = os.dup(fd) if fd <= 2 else fd
    os.dup2(null := os.open(os.devnull, os.O_RDWR), 0)
    processes.close_fds({0, 1, 2, kept, null})
    os.close(null)
    processes.wake_with_parent()
    processes.set_name("skyward-nursery")
    return socket(fileno=kept)


def _fork(fds: list[int]) -> NodeConfig | None:
    """Fork a daemon, and tell its pid; return its configuration in it, and None here."""
    pid = -1
    if len(fds) == MOST_FDS:  # else we ran out of descriptors: the kernel passed on as many as there was room for
        with suppress(OSError):  # the launcher takes our silence for a no, and starts the daemon by itself
            pid = cloning.fork_sibling()
    if pid >= 0:
        # Both tell: the launcher must know of it even if one of them is killed now.
        with suppress(OSError):  # the launcher is gone, and its daemons notice
            os.write(fds[2], b"%d\n" % (pid or os.getpid()))
    if pid == 0:
        return _be_daemon(*fds)
    for fd in fds:
        os.close(fd)
    return None


def _be_daemon(config: int, log: int, told: int, ready: int, lifeline: int) -> NodeConfig:
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(told)
    gc.enable()
    with os.fdopen(config, "rb") as file:
        said = NodeConfig.from_json(file.read())
    return said.but(ready_fd=ready, lifeline_fd=lifeline)
