"""How long it takes to change one's mind (T16)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from tests.long.figures import told
from tests.rules.work import BUSY, hold, let_go, runs, spin_in_c

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUEUED: Final = 0.05  # seconds
GRACE: Final = 1.0  # seconds: the default of `cancel_grace`
RUNNING: Final = GRACE + 1.0  # seconds


@sky.function
def nap(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)


def cancelled_after(future: sky.Future[Any]) -> float:
    """Cancel, and return how many seconds later it is done."""
    began = time.monotonic()
    assert future.cancel()
    assert future.cancelled()
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.rule("T16")
@pytest.mark.timeout(3_600)
def test_cancel_takes_no_longer_than_told(tmp_path: Path, share: Callable[[int], int]) -> None:
    """Of calls that wait, of tasks that can be interrupted, and of tasks that must be killed."""
    with sky.Compute(nodes=2, console=False) as pool:
        held = [hold(str(tmp_path), str(i)) > pool for i in range(2)]
        for i in range(2):
            runs(tmp_path, str(i))
        queued = [cancelled_after(nap(60) > pool) for _ in range(share(1_000))]
        for i in range(2):
            let_go(tmp_path, str(i))
        assert [future.result() for future in held] == ["0", "1"]
        obeying: list[float] = []
        deaf: list[float] = []
        for i in range(share(200)):
            future = hold(str(tmp_path), f"run{i}") > pool
            runs(tmp_path, f"run{i}")
            obeying.append(cancelled_after(future))
        for i in range(share(50)):
            spinning = spin_in_c(str(tmp_path), f"spin{i}").with_retries(0) > pool
            runs(tmp_path, f"spin{i}")
            deaf.append(cancelled_after(spinning))
    print(told("T16, cancel of a queued call", queued, QUEUED))
    print(told("T16, cancel of a task that obeys", obeying, RUNNING))
    print(told("T16, cancel of a task that holds the GIL", deaf, RUNNING))
    assert sorted(queued)[len(queued) // 2] < QUEUED * BUSY
    assert max(deaf) < RUNNING * BUSY
