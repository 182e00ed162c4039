"""A link: one of the client's DEALER sockets to a node, and what has been said over it.

A node has two: one for data, and one for heartbeats, which no amount of data can hold up. Only the owner of the
loop touches a link. Frames that the socket does not take at once wait in the link, in order, until the hub
flushes it.
"""

from __future__ import annotations

import errno
import os
import time
from _socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_INFO, socket
from collections import deque
from contextlib import closing
from enum import Enum
from typing import TYPE_CHECKING, Final

import zmq

from skyward.dispatch.stalls import Flow
from skyward.transport import lanes
from skyward.transport.sockets import (
    BULK,
    HANDSHAKE,
    HANDSHAKES,
    READABLE,
    URGENT,
    WRITABLE,
    make_dealer,
    poll_now,
    read_event,
    receive_frames,
    send_frames,
    use_family,
)
from skyward.wire.messages import PROTOCOL, Part
from skyward.wire.parcels import Cutter
from skyward.wire.shelf import CALLS, Shelf
from skyward.wire.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.transport.keys import KeyPair
    from skyward.transport.polling import Poller
    from skyward.transport.sockets import Context, Socket
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob
    from skyward.wire.parcels import Joiner
    from skyward.wire.sources import ModuleBlob

READS: Final = 256  # messages read from one link before the others get their turn
CONNECTED: Final = int(zmq.EVENT_CONNECTED)
DISCONNECTED: Final = int(zmq.EVENT_DISCONNECTED)
EVENTS: Final = HANDSHAKES | CONNECTED | DISCONNECTED  # that a link hears of its connection
RETRANSMITS: Final = 2  # the byte of Linux's `struct tcp_info` that counts how often in a row what was sent was again
GOODBYE: Final = 200  # milliseconds that the last message may take
COPIED: Final = 2  # frames of a message that come as bytes, header and blob: the others may become arrays
HUNG_UP: Final = (errno.EPIPE, errno.ECONNRESET)  # what a handshake fails with that the other side has ended
PATIENT: Final = 0.9 * HANDSHAKE / 1e3  # seconds; a handshake of that length has ended because its time was over
PIECE: Final = bytes((PROTOCOL, Part.TYPE))  # how a piece of a large frame begins: it is copied to its place, once


class Connection(Enum):
    """What has become of a connection."""

    UP = "up"  # both sides have proved who they are
    REFUSED = "refused"  # the node does not admit our key; ZeroMQ does not dial again
    STRANGE = "strange"  # whoever listens there does not speak CURVE; ZeroMQ does not dial again
    FAILED = "failed"  # the other side has ended the handshake: a wrong key of the node's, or a break
    UNANSWERED = (
        "unanswered"  # nobody has gone on with it: a process that is stopped or hangs, whose port still answers
    )
    DOWN = "down"  # it was up, and broke
    CUT = "cut"  # the lane beside it has ended


_NEWS: Final = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): Connection.UP,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Connection.REFUSED,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Connection.STRANGE,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Connection.FAILED,
}


class Link:
    """One connection to one node."""

    __slots__ = (
        "_alone", "_begun", "_fd", "_last", "_pending", "_poller", "_tail", "_token", "_waiting", "asked", "broken",
        "brought", "bundles", "calls", "closed", "cutter", "endpoint", "epoch", "failures", "fresh", "functions",
        "greeted", "heard", "joiner", "lane", "learned", "level", "linger", "modules", "monitor", "rank", "ready",
        "refusals", "said", "seen", "shown", "socket", "unacked", "unconfirmed",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        endpoint: str,
        rank: int,
        poller: Poller,
        keys: KeyPair | None = None,
        server_key: str = "",
        *,
        urgent: bool = False,
    ) -> None:
        self.socket: Socket = make_dealer(context, keys=keys, server_key=server_key)
        self.socket.setsockopt(zmq.AFFINITY, URGENT if urgent else BULK)
        # What becomes of the connection; of a socket file's owner there are quicker witnesses.
        self.monitor: Socket | None = self.socket.get_monitor_socket(EVENTS) if server_key else None
        self._last: Connection | None = None  # what was heard of the connection since it was dialled
        self._fd = -1  # of the connection; ZeroMQ owns it
        self._begun = 0.0  # when its handshake has, by `time.monotonic`
        self.endpoint = endpoint
        use_family(self.socket, endpoint)
        self.socket.connect(endpoint)
        self.cutter = Cutter() if server_key else None  # of large frames, where they travel in pieces
        self.joiner: Joiner | None = None  # of those that come in pieces
        self.failures = 0  # handshakes in a row that have failed
        self._pending: deque[Sequence[Buffer]] = deque()
        self.lane: socket | None = None
        self.level = False  # nothing that we have said can still be under way: the lane may be used
        self._tail = 0  # id of the task that was the last we have said, or 0
        self._token = b""  # what the node says first on the lane; then it is empty, and the lane may be used
        self._waiting: list[bytes] = []  # what the lane has brought
        self.asked = False  # a task was sent by the lane, and nothing has come by it since
        self._poller = poller
        self._alone = [(self.socket, READABLE)]
        poller.register(self.socket)
        self.rank = rank
        self.linger = 0  # milliseconds that unsent messages may take when the link closes
        self.broken = False  # the connection has broken at least once
        self.closed = False
        self.fresh = False  # the connection is a new one, which knows nothing of us, and has to be greeted
        self.greeted = 0  # hellos that have not been answered: until they are, nothing else is said
        self.refusals = 0  # since the node's last Welcome
        self.ready = False  # the node has said Welcome
        self.epoch = 0
        self.calls = False  # the node knows `Call`
        self.bundles = False  # it takes bundles
        self.seen = 0  # last Results.seq
        self.heard = 0  # last seq of SUBMIT, REVOKE, ITEMS and CREDIT messages
        self.unconfirmed = Unconfirmed()  # ANSWER, ITEMS and CREDIT messages that the node may not have got
        self.shown = 0  # bytes of lines that have come over this connection
        self.said = 0  # and those of which the node has been told
        self.unacked = 0  # bytes of results the node does not yet know we have
        self.functions: set[bytes] = set()  # keys of code the node has
        self.modules: set[bytes] = set()
        self.brought: dict[bytes, ModuleBlob] = {}  # modules that the node has sent, and no function after them
        self.learned: Shelf[FunctionBlob] = Shelf(CALLS)  # code of calls of its tasks, which it relies on us to have

    def greet(self, frames: Sequence[Buffer]) -> None:
        """Send a hello, and until it is answered nothing but hellos: what else is sent would be lost, or come twice."""
        self.greeted += 1
        self.fresh = False
        self._pending.clear()
        self.joiner = None
        self._waiting.clear()
        self._send(frames)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message, now or when the socket takes it; drop it if the node has to be greeted first.

        What a node must not miss is sent again after the greeting.
        """
        if self.is_open:
            self._send(frames)

    def send_task(self, frame: bytes, id: int) -> None:
        """Send a message of one small frame which is a task; as `send`."""
        self.send([frame])
        self._tail = id

    def lay(self, lane: socket, token: bytes) -> None:
        """Have a lane, which may be used once the node has sent the token back."""
        self.lane = lane
        self._token = token
        self.level = self.asked = False

    def send_by_lane(self, frame: bytes) -> bool:
        """Send a task that is alone by the lane; return whether that was possible."""
        lane = self.lane
        if not self.level or lane is None or self.fresh or not lanes.send(lane, frame):
            return False
        self.asked = True
        return True

    def note_end(self, id: int) -> None:
        """Note that the outcome of a task has come, with which all that was said before it has arrived."""
        if id == self._tail and not self._token:
            self.level = True

    def note_repeats(self) -> None:
        """Note that tasks were said again: their outcomes may be of the first time, and show nothing."""
        self._tail = 0

    def send_last(self, frames: Sequence[Buffer]) -> None:
        """Send a message that may still leave when the link closes, which is next; also behind a greeting."""
        self.linger = GOODBYE
        if not self.fresh:  # else the node does not know whose it is
            self._send(frames)

    @property
    def is_open(self) -> bool:
        """Return whether what is sent now is not dropped."""
        return not self.greeted and not self.fresh

    def _send(self, frames: Sequence[Buffer]) -> None:
        self.level = False
        self._tail = 0
        if self._pending:
            self._pending.append(frames)
        elif not self._try_send(frames):
            self._pending.append(frames)
            self._poller.register(self.socket, READABLE | WRITABLE)

    def flush(self) -> bool:
        """Send what waits, as far as the socket takes it; return whether nothing waits now."""
        while self._pending and self._try_send(self._pending[0]):
            self._pending.popleft()
        if not self._pending:
            self._poller.register(self.socket)
        return not self._pending

    def _try_send(self, frames: Sequence[Buffer]) -> bool:
        self._poller.used(self.socket)
        try:
            send_frames(self.socket, frames)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[list[Buffer]]:
        """Return the messages that have arrived, as lists of frames; bounded."""
        if self._waiting:
            return self._from_lane()
        messages: list[list[Buffer]] = []
        try:
            while True:
                messages.append(receive_frames(self.socket, COPIED, passing=PIECE))
                if not poll_now(self._alone, 0):  # cheaper than being told by an exception
                    break
                if len(messages) == READS:
                    self._poller.used(self.socket)
                    break
        except zmq.Again:
            pass
        # What was said by the lane before any of these is there by now, and comes before them.
        if self.asked and messages and self.look_at_lane():
            return self._from_lane() + messages
        return messages

    def _from_lane(self) -> list[list[Buffer]]:
        waiting, self._waiting = self._waiting, []
        return [[message] for message in waiting]

    def look_at_lane(self) -> bool:
        """Take in what has come by the lane; return whether there may be more another time."""
        message = b"" if self.lane is None else lanes.receive(self.lane)
        if not message:
            return message is None
        if self._token:
            fits, self._token = message == self._token, b""
            return fits
        self._waiting.append(message)
        self.asked = False
        return True

    def news(self) -> list[Connection]:
        """Return what has become of the connection since the last time."""
        found: list[Connection] = []
        monitor = self.monitor
        while monitor is not None and monitor.poll(0):
            event, value = read_event(monitor)
            if event == CONNECTED:
                self._fd, self._begun = value, time.monotonic()
                continue
            if event == DISCONNECTED:
                # In libzmq 4.3.5 the value is the descriptor, which is closed after that. A connection that we have
                # given up may still end by itself, and be reported when there is another already.
                if value != self._fd:
                    continue
                self._fd = -1
            last, self._last = self._last, _NEWS.get(event)
            if self._last is Connection.FAILED and not self._was_ended(value):
                self._last = Connection.UNANSWERED
            if self._last is not None:
                found.append(self._last)
            elif last is Connection.UP:
                found.append(Connection.DOWN)
            elif last is None:  # it ended before there was a handshake that could have failed
                found.append(Connection.STRANGE)
        return found

    def _was_ended(self, error: int) -> bool:
        """Return whether the other side has ended the handshake; if time did, the error may be any old one."""
        return error in HUNG_UP and time.monotonic() - self._begun < PATIENT

    def flow(self) -> Flow:
        """Return how the connection gets on; of socket files there is nothing to tell."""
        if self.monitor is None:
            return Flow.FLOWS
        if self._fd < 0:
            return Flow.DOWN
        return Flow.STALLS if _is_unconfirmed(self._fd) else Flow.FLOWS

    def redial(self) -> None:
        """Give up the connection for another, as if it had broken."""
        self.broken = True
        self._fd = -1
        self._poller.used(self.socket)
        self.socket.disconnect(self.endpoint)
        self.socket.connect(self.endpoint)

    def close(self) -> None:
        """Close the socket, with whatever waits; only what was sent last is given a moment."""
        self.closed = True
        self._pending.clear()
        self.joiner = None
        if self.monitor is not None:
            self.socket.disable_monitor()
            self.monitor.close(0)
            self.monitor = None
        self.socket.close(self.linger)

    def __repr__(self) -> str:
        state = "ready" if self.ready else "connecting"
        return f"<Link to node {self.rank}, {state}, epoch {self.epoch:x}>"


def _is_unconfirmed(fd: int) -> bool:
    """Return whether a connection has sent something again, and has no answer to it.

    The descriptor is ZeroMQ's, which may close it at any time: what we hear then is an error, or of another connection,
    and no more than a dial too many comes of it. We ask a copy, so that nothing of ours can close theirs.
    """
    try:
        copy = os.dup(fd)
    except OSError:
        return False
    try:
        end = socket(AF_INET, SOCK_STREAM, 0, copy)
    except OSError:  # by now it is no socket
        os.close(copy)
        return False
    with closing(end):
        try:
            return end.getsockopt(IPPROTO_TCP, TCP_INFO, RETRANSMITS + 1)[RETRANSMITS] > 0
        except OSError:
            return False
