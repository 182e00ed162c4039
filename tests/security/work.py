"""What tasks of these tests do, on workers that need not import pytest."""

from __future__ import annotations

import os
import time
from typing import Final

import skyward as sky

NAME: Final = "self"


def plus(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def mark(path: str) -> str:
    """Leave one more mark for each run."""
    with open(path, "a", encoding="ascii") as file:
        file.write("x")
    return path


def mark_and_hold(path: str) -> str:
    """Leave a mark, and return when a file of that name with ``-go`` is there."""
    mark(path)
    while not os.path.exists(f"{path}-go"):
        time.sleep(0.002)
    return path


@sky.function
def who() -> tuple[str, int]:
    """Return whose function this is, and the worker's pid."""
    time.sleep(0.01)
    return NAME, os.getpid()


def mark_and_make(path: str, size: int) -> bytes:
    """Leave a mark and return so many bytes."""
    mark(path)
    return os.urandom(size)


def chatter(lines: int, path: str) -> None:
    """Print long lines, then leave a mark."""
    for _ in range(lines):
        print("x" * 60_000)
    mark(path)
