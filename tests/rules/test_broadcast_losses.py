"""A node that dies while all of them work on one call (R8, F65)."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from tests.rules.processes import pid_of
from tests.rules.work import BUSY, LONG, hold, let_go, runs

if TYPE_CHECKING:
    from pathlib import Path

NODES: Final = 3
DYING: Final = 1  # its rank
DEAD: Final = 0.75  # seconds: three heartbeats


@sky.function
def rank_of(directory: str) -> int:
    """Say that it runs, wait until it may go on, and return the node's rank."""
    info = sky.instance_info()
    assert info is not None
    hold.local(directory, str(info.node))
    return info.node


@pytest.mark.rule("F65")
@pytest.mark.rule("R8")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_node_that_dies_costs_a_broadcast_one_result(tmp_path: Path, number: int) -> None:
    """All others are there, and one error that names the node, in time, whether it died or fell silent."""
    box: list[Any] = []

    def broadcast(pool: sky.Compute) -> None:
        try:
            box.append(rank_of(str(tmp_path)) @ pool)
        except sky.BroadcastError as error:
            box.append(error)

    with sky.Compute(nodes=NODES) as pool:
        thread = threading.Thread(target=broadcast, args=[pool])
        thread.start()
        for rank in range(NODES):
            runs(tmp_path, str(rank))
        for rank in range(NODES):
            if rank != DYING:
                let_go(tmp_path, str(rank))
        os.kill(pid_of(pool.snapshot().nodes[DYING]), number)
        killed = time.monotonic()
        thread.join(LONG)
        took = time.monotonic() - killed
        (error,) = box
        assert isinstance(error, sky.BroadcastError)
        assert [result for rank, result in enumerate(error.results) if rank != DYING] == [0, 2]
        assert error.failed == (DYING,)
        (lost,) = error.errors.values()
        assert isinstance(lost, sky.NodeLostError)
        assert lost.node == DYING
        assert f"node {DYING}" in str(error)
        assert took < DEAD + 0.25 * BUSY
    print(f"{signal.Signals(number).name}: told after {took:.3f} s")
