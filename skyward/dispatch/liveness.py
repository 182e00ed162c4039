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
        self._silence: dict[int, float] = {}  # as of the last look; negative for what was heard after it
        self._looked: float | None = None

    def heard(self, rank: int, now: float | None = None) -> None:
        """Note that the node said something; without ``now``, that it was at the last look."""
        since = 0.0 if now is None or self._looked is None else now - self._looked
        self._silence[rank] = -max(since, 0.0)

    def forget(self, rank: int) -> None:
        """Stop watching the node."""
        self._silence.pop(rank, None)

    def watched(self, now: float) -> list[int]:
        """Count the time since the last look, and return the ranks that have become dead."""
        elapsed = 0.0 if self._looked is None else now - self._looked
        most = STEP * self._heartbeat
        self._looked = now
        dead: list[int] = []
        for rank, silence in self._silence.items():
            # What was heard since the last look was silent for less than the whole step.
            since = silence + elapsed if silence < 0.0 else elapsed
            counted = max(silence, 0.0) + min(max(since, 0.0), most)
            self._silence[rank] = counted
            if counted > BEATS * self._heartbeat:
                dead.append(rank)
        return dead

    def next_death(self) -> float | None:
        """Return the moment until which no node can have become dead, or None if none is watched."""
        if not self._silence or self._looked is None:
            return None
        return self._looked + BEATS * self._heartbeat - max(self._silence.values())
