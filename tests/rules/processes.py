"""The processes of a pool, and programs that use one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from skyward.model import NodeState
from tests.rules.work import BUSY, until
from tests.transports import chosen_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    import skyward as sky
    from skyward.model import NodeSnapshot

GONE: Final = 2.0 * BUSY  # seconds in which nothing is left after a death


def script(source: str, *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a Python program that uses skyward."""
    path = cwd / "script.py"
    path.write_text(chosen_in(source))
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
    )


def pid_of(node: NodeSnapshot) -> int:
    """Return the pid of a node of this machine that has started: others have none."""
    assert node.pid is not None
    return node.pid


def daemons(pool: sky.Compute) -> list[psutil.Process]:
    """Return the processes of the nodes, by rank."""
    return [psutil.Process(pid_of(node)) for node in pool.snapshot().nodes]


def family(pool: sky.Compute) -> list[psutil.Process]:
    """Return all processes of a pool."""
    return [process for daemon in daemons(pool) for process in (daemon, *daemon.children(recursive=True))]


def ended(pids: Iterable[int], within: float = GONE) -> bool:
    """Return whether the processes end in time: their pidfds are the events."""
    deadline = time.monotonic() + within
    fds: list[int] = []
    for pid in pids:
        with suppress(ProcessLookupError):
            fds.append(os.pidfd_open(pid))
    try:
        return all(select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0] for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def replaced(pool: sky.Compute, lost: Collection[int], size: int = 2) -> None:
    """Wait until the pool has so many nodes that take part, none of them with one of these pids."""

    def are_there() -> bool:
        # One snapshot: between two questions a node can be found to be lost.
        nodes = pool.snapshot().nodes
        ready = {node.pid for node in nodes if node.state is NodeState.READY}
        return len(nodes) == len(ready) == size and not ready.intersection(lost)

    until(are_there)
