"""The shortest times that a scheduler can hope for, and the random work they are computed from. Pure."""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NAP: Final = 0.002  # seconds: tasks of a stream take between nothing and this
SHORT: Final = 0.005  # seconds: most tasks beside stragglers
LONG: Final = 0.2  # seconds: a straggler


def list_schedule(durations: Iterable[float], workers: int) -> float:
    """Return when the last task ends if each, in the given order, starts on the worker that is free first.

    This is Graham's list scheduling: what a scheduler reaches that knows no durations and loses no time.
    """
    free = [0.0] * workers
    end = 0.0
    for duration in durations:
        finish = free[0] + duration
        heapq.heapreplace(free, finish)
        end = max(end, finish)
    return end


def short_naps(count: int, seed: int) -> list[float]:
    """Return the durations of a stream's tasks, in seconds."""
    source = random.Random(seed)  # noqa: S311 - the same work for everyone is the point
    return [source.uniform(0.0, LONGEST_NAP) for _ in range(count)]


def with_stragglers(short: int, long: int, seed: int) -> list[float]:
    """Return the durations of many short tasks with some long ones among them at random places, in seconds."""
    durations = [SHORT] * short + [LONG] * long
    random.Random(seed).shuffle(durations)  # noqa: S311 - the same
    return durations
