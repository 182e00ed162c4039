"""The processes of a pool, and programs that use one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

from tests.transports import chosen_in

if TYPE_CHECKING:
    from pathlib import Path

    import skyward as sky


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


def daemons(pool: sky.Compute) -> list[psutil.Process]:
    """Return the processes of the nodes, by rank."""
    return [psutil.Process(node.pid) for node in pool.snapshot().nodes]


def family(pool: sky.Compute) -> list[psutil.Process]:
    """Return all processes of a pool."""
    return [process for daemon in daemons(pool) for process in (daemon, *daemon.children(recursive=True))]
