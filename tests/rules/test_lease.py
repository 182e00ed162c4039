"""Nodes whose client is gone."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.rules.byhand import ByHand, environment
from tests.rules.processes import script
from tests.rules.work import BUSY, add, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., ByHand]

LEASE: Final = 1.5  # seconds
LATE: Final = 2.0  # seconds more that ending things may take, on a machine that does other things
AT_ONCE: Final = 2.0 * BUSY  # seconds in which what is local is gone


def client_of(node: ByHand, directory: Path, **settings: object) -> str:
    """Return a program that has a task held on the node, and prints the pid of its worker."""
    options = "".join(f", {name}={value!r}" for name, value in settings.items())
    return f"""
import os, sys
sys.path[:0] = {environment()["PYTHONPATH"].split(os.pathsep)!r}
import skyward as sky
from tests.rules.work import hold, place
with sky.Compute(sky.Static([{node.address!r}]){options}) as pool:
    print((place() >> pool)[1], flush=True)
    hold({str(directory)!r}, "a") >> pool
"""


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.rule("R40")
@pytest.mark.rule("F1")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_tasks_of_a_client_that_is_gone_are_stopped(by_hand: Start, tmp_path: Path, number: int) -> None:
    """When its lease runs out, not before; the node itself, which somebody has started by hand, serves others."""
    node = by_hand()
    process = script(client_of(node, tmp_path, lease=LEASE, heartbeat=0.25), cwd=tmp_path)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    runs(tmp_path, "a")
    os.kill(process.pid, number)
    ended = time.monotonic()
    try:
        until(lambda: gone(worker))
        assert LEASE - 0.5 < time.monotonic() - ended < LEASE + LATE
        until(lambda: "session ended: its client fell silent" in node.events())
        with sky.Compute(sky.Static([node.address])) as pool:
            assert add(1, 2) >> pool == 3
        assert node.process.poll() is None
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.rule("R40")
def test_client_that_leaves_in_good_order_needs_no_lease(by_hand: Start, tmp_path: Path) -> None:
    """Its goodbye ends what it had on the node."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address]), lease=3_600.0) as pool:
        assert add(1, 2) >> pool == 3
        workers = [process.pid for process in node.family()[1:]]
    until(lambda: "session closed" in node.events())
    until(lambda: sum(gone(worker) for worker in workers) >= 1)


@pytest.mark.rule("R40")
@pytest.mark.parametrize("transport_of_nodes", ["ipc", "tcp"])
def test_local_nodes_end_with_their_client(tmp_path: Path, short_path: Path, transport_of_nodes: str) -> None:
    """At once, by the pipe that it holds: no lease is waited for, however they are reached."""
    process = script(
        "import os\nimport skyward as sky\n"
        f"provider = sky.Local({transport_of_nodes!r})\n"
        "with sky.Compute(provider=provider, nodes=2, lease=3600.0) as pool:\n"
        "    print(*[node.pid for node in pool.snapshot().nodes], *sky.function(os.getpid)() @ pool, flush=True)\n"
        "    import time\n    sky.function(time.sleep)(3600) @ pool\n",
        cwd=tmp_path,
        env={"TMPDIR": str(short_path)},
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(set(pids)) == 4
    process.kill()
    killed = time.monotonic()
    process.communicate()
    until(lambda: all(gone(pid) for pid in pids))
    assert time.monotonic() - killed < AT_ONCE
    until(lambda: not list(short_path.iterdir()))
