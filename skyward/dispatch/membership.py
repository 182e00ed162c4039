"""How many nodes a pool has, which ranks they hold, and when to launch or let go.

Ranks are 0…n-1 without gaps as far as possible: a new node takes the lowest free rank, shrinking
takes the highest idle ranks first and rank 0 last. A lost node is replaced at once; a launch that
fails is tried again after a pause that doubles, so that a broken provider is not hammered.

PURE: no threads, no providers; the clock is a number.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Collection

    from skyward.model import Nodes

FIRST_PAUSE: Final = 0.5  # seconds before a failed launch is tried again
LONGEST_PAUSE: Final = 30.0  # seconds
CAUSES: Final = 10  # recent causes kept for error messages


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a node that will have this rank."""

    rank: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Let the node go as soon as it has finished what it holds."""

    rank: int


Change = Launch | Retire


class Membership:
    """Decides for one pool."""

    def __init__(self, spec: Nodes) -> None:
        self.spec = spec
        self.target = spec.desired
        self.states: dict[int, NodeState] = {}
        self.causes: deque[str] = deque(maxlen=CAUSES)
        self.failures = 0  # failed launches in a row
        self._not_before = 0.0  # no launch before this moment

    # --- events ----------------------------------------------------------------------------

    def on_open(self, now: float) -> list[Change]:
        """The pool opens."""
        return self._balance(now)

    def on_ready(self, rank: int) -> None:
        """A launched node has joined."""
        self.failures = 0
        if self.states.get(rank) is NodeState.STARTING:  # it may have been let go meanwhile
            self.states[rank] = NodeState.READY

    def on_launch_failed(self, rank: int, cause: str, now: float) -> list[Change]:
        """A node could not be started."""
        state = self.states.pop(rank, None)
        if state is NodeState.STARTING:  # else it has been let go meanwhile, and nobody misses it
            self._failed(cause, now)
        return self._balance(now)

    def _failed(self, cause: str, now: float) -> None:
        self.causes.append(cause)
        if now >= self._not_before:  # launches that fail side by side fail for one reason
            self.failures += 1
            self._not_before = now + min(FIRST_PAUSE * 2.0 ** (self.failures - 1), LONGEST_PAUSE)

    def on_lost(self, rank: int, cause: str, now: float) -> list[Change]:
        """A node is gone without being asked to go, or at the end of its retirement."""
        state = self.states.pop(rank, None)
        if state is NodeState.STARTING:  # it came up, and went before it could do anything: no launch to repeat at once
            self._failed(cause, now)
        elif state is NodeState.READY:
            self.causes.append(cause)
        return self._balance(now)

    def on_resize(self, spec: Nodes, idle: Collection[int], now: float) -> list[Change]:
        """The user sets min, desired and max anew. ``idle`` ranks have nothing in flight."""
        self.spec = spec
        self.target = spec.desired
        return self._balance(now, idle)

    def on_wake(self, now: float) -> list[Change]:
        """Calls wait and the pool aims at no node: aim at one."""
        if self.target == 0:
            self.target = 1
        return self._balance(now)

    def on_tick(self, now: float) -> list[Change]:
        """Time has passed."""
        return self._balance(now)

    # --- decisions -------------------------------------------------------------------------

    def _balance(self, now: float, idle: Collection[int] = ()) -> list[Change]:
        staying = [rank for rank, state in self.states.items() if state is not NodeState.DRAINING]
        if len(staying) > self.target:
            return self._shrink(staying, len(staying) - self.target, idle)
        if now < self._not_before:
            return []
        changes: list[Change] = []
        rank = 0
        for _ in range(self.target - len(staying)):
            while rank in self.states:
                rank += 1
            self.states[rank] = NodeState.STARTING
            changes.append(Launch(rank))
        return changes

    def _shrink(self, staying: list[int], count: int, idle: Collection[int]) -> list[Change]:
        # False sorts before True: not the head, then idle, as is what only starts, then highest rank.
        busy = {rank for rank in staying if self.states[rank] is NodeState.READY and rank not in idle}
        staying.sort(key=lambda rank: (rank == 0, rank in busy, -rank))
        leaving = staying[:count]
        for rank in leaving:
            self.states[rank] = NodeState.DRAINING
        return [Retire(rank) for rank in leaving]

    # --- questions -------------------------------------------------------------------------

    def ready(self) -> int:
        """Return how many nodes are ready now."""
        return sum(state is NodeState.READY for state in self.states.values())

    def next_launch(self) -> float | None:
        """Return the moment at which a launch is due, or None."""
        staying = sum(state is not NodeState.DRAINING for state in self.states.values())
        return self._not_before if staying < self.target else None
