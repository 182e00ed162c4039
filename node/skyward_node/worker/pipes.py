"""A worker's ends of its pipes: blocking, and whole messages at a time."""

from __future__ import annotations

from _socket import MSG_DONTWAIT
from select import POLLIN, poll
from typing import TYPE_CHECKING, Final

from skyward.wire import pipe

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.lone import Lone, M

READ: Final = 64 * 1024  # bytes a read asks for: most batches, and what malloc serves without mmap
MAX_FRAME: Final = 2**40  # bytes: the daemon is trusted, and memory is the limit
IOV_MAX: Final = 1024  # buffers in one sendmsg, Linux's bound


class PipeReader:
    """Reads messages from a blocking stream socket."""

    __slots__ = ("_sleep", "_socket", "_unpacker")

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._unpacker = pipe.Unpacker(MAX_FRAME)
        self._sleep = poll()  # whoever sleeps in `recv` is woken up by the peer's reading, too: it makes room to write
        self._sleep.register(sock, POLLIN)

    def read(self, *, wait: bool = True) -> list[list[Buffer]] | None:
        """Wait for bytes, and return the messages they complete; None at EOF.

        Without ``wait`` only what is there is read.
        """
        view = self._unpacker.want()
        flags = 0 if wait else MSG_DONTWAIT
        try:
            if view is None:
                return self._take(self._socket.recv(READ, flags))
            count = self._socket.recv_into(view, 0, flags)
        except BlockingIOError:
            return []
        except OSError:  # the daemon is gone, or the user's code has closed our descriptors
            return None
        if not count:
            return None
        self._unpacker.filled(count)
        return self._unpacker.messages()

    def read_alone(self, kind: Lone[M]) -> M | list[list[Buffer]] | None:
        """Wait for bytes, and return the message of this kind that they are; else as `read`."""
        if not self._unpacker.between:
            return self.read()
        try:
            self._sleep.poll()
            data = self._socket.recv(READ)
        except OSError:
            return None
        message = kind.from_stream(data)
        return self._take(data) if message is None else message

    def _take(self, data: bytes) -> list[list[Buffer]] | None:
        """Return the messages that the data completes; None at EOF."""
        if not data:
            return None
        unpacker = self._unpacker
        if (frame := unpacker.alone(data)) is not None:
            return [[frame]]
        unpacker.feed(data)
        return unpacker.messages()


class PipeWriter:
    """Writes messages to a blocking stream socket. The caller sees to it that nobody else does meanwhile."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket) -> None:
        self._socket = sock

    def write_packed(self, data: bytes) -> None:
        """Write what a message is on a pipe; as `write`."""
        self._socket.sendall(data)

    def write(self, *messages: Sequence[Buffer]) -> None:
        """Write messages as a whole. Raises `OSError` when nobody can read them any more."""
        buffers: list[Buffer] = []
        for frames in messages:
            buffers += pipe.pack(frames)
        if len(buffers) == 1:
            self._socket.sendall(buffers[0])
            return
        while buffers:
            sent = self._socket.sendmsg(buffers[:IOV_MAX])
            buffers = _rest(buffers, sent)


def _rest(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """Return what is left of ``buffers`` after ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        size = memoryview(buffer).nbytes
        if sent < size:
            return [memoryview(buffer).cast("B")[sent:], *buffers[index + 1 :]]
        sent -= size
    return []
