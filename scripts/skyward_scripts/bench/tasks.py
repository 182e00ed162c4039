"""The functions that run on workers, as users write them. `marked` has the same for skyward.

This file is copied to where a user's own module would be, as ``plain_tasks``, and into a script. Whatever runs
tells the id of its process, so that nobody can run calls in the client and win.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy import float64
    from numpy.typing import NDArray

KEPT: dict[int, NDArray[float64]] = {}  # arrays that are results, by length: not made anew each time


def noop(item: Any) -> int:
    """Do nothing."""
    return os.getpid()


def noop_two(item: Any) -> int:
    """Do nothing, under another name."""
    return os.getpid()


def noop_three(item: Any) -> int:
    """Do nothing, under a third name."""
    return os.getpid()


def nap(seconds: float) -> int:
    """Take some time."""
    time.sleep(seconds)
    return os.getpid()


def spin(seconds: float) -> int:
    """Work for so much CPU time: who waits for a CPU has done nothing."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid()


def hold(path: str) -> int:
    """Wait until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


def total(array: NDArray[float64]) -> tuple[int, float]:
    """Sum an array."""
    return os.getpid(), float(array.sum())


def filled(length: int) -> NDArray[float64]:
    """Return an array of ones that begins with the id of the process."""
    import numpy as np

    array = KEPT.get(length)
    if array is None:
        array = KEPT[length] = np.ones(length)
        array[0] = os.getpid()
    return array


def numbers(stop: int) -> Iterator[int]:
    """Yield the id of the process, and then numbers."""
    yield os.getpid()
    for number in range(stop):  # noqa: UP028 - Ray sends into it, which a range cannot take
        yield number


def blocks(job: tuple[int, int]) -> Iterator[NDArray[float64]]:
    """Yield an array of ones again and again, with the id of the process and its number in it."""
    import numpy as np

    count, length = job
    array = np.ones(length)
    array[0] = os.getpid()
    for number in range(count):
        array[1] = number
        yield array
