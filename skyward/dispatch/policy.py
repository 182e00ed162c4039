"""How much work a node may hold: as little as keeps it busy.

Nothing is known about a function before it has run, so its first tasks go to free slots only. Once
durations are known, tasks short enough to be worth it are sent ahead, up to a budget of *time*, not
of tasks: a node then always has some milliseconds of work in hand, which hides the round trip, and
never more than that, which keeps the tail of a group short and long tasks out of queues.

PURE: durations are numbers handed in.
"""

from __future__ import annotations

from typing import Final

AHEAD: Final = 10_000.0  # µs of work per slot sent ahead: some dozen round trips on one machine
TOO_LONG: Final = 20_000.0  # µs: longer tasks are sent to free slots only; a round trip is noise to them
MOST: Final = 1_024  # tasks per slot a node may hold; bounds what is lost with a node
FLOOR: Final = 5.0  # µs that even an empty task costs a node
WEIGHT: Final = 0.25  # of the newest batch in the moving average (a change shows after about 4 batches)


class Durations:
    """Moving average of the run time of each function, in microseconds."""

    __slots__ = ("_mean",)

    def __init__(self) -> None:
        self._mean: dict[bytes, float] = {}

    def observe(self, key: bytes, mean: float) -> None:
        """Take in the mean duration of a batch of tasks of one function."""
        known = self._mean.get(key)
        self._mean[key] = mean if known is None else known + WEIGHT * (mean - known)

    def cost(self, key: bytes) -> float | None:
        """Return the expected duration of a task, or None if nothing is known."""
        mean = self._mean.get(key)
        return None if mean is None else max(mean, FLOOR)


def may_send_ahead(cost: float | None, load: float, held: int, slots: int) -> bool:
    """Return whether a node without a free slot may take one more task of ``cost``.

    ``load`` is the expected time (µs) of all ``held`` tasks on the node.
    """
    if cost is None or cost > TOO_LONG:
        return False
    return load + cost <= AHEAD * slots and held < MOST * slots
