"""Whether to sleep until an answer comes, or to look for it again and again.

A lone call takes some tenths of a millisecond, and a good part of it is waking up: the thread has to be scheduled, and
a processor that slept meanwhile has forgotten what it was about to do. Whoever does nothing but wait for one answer may
stay awake instead, for a moment. Where processors are few or busy that is slower: who looks again and again is in the
way of those who bring the answer. So both are measured, and compared.

PURE: no clock.
"""

from __future__ import annotations

from typing import Final

MOMENT: Final = 0.0005  # seconds: a few round trips on one machine; what takes longer is slept for
MOST: Final = 4 * MOMENT  # seconds that one wait counts at most: a task that takes long says little about the next
WEIGHT: Final = 0.125  # of the newest wait in the averages
EXPLORE: Final = 64  # waits of which one is done the other way, to see what that takes now


class Alertness:
    """How long answers of one kind take, if one sleeps meanwhile and if one does not. The better way is taken."""

    __slots__ = ("_asleep", "_awake", "_count")

    def __init__(self) -> None:
        self._asleep = MOST
        self._awake = 0.0
        self._count = 0

    def stay_awake(self) -> bool:
        """Return whether not to sleep in the next wait."""
        if self._asleep >= MOMENT:
            return False
        self._count += 1
        return (self._awake < self._asleep) is (self._count % EXPLORE > 0)

    def note(self, seconds: float, *, awake: bool, answered: bool = True) -> None:
        """Take in how long a wait was; one that ended early without an answer tells nothing.

        One that was begun awake and took longer than a moment has ended asleep. It counts for both ways, so that a
        single slow answer does not decide between them.
        """
        if not answered and seconds < MOMENT:
            return
        if awake:
            self._awake += WEIGHT * (min(seconds, MOMENT) - self._awake)
        if not awake or seconds >= MOMENT:
            self._asleep += WEIGHT * (min(seconds, MOST) - self._asleep)
