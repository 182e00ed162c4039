"""A worker's ends of its pipes: blocking, and whole messages at a time."""

from __future__ import annotations

from socket import MSG_DONTWAIT
from typing import TYPE_CHECKING, Final

from skyward.wire import pipe

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

READ: Final = 64 * 1024  # bytes a read asks for: most batches, and what malloc serves without mmap
MAX_FRAME: Final = 2**40  # bytes: the daemon is trusted, and memory is the limit
IOV_MAX: Final = 1024  # buffers in one sendmsg, Linux's bound


class PipeReader:
    """Reads messages from a blocking stream socket."""

    __slots__ = ("_socket", "_unpacker")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unpacker = pipe.Unpacker(MAX_FRAME)

    def read(self, *, wait: bool = True) -> list[list[Buffer]] | None:
        """Wait for bytes, and return the messages they complete; None at EOF.

        Without ``wait`` only what is there is read.
        """
        unpacker = self._unpacker
        view = unpacker.want()
        flags = 0 if wait else MSG_DONTWAIT
        try:
            if view is None:
                data = self._socket.recv(READ, flags)
                if not data:
                    return None
                if (frame := unpacker.alone(data)) is not None:
                    return [[frame]]
                unpacker.feed(data)
            else:
                count = self._socket.recv_into(view, 0, flags)
                if not count:
                    return None
                unpacker.filled(count)
        except BlockingIOError:
            return []
        except OSError:  # the daemon is gone, or the user's code has closed our descriptors
            return None
        return unpacker.messages()


class PipeWriter:
    """Writes messages to a blocking stream socket. The caller sees to it that nobody else does meanwhile."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

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
