"""The launcher's side of a nursery: a process that forks daemons from what they all import.

It is started before anybody needs a daemon, and boots while the launcher does other things. Whatever it cannot do is
no error: then a daemon is started by itself, as it is without a nursery. See `skyward_node.nursery`.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_SEQPACKET, socket, socketpair
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from skyward.machine.passing import send_fds
from skyward.providers.daemon import close_lifeline, forking, gone, open_ends, wake, watch
from skyward.providers.interpreter import command

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = 10.0  # seconds for a pid: many times what its imports take on a machine that is busy
ENDING: Final = 1.5  # seconds to end after its socket
FIRST_FREE: Final = 3  # the lowest descriptor that is no standard stream

# What Python ignores or handles by itself, and a program that is executed should find as the system has it.
_DEFAULT: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class Nursery:
    """One nursery; its daemons begin with the environment ``env``."""

    def __init__(self, path: tuple[str, ...], env: Mapping[str, str]) -> None:
        """Start it; raises `OSError`, or `ProvisionError` if nobody knows which Python this is."""
        self.env = env
        self._works = True
        self._lock = threading.Lock()  # held by whoever sends, or reaps
        self._socket, theirs = open_ends(_pair)
        self._pidfd = -1
        try:
            self.pid = _start(command(path, "--nursery-fd", "0"), env, theirs)
            self._pidfd = watch(self.pid)
        finally:
            os.close(theirs)
            if self._pidfd < 0:
                close_lifeline(self._socket)

    def fork(self, *fds: int) -> int | None:
        """Return the pid of a new daemon, a child of this process, that gets these descriptors; None if it cannot."""
        answer, told = os.pipe()
        try:
            config, log, *rest = fds
            self._send([config, log, told, *rest])
        finally:
            os.close(told)
            pid = self._hear(answer)  # at once if nothing was sent; and what was sent counts, whoever hangs up now
            os.close(answer)
        return pid

    def _send(self, fds: list[int]) -> None:
        with self._lock, forking:  # nobody closes the socket now, and no forked child takes its duplicate along
            if self._works:
                with suppress(OSError), closing(socket(fileno=os.dup(self._socket))) as requests:
                    send_fds(requests, b"fork", fds, MSG_DONTWAIT)

    def _hear(self, answer: int) -> int | None:
        """Return the number that is written, or None when that end is closed without one."""
        poller = select.poll()
        poller.register(answer, select.POLLIN)
        if not poller.poll(PATIENCE * 1000):
            self._works = False
            self.end(0.0)  # else it could still fork one when nobody knows of it
        told = os.read(answer, 32).split()  # by the daemon, by the nursery, or both
        self._works = self._works and bool(told)
        return int(told[0]) if told else None

    def hang_up(self) -> None:
        """Have it end, also if it is stopped: who waits for a daemon hears that there is none."""
        self._works = False
        with forking:
            end, self._socket = self._socket, -1  # its number may soon be that of another's lifeline
            close_lifeline(end)
            wake(self._pidfd)

    def end(self, grace: float = ENDING) -> None:
        """Return when it is gone; its daemons are not concerned."""
        self.hang_up()
        with self._lock:
            with forking:
                pidfd, self._pidfd = self._pidfd, -1
            if pidfd >= 0:
                _end(pidfd, grace)


def _pair() -> tuple[int, int]:
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def _start(argv: list[str], env: Mapping[str, str], requests: int) -> int:
    """Start a process in a session of its own that has ``requests`` as its stdin, and no other descriptor of ours."""
    high = fcntl.fcntl(requests, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)  # a duplicate of 0 on 0 would be closed
    try:
        silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        streams = [(os.POSIX_SPAWN_DUP2, high, 0), *silent]
        return os.posix_spawn(argv[0], argv, env, file_actions=streams, setsid=True, setsigdef=_DEFAULT)
    finally:
        os.close(high)


def _end(pidfd: int, grace: float) -> None:
    if not gone(pidfd, grace):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with suppress(OSError):  # nobody's child any more: who ignores SIGCHLD, or waits for any child, has reaped it
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
