"""A link: the client's DEALER socket to one node, and what has been said over it.

Only the owner of the loop touches a link. Frames that the socket does not take at once wait in the
link, in order; the loop asks for writability while there are any.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import zmq

from skyward.transport.sockets import make_dealer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

ZERO_COPY: Final = 65_536  # bytes: above it a copy costs more than the bookkeeping that avoids it
READS: Final = 256  # messages read from one link before the others get their turn


class Link:
    """One connection to one node."""

    __slots__ = ("_pending", "_socket", "epoch", "functions", "modules", "rank", "ready", "seen", "unacked")

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, rank: int) -> None:
        self._socket = make_dealer(context)
        self._socket.connect(endpoint)
        self._pending: deque[Sequence[Buffer]] = deque()
        self.rank = rank
        self.ready = False  # the node has said Welcome
        self.epoch = 0
        self.seen = 0  # last Results.seq
        self.unacked = 0  # bytes of results the node does not yet know we have
        self.functions: set[bytes] = set()  # keys of code the node has
        self.modules: set[bytes] = set()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """Return the socket, for the poller."""
        return self._socket

    @property
    def wants_to_write(self) -> bool:
        """Return whether frames wait for the socket."""
        return bool(self._pending)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message, now or when the socket takes it."""
        if self._pending or not self._try_send(frames):
            self._pending.append(frames)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._pending and self._try_send(self._pending[0]):
            self._pending.popleft()

    def _try_send(self, frames: Sequence[Buffer]) -> bool:
        last = len(frames) - 1
        try:
            # A multipart message is atomic: only its first frame can be refused.
            for position, frame in enumerate(frames):
                flags = zmq.DONTWAIT if position == last else zmq.DONTWAIT | zmq.SNDMORE
                self._socket.send(frame, flags, copy=len(frame) < ZERO_COPY)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[list[Buffer]]:
        """Return the messages that have arrived, as lists of frames; bounded."""
        messages: list[list[Buffer]] = []
        socket = self._socket
        try:
            while len(messages) < READS:
                frames: list[Buffer] = [socket.recv(zmq.DONTWAIT)]
                if socket.getsockopt(zmq.RCVMORE):
                    frames.append(socket.recv())
                    while socket.getsockopt(zmq.RCVMORE):
                        # The frame's own memory: writable, and ours alone.
                        frames.append(socket.recv(copy=False).buffer)
                messages.append(frames)
        except zmq.Again:
            pass
        return messages

    def close(self, linger: int = 0) -> None:
        """Close the socket; ``linger`` is how many milliseconds unsent messages may take."""
        self._pending.clear()
        self._socket.close(linger)

    def __repr__(self) -> str:
        state = "ready" if self.ready else "connecting"
        return f"<Link to node {self.rank}, {state}, epoch {self.epoch:x}>"
