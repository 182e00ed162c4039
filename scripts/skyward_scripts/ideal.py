"""The best that can be asked of a scheduler that does not know how long tasks take. Pure.

A greedy list schedule gives each task, in order, to the slot that is free first, at no cost and with no delay. By
Graham's bound it takes at most 2 - 1/slots times as long as the best schedule there is.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def list_schedule(durations: Iterable[float], slots: int) -> float:
    """Return when the last task ends, in seconds, if each starts on the slot that is free first."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
