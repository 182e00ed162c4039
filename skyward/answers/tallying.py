"""Groups whose progress is shown: their sinks count what ends, in a `Tally` that somebody else reads.

Subclasses, so that a group without progress pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.answers.streams import StreamBuffer
from skyward.results import Collection, failed

if TYPE_CHECKING:
    from skyward.mesh.view import Tally
    from skyward.results import Outcome, Run
    from skyward.work.pending import Group


def label_of(group: Group) -> str:
    """Return the name under which a group is shown."""
    if isinstance(group.progress, str):
        return group.progress
    return group.calls[0].function.__name__ if group.calls else "calls"


class TalliedCollection(Collection):
    """The outcomes of a group, counted."""

    def __init__(self, count: int, *, tally: Tally, **options: Any) -> None:
        super().__init__(count, **options)
        self._tally = tally
        if self.done:
            tally.end()

    def take(self, index: int, outcome: Outcome) -> None:
        """Count the member, and take its outcome."""
        if not self.done:
            self._tally.ended += 1
            self._tally.failed += failed(outcome)
        super().take(index, outcome)

    def take_run(self, run: Run) -> None:
        """Count the members, and take their values."""
        if not self.done:
            self._tally.ended += len(run.indexes)
        super().take_run(run)

    def end(self) -> None:
        """Note that the group is over."""
        super().end()
        self._tally.end()


class TalliedBuffer(StreamBuffer):
    """The outcomes of a stream, counted as they come, whether they are taken or not."""

    def __init__(self, total: int | None, *, tally: Tally, **options: Any) -> None:
        super().__init__(total, **options)
        self._tally = tally
        if total == 0:
            tally.end()

    def add(self, index: int, outcome: Outcome) -> None:
        """Count the member, and take its outcome."""
        if not self.abandoned:
            self._tally.ended += 1
            self._tally.failed += failed(outcome)
        super().add(index, outcome)
        self._look()

    def finish(self, total: int, error: BaseException | None = None) -> None:
        """Note how many members there are."""
        super().finish(total, error)
        self._tally.total = self.total
        self._look()

    def abandon(self) -> None:
        """Note that nobody wants the rest."""
        super().abandon()
        self._tally.end()

    def _look(self) -> None:
        if self.stopped or (self.total is not None and self.ended >= self.total):
            self._tally.end()
