"""What tasks of these tests do. Apart from the tests, so that workers need not import pytest."""

from __future__ import annotations

import os
import time
from pathlib import Path

PATIENCE = 20.0  # seconds for what should take milliseconds, on a machine that is busy


def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


def hold(path: str) -> str:
    """Print and leave a mark to say that the task runs, and return when it is let go."""
    print("running", flush=True)
    Path(f"{path}-runs").touch()
    _wait_for([f"{path}-go"])
    return "let go"


def let_go(path: Path) -> None:
    """Let a task that holds go on."""
    Path(f"{path}-go").touch()


def meet(own: str, others: list[str]) -> None:
    """Return when the others are here at the same time."""
    Path(own).touch()
    _wait_for(others)


def _wait_for(paths: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(map(os.path.exists, paths)):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
