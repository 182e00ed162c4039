"""How long calls of a function take, as far as one can tell from those that have ended.

A moving average, with a doubt: most functions have a call now and then that takes many times as long as the others. If
one of these counted in full the next dozen calls would be taken for long ones, and each would wait for a round trip. So
the first that is a surprise counts for a part of what it took; if another follows soon the function has changed.

PURE: durations are numbers handed in.
"""

from __future__ import annotations

from typing import Final

WEIGHT: Final = 0.25  # of the newest batch in the moving average (a change shows after about 4 batches)
SURPRISE: Final = 4.0  # times what was expected that a batch takes to be a surprise; it counts for so much
UNSURPRISING: Final = 1_000.0  # µs that may be anything: a start, a lost processor
WARY: Final = 8  # batches in which a second surprise is believed


class Pace:
    """What to expect of one function, in microseconds."""

    __slots__ = ("_wary", "mean")

    def __init__(self) -> None:
        self.mean: float | None = None  # None: nothing is known
        self._wary = 0  # batches since a surprise, backwards

    def observe(self, mean: float) -> float:
        """Take in the mean duration of a batch of calls; return what is expected now."""
        known = self.mean
        if known is None:
            self.mean = mean
            return mean
        wary = self._wary
        if wary:
            self._wary = wary - 1
        if mean > SURPRISE * known and mean > UNSURPRISING:
            self._wary = WARY
            if not wary:
                mean = max(SURPRISE * known, UNSURPRISING)
        self.mean = known = known + WEIGHT * (mean - known)
        return known
