"""How long tasks of random work take, the same for the same seed. Pure."""

from __future__ import annotations

import random
from typing import Final

LONGEST_NAP: Final = 0.002  # seconds: tasks of a stream take between nothing and this
SHORT: Final = 0.005  # seconds: most tasks beside stragglers
LONG: Final = 0.2  # seconds: a straggler


def short_naps(count: int, seed: int) -> list[float]:
    """Return the durations of a stream's tasks, in seconds."""
    source = random.Random(seed)  # noqa: S311 - the same work for everyone is the point
    return [source.uniform(0.0, LONGEST_NAP) for _ in range(count)]


def with_stragglers(short: int, long: int, seed: int) -> list[float]:
    """Return the durations of many short tasks with some long ones among them at random places, in seconds."""
    durations = [SHORT] * short + [LONG] * long
    random.Random(seed).shuffle(durations)  # noqa: S311 - the same
    return durations
