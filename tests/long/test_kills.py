"""Any process of a pool may be killed at any moment: each call ends right, or in a typed error, and soon (T15)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.long.figures import told
from tests.rules.processes import family, replaced
from tests.rules.work import BUSY, LONG, until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KILLS: Final = 1_000
BAR: Final = 5.0  # seconds after the kill
CALLS: Final = 30  # under way when a process is killed


@sky.function
def square(x: int) -> int:
    """Take up to five milliseconds."""
    time.sleep(x % 6 / 1_000)
    return x * x


def victim(pool: sky.Compute, chance: random.Random) -> tuple[str, int] | None:
    """Return what kind of process, and which: a daemon, a template or a worker."""
    daemon = chance.choice([node.pid for node in pool.snapshot().nodes if node.pid] or [0])
    with suppress(psutil.Error):
        below = psutil.Process(daemon).children()
        if below and chance.random() < 2 / 3:
            workers = below[0].children()
            if workers and chance.random() < 0.5:
                return "worker", chance.choice(workers).pid
            return "template", below[0].pid
        return "daemon", daemon
    return None


def one_kill(pool: sky.Compute, chance: random.Random, seen: Counter[str]) -> float:
    """Kill a process while calls are under way; return how many seconds later the last of them had ended."""
    delay = chance.uniform(0, 0.05)
    killed: list[float] = []

    def kill() -> None:
        time.sleep(delay)  # the moment is the experiment
        found = victim(pool, chance)
        with suppress(ProcessLookupError):
            if found is not None:
                os.kill(found[1], signal.SIGKILL)
                seen[found[0]] += 1
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    futures = [square(i).with_retries(chance.choice([0, 1, 3])) > pool for i in range(CALLS)]
    killer.start()
    futures += [square(i).with_retries(chance.choice([0, 1, 3])) > pool for i in range(CALLS)]
    for i, future in enumerate(futures):
        error = future.exception(LONG)
        if error is None:
            assert future.result() == (i % CALLS) ** 2
        else:
            assert isinstance(error, sky.NodeLostError | sky.WorkerCrashedError), error
            seen[type(error).__name__] += 1
    ended = time.monotonic()
    killer.join()
    return max(0.0, ended - killed[0])


@pytest.mark.slow
@pytest.mark.rule("T15")
@pytest.mark.timeout(14_400)
def test_any_process_may_be_killed(chance: random.Random, share: Callable[[int], int]) -> None:
    """A thousand times: daemons, templates, workers."""
    seen: Counter[str] = Counter()
    times: list[float] = []
    with sky.Compute(nodes=2, concurrency=2, console=False) as pool:
        for _ in range(share(KILLS)):
            times.append(one_kill(pool, chance, seen))
            if chance.random() < 0.5:  # the other half of the kills meets a pool that is not whole
                until(lambda: pool.current_nodes() == 2)
        replaced(pool, ())
        until(lambda: len(family(pool)) == 8)
        assert sky.gather(*[square(i) for i in range(200)]) >> pool == tuple(i * i for i in range(200))
        assert pool.snapshot().in_flight == 0
    print(told("T15, kill until every call has ended", times, BAR), dict(seen))
    assert max(times) < BAR * BUSY
