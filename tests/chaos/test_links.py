"""Links that are long, slow, lossy, broken or forgotten (F23 to F27, T3)."""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.chaos.checker import check
from tests.chaos.deeds import deed, nap
from tests.chaos.hosts import PORT
from tests.chaos.losses import BEAT, BUSY, DEAD, beats, causes, held, provider, second_link, summary, typical
from tests.chaos.operations import Log, read
from tests.chaos.proxy import Proxy, Way
from tests.rules.work import LONG, echo, let_go, until

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.chaos.hosts import Host, Net

HOUR: Final = float(os.environ.get("SKYWARD_SECONDS") or 3600)  # seconds of the long forms
FAR: Final = Way(delay=0.2, jitter=0.1)
SHARE: Final = 0.05  # of the packets that are lost on a lossy link
ROUTER_BEAT: Final = 1.0  # seconds; so much may pass before anything is said that a forgetful router can swallow
LOSSY_BEAT: Final = 1.0  # seconds; in an hour some are lost so often that three would not do, in seconds hardly


def through(proxy: Proxy, host: Host) -> sky.Static:
    """Return the node of a host, reached by a proxy."""
    return sky.Static([f"tcp://127.0.0.1:{proxy.port} {host.node.key}"])


@pytest.mark.rule("F23")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("breaks", [9, pytest.param(1_000, marks=pytest.mark.slow)])
def test_broken_connections_lose_nothing(net: Net, tmp_path: Path, chance: random.Random, breaks: int) -> None:
    """Reset or closed in one direction in the middle of frames, again and again: each task runs once, and is told."""
    (host,) = net.add(1, "--concurrency", "2")
    client = Log(str(tmp_path), "client")
    over = threading.Event()
    with Proxy(host.ip, PORT, Way(delay=0.002, piece=1_000), chance.randrange(2**32)) as proxy:

        def break_connections() -> None:
            done = 0
            while done < breaks and not over.wait(chance.uniform(0.05, 0.3)):
                kind = done % 3
                done += (proxy.reset() if kind == 0 else proxy.half_close(to_client=kind == 1)) > 0
            over.set()

        with sky.Compute(through(proxy, host), retries=0, heartbeat=1.0) as pool:
            breaker = threading.Thread(target=break_connections)
            breaker.start()
            number = 0
            try:
                while not over.is_set():
                    tokens = [secrets.token_hex(4) * 100 for _ in range(40)]
                    for offset, token in enumerate(tokens):
                        client.note("submitted", number + offset, f"{token} 1")
                    calls = [deed(str(tmp_path), number + offset, token, 0.0) for offset, token in enumerate(tokens)]
                    for offset, token in (sky.gather(*calls, stream=True) >> pool).indexed():
                        client.note("delivered", number + offset, token)
                    number += len(calls)
            finally:
                over.set()
                breaker.join()
            assert causes(pool) == []
            assert pool.snapshot().rerun == 0
    client.close()
    assert check(read(str(tmp_path))) == []
    assert host.node.events().count("session opened") == 1
    print(f"{breaks} breaks, {number} tasks")


@pytest.mark.rule("F24")
@pytest.mark.rule("T3")
@pytest.mark.rule("R36")
@pytest.mark.timeout(HOUR + 120)
@pytest.mark.parametrize(
    ("beat", "lasts"), [(LOSSY_BEAT, 1.5 * LOSSY_BEAT), pytest.param(5.0, HOUR, marks=pytest.mark.slow)]
)
def test_lossy_link_kills_nobody(net: Net, beat: float, lasts: float) -> None:
    """One packet in twenty is lost, an answer takes 400 ms, give or take 200: it is slow, and the node is not dead."""
    (host,) = net.add(1)
    with Proxy(host.ip, PORT, FAR) as proxy, sky.Compute(through(proxy, host), heartbeat=beat, retries=0) as pool:
        host.lose(SHARE)
        ends = time.monotonic() + lasts
        count = 0
        while time.monotonic() < ends:
            # What takes its time leaves the heartbeats alone on their way.
            assert nap(min(lasts, 3 * beat)) >> pool == min(lasts, 3 * beat)
            assert echo(bytes(20_000)) >> pool == bytes(20_000)
            count += 2
        assert causes(pool) == []
        assert pool.snapshot().rerun == 0
    assert host.node.events().count("session opened") == 1
    print(f"{lasts:g} s, {count} tasks")


@pytest.mark.rule("F25")
@pytest.mark.rule("T3")
@pytest.mark.rule("R36")
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("size", "bits"), [(500_000, 3_000_000), pytest.param(10**9, 16_000_000, marks=pytest.mark.slow)]
)
def test_slow_link_kills_nobody(net: Net, size: int, bits: int) -> None:
    """What takes many times as long as silence may last goes there and back: heartbeats find their way beside it."""
    (host,) = net.add(1)
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        until(lambda: pool._engine is not None and pool._engine.crew.mates[0].control is not None)
        host.slow_down(bits)
        began = time.monotonic()
        data = os.urandom(size)
        assert echo(data) >> pool == data
        took = time.monotonic() - began
        assert took > 2 * 8 * size / bits * 0.9, "it was no slow link"
        assert took > 2 * DEAD
        assert causes(pool) == []
    print(f"{size / 1e6:g} MB there and back at {bits / 1e6:g} Mbit/s took {took:.1f} s")


@pytest.mark.rule("F27")
@pytest.mark.rule("R36")
def test_node_whose_connections_were_forgotten_is_back(net: Net, tmp_path: Path) -> None:
    """All connections vanish, new ones pass: there are new ones before the node counts as dead, and nothing is lost."""
    (host,) = net.add(1)
    with sky.Compute(provider([host]), heartbeat=ROUTER_BEAT, retries=0) as pool:
        future = held(pool, tmp_path, "a")
        until(lambda: beats(pool))
        began = time.monotonic()
        host.forget(*host.ports())
        let_go(tmp_path, "a")
        assert future.result(LONG) == "a"
        took = time.monotonic() - began
        assert causes(pool) == []
    assert host.node.events().count("session opened") == 1
    assert took < 3 * ROUTER_BEAT
    print(f"result after {took:.3f} s of at most {3 * ROUTER_BEAT:g} s")


@pytest.mark.rule("F27")
@pytest.mark.rule("R37")
@pytest.mark.parametrize("idle", ["client", "node"])
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_idle_connection_that_was_forgotten_loses_nothing(net: Net, tmp_path: Path, idle: str, rounds: int) -> None:
    """The heartbeats' own connection lives on, that of the data does not, and whoever speaks next finds out."""
    (host,) = net.add(1)
    times: list[float] = []
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        until(lambda: beats(pool))
        for number in range(rounds):
            assert echo(bytes(100_000)) >> pool
            future = held(pool, tmp_path, str(number)) if idle == "client" else None
            host.forget(host.ports()[0])
            began = time.monotonic()
            if future is None:
                assert (echo(number) > pool).result(LONG) == number
            else:
                let_go(tmp_path, str(number))
                assert future.result(LONG) == str(number)
            times.append(time.monotonic() - began)
            assert echo(bytes(200_000 * (number + 1))) >> pool  # more than the connection before it had
        assert causes(pool) == []
    assert host.node.events().count("session opened") == 1
    print(f"{idle} was idle: {summary(times, DEAD)}")
    assert typical(times) < DEAD
    assert max(times) < DEAD + BUSY


@pytest.mark.rule("F27")
@pytest.mark.rule("R36")
@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_heartbeats_whose_connection_was_forgotten_find_another(net: Net, rounds: int) -> None:
    """Meanwhile the data's own connection shows that the node lives: it is not lost."""
    (host,) = net.add(1)
    times: list[float] = []
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        assert echo(bytes(100_000)) >> pool
        for _ in range(rounds):
            until(lambda: beats(pool))
            known = host.ports()
            control = second_link(pool)
            host.forget(*known[1:])
            began = time.monotonic()
            until(lambda: second_link(pool) is not control and beats(pool))  # noqa: B023 - it is over before the next
            times.append(time.monotonic() - began)
            assert causes(pool) == []
            assert echo(1) >> pool == 1
    assert host.node.events().count("session opened") == 1
    print(summary(times, DEAD))
    assert typical(times) < DEAD
    assert max(times) < DEAD + BUSY
