"""The two kinds of ZeroMQ socket skyward uses, made with the settings its guarantees rest on.

A client has two DEALERs per node, for data and for heartbeats; a node has one ROUTER. Settings that are
absent are so on purpose: no ROUTING_ID (the ROUTER makes one per connection, so that a half-open old connection
can never swallow a new one's messages) and no ZMTP heartbeats (they kill large frames on slow links, and do not
see a hung program; the application beats instead).

On TCP both are CURVE sockets: the DEALER knows the node's key, the ROUTER asks a handler about the client's.
There is no TCP without.

This is a driver: it opens sockets and decides nothing.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import zmq
from zmq import backend

from skyward.errors import ConfigError
from skyward.wire.messages import MAX_BUFFERS
from skyward.wire.parcels import LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.transport.keys import KeyPair
    from skyward.wire.frames import Buffer

BACKLOG: Final = 4_096  # connections that may wait for accept: more lose their first packet, and a second with it
HANDSHAKE: Final = 2_000  # ms; frees what a silent or half-open connection holds
RECONNECT_FIRST: Final = 100  # ms before the first redial: a restarted peer is found at once
RECONNECT_MOST: Final = 2_000  # ms between redials; who sees that the network is back does not wait for the next
CONNECT: Final = 3_000  # ms one dial may take; the system's two minutes would outlast a partition
STALLED: Final = 10_000  # ms that what was sent may go unconfirmed, where nobody looks (`dispatch.stalls` does)
QUEUE: Final = 1_000  # messages per connection inside ZeroMQ; bytes are bounded by the application
ZERO_COPY: Final = 65_536  # bytes: above it a copy costs more than the bookkeeping that avoids it

IO_THREADS: Final = 2  # of a context: a large frame is encrypted in one go, and holds up whatever shares its thread
BULK: Final = 1  # ZMQ_AFFINITY, a set of bits: the thread of a client's data
URGENT: Final = 2  # and of its heartbeats

MOST_FRAMES: Final = MAX_BUFFERS + 3  # routing id, header, blob, and all buffers that the protocol allows

DOMAIN: Final = b"skyward"  # of the handler that admits clients
ENFORCE_DOMAIN: Final = 93  # ZMQ_ZAP_ENFORCE_DOMAIN, which pyzmq does not name
FAILED_HANDSHAKE: Final = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)  # the node's handler has said no
HANDSHAKES: Final = int(
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

# Flags as plain numbers, and what `zmq.Socket.send` and `zmq.Poller.poll` wrap: enums and wrappers cost more than the
# work itself, on every frame.
_NOW: Final = int(zmq.DONTWAIT)
_NOW_MORE: Final = int(zmq.DONTWAIT | zmq.SNDMORE)
READABLE: Final = int(zmq.POLLIN)
WRITABLE: Final = int(zmq.POLLOUT)
_send: Final[Any] = backend.Socket.send
poll_now: Final[Any] = backend.zmq_poll  # ([(socket, events), …], 0) -> [(socket, events), …]

_EVENT: Final = struct.Struct("=Hi")  # how zmq_socket_monitor(3) packs one

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


def make_dealer(context: Context, *, keys: KeyPair | None = None, server_key: str = "") -> Socket:
    """Return a client's socket, not yet connected.

    With ``server_key`` it talks to nobody but the owner of that key, as the owner of ``keys``.
    """
    socket = context.socket(zmq.DEALER)
    _harden(socket)
    # Without IMMEDIATE messages queue for a peer that is down, and reach its next incarnation.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT)
    if server_key:
        assert keys is not None
        socket.setsockopt_string(zmq.CURVE_SERVERKEY, server_key)
        _set_keys(socket, keys)
    return socket


def make_router(context: Context, *, max_frame: int) -> Socket:
    """Return a node's socket, not yet bound. A peer that sends a frame over ``max_frame`` bytes is dropped."""
    socket = context.socket(zmq.ROUTER)
    _harden(socket)
    # Without MANDATORY a ROUTER drops silently what it cannot deliver.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame)
    return socket


def secure_router(socket: Socket, keys: KeyPair) -> None:
    """Make a node's socket talk to those only whom the handler of its domain admits.

    Raises `ConfigError` where the ZeroMQ library cannot: without the second setting CURVE lets everybody in as
    long as there is no handler.
    """
    try:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        _set_keys(socket, keys)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        socket.setsockopt(ENFORCE_DOMAIN, 1)
    except zmq.ZMQError as error:
        raise ConfigError(
            f"this build of ZeroMQ ({zmq.zmq_version()}) cannot protect TCP links: {error}; "
            "install the pyzmq wheel, which can"
        ) from error


def use_family(socket: Socket, endpoint: str) -> None:
    """Let a socket reach the endpoint if that is an IPv6 address: by itself ZeroMQ knows none."""
    if endpoint.startswith("tcp://["):
        socket.setsockopt(zmq.IPV6, 1)


def _set_keys(socket: Socket, keys: KeyPair) -> None:
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)


def _harden(socket: Socket) -> None:
    socket.setsockopt(zmq.LINGER, 0)  # never hang at exit; who wants to flush says so at close
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE)
    # A connection that was forgotten on the way, while the other one of its node lives, is replaced.
    socket.setsockopt(zmq.TCP_MAXRT, STALLED)
    socket.setsockopt(zmq.SNDHWM, QUEUE)
    socket.setsockopt(zmq.RCVHWM, QUEUE)


def read_event(monitor: Socket) -> tuple[int, int]:
    """Return the next event of a socket's monitor, and the value that comes with it.

    `zmq.utils.monitor` does the same, and imports asyncio: a tenth of the time to a first result.
    """
    event, value = _EVENT.unpack(monitor.recv_multipart()[0])
    return event, value


def send_frames(socket: Socket, frames: Sequence[Buffer]) -> None:
    """Send one message without blocking.

    A multipart message is atomic: `zmq.Again` (full) and ``EHOSTUNREACH`` (a ROUTER's peer is gone)
    come from its first frame, or not at all. Large frames are shared with ZeroMQ, not copied: they
    must not change afterwards.
    """
    *first, last = frames
    for frame in first:
        _send(socket, frame, _NOW_MORE, len(frame) < ZERO_COPY)
    _send(socket, last, _NOW, len(last) < ZERO_COPY)


def send_pair(socket: Socket, peer: bytes, frame: bytes) -> None:
    """Send a peer one small frame; as `send_frames`."""
    _send(socket, peer, _NOW_MORE, True)
    _send(socket, frame, _NOW, True)


class Reader:
    """Takes messages off a node's socket in slices, so that one of a million frames holds nobody up.

    The first two frames of a message, the peer and the header, come as bytes, the rest as writable views of the
    memory they arrived in. A message of more than ``most`` frames is cut to ``most + 1``, so that it costs no
    memory and can be told.
    """

    __slots__ = ("_frames", "_keyed", "_more", "_most", "_socket", "user")

    def __init__(self, socket: Socket, *, keyed: bool, most: int = MOST_FRAMES) -> None:
        """``keyed`` says that messages come under keys."""
        self._socket = socket
        self._keyed = keyed
        self._most = most
        self._frames: list[Buffer] = []  # of a message of which more is to be read
        self._more = False
        self.user = ""  # whose key the message came under

    def read(self, slice: int) -> list[Buffer] | None:
        """Return the next message without blocking; raises `zmq.Again` if there is none.

        None says that ``slice`` frames have been read and the message has more: the next call goes on.
        """
        receive, frames = self._socket.recv, self._frames
        if not frames:  # the next two frames belong together: a ROUTER puts the peer in front of what it has received
            peer = self._read_peer() if self._keyed else receive(_NOW)
            frame = receive(_NOW, False)
            if not frame.more:
                return [peer, frame.bytes]
            frames += peer, frame.bytes
            self._more = True
        while self._more:
            if slice <= 0:
                return None
            slice -= 1
            frame = receive(_NOW, False)
            self._more = frame.more
            if len(frames) <= self._most:
                frames.append(frame.buffer)
        self._frames = []
        return frames

    def _read_peer(self) -> bytes:
        frame = self._socket.recv(_NOW, False)
        self._note_user(frame)
        return frame.bytes

    def _note_user(self, frame: zmq.Frame) -> None:
        try:
            self.user = str(frame.get("User-Id"))
        except zmq.ZMQError:
            self.user = ""


def receive_frames(
    socket: Socket, copied: int, most: int = MOST_FRAMES, *, passing: bytes | None = None
) -> list[Buffer]:
    """Return one message without blocking; raises `zmq.Again` if there is none.

    The first ``copied`` frames come as bytes, the rest as writable memory: in that where it arrived what is long, and
    all but the header if that begins with ``passing``, as that of what is copied from there at once, or not kept.
    A message of more than ``most`` frames is cut to ``most + 1``, so that it costs no memory and can be told.

    What users let go of should not be ZeroMQ's: where that is freed pyzmq looks for signals, and an interrupt is lost.
    """
    receive = socket.recv
    frame = receive(_NOW, False)
    header = frame.bytes
    frames: list[Buffer] = [header]
    owned = LARGEST
    if passing is not None and header.startswith(passing):
        copied, owned = 1, -1
    while frame.more:
        frame = receive(_NOW, False)
        if len(frames) < copied:
            frames.append(frame.bytes)
        elif len(frames) <= most:
            frames.append(bytearray(frame.buffer) if len(frame) <= owned else frame.buffer)
    return frames
