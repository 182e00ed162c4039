"""A TCP proxy that keeps what passes, and may say some of it again; and the frames of ZMTP in such bytes."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

GREETING: Final = 64  # bytes before the first frame of a connection (ZMTP 3, RFC 23)
LONG: Final = 2  # flag of a frame whose length has 8 bytes
COMMAND: Final = 4  # flag of a frame that belongs to the handshake
CHUNK: Final = 65_536


class Connection:
    """One connection through the proxy, and all that has passed, by direction."""

    def __init__(self, client: socket.socket, node: socket.socket) -> None:
        self.client = client
        self.node = node
        self.said = bytearray()  # by the client
        self.answered = bytearray()  # by the node
        self.closed_by_node = threading.Event()


class Proxy:
    """Stands before a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections: list[Connection] = []
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for end in (self._listener, self._woken, *(end for c in self.connections for end in (c.client, c.node))):
            end.close()

    @property
    def recorded(self) -> bytes:
        """Return all bytes that have passed, in both directions."""
        return b"\n".join(bytes(part) for c in self.connections for part in (c.said, c.answered))

    def _serve(self) -> None:
        ends: dict[socket.socket, tuple[Connection, bool]] = {}
        while True:
            ready, _, _ = select.select([self._listener, self._woken, *ends], [], [])
            if self._woken in ready:
                return
            for end in ready:
                if end is self._listener:
                    client, _ = self._listener.accept()
                    connection = Connection(client, socket.create_connection(("127.0.0.1", self._port)))
                    self.connections.append(connection)
                    ends[client], ends[connection.node] = (connection, True), (connection, False)
                elif end in ends and not self._pass_on(*ends[end]):
                    connection = ends.pop(end)[0]
                    ends.pop(connection.client, None)
                    ends.pop(connection.node, None)

    @staticmethod
    def _pass_on(connection: Connection, from_client: bool) -> bool:
        """Pass on what has come; return whether the connection lives."""
        source, target = connection.client, connection.node
        if not from_client:
            source, target = target, source
        try:
            if data := source.recv(CHUNK):
                (connection.said if from_client else connection.answered).extend(data)  # before anybody acts on it
                target.sendall(data)
                return True
        except OSError:
            pass
        if not from_client:
            connection.closed_by_node.set()
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                pass
        return False


def frames(data: bytes) -> Iterator[bytes]:
    """Yield the whole frames, of handshake and messages alike, that one side has said on a connection."""
    start = GREETING
    while start + 2 <= len(data):
        long = data[start] & LONG
        head = 9 if long else 2
        end = start + head + int.from_bytes(data[start + 1 : start + head], "big")
        if end > len(data):
            return
        yield bytes(data[start:end])
        start = end


def handshake_length(data: bytes) -> int:
    """Return how many bytes of what a client has said belong to the handshake."""
    length = GREETING
    for frame in frames(data):
        if not frame[0] & COMMAND:
            break
        length += len(frame)
    return length
