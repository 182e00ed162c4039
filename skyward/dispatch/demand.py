"""How many nodes the calls that wait are worth.

A node is worth starting if it will find work when it is up: the first if it works for half as long as it took to start,
each further one for as long. What is left then is foreseen like this, all times being seconds:

- A waiting call takes as long as its function took so far. If that has never run, as long as calls take here lately;
  and if none has ended yet, as long as these have been running, but for the first second, in which they import.
- Calls that keep coming will do so for as long as they have, unless three times as long as usual have passed since the
  last.
- Every slot does a second of work a second, also those of nodes that are coming, from the moment when they are up. But
  if none has become free for as long as a node takes to start, none will in as long again, unless what runs there is
  known to end by then: one call is enough then, however short it is.

A source that gives only as many calls as are asked for (a lazy stream) never shows more than a few. So when calls have
come and waited without a break for as long as a node takes to start, one more is worth it, whatever is foreseen, and
if that was not enough twice as many the next time.

PURE: the clock is a number.
"""

from __future__ import annotations

from math import ceil, exp
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.dispatch.load import Load

MEMORY: Final = 1.0  # seconds, at least, over which it is averaged how fast calls come and end; else a start-up time
SILENCE: Final = 3.0  # times the usual pause between two calls that come, after which no more are expected
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
        # Seconds, and calls that came in or ended in them; the older ones count less:
        self._span = self._came = 0.0
        self._worked = self._went = 0.0  # of the seconds only those with a ready node
        self._step = 1  # nodes that steady pressure is worth

    def look(self, load: Load, now: float, start_up: float = MEMORY) -> None:
        """Take in how calls stand; ``start_up`` is how long a node takes to start, in seconds."""
        elapsed, self._looked = now - self._looked, now
        came, self._submitted = load.submitted - self._submitted, load.submitted
        went, self._done = load.done - self._done, load.done
        if len(load.served) != self._ready:
            self._ready, self._settled = len(load.served), now
        if not load.waiting:
            self._since = None
        elif self._since is None:
            self._since = self._fed = self._moved = now
            self._span = self._came = self._worked = self._went = 0.0
            self._step = 1
        else:
            if went or not load.served:
                self._moved = now
            if came:
                self._fed = now
            kept = exp(-elapsed / max(start_up, MEMORY))
            self._span = kept * self._span + elapsed
            self._came = kept * self._came + came
            self._worked = kept * self._worked + (elapsed if load.served else 0.0)
            self._went = kept * self._went + went

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
        comes = self._came * (now - self._fed) <= SILENCE * self._span
        inflow = _rate(self._came, self._span) if comes else 0.0
        calls = load.waiting + inflow * goes_on
        frees = stuck < start_up or stuck < cost <= stuck + start_up
        capacity = load.slots * start_up if frees else 0.0
        capacity += slots * sum([min(age, start_up) for age in coming])
        left = max(0.0, calls * cost - capacity) / (slots * start_up)  # start-up times of a node
        nodes = int(left + 0.5) if frees else ceil(left)
        # It has lasted, nothing has changed lately, and some will still wait when a node has started.
        lasts = inflow > 0.0 and goes_on >= start_up and now - self._settled >= start_up
        if lasts and not coming and load.waiting + (inflow - _rate(self._went, self._worked)) * start_up > 0.0:
            nodes = max(nodes, self._step)
        return min(nodes, ceil(load.waiting / slots))

    def answered(self, nodes: int) -> None:
        """So many nodes are started for what waits."""
        self._step = 2 * nodes

    def _usual(self, load: Load, stuck: float) -> float:
        """Return how long a call of which nothing is known may take."""
        ends = _rate(self._went, self._worked)
        lately = load.slots / ends if ends else 0.0
        return max(lately, stuck - COLD, 0.0)


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds else 0.0
