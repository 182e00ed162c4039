"""The best that can be asked of a policy that does not know how long tasks take.

A greedy list schedule gives each task, in order, to the slot that is free first, at no cost and with no delay. By
Graham's bound it takes at most 2 - 1/slots times as long as the best schedule there is.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def list_schedule(durations: Sequence[float], slots: int) -> float:
    """Return the makespan of the greedy list schedule, in seconds."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def lower_bound(durations: Sequence[float], slots: int) -> float:
    """Return a makespan that no schedule can beat."""
    return max(sum(durations) / slots, max(durations, default=0.0))
