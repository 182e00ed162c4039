"""How many nodes the calls that wait are worth.

A node is worth starting if it will find work when it is up, and so much that it works at least as long as it took to
start. What is left then is foreseen like this, all times being seconds:

- A waiting call takes as long as its function took so far. If that has never run, as long as calls take here lately; and
  if none has ended yet, as long as these have been running, but for the first second, in which modules are imported.
- Calls that keep coming will do so for as long as they have.
- Every slot does a second of work a second, also those of nodes that are coming, from the moment when they are up. But
  if none has become free for as long as a node takes to start, none will in as long again, unless what runs there is
  known to end by then.

A source that gives only as many calls as are asked for (a lazy stream) never shows more than a few. So when calls have
come and waited without a break for as long as a node takes to start, one more is worth it, whatever is foreseen, and
if that was not enough twice as many the next time.

PURE: the clock is a number.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.dispatch.load import Load

WEIGHT: Final = 0.25  # of the newest look in the moving averages (a change shows after about four looks)
COLD: Final = 1.0  # seconds of a function's first run that say nothing about the next: it imports what it needs


class Demand:
    """Watches the waiting calls of one pool."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._submitted = 0
        self._done = 0
        self._ready = 0
        self._since: float | None = None  # calls have waited without a break from this moment on
        self._fed = 0.0  # when more came, since then
        self._moved = 0.0  # when a slot was last seen to have become free
        self._settled = 0.0  # when the number of ready nodes has last changed
        self._inflow: float | None = None  # calls that come in a second, lately
        self._outflow: float | None = None  # calls that end
        self._step = 1  # nodes that steady pressure is worth

    def look(self, load: Load, now: float) -> None:
        """Take in how calls stand."""
        elapsed, self._looked = now - self._looked, now
        came, self._submitted = load.submitted - self._submitted, load.submitted
        went, self._done = load.done - self._done, load.done
        if len(load.served) != self._ready:
            self._ready, self._settled = len(load.served), now
        if not load.waiting:
            self._since = None
        elif self._since is None:
            self._since = self._fed = self._moved = now
            self._inflow = self._outflow = None
            self._step = 1
        else:
            if went or not load.served:
                self._moved = now
            if came:
                self._fed = now
            if elapsed > 0.0:
                self._inflow = _average(self._inflow, came / elapsed)
                self._outflow = _average(self._outflow, went / elapsed)

    def worth(self, load: Load, coming: Iterable[float], slots: float, start_up: float, now: float) -> int:
        """Return how many nodes of ``slots`` slots should be coming, as of the last look.

        ``coming`` are the seconds for which each node that comes has done so, ``start_up`` those that one takes.
        """
        if self._since is None:
            return 0
        coming = list(coming)
        stuck = now - self._moved
        cost = load.known * load.cost + (1.0 - load.known) * self._usual(load, stuck)
        goes_on = min(self._fed - self._since, start_up)
        calls = load.waiting + (self._inflow or 0.0) * goes_on
        frees = stuck < start_up or stuck < cost <= stuck + start_up
        capacity = load.slots * start_up if frees else 0.0
        capacity += slots * sum([min(age, start_up) for age in coming])
        nodes = max(0, ceil((calls * cost - capacity) / (slots * start_up)))
        if not coming and goes_on >= start_up and self._is_steady() and now - self._settled >= start_up:
            nodes = max(nodes, self._step)
        return min(nodes, ceil(load.waiting / slots))

    def answered(self, nodes: int) -> None:
        """So many nodes are started for what waits."""
        self._step = 2 * nodes

    def _usual(self, load: Load, stuck: float) -> float:
        """Return how long a call of which nothing is known may take."""
        lately = load.slots / self._outflow if self._outflow else 0.0
        return max(lately, stuck - COLD, 0.0)

    def _is_steady(self) -> bool:
        """Return whether calls come about as fast as they end."""
        return (self._inflow or 0.0) > 0.0 and 2.0 * (self._inflow or 0.0) >= (self._outflow or 0.0)


def _average(known: float | None, new: float) -> float:
    return new if known is None else known + WEIGHT * (new - known)
