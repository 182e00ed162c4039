"""The node's end of lanes: tasks that are alone come by them, and their outcomes leave by them.

What a lane is, and why nothing overtakes anything, is told in `skyward.transport.lanes`. Here the answer takes the
lane if its task has come by it, if the client knows all results before, and if nothing was said to it since. What a
client has said by its lane comes before all that it has said on the road and that nobody has acted upon.

This is a driver: it decides nothing about tasks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from skyward.transport import lanes
from skyward.wire.codec import encode
from skyward.wire.lone import CALLS, Call, Reply
from skyward_node.core.actions import Incoming, Nonsense

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence
    from contextlib import ExitStack

    from skyward.wire.messages import Message
    from skyward_node.core.actions import Event

MOST: Final = 1_024  # lanes of one node: clients beyond it have the road
Take = Callable[[bytes, str, Call, bytes], bool]  # of peer, key, task and the frame it came in; see `Router`
_FULL: Final = (errno.EMFILE, errno.ENFILE)  # there are no descriptors


class Lane:
    """One client's."""

    __slots__ = ("ack", "level", "peer", "socket")

    def __init__(self, sock: socket) -> None:
        self.socket = sock
        self.peer = b""  # the client's connection; empty until it has said that
        self.level = False  # nothing was said to the client since its last task came by here
        self.ack = 0  # the last of our results that the client had when it sent that


class Lanes:
    """All lanes of a node."""

    def __init__(
        self,
        listener: socket,
        path: str,
        decode: Callable[[bytes, bytes], Event | None],
        owner_of: Callable[[bytes], bytes],
    ) -> None:
        """``decode`` makes an event of a message of a connection, which ``owner_of`` returns for a token, if any."""
        self.listener = listener
        self._path = path
        self._decode = decode
        self._owner_of = owner_of
        self._spare = _make_spare()
        self._lanes: dict[int, Lane] = {}  # by descriptor
        self._of_peer: dict[bytes, Lane] = {}

    @classmethod
    def open(
        cls,
        path: str,
        decode: Callable[[bytes, bytes], Event | None],
        owner_of: Callable[[bytes], bytes],
        stack: ExitStack,
    ) -> Lanes | None:
        """Take in lanes beside the ROUTER's path, until the stack unwinds; None where there can be none."""
        beside = lanes.path_beside(path) if path else ""
        listener = lanes.listen(beside) if beside else None
        if listener is None:
            return None
        opened = cls(listener, beside, decode, owner_of)
        stack.callback(opened.close)
        return opened

    def take_in(self) -> int:
        """Take in a lane that waits; return its descriptor, or -1 if there is none."""
        try:
            sock = lanes.accept(self.listener)
        except OSError as error:  # none waits any more, or there are too few descriptors
            if error.errno in _FULL:
                self._turn_away()
            return -1
        if len(self._lanes) >= MOST:
            sock.close()
            return -1
        self._lanes[sock.fileno()] = Lane(sock)
        return sock.fileno()

    def _turn_away(self) -> None:
        """Take a lane from the queue all the same, which would keep us busy for ever, and close it."""
        if self._spare >= 0:
            os.close(self._spare)
        with suppress(OSError):
            lanes.accept(self.listener).close()
        self._spare = _make_spare()

    def receive(self, fd: int, take: Take | None = None) -> Event | None:
        """Return what has come by a lane, unless ``take`` has taken it.

        Raises `EOFError` when the lane has ended, which has to be dropped then.
        """
        lane = self._lanes[fd]
        message = lanes.receive(lane.socket)
        if not message:
            if message is None:
                return None
            raise EOFError
        peer = lane.peer
        if not peer:
            lane.peer = self._owner_of(message)
            if not lane.peer or not lanes.send(lane.socket, message):
                raise EOFError
            self._of_peer[lane.peer] = lane
            return None
        if take is not None and (task := CALLS.from_frame(message)) is not None:
            lane.level, lane.ack = True, task.ack
            return None if take(peer, "", task, message) else Incoming(peer, task)
        event = self._decode(peer, message)
        if type(event) is Incoming:
            if type(event.message) is not Call:
                return Nonsense(peer, "protocol", f"{type(event.message).__name__} does not belong on a lane")
            lane.level = True
            lane.ack = event.message.ack
        return event

    def before(self, events: Sequence[Event]) -> list[Event]:
        """Return what was said by lanes before their owners said these things on the road, if it has not been read."""
        found: list[Event] = []
        for peer in {event.peer for event in events if type(event) is Incoming}:
            lane = self._of_peer.get(peer)
            if lane is not None:
                with suppress(EOFError):  # which is told to whoever waits for it
                    while (event := self.receive(lane.socket.fileno())) is not None:
                        found.append(event)
        return found

    def answer(self, peer: bytes, message: Message, frame: bytes = b"") -> bool:
        """Note that something is to be said to a client, in this frame; return whether it has been said by the lane."""
        lane = self._of_peer.get(peer)
        if lane is None or not lane.level:
            return False
        lane.level = False
        if type(message) is not Reply or message.seq != lane.ack + 1:
            return False
        return lanes.send(lane.socket, frame or encode(message))

    def __len__(self) -> int:
        return len(self._lanes)

    def fileno_of(self, peer: bytes) -> int:
        """Return the descriptor of a client's lane, or -1 if it has none."""
        lane = self._of_peer.get(peer)
        return -1 if lane is None else lane.socket.fileno()

    def drop(self, fd: int) -> None:
        """Close a lane."""
        lane = self._lanes.pop(fd)
        if self._of_peer.get(lane.peer) is lane:
            del self._of_peer[lane.peer]
        lane.socket.close()

    def close(self) -> None:
        """Close all."""
        for fd in list(self._lanes):
            self.drop(fd)
        self.listener.close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with suppress(OSError):
            os.unlink(self._path)


def _make_spare() -> int:
    """Return a descriptor to be given up when there are no others; -1 if there is none even now."""
    try:
        return os.eventfd(0, os.EFD_CLOEXEC)
    except OSError:
        return -1
