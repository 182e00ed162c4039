"""A figure is the median of its rounds, with the lowest and the highest. Pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spread(NamedTuple):
    """What several rounds have found."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def show_number(value: float) -> str:
    """Return a number with three significant digits or all digits before the point: 1,234, 12.3, 0.0123."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}"


def show_spread(found: Spread) -> str:
    """Return a spread as ``median (lowest-highest)``, or the number alone where there was one round."""
    median, lowest, highest = (show_number(value) for value in found)
    return median if lowest == highest == median else f"{median} ({lowest}–{highest})"
