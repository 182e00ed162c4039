"""How much work a node may hold: as little as keeps it busy.

Nothing is known about a function before it has run, so its first tasks go to free slots only. Once
durations are known, tasks short enough to be worth it are sent ahead, up to a budget of *time*, not
of tasks: a node then always has some milliseconds of work in hand, which hides the round trip, and
never more than that, which keeps the tail of a group short and long tasks out of queues. It gets more
when it has used up half of that: one message then carries several tasks, and the client, which pays for
messages, can keep several times as many nodes busy.

PURE: durations are numbers handed in.
"""

from __future__ import annotations

from typing import Final

from skyward.dispatch.pace import Pace

AHEAD: Final = 10_000  # µs of work per slot sent ahead: some dozen round trips on one machine
LOW: Final = AHEAD // 2  # µs of work per slot at which a node gets more: below it, a late message would be felt
TOO_LONG: Final = 20_000.0  # µs: longer tasks are sent to free slots only; a round trip is noise to them
MOST: Final = 1_024  # tasks per slot a node may hold; bounds what is lost with a node
FLOOR: Final = 5.0  # µs that even an empty task costs a node
KNOWN: Final = 4_096  # functions whose duration is remembered; a loop that redefines one makes no end of them

RUN: Final = 64  # tasks sent ahead to one node before the next has its turn: few messages, each large
RUN_TIME: Final = 1_000.0  # µs of work in one such run: by so much the nodes may differ when the queue ends
RECALL: Final = 2_000  # µs of waiting work worth taking back for an idle node: some round trips


class Durations:
    """What is expected of each function, in microseconds."""

    __slots__ = ("_mean", "_paces")

    def __init__(self) -> None:
        self._paces: dict[bytes, Pace] = {}
        self._mean: dict[bytes, float] = {}

    def observe(self, key: bytes, mean: float) -> None:
        """Take in the mean duration of a batch of tasks of one function."""
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = Pace()
            if len(self._paces) > KNOWN:
                oldest = next(iter(self._paces))
                del self._paces[oldest], self._mean[oldest]
        self._mean[key] = pace.observe(mean)

    def cost(self, key: bytes, count: int = 1) -> float | None:
        """Return the expected duration of a task of ``count`` calls, or None if nothing is known."""
        mean = self._mean.get(key)
        return None if mean is None else max(mean * count, FLOOR)


def charge(cost: float | None) -> int:
    """Return what a task of ``cost`` counts in its node's load, in µs.

    A long one takes the budget of the slot it occupies, and no more; so does one of which nothing is known. One that
    may be sent ahead leaves a rest of it: that tells a node that has only such tasks from one that has others.
    An integer: what is added and taken away again leaves nothing behind.
    """
    return min(int(cost), AHEAD - 1) if cost is not None and cost <= TOO_LONG else AHEAD


def is_short(cost: float | None) -> bool:
    """Return whether a task of ``cost`` may be sent ahead at all."""
    return cost is not None and cost <= TOO_LONG


def may_send_ahead(cost: float | None, load: float, held: int, slots: int) -> bool:
    """Return whether a node without a free slot may take one more task of ``cost``."""
    return room_ahead(cost, load, held, slots) > 0


def room_ahead(cost: float | None, load: float, held: int, slots: int) -> int:
    """Return how many more tasks of ``cost`` a node without a free slot may take.

    ``load`` is the expected time (µs) of all ``held`` tasks on the node, to which each is charged. While that is below
    the budget, one task per slot may wait whatever it takes: else those that take more than half of the budget paid for
    a round trip each.
    """
    if cost is None or not is_short(cost):
        return 0
    budget, charged = AHEAD * slots, charge(cost)
    by_time = min(int((budget - load - cost) // charged) + 1, MOST * slots - held)
    by_count = min(int(-((load - budget) // charged)), 2 * slots - held)
    return max(by_time, by_count, 0)


def runs_low(load: float, held: int, slots: int) -> bool:
    """Return whether it is time to send a node more."""
    return held < 2 * slots or load <= LOW * slots


def run_length(cost: float | None) -> int:
    """Return how many tasks of ``cost`` go ahead to one node before the next has its turn."""
    return RUN if cost is None else max(1, min(RUN, int(RUN_TIME / cost)))
