"""Whether a silent node is dead. Silence counts only while the observer itself was watching.

The observer calls `watched` whenever it looks at its links. Time between two looks counts at most
``STEP`` heartbeats: a client that was stopped, swapped out or busy in C code for a minute has
observed nothing in that minute, and must not blame its nodes.

PURE: the clock is a number.
"""

from __future__ import annotations

from typing import Final

BEATS: Final = 3  # silent heartbeat intervals after which a node is dead
STEP: Final = 1.5  # heartbeats: the longest time between two looks that still counts in full


class Liveness:
    """Silence observed on each link, in seconds."""

    def __init__(self, heartbeat: float) -> None:
        self._heartbeat = heartbeat
        self._silence: dict[int, float] = {}
        self._looked: float | None = None

    def heard(self, rank: int) -> None:
        """Note that the node said something."""
        self._silence[rank] = 0.0

    def forget(self, rank: int) -> None:
        """Stop watching the node."""
        self._silence.pop(rank, None)

    def watched(self, now: float) -> list[int]:
        """Count the time since the last look, and return the ranks that have become dead."""
        step = 0.0 if self._looked is None else min(now - self._looked, STEP * self._heartbeat)
        self._looked = now
        dead: list[int] = []
        for rank in self._silence:
            self._silence[rank] += step
            if self._silence[rank] > BEATS * self._heartbeat:
                dead.append(rank)
        return dead
