"""A client that is killed or interrupted at any moment leaves nothing behind (F1, T11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.leaks import shared_memory
from tests.transports import chosen_in

if TYPE_CHECKING:
    import random

CLIENT: Final = """
import sys, threading, time
import skyward as sky

@sky.function
def work(x):
    time.sleep(0.001 * (x % 7))
    return x

print("started", flush=True)
while True:
    with sky.Compute(nodes=2) as pool:
        for _ in range(5):
            futures = [work(i) > pool for i in range(20)]
            assert sky.gather(*[work(i) for i in range(50)]) >> pool == tuple(range(50))
            assert list(sky.gather(*[work(i) for i in range(20)], stream=True) >> pool) == list(range(20))
            assert work(3) @ pool == [3, 3]
"""
LATEST: Final = 1.5  # seconds after its start: several rounds of open, work and close
ALLOWED: Final = 2.0  # seconds until nothing is left


def living(mark: str) -> list[int]:
    """Return the pids of all processes that have inherited the mark, zombies aside."""
    pids: list[int] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                marked = mark.encode() in Path(entry.path, "environ").read_bytes()
                state = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[0]
                if marked and state != b"Z":
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids


def one_death(number: int, delay: float, directory: Path) -> float:
    """Start a client and end it by a signal; return how many seconds its processes and files survived that."""
    mark = uuid.uuid4().hex
    temporary = directory / mark[:8]
    temporary.mkdir()
    shared = shared_memory()
    client = subprocess.Popen(
        [sys.executable, "-c", chosen_in(CLIENT)],
        env=os.environ | {"TMPDIR": str(temporary), "SKYWARD_CHAOS": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert client.stdout is not None
    client.stdout.readline()
    time.sleep(delay)  # the moment is the experiment
    assert client.poll() is None
    client.send_signal(number)
    began = time.monotonic()
    while True:
        client.poll()
        left = [*living(mark), *temporary.iterdir(), *(shared_memory() - shared)]
        if not left:
            break
        if time.monotonic() - began > ALLOWED:
            client.kill()
            client.wait()
            pytest.fail(f"{signal.Signals(number).name} after {delay:.3f} s left {left}")
        time.sleep(0.01)
    client.wait()
    client.stdout.close()
    return time.monotonic() - began


@pytest.mark.rule("F1")
@pytest.mark.rule("R30")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_dead_client_leaves_nothing(number: int, rounds: int, chance: random.Random, short_path: Path) -> None:
    """Two seconds later no process is alive, and nothing is left in the temporary directory or in /dev/shm."""
    times = [one_death(number, chance.uniform(0, LATEST), short_path) for _ in range(rounds)]
    print(f"{signal.Signals(number).name}: {rounds} rounds, longest {max(times):.3f} s")
