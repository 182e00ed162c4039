"""Programs end, whatever their pools are doing; and pools that are opened and closed leave nothing behind (T13)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests import leaks
from tests.long.figures import told
from tests.rules.processes import GONE, ended
from tests.rules.work import add
from tests.transports import chosen_in

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 10_000
BAR: Final = 2.0  # seconds that a program may take to end
HEAD: Final = """
import asyncio, os, sys, threading, time
import skyward as sky

@sky.function
def nap(x):
    time.sleep(x)
    return x

@sky.function
def deaf(x):
    import ctypes
    ctypes.PyDLL(None).sleep(int(x))

@sky.function
def count(n):
    for i in range(n):
        yield i

@sky.function
def total(values: "Iterator[int]"):
    return sum(values)

@sky.function
def nested(x):
    return nap(x) >> sky

async def leave():
    await asyncio.wait([asyncio.wrap_future(nap(600) > pool)], timeout=0.3)

@sky.function
def shout():
    while True:
        print("x" * 1000)

pool = sky.Compute(nodes=2, console=CONSOLE).open()
assert nap(0) @ pool == [0, 0]
"""
STATES: Final = {
    "idle": "",
    "tasks run": "futures = [nap(600) > pool for _ in range(2)]; time.sleep(0.3)",
    "a task cannot be interrupted": "future = deaf(600) > pool; time.sleep(0.3)",
    "tasks wait": "futures = [nap(600) > pool for _ in range(1000)]",
    "a stream is half read": "s = sky.gather(*[nap(0.01) for _ in range(1000)], stream=True) >> pool; next(s)",
    "a stream is fed": "s = sky.gather((nap(0.01) for _ in iter(int, 1)), stream=True) >> pool; next(s)",
    "a generator is open": "g = count(10**9) >> pool; next(g)",
    "an iterator is pulled": "future = total(iter(int, 1)) > pool; time.sleep(0.3)",
    "a call is nested": "future = nested(600) > pool; time.sleep(0.3)",
    "a thread waits": "threading.Thread(target=lambda: nap(600) >> pool, daemon=True).start(); time.sleep(0.3)",
    "a broadcast waits": "threading.Thread(target=lambda: nap(600) @ pool, daemon=True).start(); time.sleep(0.3)",
    "a callback hangs": "(nap(0) > pool).add_done_callback(lambda _: time.sleep(600)); time.sleep(0.3)",
    "output floods": "future = shout() > pool; time.sleep(0.3)",
    "a node is dead": "os.kill(pool.snapshot().nodes[0].pid, 9)",
    "every process stands still": "import psutil; [child.suspend() for child in psutil.Process().children(True)]",
    "a node stands still": "os.kill(pool.snapshot().nodes[0].pid, 19); future = nap(600).on(0) > pool",
    "all nodes are dead": "[os.kill(n.pid, 9) for n in pool.snapshot().nodes]; future = nap(600) > pool",
    "nodes come": "pool.resize(6)",
    "an event loop was left": "asyncio.run(leave())",
}
LEAVING: Final = {"the end": "", "sys.exit": "sys.exit()", "an error": "raise SystemExit('so be it')"}


@pytest.mark.slow
@pytest.mark.rule("T13")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("leaving", LEAVING)
@pytest.mark.parametrize("state", STATES)
def test_program_ends(state: str, leaving: str) -> None:
    """In whatever state its pool is, and however it leaves."""
    source = HEAD.replace("CONSOLE", "True") + f"{STATES[state]}\nprint('END', flush=True)\n{LEAVING[leaving]}\n"
    with subprocess.Popen(
        [sys.executable, "-c", chosen_in(source)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        errors: list[bytes] = []
        reader = threading.Thread(target=lambda: errors.append(program.stderr.read() if program.stderr else b""))
        reader.start()
        for line in program.stdout:
            if line == b"END\n":
                break
        began = time.monotonic()
        pids = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
        drain = threading.Thread(target=program.stdout.read)
        drain.start()
        try:
            program.wait(60)
            took = time.monotonic() - began
        finally:
            program.kill()
            drain.join()
            reader.join()
    print(told(f"T13, {state}, {leaving}", [took], BAR))
    assert program.returncode == (1 if leaving == "an error" else 0), errors
    assert took < GONE
    assert ended(pids)


@pytest.mark.slow
@pytest.mark.rule("T13")
@pytest.mark.timeout(36_000)
def test_pools_are_opened_and_closed_for_ever(share: Callable[[int], int]) -> None:
    """None hangs, and no thread, descriptor, process or file is left of any."""

    def once() -> float:
        began = time.monotonic()
        with sky.Compute(nodes=1, console=False) as pool:
            assert add(1, 2) >> pool == 3
        return time.monotonic() - began

    once()  # what is made once
    before, memory = leaks.take(), psutil.Process().memory_info().rss
    times: list[float] = []
    for _ in range(share(ROUNDS)):
        times.append(once())
        left = leaks.wait_until_clean(before)
        assert not left, left
    growth = psutil.Process().memory_info().rss - memory
    print(told("T13, open, call and close", times, BAR), f"; grown by {growth / 2**20:.1f} MiB, pid {os.getpid()}")
