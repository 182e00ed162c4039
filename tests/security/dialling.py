"""Dialling in by hand, with the right keys or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from skyward.transport.keys import make_pair
from skyward.transport.sockets import HANDSHAKES
from tests.security.nodes import PATIENCE
from tests.security.peers import events_of

if TYPE_CHECKING:
    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context, Socket

ADMITTED: Final = "admitted"
WRONG: Final = ("NULL", "PLAIN", "unlisted key", "wrong server key")
WELCOME: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)


def dial(context: Context, address: tuple[str, str], kind: str, keys: KeyPair, message: bytes) -> int:
    """Dial in with a handshake of a kind, and a message that goes out as soon as it may; return how it ended.

    ``address`` are the endpoint and the key of a node; it must answer the message of a client that it admits.
    """
    while not (event := _dial_once(context, address, kind, keys, message)):
        pass
    return event


def _dial_once(context: Context, address: tuple[str, str], kind: str, keys: KeyPair, message: bytes) -> int:
    """Dial in; return how the handshake ended, or 0 if it did so before the message was there to be sent."""
    endpoint, key = address
    client = context.socket(zmq.DEALER)
    client.linger = 0
    _use(client, kind, keys, key)
    with events_of(client, HANDSHAKES) as events:
        client.connect(endpoint)
        queued = _send(client, message)
        assert events.poll(PATIENCE * 1_000), f"a handshake ({kind}) does not end"
        event = int(recv_monitor_message(events)["event"])
    assert event != WELCOME or client.poll(PATIENCE * 1_000), "the node does not answer"
    client.close(0)
    return event if queued else 0


def _use(client: Socket, kind: str, keys: KeyPair, key: str) -> None:
    """Give a socket the mechanism and the keys of a kind."""
    match kind:
        case "NULL":
            pass
        case "PLAIN":
            client.plain_username, client.plain_password = b"skyward", b"skyward"
        case _:
            pair = make_pair() if kind == "unlisted key" else keys
            server = make_pair().public if kind == "wrong server key" else key
            client.curve_publickey, client.curve_secretkey = pair.public.encode(), pair.secret.encode()
            client.curve_serverkey = server.encode()


def _send(client: Socket, message: bytes) -> bool:
    """Send a message; return False if the handshake has failed: ZeroMQ does not dial again, and would wait for ever."""
    try:
        client.send(message, zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True
