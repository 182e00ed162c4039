"""Handshakes that are wrong in every way: none gets a message to the application (T10)."""

from __future__ import annotations

import os
import platform
import socket
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from skyward.wire.codec import encode
from skyward.wire.messages import PROTOCOL, Hello
from tests.rules.work import add
from tests.security.dialling import ADMITTED, WELCOME, WRONG, dial
from tests.security.nodes import PATIENCE
from tests.security.proxy import Proxy, handshake_length
from tests.security.work import plus

if TYPE_CHECKING:
    import random

    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context
    from tests.security.conftest import Connect, Start
    from tests.security.nodes import Node

RAW: Final = ("truncated", "replayed")
KINDS: Final = (*WRONG, *RAW)


def hello() -> bytes:
    """Return a good first message, with a session of its own."""
    return encode(
        Hello(PROTOCOL, platform.python_version(), {}, os.urandom(16), 0, 0, 0.0, 0.25, 0.0, 0, label="bad:1")
    )


def say(node: Node, recorded: bytes, kind: str, chance: random.Random) -> None:
    """Say what an honest client has said, or the beginning of it."""
    handshake = handshake_length(recorded)
    end = chance.randrange(handshake) if kind == "truncated" else chance.randint(handshake, len(recorded))
    with socket.create_connection(("127.0.0.1", node.port), PATIENCE) as link, suppress(ConnectionError):
        link.sendall(recorded[:end])
        link.shutdown(socket.SHUT_WR)
        while link.recv(65_536):
            pass


def record(node: Node, key_file: str) -> bytes:
    """Return what an honest client says to a node in a handshake and after it."""
    with Proxy(node.port) as proxy:
        with sky.Compute(sky.Static([(proxy.endpoint, node.key)], key=key_file)) as pool:
            assert add(1, 2) >> pool == 3
        return max((bytes(connection.said) for connection in proxy.connections), key=len)


@pytest.mark.rule("T10")
@pytest.mark.rule("F33")
@pytest.mark.rule("F42")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_bad_handshake_reaches_nobody(
    start_node: Start,
    connect: Connect,
    context: Context,
    key_file: tuple[str, KeyPair],
    count: int,
    chance: random.Random,
) -> None:
    """No message of any of them gets in, and the node serves on."""
    path, keys = key_file
    node = start_node(keys)
    recorded = record(node, path)
    done = Counter[str]()
    for _ in range(count):
        kind = chance.choice(KINDS)
        done[kind] += 1
        if kind in RAW:
            say(node, recorded, kind, chance)
        else:
            assert dial(context, node.address, kind, keys, hello()) != WELCOME
    peer = connect(node, keys)
    peer.hello(label="last")
    assert peer.call(plus, 1, 2) == 3
    node.wait_logged('"client": "last"')
    assert node.log().count("session opened") == 2  # of the one that was recorded, and of the last
    assert "refused" not in node.log()
    print(", ".join(f"{number} {kind}" for kind, number in sorted(done.items())))


@pytest.mark.rule("T10")
def test_good_handshake_reaches_the_application(start_node: Start, context: Context, keys: KeyPair) -> None:
    """With the right keys the same hello opens a session: the test above is able to fail."""
    node = start_node(keys)
    assert dial(context, node.address, ADMITTED, keys, hello()) == WELCOME
