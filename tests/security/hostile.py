"""Who sends garbage: to a port, before anybody has asked for a key, and as a client that was admitted."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.codec import Decoder
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.messages import Refused
from tests.fuzz.mutations import Garbage
from tests.security.nodes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.samples import Frames
    from tests.security.peers import Peer

AT_ONCE: Final = 500  # messages on one connection that has not proved anything: most are closed after the first
BETWEEN: Final = 20  # messages after which an admitted client says hello: else nothing of it is looked into
LAST: Final = "9.9.9"  # a version that is told back in a refusal, which so answers all that came before
SIGNATURE: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00"  # how a ZMTP 3 connection begins
READY: Final = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def greeting(mechanism: bytes) -> bytes:
    """Return the first 64 bytes of a connection."""
    return SIGNATURE + mechanism.ljust(20, b"\x00") + bytes(32)


OPENINGS: Final = (
    b"",
    b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    greeting(b"NULL") + READY,
    greeting(b"PLAIN"),
    greeting(b"CURVE"),
    greeting(b"CURVE") + b"\x04\xc8\x05HELLO\x01\x00" + bytes(192),
)


def on_the_wire(frames: Frames) -> bytes:
    """Return a message as ZMTP has it."""
    last = len(frames) - 1
    return b"".join(_frame(frame, more=number < last) for number, frame in enumerate(frames))


def _frame(frame: bytes, *, more: bool) -> bytes:
    if len(frame) < 256:
        return bytes((more, len(frame))) + frame
    return bytes((more | 2,)) + len(frame).to_bytes(8, "big") + frame


def passes(frames: Frames) -> bool:
    """Return whether a node finds nothing wrong in the first frame."""
    try:
        return _decode(frames[0]) is not None
    except ProtocolError:
        return False


_decode: Final = Decoder(CLIENT_MESSAGES).decode


class Attack(threading.Thread):
    """Does something in the background; the test asks for its error at the end."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Do it."""
        try:
            self._action()
        except BaseException as error:  # shown by the test
            self._error = error

    def end(self) -> None:
        """Wait for the end; raise what went wrong."""
        self.join()
        if self._error is not None:
            raise self._error


def shout(port: int, count: int, seed: int) -> None:
    """Send so many messages to a port, with every beginning that ZMTP knows, and some that it does not."""
    garbage = iter(Garbage(seed))
    for number in range(0, count, AT_ONCE):
        messages = itertools.islice(garbage, min(AT_ONCE, count - number))
        opening = OPENINGS[number // AT_ONCE % len(OPENINGS)]
        with socket.create_connection(("127.0.0.1", port), 10) as link, suppress(ConnectionError):
            link.sendall(opening)
            link.sendall(b"".join(map(on_the_wire, messages)))


def babble(peer: Peer, count: int, seed: int) -> None:
    """Send so many messages as a client that is admitted, and return when the node has taken in all of them."""
    garbage = iter(Garbage(seed, epoch=peer.epoch))
    for number in range(0, count, BETWEEN):
        peer.greet()
        for frames in itertools.islice(garbage, min(BETWEEN, count - number)):
            peer.socket.send_multipart(frames)
        while peer.socket.poll(0):
            peer.socket.recv_multipart()
    peer.greet(python=LAST)
    while True:
        assert peer.socket.poll(PATIENCE * 1_000), "the node does not answer any more"
        message = peer.take()
        if isinstance(message, Refused) and LAST in message.reason:
            return
