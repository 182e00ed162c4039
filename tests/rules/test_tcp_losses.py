"""Nodes reached over TCP that die, fall silent, or only seem to: there is no pid to watch, as on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.rules.byhand import ByHand, environment
from tests.rules.processes import script
from tests.rules.proxy import Cutting
from tests.rules.work import echo, fibonacci, hold, let_go, note, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rules.proxy import Proxy

    Start = Callable[..., ByHand]
    MakeProxy = Callable[..., Proxy]

LONG_BEAT: Final = 30.0  # seconds: what is noticed sooner was not noticed by silence
BEAT: Final = 0.25  # seconds
DEAD: Final = 3 * BEAT
BUSY: Final = 1.0  # seconds more, on a machine that does other things


def busy_node(pool: sky.Compute, nodes: list[ByHand]) -> ByHand:
    """Return the node that runs something."""
    (endpoint,) = [node.endpoint for node in pool.snapshot().nodes if node.in_flight]
    return next(node for node in nodes if node.endpoint == endpoint)


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
def test_killed_daemon_is_noticed_at_once(by_hand: Start, tmp_path: Path) -> None:
    """Its connection breaks, nobody listens at its port: no heartbeat is waited for. Its task runs elsewhere."""
    nodes = [by_hand(), by_hand()]
    with sky.Compute(sky.Static([node.address for node in nodes]), heartbeat=LONG_BEAT) as pool:
        future = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        lost = busy_node(pool, nodes)
        (tmp_path / "a-runs").unlink()
        lost.process.kill()
        killed = time.monotonic()
        runs(tmp_path, "a")
        assert time.monotonic() - killed < BUSY
        let_go(tmp_path, "a")
        assert future.result() == "a"
        assert pool.snapshot().rerun == 1
        assert causes(pool)[0].endswith("its connection broke, and nobody listens there any more")


def causes(pool: sky.Compute) -> list[str]:
    """Return why nodes were lost."""
    assert pool._engine is not None
    return list(pool._engine.crew.membership.causes)


@pytest.mark.rule("R36")
@pytest.mark.rule("F9")
def test_restarted_daemon_is_another_node(by_hand: Start, tmp_path: Path) -> None:
    """It is back at its port, with its key, and given away by its epoch: what the old one ran is lost."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address]), heartbeat=LONG_BEAT, retries=0) as pool:
        held = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        node.process.kill()
        node.end()
        again = by_hand(bind=node.endpoint, directory=node.keys)
        assert again.address == node.address
        with pytest.raises(sky.NodeLostError):
            held.result()
        assert echo(1) >> pool == 1
        assert "session opened" in again.events()


@pytest.mark.rule("R36")
@pytest.mark.rule("F9")
def test_daemon_that_restarts_unseen_is_told_by_its_epoch(by_hand: Start, tmp_path: Path) -> None:
    """Nobody was looking when its port was closed: the handshake tells, and what the old one ran is not run again."""
    node = by_hand()
    client = script(
        f"""
import sys
sys.path[:0] = {environment()["PYTHONPATH"].split(os.pathsep)!r}
import skyward as sky
from tests.rules.work import echo, hold
with sky.Compute(sky.Static([{node.address!r}]), heartbeat={LONG_BEAT}, retries=0) as pool:
    try:
        hold({str(tmp_path)!r}, "a") >> pool
    except sky.NodeLostError as error:
        print(error.reason, flush=True)
    print(echo("well") >> pool)
""",
        cwd=tmp_path,
    )
    try:
        runs(tmp_path, "a")
        (tmp_path / "a-runs").unlink()
        client.send_signal(signal.SIGSTOP)
        node.process.kill()
        node.end()
        by_hand(bind=node.endpoint, directory=node.keys)
    finally:
        client.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        out, err = client.communicate(timeout=60)
    assert out.splitlines() == ["it was restarted", "well"], err
    assert time.monotonic() - woken < LONG_BEAT
    assert not (tmp_path / "a-runs").exists()


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_stopped_daemon_is_lost_after_three_heartbeats(by_hand: Start, tmp_path: Path) -> None:
    """Its port still takes connections: only its silence tells, and not sooner."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address]), heartbeat=BEAT, retries=0) as pool:
        future = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        os.kill(node.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(sky.NodeLostError, match=f"it was silent for {DEAD:g} s"):
            future.result()
        assert DEAD - BEAT < time.monotonic() - stopped < DEAD + BEAT + BUSY
        os.kill(node.pid, signal.SIGCONT)


@pytest.mark.rule("R36")
@pytest.mark.rule("R51")
@pytest.mark.rule("F8")
def test_daemon_that_goes_on_takes_part_again(by_hand: Start, tmp_path: Path) -> None:
    """What it ran for us is stopped, its slot is free, and it is no worse than a new node."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address]), heartbeat=BEAT, retries=0) as pool:
        assert [echo(i) >> pool for i in range(3)] == [0, 1, 2]
        lost = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        os.kill(node.pid, signal.SIGSTOP)
        with pytest.raises(sky.NodeLostError):
            lost.result()
        os.kill(node.pid, signal.SIGCONT)
        assert [echo(i) >> pool for i in range(20)] == list(range(20))
        assert pool.snapshot().rerun == 0


@pytest.mark.rule("R36")
@pytest.mark.rule("F3")
def test_client_that_was_stopped_blames_nobody(by_hand: Start, tmp_path: Path) -> None:
    """It has observed nothing meanwhile: a node that was stopped, too, and comes back a little later, has its time."""
    beat = 1.0
    node = by_hand()
    process = script(
        f"""
import sys
sys.path[:0] = {environment()["PYTHONPATH"].split(os.pathsep)!r}
import skyward as sky
from tests.rules.work import hold
with sky.Compute(sky.Static([{node.address!r}]), heartbeat={beat}, retries=0) as pool:
    print(hold({str(tmp_path)!r}, "a") >> pool, flush=True)
    engine = pool._engine
    print(pool.snapshot().rerun, list(engine.crew.membership.causes), flush=True)
""",
        cwd=tmp_path,
    )
    try:
        runs(tmp_path, "a")
        for pid in (process.pid, node.pid):
            os.kill(pid, signal.SIGSTOP)
        let_go(tmp_path, "a")
        time.sleep(4 * beat)  # how long they are stopped is the experiment: longer than makes a node dead
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.3 * beat)  # shorter than that
    finally:
        for pid in (node.pid, process.pid):
            os.kill(pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["a", "0 []"], err
    assert node.events().count("session opened") == 1


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("F23")
def test_connections_that_break_lose_nothing_and_repeat_nothing(
    by_hand: Start, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    """Reset at any moment while tasks that may not run twice come and go: each runs once, and has its result."""
    nodes = [by_hand("--concurrency", "2") for _ in range(2)]
    proxies = [make_proxy(node.port) for node in nodes]
    addresses = [f"tcp://127.0.0.1:{proxy.port} {node.key}" for proxy, node in zip(proxies, nodes, strict=True)]
    cutting = Cutting(lambda _: sum(proxy.cut() for proxy in proxies), lambda: 0.15)
    with sky.Compute(sky.Static(addresses), retries=0, heartbeat=1.0) as pool:
        with cutting:
            sent = 0
            while cutting.count < 20:
                calls = [note(str(tmp_path), str(sent + i)) for i in range(100)]
                assert sky.gather(*calls) >> pool == tuple(str(sent + i) for i in range(100))
                sent += len(calls)
        assert pool.snapshot().rerun == 0
        assert causes(pool) == []
    runs_of = Counter({path.name: len(path.read_text()) for path in tmp_path.iterdir()})
    assert len(runs_of) == sent
    assert set(runs_of.values()) == {1}
    assert all(node.events().count("session opened") == 1 for node in nodes)


@pytest.mark.rule("R22")
@pytest.mark.rule("R37")
@pytest.mark.rule("F23")
def test_connections_that_break_lose_no_call_of_a_task(by_hand: Start, make_proxy: MakeProxy) -> None:
    """Calls go to the client and answers come back by the same connections: each counts once."""
    nodes = [by_hand() for _ in range(2)]
    proxies = [make_proxy(node.port) for node in nodes]
    addresses = [f"tcp://127.0.0.1:{proxy.port} {node.key}" for proxy, node in zip(proxies, nodes, strict=True)]
    cutting = Cutting(lambda _: sum(proxy.cut() for proxy in proxies), lambda: 0.2)
    with sky.Compute(sky.Static(addresses), heartbeat=1.0) as pool:
        assert fibonacci(5) >> pool == 5
        with cutting:
            while cutting.count < 10:
                assert fibonacci(7) >> pool == 13
        assert pool.snapshot().rerun == 0
        assert causes(pool) == []


@pytest.mark.rule("R36")
@pytest.mark.rule("F25")
def test_slow_link_does_not_hold_up_heartbeats(by_hand: Start, make_proxy: MakeProxy) -> None:
    """They have a connection of their own: what takes twice as long as silence may last loses no node."""
    node = by_hand()
    proxy = make_proxy(node.port, rate=6e6)
    address = f"tcp://127.0.0.1:{proxy.port} {node.key}"
    with sky.Compute(sky.Static([address]), heartbeat=BEAT, retries=0) as pool:
        until(lambda: pool._engine is not None and pool._engine.crew.mates[0].control is not None)
        began = time.monotonic()
        assert echo(bytes(10_000_000)) >> pool == bytes(10_000_000)
        assert time.monotonic() - began > 2 * 2 * DEAD, "it was no slow link"
        assert causes(pool) == []
        assert place() @ pool
