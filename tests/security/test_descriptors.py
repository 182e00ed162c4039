"""Descriptors run out, at a node or at its client: that is said, and passes (F61)."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from skyward.transport.keys import KeyPair, make_pair
from tests.rules.processes import script
from tests.rules.work import until
from tests.security.nodes import PATIENCE
from tests.security.work import mark_and_hold, plus

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.conftest import Connect, Start

FEW: Final = "-n 64"
SILENT: Final = 100  # connections, more than there are descriptors
WORKERS: Final = 12  # descriptors of two workers, which may come and go


@pytest.mark.rule("F61")
def test_node_without_descriptors_says_so_and_recovers(start_node: Start, connect: Connect, keys: KeyPair) -> None:
    """Who is linked is served on; who comes is served once silent connections have had their time."""
    node = start_node(keys, ulimit=FEW)
    regular, late = connect(node, keys), connect(node, keys)
    regular.hello()
    assert regular.call(plus, 1, 2) == 3
    before = node.descriptors()
    late.socket.disconnect(node.endpoint)
    with ExitStack() as silent:
        for _ in range(SILENT):
            silent.enter_context(socket.create_connection(("127.0.0.1", node.port), PATIENCE))
        node.wait_logged("no descriptors are left")
        assert regular.call(plus, 3, 4) == 7
        late.socket.connect(node.endpoint)
        late.hello()
        assert late.call(plus, 5, 6) == 11
    until(lambda: node.descriptors() <= before + WORKERS, PATIENCE)
    assert node.log().count("no descriptors are left") == 1
    again = connect(node, keys)
    again.hello()


@pytest.mark.rule("F61")
def test_node_that_cannot_hold_its_workers_does_not_start(start_node: Start, keys: KeyPair) -> None:
    """The error says how many descriptors are needed, and how to get them."""
    node = start_node(keys, ulimit=FEW, concurrency=30, ready=False)
    assert "concurrency=30 takes 312 open files, and the system allows 64" in node.said()["error"]
    assert node.process.wait(PATIENCE) == 2


@pytest.mark.rule("F61")
def test_workers_leave_descriptors_to_clients(start_node: Start, connect: Connect, short_path: Path) -> None:
    """Where not all workers fit that could be used, the node says so, and still takes connections."""
    clients = [make_pair() for _ in range(3)]
    node = start_node(*clients, ulimit="-n 82", concurrency=4)
    peers = [connect(node, pair) for pair in clients]
    for peer in peers[:2]:
        peer.hello()
        ids = peer.submit(plus, *[(n, 1) for n in range(8)])
        assert [peer.value(id) for id in ids] == list(range(1, 9))
    for number, peer in enumerate(peers[:2]):
        peer.submit(mark_and_hold, *[(str(short_path / f"{number}-{n}"),) for n in range(2)])
    node.wait_logged("cannot start a worker")
    peers[2].hello()
    for number in range(2):
        for n in range(2):
            (short_path / f"{number}-{n}-go").touch()
    assert peers[2].call(plus, 1, 2) == 3


CLIENT: Final = """
import json, os, resource
import skyward as sky

@sky.function
def double(x):
    return 2 * x

def attempt():
    provider = sky.Static([(os.environ["NODE"], os.environ["KEY"])], key=os.environ["FILE"])
    with sky.Compute(provider) as pool:
        return double(21) >> pool

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
said = []
for limit in [*range(6, 22, 2), hard]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        said.append(attempt())
    except (sky.ProvisionError, OSError) as error:
        said.append(str(error))
print(json.dumps(said))
"""


@pytest.mark.rule("F61")
def test_client_without_descriptors_is_told_and_recovers(
    start_node: Start, key_file: tuple[str, KeyPair], short_path: Path
) -> None:
    """However few there are, opening a pool works or raises; ZeroMQ ends no process, and nothing hangs."""
    path, keys = key_file
    node = start_node(keys)
    names = dict(zip(("NODE", "KEY", "FILE"), (*node.address, path), strict=True))
    client = script(CLIENT, cwd=short_path, env={**names})
    output, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, errors
    said = json.loads(output)
    assert all(word == 42 or "Too many open files" in word for word in said)
    assert said[0] != 42
    assert said[-1] == 42
