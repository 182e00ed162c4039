"""What people are told about a pool while it works, as text: how nodes and tasks stand, and what is waited for.

PURE: a `Sight` goes in, lines come out. Whoever looks at the pool, and where the lines are shown, is not known here.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SPAN: Final = 5.0  # seconds over which the rate is measured: it follows, and does not flicker
NAMES: Final = 3  # kinds of running tasks that are named


class Sight(NamedTuple):
    """A pool at one moment."""

    ready: int  # nodes
    target: int  # nodes that there shall be
    starting: tuple[int, ...]  # ranks
    queued: int
    running: int
    done: int
    failed: int
    names: tuple[str, ...] = ()  # of running tasks
    cause: str = ""  # why a node could not be started, or was lost

    @property
    def is_busy(self) -> bool:
        """Return whether somebody waits for something."""
        return bool(self.starting or self.queued or self.running)


class Rate:
    """Tasks a second, lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> float:
        """Take in how many tasks have been done by now; return how many that is a second."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > SPAN:
            self._seen.popleft()
        (begin, before), elapsed = self._seen[0], now - self._seen[0][0]
        return (done - before) / elapsed if elapsed > 0 and begin < now else 0.0


class Tally:
    """How far a group is. Its numbers are written by whoever takes the outcomes, and read at any time."""

    def __init__(self, label: str, total: int | None, begun: float, wake: Callable[[], object] = lambda: None) -> None:
        self.label = label
        self.total = total  # None: not known yet
        self.begun = begun
        self.ended = 0
        self.failed = 0
        self.over = False
        self._wake = wake  # whoever says that the group is over

    def end(self) -> None:
        """The group is over: it shall be said now."""
        if not self.over:
            self.over = True
            self._wake()

    @property
    def share(self) -> float | None:
        """Return which part has ended; None if that is not known."""
        return None if self.total is None else self.ended / self.total if self.total else 1.0


def status(sight: Sight, rate: float) -> str:
    """Return how a pool stands."""
    parts = [f"{sight.ready} of {max(sight.target, sight.ready)} nodes"]
    parts += [f"{count:,} {word}" for count, word in ((sight.queued, "queued"), (sight.running, "running")) if count]
    parts.append(f"{sight.done:,} done")
    if sight.failed:
        parts.append(f"{sight.failed:,} failed")
    if rate:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    return " · ".join(parts)


def waits_for(sight: Sight) -> str:
    """Return what a pool waits for; nothing if it is idle."""
    parts: list[str] = []
    if sight.starting:
        ranks = ", ".join(map(str, sight.starting[:NAMES])) + (", …" if len(sight.starting) > NAMES else "")
        parts.append(f"node{'s' if len(sight.starting) > 1 else ''} {ranks} to start")
    elif not sight.ready and (sight.queued or sight.running):
        parts.append("a node")
    common = Counter(sight.names).most_common()
    parts += [f"{count} × {name}" if count > 1 else name for name, count in common[:NAMES]]
    if len(common) > NAMES:
        parts.append("…")
    text = "waiting for " + ", ".join(parts) if parts else ""
    return f"{text} (last trouble: {sight.cause})" if text and sight.cause and not sight.ready else text


def count_of(tally: Tally) -> str:
    """Return how many members of a group have ended."""
    total = "" if tally.total is None else f" of {tally.total:,}"
    return f"{tally.ended:,}{total}" + (f", {tally.failed:,} failed" if tally.failed else "")


def timing(tally: Tally, now: float) -> str:
    """Return how long a group has taken, and will take."""
    elapsed, share = now - tally.begun, tally.share
    if tally.over or not share or share >= 1:
        return duration(elapsed)
    return f"{duration(elapsed)}, {duration(elapsed / share - elapsed)} left"


def summary(tally: Tally, now: float) -> str:
    """Return what is said of a group that is over."""
    return f"{tally.label}: {count_of(tally)} in {timing(tally, now)}"


def report(sight: Sight, rate: float, tallies: Sequence[Tally], now: float) -> list[str]:
    """Return plain lines about a pool."""
    waiting = waits_for(sight)
    lines = [f"{tally.label}: {count_of(tally)} in {timing(tally, now)}" for tally in tallies]
    return [status(sight, rate) + (f"; {waiting}" if waiting else ""), *lines]


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
