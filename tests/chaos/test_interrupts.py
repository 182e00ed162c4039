"""Ctrl-C at any moment of gathers and streams (F2)."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from tests.rules.work import BUSY, add, until

if TYPE_CHECKING:
    import random

SOON: Final = 1.0 * BUSY  # seconds within which an interrupt must surface


@sky.function
def nap(x: int) -> int:
    """Sleep for x milliseconds, modulo 5."""
    time.sleep(x % 5 / 1000)
    return x


class Bystander(threading.Thread):
    """Another thread, that gathers all the time and misses nothing."""

    def __init__(self, pool: sky.Compute) -> None:
        super().__init__()
        self._pool = pool
        self.stop = threading.Event()
        self.rounds = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Gather until told to stop."""
        try:
            while not self.stop.is_set():
                base = self.rounds
                assert sky.gather(*[add(base, i) for i in range(20)]) >> self._pool == tuple(range(base, base + 20))
                future = add(base, 1) > self._pool
                assert future.result() == base + 1
                self.rounds += 1
        except BaseException as error:  # shown by the test
            self.error = error


def work_for_ever(pool: sky.Compute, kind: int) -> None:
    """Gather or stream until interrupted."""
    while True:
        calls = [nap(i) for i in range(30)]
        if kind == 0:
            assert sky.gather(*calls) >> pool == tuple(range(30))
        elif kind == 1:
            assert list(sky.gather(*calls, stream=True) >> pool) == list(range(30))
        else:
            assert sorted(sky.gather(*calls, stream=True, ordered=False) >> pool) == list(range(30))


def interrupt_once(pool: sky.Compute, kind: int, delay: float) -> float:
    """Work, be interrupted after ``delay`` seconds, and return how long that took to surface."""
    sent: list[float] = []

    def interrupt() -> None:
        time.sleep(delay)  # the moment is the experiment
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    surfaced = float("inf")  # never
    try:
        sender.start()
        work_for_ever(pool, kind)
    except KeyboardInterrupt:
        surfaced = time.monotonic()
    sender.join()
    return surfaced - sent[0]


@pytest.mark.rule("F2")
@pytest.mark.rule("R29")
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_interrupt_surfaces_and_harms_nobody(rounds: int, chance: random.Random) -> None:
    """Each within a second; no result of another thread is lost; the pool works afterwards."""
    with sky.Compute(nodes=2) as pool:
        bystander = Bystander(pool)
        bystander.start()
        try:
            times = [interrupt_once(pool, i % 3, chance.uniform(0, 0.06)) for i in range(rounds)]
        finally:
            bystander.stop.set()
            bystander.join()
        assert bystander.error is None
        until(lambda: pool.snapshot().in_flight == 0)
        assert sky.gather(*[nap(i) for i in range(100)]) >> pool == tuple(range(100))
        results: list[Any] = [add(i) @ pool for i in range(4)]
        assert results == [[i, i] for i in range(4)]
    assert max(times) < SOON
    print(f"{rounds} interrupts, longest {max(times):.3f} s; {bystander.rounds} rounds of the other thread")
