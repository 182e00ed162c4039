"""The daemon's ROUTER socket: connections in, events out; messages out, never a wait.

A message that a connection does not take waits here, in order, and is tried again each turn. What a
peer sends is decoded and checked before anyone else sees it.

This is a driver: it reports connections that are gone, blocked or talk nonsense, and decides nothing.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import zmq

from skyward.errors import ProtocolError
from skyward.machine.memory import opened
from skyward.transport.sockets import READABLE, Reader, poll_now, send_frames, send_pair
from skyward.wire.codec import Decoder, check_body, encode, mark_refs
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.lone import CALLS, Call
from skyward.wire.messages import PROTOCOL, Hello, Items, Parcels, Part, Results, Tasks
from skyward.wire.parcels import LARGEST, Cutter, Joiner
from skyward_node.core.actions import Blocked, Gone, Incoming, Nonsense

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.machine.memory import Arena
    from skyward.transport.sockets import Socket
    from skyward.wire.frames import Buffer, Ref
    from skyward.wire.messages import Message
    from skyward_node.core.actions import Event

_SHARING: Final = (Tasks, Items)
READS: Final = 256  # messages in one turn, so that workers are not starved by talkative clients
SLICE: Final = 4_096  # frames in one turn, for the same reason: some ten milliseconds
GIVEN: Final = 5  # bytes of a routing id that ZeroMQ has made, the first of which is 0
FRAME: Final = 200  # bytes of memory that a frame takes beside its content
BACKLOG: Final = 256 * 2**20  # bytes that may wait for one connection; the core stops long before


def _weight(frames: Sequence[Buffer]) -> int:
    """Return the bytes that a message adds: a piece is a view of a result, which the core keeps and counts."""
    content = 0 if frames[1][1] == Part.TYPE else sum(map(len, frames))
    return content + FRAME * len(frames)


class _Backlog:
    """What waits for one connection."""

    __slots__ = ("messages", "size")

    def __init__(self) -> None:
        self.messages: deque[list[Buffer]] = deque()
        self.size = 0

    def add(self, frames: list[Buffer]) -> None:
        self.messages.append(frames)
        self.size += _weight(frames)


class Router:
    """All connections of a node."""

    def __init__(
        self,
        socket: Socket,
        limit: int,
        *,
        curve: bool = False,
        arena: Arena | None = None,
        bytes_of: Callable[[Ref], Buffer] | None = None,
    ) -> None:
        """``limit``: bytes of large frames of one connection that may be incomplete, and that are kept for it.

        Workers read ``arena``; ``bytes_of`` returns what they have written, for clients that cannot read it there.
        """
        self.socket = socket
        self._arena = arena
        self._bytes_of = bytes_of
        self._curve = curve
        self._limit = limit
        self._joiners: dict[bytes, Joiner] = {}
        self._cutters: dict[bytes, Cutter] = {}
        self._reader = Reader(socket, keyed=curve)
        self._alone = [(socket, READABLE)]
        self.more = False
        self._decoder = Decoder(CLIENT_MESSAGES)
        self._backlogs: dict[bytes, _Backlog] = {}

    @property
    def blocked(self) -> bool:
        """Return whether messages wait for a connection."""
        return bool(self._backlogs)

    # --- in ----------------------------------------------------------------------------------

    def receive(self) -> list[Event]:
        """Return what has arrived: at most `READS` messages, and of one that is very long the part that is due.

        ``more`` says afterwards whether there may be more.
        """
        events: list[Event] = []
        left = SLICE
        self.more = False
        try:
            for _ in range(READS):
                frames = self._reader.read(left)
                if frames is None:
                    break
                left -= len(frames)
                event = self._decode(frames, self._reader.user)
                if event is not None:
                    events.append(event)
                if not poll_now(self._alone, 0):  # cheaper than being told by an exception
                    return events
        except zmq.Again:
            return events
        self.more = True
        return events

    def decode(self, peer: bytes, frame: bytes) -> Event | None:
        """Return what a message of one frame says that has come by another way than the socket."""
        return self._decode([peer, frame])

    def receive_alone(self, take: Callable[[bytes, str, Call, bytes], bool]) -> list[Event]:
        """As `receive`; but if a lone task comes first, it is offered to ``take``, and once taken, all for now.

        ``take`` gets peer, key, task, and the frame that it came in.
        """
        self.more = True
        try:
            frames = self._reader.read(SLICE)
        except zmq.Again:
            self.more = False
            return []
        if frames is None:
            return []
        if len(frames) == 2 and not self._joiners:
            peer: Any
            header: Any
            peer, header = frames
            task = CALLS.from_frame(header)
            if task is not None and take(peer, self._reader.user, task, header):
                return []
        event = self._decode(frames, self._reader.user)
        events = [] if event is None else [event]
        self.more = bool(poll_now(self._alone, 0))
        if self.more:
            events += self.receive()
        return events

    def _decode(self, frames: list[Buffer], user: str = "") -> Event | None:
        peer: Any = frames[0]
        if self._curve and not user:  # ZeroMQ admits nobody without one: it is our own bug, or worse
            return Nonsense(peer, "auth", "a message that came under no key")
        if len(peer) != GIVEN or peer[0]:  # nobody may wait under a name for what is meant for another
            return Nonsense(peer, "protocol", "a connection that has named itself")
        header, body = frames[1], frames[2:]
        message = None
        try:
            message = self._decoder.decode(header)
            if message is None:
                return None  # a hint that we do not know
            if body or self._joiners or type(message) is not Call:  # else there is nothing to put together
                self._put_together(peer, message, body)
        except ProtocolError as error:
            code = "version" if len(header) and header[0] != PROTOCOL else "protocol"
            if message is not None:
                code = "body"
            return Nonsense(peer, code, str(error))
        return Incoming(peer, message, () if type(message) is Part else body, user)

    def _put_together(self, peer: bytes, message: Any, body: list[Buffer]) -> None:
        """Check a message's body, with the large frames that came before it in pieces."""
        if type(message) is Hello:
            self._joiners.pop(peer, None)  # whoever greets begins anew
        elif (joiner := self._joiners.get(peer)) is not None:
            joiner.join(message, body)
        check_body(message, body)
        if type(message) is Part:
            self._joiner(peer).add(message, body[0])
        elif type(message) is Parcels:
            self._joiner(peer).expect(message)
        elif isinstance(message, _SHARING) and message.shared:
            mark_refs(message, body)

    def _joiner(self, peer: bytes) -> Joiner:
        joiner = self._joiners.get(peer)
        if joiner is None:
            reserve = self._arena.reserve if self._arena is not None else None
            joiner = self._joiners[peer] = Joiner(self._limit, reserve, keep=self._limit)
        return joiner

    # --- out ---------------------------------------------------------------------------------

    def send(self, peer: bytes, message: Message, body: Sequence[Buffer]) -> Event | None:
        """Send a message, now or when the connection takes it; return what that says about the connection."""
        if len(body) > 1 and isinstance(message, Results) and not message.shared and self._bytes_of is not None:
            body = opened(body, self._bytes_of)
        if self._curve and len(body) and max(map(len, body)) > LARGEST:
            return self._send_in_pieces(peer, message, body)
        return self._send(peer, [peer, encode(message), *body])

    def tell(self, peer: bytes, frame: bytes) -> Event | None:
        """Send a small message of one frame; as `send`."""
        if self._backlogs:
            return self._send(peer, [peer, frame])
        try:
            send_pair(self.socket, peer, frame)
        except zmq.ZMQError as error:
            return self._not_sent(peer, [peer, frame], error)
        return None

    def _send_in_pieces(self, peer: bytes, message: Any, body: Sequence[Buffer]) -> Event | None:
        said: Event | None = None
        for frames in self._cutters.setdefault(peer, Cutter()).cut(message.epoch, message, body):
            said = self._send(peer, [peer, *frames]) or said
            if isinstance(said, Gone):
                break
        return said

    def forget(self, peer: bytes) -> None:
        """Drop what is there of a connection that is gone, or not served any more."""
        for kept in (self._joiners, self._cutters, self._backlogs):
            kept.pop(peer, None)
        if self._arena is not None and not self._joiners:
            self._arena.retire()  # nobody is about to fill it again: its pages go with the last task that reads them

    def _send(self, peer: bytes, frames: list[Buffer]) -> Event | None:
        backlog = self._backlogs.get(peer)
        if backlog is None:
            return self._try(peer, frames)
        backlog.add(frames)
        if backlog.size > BACKLOG:
            del self._backlogs[peer]
            return Gone(peer)
        return None

    def _try(self, peer: bytes, frames: list[Buffer]) -> Event | None:
        try:
            send_frames(self.socket, frames)
        except zmq.ZMQError as error:
            return self._not_sent(peer, frames, error)
        return None

    def _not_sent(self, peer: bytes, frames: list[Buffer], error: zmq.ZMQError) -> Event:
        if isinstance(error, zmq.Again):
            backlog = self._backlogs[peer] = _Backlog()
            backlog.add(frames)
            return Blocked(peer, blocked=True)
        if error.errno != errno.EHOSTUNREACH:
            raise error
        return Gone(peer)

    def retry(self) -> list[Event]:
        """Send what waits, as far as it is taken now."""
        return [event for peer in list(self._backlogs) if (event := self._flush(peer)) is not None]

    def _flush(self, peer: bytes) -> Event | None:
        backlog = self._backlogs[peer]
        while backlog.messages:
            try:
                send_frames(self.socket, backlog.messages[0])
            except zmq.Again:
                return None
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                del self._backlogs[peer]
                return Gone(peer)
            backlog.size -= _weight(backlog.messages.popleft())
        del self._backlogs[peer]
        return Blocked(peer, blocked=False)
