"""Whether a silent node is dead, or deaf. Silence counts only while the observer itself was watching.

The observer calls `watched` whenever it looks at its links. Time between two looks counts at most
``STEP`` heartbeats: a client that was stopped, swapped out or busy in C code for a minute has
observed nothing in that minute, and must not blame its nodes.

PURE: the clock is a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.dispatch.stalls import Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
        looked = self._looked
        self._silence[rank] = 0.0 if now is None or looked is None or now < looked else looked - now

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
        """Return the moment until which no other node can have become dead, or None if there is none to watch."""
        most = BEATS * self._heartbeat
        alive = [silence for silence in self._silence.values() if silence <= most]
        if not alive or self._looked is None:
            return None
        return self._looked + most - max(alive)

    def __contains__(self, rank: int) -> bool:
        """Return whether the node is watched."""
        return rank in self._silence

    def __iter__(self) -> Iterator[int]:
        """Return the nodes that are watched."""
        return iter(list(self._silence))


class Hearing:
    """Whether nodes hear us, by what they say of it.

    Only of those is it known that have a connection for heartbeats alone: elsewhere beats wait behind data. A node that
    names no new beat for as long as silence may last is deaf if, moreover, what it was sent over that connection is
    unconfirmed. What is confirmed has arrived: then the node only has no time to look at it.
    """

    def __init__(self, heartbeat: float) -> None:
        self._clocks = Liveness(heartbeat)

    def heard(self, rank: int, now: float) -> None:
        """Note that the node has shown that it hears us."""
        if rank in self._clocks:
            self._clocks.heard(rank, now)

    def forget(self, rank: int) -> None:
        """Stop watching the node."""
        self._clocks.forget(rank)

    def deaf(self, now: float, flows: Mapping[int, Callable[[], Flow]]) -> list[int]:
        """Count the time since the last look, and return who is deaf; ``flows`` tell how those connections get on."""
        for rank in self._clocks:
            if rank not in flows:
                self._clocks.forget(rank)
        for rank in flows:
            if rank not in self._clocks:
                self._clocks.heard(rank, now)
        return [rank for rank in self._clocks.watched(now) if flows[rank]() is Flow.STALLS]

    def next_death(self) -> float | None:
        """Return the moment until which no other node can have become deaf, or None if there is none to watch."""
        return self._clocks.next_death()
