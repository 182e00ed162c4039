"""How long things take: figures of a machine that does other things too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def timed(action: Callable[[], Any]) -> float:
    """Return how many seconds an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def percentile(values: list[float], share: float) -> float:
    """Return the value that so many percent of the values do not exceed."""
    return sorted(values)[min(int(len(values) * share / 100), len(values) - 1)]


def shown(seconds: list[float]) -> str:
    """Return the distribution of some durations, for people."""
    shares = {"median": 50, "p99": 99, "longest": 100}
    return ", ".join(f"{name} {percentile(seconds, share) * 1e3:.1f} ms" for name, share in shares.items())
