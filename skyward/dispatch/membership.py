"""How many nodes a pool has, which ranks they hold, and when to launch or let go.

Ranks are 0…n-1 without gaps as far as possible: a new node takes the lowest free rank, shrinking
takes the highest idle ranks first and rank 0 last. Growing leaves no gap below: a node that should go, and
has not gone, is taken back where its rank is wanted again, for no other can have it. A lost node is replaced
at once; a launch that fails is tried again after a pause that doubles, so that a broken provider is not hammered.

A pool whose max is above its desired number is elastic: `on_look` starts what waiting calls are worth (`demand`), and
lets go whoever was idle for ``idle_timeout`` (`idleness`). It never goes below min or above max by itself.

PURE: no threads, no providers; the clock is a number.
"""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from skyward.dispatch.demand import Demand
from skyward.dispatch.idleness import Idleness
from skyward.dispatch.lives import EXPECT, GONE, JOIN, KEEP, LAUNCH, RETIRE, move
from skyward.frozen import Frozen
from skyward.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Collection

    from skyward.dispatch.load import Load
    from skyward.model import Nodes

FIRST_PAUSE: Final = 0.5  # seconds before a failed launch is tried again
LONGEST_PAUSE: Final = 30.0  # seconds
CAUSES: Final = 10  # recent causes kept for error messages
AT_ONCE: Final = 8  # nodes that come at a time because calls wait, or as many as are ready: providers refuse a rush
AT_LEAST: Final = 0.1  # seconds that a node is taken to need to start: what waits for less is not worth a thought
WEIGHT: Final = 0.5  # of the newest node in the moving average of the time that nodes take to start


class Launch(Frozen):
    """Start a node that will have this rank."""

    rank: int


class Retire(Frozen):
    """Let the node go as soon as it has finished what it holds."""

    rank: int


class Keep(Frozen):
    """Do not let the node go after all."""

    rank: int


Change = Launch | Retire | Keep


class Membership:
    """Decides for one pool."""

    def __init__(self, spec: Nodes, *, idle_timeout: float = 60.0, slots: int = 1) -> None:
        """``slots``: of a node, as long as none is ready."""
        self.spec = spec
        self.target = spec.desired
        self.states: dict[int, NodeState] = {}
        self.causes: deque[str] = deque(maxlen=CAUSES)
        self.failures = 0  # failed launches in a row
        self.start_up: float | None = None  # seconds that nodes take to start, lately
        self.waking = False  # the first node after a sleep is coming, and nothing has failed since
        self._not_before = 0.0  # no launch before this moment
        self._launched: dict[int, float] = {}  # when each node that is starting was launched
        self._idle_timeout = idle_timeout
        self._slots: float = slots  # of a node, on average
        self._demand = Demand()
        self._idleness = Idleness()

    # --- events ----------------------------------------------------------------------------

    def on_open(self, now: float) -> list[Change]:
        """The pool opens."""
        return self._balance(now)

    def on_ready(self, rank: int, now: float) -> None:
        """A launched node has joined."""
        self.failures = 0
        self.waking = False
        if (launched := self._launched.pop(rank, None)) is not None:
            took = now - launched
            self.start_up = took if self.start_up is None else self.start_up + WEIGHT * (took - self.start_up)
        move(self.states, rank, JOIN)

    def on_launch_failed(self, rank: int, cause: str, now: float) -> list[Change]:
        """A node could not be started."""
        state = self._gone(rank)
        if state is NodeState.STARTING:  # else it has been let go meanwhile, and nobody misses it
            self._failed(cause, now)
        return self._balance(now)

    def _gone(self, rank: int) -> NodeState | None:
        self._launched.pop(rank, None)
        self._idleness.forget(rank)
        return move(self.states, rank, GONE)

    def _failed(self, cause: str, now: float) -> None:
        self.waking = False
        self.causes.append(cause)
        if now >= self._not_before:  # launches that fail side by side fail for one reason
            self.failures += 1
            self._not_before = now + min(FIRST_PAUSE * 2.0 ** (self.failures - 1), LONGEST_PAUSE)

    def on_lost(self, rank: int, cause: str, now: float) -> list[Change]:
        """A node is gone without being asked to go, or at the end of its retirement."""
        state = self._gone(rank)
        if state is NodeState.STARTING:  # it came up, and went before it could do anything: no launch to repeat at once
            self._failed(cause, now)
        elif state is NodeState.READY:
            self.causes.append(cause)
        return self._balance(now)

    def on_resize(self, spec: Nodes, idle: Collection[int], now: float) -> list[Change]:
        """The user sets min, desired and max anew. ``idle`` ranks have nothing in flight.

        An elastic pool keeps those that work, up to the new max: it lets them go when they are idle.
        """
        self.spec = spec
        self.target = spec.desired
        if self.is_elastic:
            working = sum(state is NodeState.READY and rank not in idle for rank, state in self.states.items())
            self.target = max(spec.desired, min(working, spec.most))
        return self._balance(now, idle)

    def on_wake(self, now: float) -> list[Change]:
        """Calls wait and the pool aims at no node: aim at one."""
        if self.target:
            return self._balance(now)
        self.target = 1
        changes = self._balance(now)
        self.waking = self.is_starting(0)
        return changes

    def on_look(self, load: Load, now: float) -> list[Change]:
        """Time has passed, and the load is this now."""
        if not self.is_elastic:
            return self._balance(now)
        self._demand.look(load, now, self.start_up or 0.0)
        self._idleness.look(load, now)
        if load.served:
            self._slots = max(1.0, load.slots / len(load.served))
        if load.waiting:
            self._grow(load, now)
            return self._balance(now)
        # What was wanted for calls that have found another slot meanwhile is not wanted any more.
        self.target = max(min(self.target, self.spec.desired), len(self._staying()))
        return [*self._balance(now), *self._let_go(now)]

    def on_tick(self, now: float) -> list[Change]:
        """Time has passed."""
        return self._balance(now)

    # --- decisions -------------------------------------------------------------------------

    def _staying(self) -> list[int]:
        return [rank for rank, state in self.states.items() if state is not NodeState.DRAINING]

    def _grow(self, load: Load, now: float) -> None:
        """Aim at as many nodes as the waiting calls are worth, unless launches fail just now."""
        if self.start_up is None or now < self._not_before:
            return
        coming = [now - launched for rank, launched in self._launched.items() if self.is_starting(rank)]
        coming += [0.0] * (self.target - len(self._staying()))
        worth = self._demand.worth(load, coming, self._slots, max(self.start_up, AT_LEAST), now)
        at_once = max(AT_ONCE, len(load.served))
        more = min(min(worth, at_once) - len(coming), self.spec.most - self.target)
        if more > 0:
            self.target += more
            self._demand.answered(more)

    def _let_go(self, now: float) -> list[Change]:
        """Retire who was idle for long, down to min that are ready; the head only when it is alone.

        What only starts may fail, and there would be fewer than min.
        """
        staying = len(self._staying())
        idle = [
            rank for rank in self._idleness.ranks(self._idle_timeout, now) if self.states.get(rank) is NodeState.READY
        ]
        leaving = [rank for rank in idle if rank][: max(0, self.ready() - self.spec.least)]
        if 0 in idle and len(leaving) == staying - 1 and not self.spec.least:
            leaving.append(0)
        self.target -= len(leaving)
        return self._retire(leaving)

    def _retire(self, ranks: Collection[int]) -> list[Change]:
        for rank in ranks:
            move(self.states, rank, RETIRE)
            self._idleness.forget(rank)
        return [Retire(rank) for rank in ranks]

    def _balance(self, now: float, idle: Collection[int] = ()) -> list[Change]:
        staying = self._staying()
        if len(staying) > self.target:
            return self._shrink(staying, len(staying) - self.target, idle)
        changes: list[Change] = []
        for rank in islice((rank for rank in count() if rank not in staying), self.target - len(staying)):
            if rank in self.states:
                move(self.states, rank, EXPECT if rank in self._launched else KEEP)
                changes.append(Keep(rank))
            elif now >= self._not_before:
                move(self.states, rank, LAUNCH)
                self._launched[rank] = now
                changes.append(Launch(rank))
        return changes

    def _shrink(self, staying: list[int], count: int, idle: Collection[int]) -> list[Change]:
        # False sorts before True: not the head, then idle, as is what only starts, then highest rank.
        busy = {rank for rank in staying if self.states[rank] is NodeState.READY and rank not in idle}
        staying.sort(key=lambda rank: (rank == 0, rank in busy, -rank))
        return self._retire(staying[:count])

    # --- questions -------------------------------------------------------------------------

    @property
    def is_elastic(self) -> bool:
        """Return whether the pool grows and shrinks by itself."""
        return self.spec.are_elastic

    def is_starting(self, rank: int) -> bool:
        """Return whether a node of this rank is coming, and wanted."""
        return self.states.get(rank) is NodeState.STARTING

    def can_spare(self, rank: int) -> bool:
        """Return whether there are, or come, as many nodes besides this one as there shall be at least."""
        return sum(each != rank for each in self._staying()) >= self.spec.least

    def ready(self) -> int:
        """Return how many nodes are ready now."""
        return sum(state is NodeState.READY for state in self.states.values())

    def next_launch(self) -> float | None:
        """Return the moment at which a launch is due, or None."""
        return self._not_before if len(self._staying()) < self.target else None
