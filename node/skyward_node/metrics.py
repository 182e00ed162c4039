"""Health and metrics of a node over HTTP, on a port of the loopback interface: for `curl`, systemd and Prometheus.

The daemon's loop serves it between other things: nothing here waits. All that is open is behind one descriptor, an
epoll, which becomes readable when there is something to do. Whoever asks is given two seconds and four kilobytes, and
there are at most sixteen of them; more wait to be accepted.

This is a driver: what is said is made in `core.standing`, how it is said in `http`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final

from skyward.config import available_memory
from skyward.errors import ConfigError
from skyward_node import http, processes
from skyward_node.core import standing
from skyward_node.http import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core import Core
    from skyward_node.core.standing import Standing

LOOPBACK: Final = "127.0.0.1"
MOST: Final = 16  # connections at once: one asks every few seconds, and people
PATIENCE: Final = 2.0  # seconds from connecting to having the answer
CHUNK: Final = 4_096  # bytes read at once
COUNTED: Final = 512  # processes whose memory is added up: to look at one takes some 20 µs
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"


class Asker:
    """Whoever has connected."""

    __slots__ = ("answer", "deadline", "request", "socket")

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.socket = connection
        self.deadline = deadline  # `time.monotonic`
        self.request = b""
        self.answer = b""  # what of it has not been taken yet


class Metrics:
    """The port, and those who ask there."""

    def __init__(self, port: int, core: Core, about: dict[str, str]) -> None:
        """Listen; raises `ConfigError` if that is not possible."""
        self._core = core
        self._about = about
        self._began = time.monotonic()
        self._askers: dict[int, Asker] = {}
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._epoll = select.epoll()
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((LOOPBACK, port))
            self._listener.listen(MOST)
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot serve metrics at {LOOPBACK}:{port}: {error.strerror}") from error
        self._listens = False
        self._rests = False  # there are no descriptors: it would be ready all the time
        self._listen()

    @property
    def port(self) -> int:
        """Return the port's number."""
        port: int = self._listener.getsockname()[1]
        return port

    def fileno(self) -> int:
        """Return what becomes readable when there is something to do."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Hang up on everybody."""
        for asker in self._askers.values():
            asker.socket.close()
        self._askers.clear()
        self._epoll.close()
        self._listener.close()

    # --- connections -------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Hang up on those whose time is over. To be called now and then."""
        for fd, asker in list(self._askers.items()):
            if now > asker.deadline:
                self._drop(fd)
        if self._rests:
            self._rests = False
            self._listen()

    def serve(self, now: float) -> None:
        """Do what can be done without waiting."""
        for fd, _ in self._epoll.poll(0, MOST):
            if fd == self._listener.fileno():
                self._accept(now)
            elif (asker := self._askers.get(fd)) is not None and self._is_done(asker):
                self._drop(fd)

    def _listen(self) -> None:
        """Take connections as long as there are not too many."""
        wanted = len(self._askers) < MOST and not self._rests
        if wanted != self._listens:
            change = self._epoll.register if wanted else self._epoll.unregister
            change(self._listener.fileno())
            self._listens = wanted

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # whoever it was has gone, or there are no descriptors
            self._rests = error.errno in (errno.EMFILE, errno.ENFILE)
        else:
            connection.setblocking(False)
            self._askers[connection.fileno()] = Asker(connection, now + PATIENCE)
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        self._listen()

    def _drop(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._askers.pop(fd).socket.close()
        self._listen()

    def _is_done(self, asker: Asker) -> bool:
        """Read, and answer as far as that is taken; return whether the connection may end."""
        try:
            if not asker.answer:
                data = asker.socket.recv(CHUNK)
                asker.request += data
                asker.answer = self._answer(asker.request)
                if not asker.answer:
                    return not data
            asker.answer = asker.answer[asker.socket.send(asker.answer) :]
        except BlockingIOError:
            if not asker.answer:
                return False
        except OSError:
            return True
        if asker.answer:
            self._epoll.modify(asker.socket.fileno(), select.EPOLLOUT)
        return not asker.answer

    def _answer(self, data: bytes) -> bytes:
        """Return what is said to a request; nothing as long as more of it has to come."""
        request = http.read(data)
        if request is None:
            return b""
        if isinstance(request, Answer):
            return http.write(request)
        return http.write(answer(request, self._stands, self._about), head=request.method == "HEAD")

    def _stands(self) -> Standing:
        uptime = time.monotonic() - self._began
        return standing.take(self._core.node, uptime=uptime, memory=family_memory(), available=available_memory())


def answer(request: Request, stands: Callable[[], Standing], about: dict[str, str]) -> Answer:
    """Return what is said to a request."""
    if request.method not in ("GET", "HEAD"):
        return Answer(405, "ask with GET\n")
    if request.path == "/metrics":
        return Answer(200, standing.exposition(stands(), about), EXPOSITION)
    if request.path in ("/health", "/"):
        return Answer(503, "draining\n") if stands().draining else Answer(200, "serving\n")
    return Answer(404, "there are /metrics and /health\n")


def family_memory() -> int:
    """Return the resident bytes of this process and those below it; memory that they share counts for each."""
    return sum(resident(pid) for pid in processes.family(os.getpid(), COUNTED))


def resident(pid: int) -> int:
    """Return the resident bytes of a process; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
