"""Networks that fall apart, in one direction or both, for a moment or for good (F19 to F22, T2)."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.chaos.checker import check
from tests.chaos.deeds import deed, gated
from tests.chaos.losses import (
    BEAT,
    BUSY,
    DEAD,
    FEW,
    PROMISED,
    beats,
    causes,
    held,
    provider,
    seconds_to_loss,
    summary,
    typical,
)
from tests.chaos.operations import Log, read
from tests.rules.work import LONG, echo, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.hosts import Net

PATIENT: Final = 1.0  # seconds: a heartbeat that leaves room for what is shorter than three
MOMENT: Final = 0.5  # seconds that a short partition lasts
LONG_BEAT: Final = 10.0  # seconds: nobody is given up
OUTAGE: Final = 1.7  # seconds, of which TCP's tries have grown so rare that the next is more than a second away
HEALED: Final = 1.0  # seconds after which it is used again


@pytest.mark.rule("F19")
@pytest.mark.rule("T2")
@pytest.mark.rule("R36")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_silent_partition_loses_the_node(net: Net, tmp_path: Path, rounds: int) -> None:
    """Nothing is refused and nothing breaks: three silent heartbeats tell, and the node is back after it heals."""
    (host,) = net.add(1)
    times: list[float] = []
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        for number in range(rounds):
            future = held(pool, tmp_path, str(number))
            times.append(seconds_to_loss(future, host.cut_off))
            assert causes(pool)[-1].endswith(f" for {DEAD:g} s")  # it was silent, or has heard nothing of us
            host.heal()
            assert echo(number) >> pool == number
    assert min(times) > DEAD - BEAT
    assert max(times) < PROMISED + BUSY
    print(f"lost after {max(times):.3f} s of at most {PROMISED:g} s, {rounds} rounds")


@pytest.mark.rule("F20")
@pytest.mark.rule("T2")
@pytest.mark.rule("R36")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_one_way_partition_loses_the_node(net: Net, tmp_path: Path, rounds: int) -> None:
    """A node that hears nothing, and one that is not heard, are lost as if nothing passed at all."""
    (host,) = net.add(1)
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        for way, strike in (("deaf", host.deafen), ("mute", host.mute)):
            times: list[float] = []
            while len(times) < rounds or (len(times) < FEW and min(times) >= PROMISED):
                until(lambda: beats(pool))
                times.append(seconds_to_loss(held(pool, tmp_path, f"{way}{len(times)}"), strike))
                host.heal()
                assert echo(way) >> pool == way
                assert DEAD - BEAT < times[-1] < PROMISED + BUSY
            print(f"{way}: lost after {summary(times, PROMISED)}")
            assert typical(times) < PROMISED


@pytest.mark.rule("T17")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_healed_network_is_used_within_a_second(net: Net, rounds: int) -> None:
    """The system would not try again for longer than that; nothing is lost, and no node was given up."""
    (host,) = net.add(1)
    times: list[float] = []
    with sky.Compute(provider([host]), heartbeat=LONG_BEAT, retries=0) as pool:
        for number in range(rounds):
            assert echo(number) >> pool == number
            host.cut_off()
            future = echo("meanwhile") > pool
            time.sleep(OUTAGE)  # how long it lasts is the experiment
            assert not future.done()
            host.heal()
            healed = time.monotonic()
            assert future.result(LONG) == "meanwhile"
            times.append(time.monotonic() - healed)
        assert causes(pool) == []
        assert pool.snapshot().rerun == 0
    assert host.node.events().count("session opened") == 1
    print(f"in use after {max(times):.3f} s, {rounds} rounds")
    assert max(times) < HEALED


@pytest.mark.rule("F8")
@pytest.mark.rule("T2")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [50])
def test_stopped_daemon_is_lost(net: Net, tmp_path: Path, rounds: int) -> None:
    """Its port still takes connections: its silence tells, as often as it happens."""
    (host,) = net.add(1)
    times: list[float] = []
    with sky.Compute(provider([host]), heartbeat=BEAT, retries=0) as pool:
        for number in range(rounds):
            future = held(pool, tmp_path, str(number))
            times.append(seconds_to_loss(future, lambda: host.send(signal.SIGSTOP)))
            host.send(signal.SIGCONT)
            assert echo(number) >> pool == number
    assert max(times) < PROMISED + BUSY
    print(f"lost after {max(times):.3f} s of at most {PROMISED:g} s, {rounds} rounds")


class Work(threading.Thread):
    """Runs deeds one after the other, on nodes of a pool, and notes what becomes of them, until told to stop."""

    def __init__(self, pool: sky.Compute, directory: Path, retries: int) -> None:
        super().__init__()
        self._pool, self._directory, self._retries = pool, str(directory), retries
        self._log = Log(self._directory, "client")
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Submit, and wait, and submit."""
        while not self._over.is_set():
            number, token = self.count, secrets.token_hex(4)
            self._log.note("submitted", number, f"{token} {self._retries + 1}")
            try:
                call = deed(self._directory, number, token, 0.005).with_retries(self._retries)
                self._log.note("delivered", number, call >> self._pool)
            except sky.SkywardError as error:
                self._log.note("failed", number, type(error).__name__)
            self.count += 1

    def stop(self) -> None:
        """Return when the last one is over."""
        self._over.set()
        self.join()
        self._log.close()


@pytest.mark.rule("F21")
@pytest.mark.rule("R37")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_short_partition_changes_nothing(net: Net, tmp_path: Path, rounds: int) -> None:
    """What is shorter than three heartbeats loses no node, fails no task, and runs none twice."""
    (host,) = net.add(1)
    with sky.Compute(provider([host]), heartbeat=PATIENT, retries=0) as pool:
        work = Work(pool, tmp_path, retries=0)
        work.start()
        for _ in range(rounds):
            before = work.count
            until(lambda: work.count > before + 5)  # noqa: B023 - it is over before the loop goes on
            host.cut_off()
            time.sleep(MOMENT)  # how long it lasts is the experiment
            host.heal()
        work.stop()
        assert causes(pool) == []
    log = read(str(tmp_path))
    assert check(log) == []
    assert not [op for op in log if op.what == "failed"]
    print(f"{rounds} partitions of {MOMENT:g} s, {work.count} tasks")


@pytest.mark.rule("F22")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.parametrize("lasts", [0.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_results_from_beyond_a_partition_are_dropped(net: Net, tmp_path: Path, lasts: float) -> None:
    """A task that ends while its node counts as dead has failed, once; one that may run again does, and comes once.

    The nodes take part again after it heals, and know nothing any more of what they did before.
    """
    hosts = net.add(2)
    gate = tmp_path / "gate"
    log_of = tmp_path / "log"
    log_of.mkdir()
    client = Log(str(log_of), "client")
    with sky.Compute(provider(hosts), heartbeat=BEAT) as pool:
        futures = {}
        for number, retries in enumerate([0, 3]):
            client.note("submitted", number, f"token{number} {retries + 1}")
            call = gated(str(log_of), number, f"token{number}", str(gate))
            futures[number] = call.with_retries(retries) > pool
        until(lambda: done(log_of, "started") == 2)
        for host in hosts:
            host.cut_off()
        assert isinstance(futures[0].exception(), sky.NodeLostError)
        client.note("failed", 0, "NodeLostError")
        until(lambda: not any(node.in_flight for node in pool.snapshot().nodes))
        gate.touch()
        until(lambda: done(log_of, "finished") == 2)
        time.sleep(lasts)  # how long it lasts is the experiment
        for host in hosts:
            host.heal()
        client.note("delivered", 1, futures[1].result())
        until(lambda: pool.current_nodes() == 2)
        assert [echo(i) >> pool for i in range(10)] == list(range(10))
        assert pool.snapshot().failed == 1
    client.close()
    assert check(read(str(log_of)), ordered=False) == []
    assert done(log_of, "started") == done(log_of, "finished") == 3
    assert [host.node.events().count("session opened") for host in hosts] == [2, 2]


def done(directory: Path, what: str) -> int:
    """Return how often tasks have noted something."""
    return sum(op.what == what for op in read(str(directory)))
