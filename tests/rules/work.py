"""What tasks of these tests do. Apart from the tests, so that workers need not import pytest."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import skyward as sky

BUSY: Final = 5  # how many times as long as promised things may take on a machine that does much else
LONG: Final = 30.0  # seconds for what should take milliseconds
HELD: Final = 10 * LONG  # seconds: a task that is held does not end before the test has given up


def until(condition: Any, timeout: float = LONG) -> None:
    """Return when the condition holds; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@sky.function
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@sky.function
def echo(value: Any) -> Any:
    """Return the value."""
    return value


@sky.function
def place(value: Any = None) -> tuple[Any, int, int]:
    """Return the value, the worker's pid and the node's rank."""
    info = sky.instance_info()
    assert info is not None
    return value, os.getpid(), info.node


@sky.function
def where(value: int = 0) -> tuple[int, sky.InstanceInfo | None]:
    """Return the value and where the task runs."""
    return value, sky.instance_info()


@sky.function
def fail(value: Any) -> Any:
    """Raise."""
    raise ValueError(f"bad {value}")


@sky.function
def meet(directory: str, name: str, total: int) -> tuple[str, int]:
    """Return when ``total`` tasks are here at the same time."""
    folder = Path(directory)
    (folder / name).touch()
    until(lambda: len(list(folder.iterdir())) >= total)
    return name, os.getpid()


@sky.function
def meet_where(directory: str, name: str, total: int) -> tuple[sky.InstanceInfo | None, int]:
    """Return where the task runs, once ``total`` tasks are here at the same time."""
    return sky.instance_info(), meet.local(directory, name, total)[1]


@sky.function
def hold(directory: str, name: str) -> str:
    """Say that the task runs, and return when it is let go."""
    Path(directory, f"{name}-runs").touch()
    until(Path(directory, f"{name}-go").exists, timeout=HELD)
    Path(directory, f"{name}-done").touch()
    return name


def runs(directory: Path, name: str) -> None:
    """Wait until a task that holds runs."""
    until((directory / f"{name}-runs").exists)


def let_go(directory: Path, name: str) -> None:
    """Let a task that holds go on."""
    (directory / f"{name}-go").touch()


@sky.function
def note(directory: str, name: str) -> str:
    """Leave one more mark for each run."""
    with open(Path(directory, name), "a", encoding="ascii") as file:
        file.write("x")
    return name


@sky.function
def die_by(number: int, directory: str = "") -> None:
    """Kill the own process by a signal, leaving a mark first."""
    if directory:
        with open(Path(directory, "deaths"), "a", encoding="ascii") as file:
            file.write("x")
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)
    signal.pause()


@sky.function
def spin_in_c(directory: str, name: str = "spin") -> None:
    """Hold the GIL in C code for ever."""
    # The mark is made when the GIL is held already, which PyDLL does, unlike CDLL: before, an interrupt would be heard.
    ctypes.PyDLL(None).system(f"touch '{directory}/{name}-runs'; exec sleep {HELD}".encode())


@sky.function
async def async_add(a: int, b: int) -> int:
    """Add two numbers on an event loop."""
    await asyncio.sleep(0)
    return a + b


@sky.function
def fibonacci(n: int) -> int:
    """Return the n-th Fibonacci number, by calls to the pool the task runs in."""
    if n < 2:
        return n
    a, b = (fibonacci(n - 1) & fibonacci(n - 2)) >> sky
    return int(a + b)


class OddError(Exception):
    """An error with fields of its own, that survives pickling."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@sky.function
def raise_odd(code: int) -> None:
    """Raise an error of the user's, caused by another."""
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise OddError(code, "of the user's") from error


@sky.function
def zeros(size: int) -> bytes:
    """Return so many bytes."""
    return bytes(size)


@sky.function
def count(start: int) -> tuple[int, int]:
    """Return a number that grows with each run in this process, and the process."""
    state: Any = sys
    state.runs_here = getattr(state, "runs_here", start) + 1
    return state.runs_here, os.getpid()


@sky.function
@sky.stdout(only="head")
def on_head_only() -> None:
    """Print where the head is."""
    print("head")


@sky.function
def naps(seconds: float, value: int) -> int:
    """Return the value after a while."""
    time.sleep(seconds)
    return value
