"""Many tasks while nodes die, stop, and are cut off: nothing is lost, doubled, or wrong (T1, T4, T5).

``SKYWARD_SEEDS`` says which histories, as in ``1-20``, and ``SKYWARD_TASKS`` how many tasks.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.chaos.checker import check
from tests.chaos.losses import provider
from tests.chaos.operations import read
from tests.chaos.schedule import schedule
from tests.chaos.storms import LONGEST, TASKS, LocalDeaths, Storm, Work, endure, kill, seeds
from tests.rules.processes import pid_of
from tests.rules.work import echo, hold, let_go, place, runs, until
from tests.security.timing import percentile, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.checker import Finding
    from tests.chaos.hosts import Net

NODES: Final = 4
RETRIES: Final = 10  # more than a task meets deaths; how often it runs is counted
PROMISED: Final = 0.1  # seconds from a node's death to the error, or the next run, of 99 in 100
LATEST: Final = 1.0
HOURS: Final = 3 * 3_600  # seconds that a test may take
FULL: Final = 100_000  # tasks that make a run of the length that was promised
KILLS: Final = 60  # in such a run
ROUNDS: Final = int(os.environ.get("SKYWARD_ROUNDS") or 200)


def verdict(directory: Path) -> list[Finding]:
    """Return what is wrong, and print what has happened."""
    log = read(str(directory))
    print(", ".join(f"{count} {what}" for what, count in Counter(op.what for op in log).items()))
    runs_of = Counter(op.task for op in log if op.what == "started")
    print(f"{sum(count > 1 for count in runs_of.values())} tasks ran more than once")
    return check(log)


def quiet_time(directory: Path, count: int) -> float:
    """Return how many seconds so many tasks take if nothing befalls anybody."""
    directory.mkdir()
    with sky.Compute(nodes=NODES, console=False) as pool:
        work = Work(pool, str(directory), 0, RETRIES, count=count)
        work.run()
    assert work.error is None
    assert verdict(directory) == []
    return work.took


@pytest.mark.rule("T4")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("R38")
@pytest.mark.slow
@pytest.mark.timeout(HOURS)
def test_kills_every_second_lose_nothing(tmp_path: Path) -> None:
    """A daemon or a worker each second: every result is there, once, and right, in less than twice the time."""
    quiet = quiet_time(tmp_path / "quiet", TASKS)
    print(f"quiet: {TASKS} tasks of up to {LONGEST:g} s in {quiet:.1f} s")
    for seed in seeds(10):
        directory = tmp_path / str(seed)
        directory.mkdir()
        with sky.Compute(nodes=NODES, console=False) as pool:
            work = Work(pool, str(directory), seed, RETRIES)
            faults = schedule(seed, ("worker", "worker", "daemon"), NODES, every=1.0, length=HOURS)
            happened = endure(work, LocalDeaths(pool, seed), faults)
            assert work.error is None
            rerun = pool.snapshot().rerun
            assert pool.snapshot().in_flight == 0
        print(f"seed {seed}: {work.took:.1f} s, {dict(happened)}, {rerun} re-runs, failed: {dict(work.failed)}")
        assert verdict(directory) == []
        assert not work.failed
        assert happened.total() >= min(KILLS, KILLS * TASKS // FULL)
        assert work.took < 2 * quiet


@pytest.mark.rule("T5")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.slow
@pytest.mark.timeout(HOURS)
@pytest.mark.parametrize("seed", seeds(20))
def test_storm_loses_nothing(net: Net, tmp_path: Path, seed: int) -> None:
    """Partitions, stops, resets, deaths: what may not run twice does not, and each task has its own outcome, once."""
    hosts = net.add(NODES)
    with sky.Compute(provider(hosts), console=False) as pool:
        work = Work(pool, str(tmp_path), seed, RETRIES, mixed=True)
        faults = schedule(seed, Storm.KINDS, NODES, every=1.0, length=HOURS, lasts=(0.1, 3.0))
        happened = endure(work, Storm(hosts, seed), faults)
        assert work.error is None
        assert pool.snapshot().in_flight == 0
        assert [echo(i) >> pool for i in range(10)] == list(range(10))
        rerun = pool.snapshot().rerun
    print(f"seed {seed}: {work.took:.1f} s, {dict(happened)}, {rerun} re-runs, failed: {dict(work.failed)}")
    assert verdict(tmp_path) == []
    assert "".join(line for host in hosts for line in [*host.printed, *host.node.printed]) == ""
    assert work.failed.keys() <= {"NodeLostError", "WorkerCrashedError"}
    assert not work.failed_in_spite, "these might have run again"


# --- one death at a time -----------------------------------------------------------------------


def one_death(pool: sky.Compute, directory: Path, number: int, strike: Callable[[int], object]) -> tuple[float, int]:
    """Return how many seconds after its node's death a task has its error, or runs again, and the rank."""
    name, retries = str(number), number % 2
    place() @ pool  # a node that has just come has yet to load what its tasks need
    future = hold(str(directory), name).with_retries(retries) > pool
    runs(directory, name)
    (rank,) = [node.rank for node in pool.snapshot().nodes if node.in_flight]
    (directory / f"{name}-runs").unlink()
    began = time.monotonic()
    strike(rank)
    if retries:
        runs(directory, name)
        took = time.monotonic() - began
        let_go(directory, name)
        assert future.result() == name
        return took, rank
    assert isinstance(future.exception(), sky.NodeLostError)
    return time.monotonic() - began, rank


def strike_one(pids: dict[int, int], rank: int) -> None:
    """Kill a node's daemon."""
    assert kill(pids[rank])


def judge(times: list[float]) -> None:
    """Print how long it took, and compare with what was promised."""
    print(f"{len(times)} deaths: {shown(times)}")
    assert percentile(times, 99) < PROMISED
    assert max(times) < LATEST


@pytest.mark.rule("T1")
@pytest.mark.rule("F7")
@pytest.mark.slow
@pytest.mark.timeout(HOURS)
def test_death_of_a_local_node_is_told_at_once(tmp_path: Path) -> None:
    """Its end is seen, and its task fails, or runs on another node."""
    with sky.Compute(nodes=2) as pool:
        times: list[float] = []
        for number in range(ROUNDS):
            until(lambda: pool.current_nodes() == 2)
            pids = {node.rank: pid_of(node) for node in pool.snapshot().nodes}
            times.append(one_death(pool, tmp_path, number, partial(strike_one, pids))[0])
    judge(times)


@pytest.mark.rule("T1")
@pytest.mark.rule("F7")
@pytest.mark.slow
@pytest.mark.timeout(HOURS)
def test_death_of_a_distant_node_is_told_at_once(net: Net, tmp_path: Path) -> None:
    """Its connection breaks and its port is closed: no heartbeat is waited for."""
    hosts = net.add(2)
    with sky.Compute(provider(hosts), heartbeat=30.0) as pool:
        times: list[float] = []
        for number in range(ROUNDS):
            until(lambda: pool.current_nodes() == 2)
            by_endpoint = {host.node.endpoint: host for host in hosts}
            struck = {node.rank: by_endpoint[node.endpoint] for node in pool.snapshot().nodes}
            pids = {rank: host.node.pid for rank, host in struck.items()}
            took, rank = one_death(pool, tmp_path, number, partial(strike_one, pids))
            times.append(took)
            struck[rank].restart()
            struck[rank].node.wait_serving()
    judge(times)
