"""Tasks that kill their workers in every way (F12, F14, F15, F16)."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.chaos.deaths import die
from tests.rules.processes import family, pid_of
from tests.rules.work import place, until

if TYPE_CHECKING:
    import random

SIGNALS: Final = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGBUS, signal.SIGILL)
LIMIT: Final = 0.1  # seconds a task that spins may take
PATIENCE: Final = 20.0  # seconds after which a round counts as stalled; the machine may be busy
FAMILY: Final = 6  # processes: two daemons, two templates, two workers
SLACK: Final = 8 * 2**20  # bytes a process may grow: allocators keep some


def one_death(pool: sky.Compute, chance: random.Random) -> float:
    """Run a task that dies, check its error, and return how many seconds that took."""
    way = chance.choice(["signal", "segfault", "exit", "spin"])
    number = chance.choice(SIGNALS) if way == "signal" else chance.randrange(256)
    call = die(way, number).with_retries(chance.choice([0, 1]))
    began = time.monotonic()
    future = (call.with_timeout(LIMIT) if way == "spin" else call) > pool
    error = future.exception(timeout=PATIENCE)
    if way == "spin":
        assert isinstance(error, sky.TaskTimeoutError)
    else:
        assert isinstance(error, sky.WorkerCrashedError)
        expected = {"signal": (number, None), "segfault": (signal.SIGSEGV, None), "exit": (None, number)}[way]
        assert (error.signal, error.exitcode) == expected
    return time.monotonic() - began


def make_what_is_made_once(pool: sky.Compute, chance: random.Random) -> None:
    """Let every node lose a worker, so that it has imported structlog to say so; and some more."""
    for rank in range(2):
        with pytest.raises(sky.WorkerCrashedError):
            die("exit", 1).on(rank).with_retries(0) >> pool
    assert pool._engine is not None
    crew = pool._engine.crew
    until(lambda: all(crew._launcher.provider.log_tail(mate.launched) for mate in crew.mates.values()))
    for _ in range(10):
        one_death(pool, chance)
    assert len(place() @ pool) == 2


def sizes(pool: sky.Compute) -> dict[int, tuple[int, int, int]]:
    """Return memory, descriptors and threads of the client and of the daemons, by pid."""
    processes = [psutil.Process(), *(psutil.Process(pid_of(node)) for node in pool.snapshot().nodes)]
    return {p.pid: (p.memory_info().rss, p.num_fds(), p.num_threads()) for p in processes}


@pytest.mark.rule("R38")
@pytest.mark.rule("F12")
@pytest.mark.rule("F15")
@pytest.mark.rule("F16")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [20, pytest.param(1_000, marks=pytest.mark.slow)])
def test_worker_that_dies_is_told_and_replaced(rounds: int, chance: random.Random) -> None:
    """The right error each time, no stall, no leak."""
    with sky.Compute(nodes=2, console=False) as pool:
        make_what_is_made_once(pool, chance)
        until(lambda: len(family(pool)) == FAMILY)
        before = sizes(pool)
        times = [one_death(pool, chance) for _ in range(rounds)]
        assert len(place() @ pool) == 2
        until(lambda: len(family(pool)) == FAMILY)
        after = sizes(pool)
    assert after.keys() == before.keys()
    for pid, (memory, descriptors, threads) in after.items():
        assert memory < before[pid][0] + SLACK
        assert abs(descriptors - before[pid][1]) <= 2
        assert threads <= before[pid][2] + 1
    growth = max(memory - before[pid][0] for pid, (memory, _, _) in after.items())
    print(f"{rounds} rounds, longest {max(times):.3f} s, growth {growth / 2**20:.1f} MiB")


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_groups_survive_the_death_of_nodes(kills: int, chance: random.Random) -> None:
    """Every result is right and comes once, and the pool gets back to its size."""

    @sky.function(retries=100)
    def square(x: int) -> int:
        time.sleep(0.001)
        return x * x

    with sky.Compute(nodes=2) as pool:
        stop = threading.Event()
        killed: list[int] = []

        def killer() -> None:
            while len(killed) < kills and not stop.is_set():
                pids = [node.pid for node in pool.snapshot().nodes if node.pid and node.known_for > 0.2]
                if pids:
                    pid = chance.choice(pids)
                    with suppress(ProcessLookupError):  # dead already, and about to be noticed
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                stop.wait(chance.uniform(0.1, 0.6))
            stop.set()

        thread = threading.Thread(target=killer)
        thread.start()
        rounds = 0
        while not stop.is_set():
            stream = sky.gather(*[square(i) for i in range(300)], stream=True, ordered=False) >> pool
            assert sorted(stream.indexed()) == [(i, i * i) for i in range(300)]
            assert sky.gather(*[square(i) for i in range(200)]) >> pool == tuple(i * i for i in range(200))
            rounds += 1
        thread.join()
        until(lambda: pool.current_nodes() == 2)
        assert len(place() @ pool) == 2
        assert pool.snapshot().in_flight == 0
    print(f"{len(killed)} kills during {rounds} rounds of 500 tasks")
