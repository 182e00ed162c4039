"""For how long tasks have waited for a node that is not there, and whether that is too long. PURE."""

from __future__ import annotations


class Hunger:
    """For how long tasks have waited without any node that could take them. Times are seconds."""

    __slots__ = ("_since", "bearable")

    def __init__(self, bearable: float) -> None:
        self.bearable = bearable
        self._since: float | None = None

    def is_over(self, now: float, *, hungry: bool) -> bool:
        """Return whether it was bearable and is not any more; after that it begins anew."""
        if not hungry:
            self.end()
            return False
        if self._since is None:
            self._since = now
        if now - self._since < self.bearable:
            return False
        self.end()
        return True

    def end(self) -> None:
        """A node has come, or nothing waits."""
        self._since = None
