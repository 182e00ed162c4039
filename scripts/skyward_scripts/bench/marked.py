"""The functions of `tasks`, marked for skyward. A user's own module, too: ``marked_tasks``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy import float64
    from numpy.typing import NDArray

KEPT: dict[int, NDArray[float64]] = {}  # arrays that are results, by length: not made anew each time


@sky.function
def noop(item: Any) -> int:
    """Do nothing."""
    return os.getpid()


@sky.function
def noop_two(item: Any) -> int:
    """Do nothing, under another name."""
    return os.getpid()


@sky.function
def noop_three(item: Any) -> int:
    """Do nothing, under a third name."""
    return os.getpid()


@sky.function
def nap(seconds: float) -> int:
    """Take some time."""
    time.sleep(seconds)
    return os.getpid()


@sky.function
def spin(seconds: float) -> int:
    """Work for so much CPU time: who waits for a CPU has done nothing."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid()


@sky.function
def hold(path: str) -> int:
    """Wait until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


@sky.function
def total(array: NDArray[float64]) -> tuple[int, float]:
    """Sum an array."""
    return os.getpid(), float(array.sum())


@sky.function
def filled(length: int) -> NDArray[float64]:
    """Return an array of ones that begins with the id of the process."""
    import numpy as np

    array = KEPT.get(length)
    if array is None:
        array = KEPT[length] = np.ones(length)
        array[0] = os.getpid()
    return array


@sky.function
def numbers(stop: int) -> Iterator[int]:
    """Yield the id of the process, and then numbers."""
    yield os.getpid()
    for number in range(stop):  # noqa: UP028 - as in `tasks`
        yield number


@sky.function
def blocks(job: tuple[int, int]) -> Iterator[NDArray[float64]]:
    """Yield an array of ones again and again, with the id of the process and its number in it."""
    import numpy as np

    count, length = job
    array = np.ones(length)
    array[0] = os.getpid()
    for number in range(count):
        array[1] = number
        yield array
