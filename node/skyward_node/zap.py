"""Who may connect: the handler that ZeroMQ asks about every CURVE handshake (RFC 27), and its proof.

CURVE by itself encrypts and lets everybody in. What keeps strangers out is this handler, and the settings of
`transport.sockets.secure_router`, which make ZeroMQ refuse whoever no handler has admitted: should it die,
nobody enters. It answers in the daemon's own loop, so it cannot die without the daemon.

`refuses_strangers` dials in with a random key before anyone else can: a library that was built differently, or
a mistake of ours, must not become an open door.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils import z85

from skyward.errors import ConfigError
from skyward.transport.keys import make_pair
from skyward.transport.sockets import DOMAIN, FAILED_HANDSHAKE, HANDSHAKES, make_dealer, read_event, use_family

if TYPE_CHECKING:
    from collections.abc import Collection

    from skyward.transport.sockets import Context, Socket

ENDPOINT: Final = "inproc://zeromq.zap.01"  # where ZeroMQ asks, by RFC 27
VERSION: Final = b"1.0"
READS: Final = 64  # requests answered in one turn: a flood of strangers holds nobody up
PROOF: Final = 1.0  # seconds the proof may take


class Zap:
    """Admits the clients whose public keys it was given."""

    def __init__(self, context: Context, admitted: Collection[str] = ()) -> None:
        self.admitted = frozenset(admitted)
        self.socket: Socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def serve(self) -> None:
        """Answer what ZeroMQ has asked since the last time."""
        try:
            for _ in range(READS):
                self._answer(self.socket.recv_multipart(zmq.DONTWAIT))
        except zmq.Again:
            pass

    def _answer(self, frames: list[bytes]) -> None:
        if len(frames) < 4:
            return  # no request: there is nothing that an answer could belong to
        *envelope, version, request = frames[:4]
        user = who(frames[4:], self.admitted) if version == VERSION else ""
        status, text = (b"200", b"OK") if user else (b"400", b"this key is not admitted")
        self.socket.send_multipart([*envelope, VERSION, request, status, text, user.encode("ascii"), b""])

    def close(self) -> None:
        """Admit nobody any more."""
        self.socket.close(0)


def who(question: list[bytes], admitted: Collection[str]) -> str:
    """Return the key of the client that a request (domain, address, identity, mechanism, key) is about.

    An empty string if it is not admitted. PURE.
    """
    if len(question) != 5:
        return ""
    domain, _, _, mechanism, credentials = question
    if domain != DOMAIN or mechanism != b"CURVE" or len(credentials) != 32:
        return ""
    key = z85.encode(credentials).decode("ascii")
    return key if key in admitted else ""


def refuses_strangers(context: Context, endpoint: str, server_key: str, zap: Zap) -> None:
    """Dial in with a random key; raises `ConfigError` unless that is refused for the key's sake."""
    dealer = make_dealer(context, keys=make_pair(), server_key=server_key)
    monitor = dealer.get_monitor_socket(HANDSHAKES)
    try:
        use_family(dealer, endpoint)
        dealer.connect(endpoint.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:"))
        event = _first_event(monitor, zap)
    finally:
        dealer.disable_monitor()
        monitor.close(0)
        dealer.close(0)
    if event != FAILED_HANDSHAKE:
        raise ConfigError(
            f"cannot serve at {endpoint}: a client with an unknown key was not refused (event {event:#x}); "
            "this build of ZeroMQ does not protect the node"
        )


def _first_event(monitor: Socket, zap: Zap) -> int:
    """Return how the handshake ended; 0 if it did not in time."""
    poller = zmq.Poller()
    poller.register(monitor, zmq.POLLIN)
    poller.register(zap.socket, zmq.POLLIN)
    deadline = time.monotonic() + PROOF
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poller.poll(int(left * 1000) + 1))
        if zap.socket in ready:
            zap.serve()
        if monitor in ready:
            return read_event(monitor)[0]
    return 0
