"""Bytes that make no sense: from strangers, and from a client that was admitted (F38, F39, T7)."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import pytest

from skyward.transport.keys import Client, KeyPair, make_pair, write_clients
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.messages import Refused
from skyward_node.access import CLIENTS
from tests.fuzz.mutations import Garbage
from tests.rules.work import BUSY, until
from tests.security.hostile import Attack, babble, passes, shout
from tests.security.nodes import PATIENCE
from tests.security.timing import percentile, shown, timed
from tests.security.work import mark, plus

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.security.conftest import Connect, Start
    from tests.security.nodes import Node
    from tests.security.peers import Peer

MB: Final = 2**20
GROWTH: Final = 10 * MB  # bytes that a node may grow
SOON: Final = 1.0 * BUSY  # seconds within which a client is served
ABOUT: Final = 2  # descriptors more or less
COUNTS: Final = [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)]


def serve_under(attack: Attack, honest: Peer) -> list[float]:
    """Call until an attack is over; return how long each call took."""
    times: list[float] = []
    while attack.is_alive():
        times.append(timed(lambda: honest.call(plus, 1, 2)))
    attack.end()
    return times


class Bill:
    """What an attack has cost a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._memory, self._descriptors = node.memory(), node.descriptors()
        self._began = time.monotonic()

    def check(self, what: str, times: list[float]) -> None:
        """Compare with the start."""
        node, seconds = self._node, time.monotonic() - self._began
        until(lambda: abs(node.descriptors() - self._descriptors) <= ABOUT, PATIENCE)
        growth = node.memory() - self._memory
        print(f"{what} in {seconds:.0f} s: growth {growth / MB:.1f} MiB; {len(times)} calls of another: {shown(times)}")
        assert growth < GROWTH
        assert percentile(times, 99) < SOON


@pytest.mark.rule("F38")
@pytest.mark.rule("T7")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("count", COUNTS)
def test_garbage_of_strangers_changes_nothing(
    start_node: Start, connect: Connect, keys: KeyPair, count: int, chance: random.Random
) -> None:
    """Nothing gets in, others are served, and memory and descriptors are as before."""
    node = start_node(keys)
    honest = connect(node, keys)
    honest.hello()
    honest.call(plus, 1, 2)
    node.wait_logged("session opened")  # with which what logs is imported, and is no part of the bill
    bill = Bill(node)
    seed = chance.randrange(10**9)
    times = serve_under(Attack(lambda: shout(node.port, count, seed)), honest)
    bill.check(f"{count} messages of strangers", times)
    assert "refused" not in node.log()
    assert node.log().count("session opened") == 1


@pytest.mark.rule("F39")
@pytest.mark.rule("T7")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("count", COUNTS)
def test_garbage_of_a_client_changes_nothing(
    start_node: Start, connect: Connect, keys: KeyPair, short_path: Path, count: int, chance: random.Random
) -> None:
    """An admitted client that sends nearly good messages of every type harms nobody, and leaves nothing."""
    hostile = make_pair()
    write_clients(str(short_path / CLIENTS), [Client(hostile.public, "hostile")])
    node = start_node(keys, keys=str(short_path), concurrency=2, log_level="error")
    honest, attacker = connect(node, keys), connect(node, hostile)
    honest.hello()
    for _ in range(10):
        honest.call(plus, 1, 2)
    bill = Bill(node)
    attacker.hello()
    seed = chance.randrange(10**9)
    times = serve_under(Attack(lambda: babble(attacker, count, seed)), honest)
    attacker.socket.close(0)
    write_clients(str(short_path / CLIENTS), [])  # which ends all sessions that it has made
    bill.check(f"{count} messages of a client", times)
    assert honest.call(plus, 3, 4) == 7


def test_garbage_is_nearly_right() -> None:
    """At least a tenth of it passes the first frame, and of every type some does."""
    messages = list(itertools.islice(Garbage(1), 20_000))
    passed = list(filter(passes, messages))
    assert len(passed) > len(messages) / 10
    assert {frames[0][1] for frames in passed} >= {kind.TYPE for kind in CLIENT_MESSAGES}


@pytest.mark.rule("F39")
@pytest.mark.parametrize("garbage", [[b""], [b"\x01\x02rubbish"], [b"\xff" * 100], [b"\x01\x06\x93", b"x"]])
def test_client_is_dropped_at_its_first_garbage(
    start_node: Start, connect: Connect, short_path: Path, garbage: list[bytes]
) -> None:
    """It is told once, what it sends behind that is not looked into, and others go on."""
    pairs = make_pair(), make_pair()
    node = start_node(*pairs)
    hostile, honest = (connect(node, pair) for pair in pairs)
    hostile.hello()
    honest.hello()
    message, body = hostile.tasks(mark, (str(short_path / "mark"),))
    hostile.send_frames(garbage)
    for _ in range(10):
        hostile.send(message, body)
    assert hostile.wait_for(Refused).code in {"protocol", "version"}
    assert honest.call(plus, 1, 2) == 3
    assert not (short_path / "mark").exists()
    assert sum(isinstance(said, Refused) for said in hostile.log) == 1
