"""A way to a node that can be cut at any moment, also in the middle of a frame."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

TURN: Final = 0.005  # seconds
PIECE: Final = 65_536  # bytes
RESET: Final = struct.pack("ii", 1, 0)  # close without a goodbye: both ends see a reset


class Proxy:
    """Passes bytes on between clients and one port of this machine, from a thread of its own.

    With ``rate`` it passes so many bytes a second of each connection, in each direction.
    """

    def __init__(self, port: int, rate: float = 0.0) -> None:
        self._target = port
        self._rate = rate
        self._not_before: dict[socket.socket, float] = {}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._ended = threading.Event()
        self.passed = 0  # bytes
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._ended.is_set():
            if self._rate:
                time.sleep(TURN)
            for key, _ in self._selector.select(TURN):
                with self._lock:
                    if key.fileobj is self._server:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                        self._pass_on(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._server.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        target = self._peers[source]
        now = time.monotonic()
        if now < self._not_before.get(source, 0.0):
            return
        try:
            data = source.recv(PIECE)
            target.sendall(data)
            if self._rate:
                self._not_before[source] = now + len(data) / self._rate
        except OSError:
            data = b""
        self.passed += len(data)
        if not data:
            self._drop(source, target)

    def _drop(self, *ends: socket.socket) -> None:
        for end in ends:
            self._not_before.pop(end, None)
            if self._peers.pop(end, None) is not None:
                self._selector.unregister(end)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.close()

    def cut(self) -> int:
        """Reset all connections; return how many there were."""
        with self._lock:
            ends = list(self._peers)
            self._drop(*ends)
        return len(ends) // 2

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
        self.cut()
        self._selector.close()
        self._server.close()


class Cutting:
    """Cuts connections again and again, for the length of a block, from a thread of its own."""

    def __init__(self, cut: Callable[[int], int], pause: Callable[[], float]) -> None:
        """``cut`` is told how many have been cut, and returns how many it has; ``pause`` is in seconds."""
        self._cut = cut
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.count = 0

    def _work(self) -> None:
        while not self._ended.wait(self._pause()):
            self.count += self._cut(self.count)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
