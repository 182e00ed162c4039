"""Since when each node has had nothing to do.

A node that has served a call between two looks was not idle, even if both have seen it so.

PURE: the clock is a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyward.dispatch.load import Load


class Idleness:
    """Watches the ready nodes of one pool."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, int]] = {}  # moment, and calls served by then; of idle nodes only

    def look(self, load: Load, now: float) -> None:
        """Take in how the nodes are."""
        before, self._since = self._since, {}
        for rank, served in load.served.items():
            if rank not in load.busy:
                since, then = before.get(rank, (now, served))
                self._since[rank] = (since if then == served else now, served)

    def forget(self, rank: int) -> None:
        """The node is gone; another may take its rank."""
        self._since.pop(rank, None)

    def ranks(self, least: float, now: float) -> list[int]:
        """Return who has been idle for ``least`` seconds, the highest rank first."""
        return sorted((rank for rank, (since, _) in self._since.items() if now - since >= least), reverse=True)
