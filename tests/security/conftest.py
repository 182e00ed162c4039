"""Nodes behind CURVE, clients that they admit, and keys."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from skyward.transport.keys import KeyPair, make_pair, read_or_make_pair
from tests.security.nodes import Node
from tests.security.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skyward.transport.sockets import Context

    Start = Callable[..., Node]
    Connect = Callable[..., Peer]


@pytest.fixture
def keys() -> KeyPair:
    """Return the keys of a client."""
    return make_pair()


@pytest.fixture
def key_file(short_path: Path) -> tuple[str, KeyPair]:
    """Return a file with the keys of a client, and the keys."""
    path = str(short_path / "client.key")
    return path, read_or_make_pair(path)


@pytest.fixture
def start_node() -> Iterator[Callable[..., Node]]:
    """Return a function that starts a node that admits clients, and returns it once it serves."""
    with ExitStack() as stack:

        def start(*clients: KeyPair, ready: bool = True, **options: Any) -> Node:
            node = Node(*clients, **options)
            stack.callback(node.close)
            if ready:
                node.wait_ready()
            return node

        yield start


@pytest.fixture
def context() -> Iterator[Context]:
    """Return a ZeroMQ context whose sockets are closed at the end, whatever they hold."""
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def connect(context: Context) -> Iterator[Callable[..., Peer]]:
    """Return a function that makes a client of a node, which has not said hello."""
    with ExitStack() as stack:

        def connect(node: Node, keys: KeyPair, **options: Any) -> Peer:
            peer = Peer(context, node, keys, **options)
            stack.callback(peer.socket.close, 0)
            return peer

        yield connect


@pytest.fixture
def chance() -> random.Random:
    """Return a source of random numbers whose seed is printed; ``SKYWARD_SEED`` sets it."""
    seed = int(os.environ.get("SKYWARD_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SKYWARD_SEED={seed}")
    return random.Random(seed)
