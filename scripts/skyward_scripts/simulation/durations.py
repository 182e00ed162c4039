"""How long tasks take: named distributions, seeded.

All have the mean that is asked for, but `pareto`, whose tail is cut at ten times that: without the cut one task
of a large sample outlasts all others, and any policy looks good beside it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE: Final = 1.5  # of `pareto`: an infinite variance
CUT: Final = 10.0  # times the mean, its longest
RARE: Final = 0.02  # share of the stragglers of `bimodal`
SLOW: Final = 20.0  # times the others they take


def _constant(_: Random, mean: float) -> float:
    return mean


def _uniform(random: Random, mean: float) -> float:
    return random.uniform(0.0, 2.0 * mean)


def _exponential(random: Random, mean: float) -> float:
    return random.expovariate(1.0 / mean)


def _pareto(random: Random, mean: float) -> float:
    least = mean * (SHAPE - 1.0) / SHAPE
    return min(least * random.paretovariate(SHAPE), CUT * mean)


def _bimodal(random: Random, mean: float) -> float:
    short = mean / (1.0 - RARE + RARE * SLOW)
    return short * SLOW if random.random() < RARE else short


DISTRIBUTIONS: Final[dict[str, Callable[[Random, float], float]]] = {
    "constant": _constant,
    "uniform": _uniform,
    "exponential": _exponential,
    "pareto": _pareto,
    "bimodal": _bimodal,
}


def draw(name: str, count: int, mean: float, seed: int = 0) -> list[float]:
    """Return ``count`` task times in seconds; the same arguments give the same times."""
    random = Random(f"{name} {seed}")  # noqa: S311 - task times are no secret
    one = DISTRIBUTIONS[name]
    return [one(random, mean) for _ in range(count)]
