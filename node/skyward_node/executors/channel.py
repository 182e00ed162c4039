"""One end of a stream socket to a worker, without blocking: whole messages in, a backlog out.

What the socket does not take stays as views of the sender's buffers: nothing large is copied. It
knows frames, not their meaning.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from skyward.wire import pipe

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.lone import Lone, M

READ: Final = 64 * 1024  # bytes a read asks for: most batches, and what malloc serves without mmap
BUDGET: Final = 4 * 2**20  # bytes of one worker in one turn, so that no worker starves the others
MAX_FRAME: Final = 2**40  # bytes: a worker is on our machine, so memory is the limit, not trust
IOV_MAX: Final = 1024  # buffers in one sendmsg, Linux's bound


class Channel:
    """A non-blocking stream socket that carries messages both ways."""

    __slots__ = ("_ahead", "_backlog", "_finishing", "_unpacker", "eof", "socket")

    def __init__(self, sock: socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.eof = False
        self._backlog: deque[memoryview] = deque()
        self._finishing = False
        self._ahead = b""  # what was read and is for `receive`
        self._unpacker = pipe.Unpacker(MAX_FRAME)

    # --- out ----------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Return whether a backlog waits for the socket to take more."""
        return bool(self._backlog)

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send a message, or as much of it as the socket takes now; `flush` sends the rest.

        Returns whether something waits since this call: then the socket is to be watched.
        """
        buffers = pipe.pack(frames)
        if self._backlog or len(buffers) > IOV_MAX:
            blocked = bool(self._backlog)
            self._keep(buffers, 0)
            self.flush()
            return not blocked and bool(self._backlog)
        try:
            sent = self.socket.send(buffers[0]) if len(buffers) == 1 else self.socket.sendmsg(buffers)
        except BlockingIOError:
            sent = 0
        except OSError:  # the worker is gone; its exit is reported elsewhere
            return False
        if len(buffers) == 1 and sent == len(buffers[0]):
            return False
        self._keep(buffers, sent)
        return bool(self._backlog)

    def send_packed(self, data: bytes) -> bool:
        """Send what a message is on a pipe; as `send`."""
        if self._backlog:
            self._keep([data], 0)
            return False
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # as above
            return False
        if sent == len(data):
            return False
        self._keep([data], sent)
        return True

    def _keep(self, buffers: Iterable[Buffer], sent: int) -> None:
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            size = view.nbytes
            if sent < size:
                self._backlog.append(view[sent:])
                sent = 0
            else:
                sent -= size

    def flush(self) -> None:
        """Send what the socket takes of the backlog."""
        backlog = self._backlog
        while backlog:
            some = [backlog[index] for index in range(min(len(backlog), IOV_MAX))]
            try:
                sent = self.socket.sendmsg(some)
            except BlockingIOError:
                return
            except OSError:
                backlog.clear()
                return
            for view in some:
                if sent < view.nbytes:
                    backlog[0] = view[sent:]
                    break
                sent -= view.nbytes
                backlog.popleft()
        if self._finishing:
            self._shutdown()

    def finish(self) -> None:
        """Let the peer read EOF after all that was sent."""
        self._finishing = True
        if not self._backlog:
            self._shutdown()

    def _shutdown(self) -> None:
        try:
            self.socket.shutdown(1)  # SHUT_WR
        except OSError:  # the worker is gone
            return

    # --- in -----------------------------------------------------------------------------------

    def receive(self, budget: int = BUDGET) -> list[list[Buffer]]:
        """Return the messages that have come, reading about ``budget`` bytes; sets ``eof``.

        Raises `ProtocolError` for rubbish.
        """
        unpacker = self._unpacker
        messages: list[list[Buffer]] = []
        while budget > 0:
            view = unpacker.want()
            try:
                if view is None:
                    data = self._ahead or self.socket.recv(READ)
                    self._ahead = b""
                    count, asked = len(data), READ
                    if not messages and count < READ and (frame := unpacker.alone(data)) is not None:
                        return [[frame]]
                    if count:
                        unpacker.feed(data)
                else:
                    asked = view.nbytes
                    count = self.socket.recv_into(view)
                    if count:
                        unpacker.filled(count)
            except BlockingIOError:
                break
            except OSError:
                count = asked = 0
            if not count:
                self.eof = True
                break
            messages += unpacker.messages()
            budget -= count
            if count < asked:
                break
        return messages

    def receive_alone(self, kind: Lone[M]) -> M | None:
        """Return the message of this kind that has come, if nothing else has; else there is something to `receive`."""
        if not self._unpacker.between:
            return None
        try:
            self._ahead = data = self.socket.recv(READ)
        except OSError:
            return None
        message = kind.from_stream(data)
        if message is not None:
            self._ahead = b""
        return message

    def close(self) -> None:
        """Close the socket; what is left in the backlog is dropped."""
        self.socket.close()
        self._backlog.clear()
