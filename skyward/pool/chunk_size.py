"""How many items of `pool.map` go into one chunk, by what is known of those before.

Chunks begin with one item and grow until one takes about `WORTHWHILE` seconds, so that cheap items share the cost of a
message and dear ones are spread over all workers; those of many bytes have fewer.

PURE: numbers.
"""

from __future__ import annotations

from typing import Final

from skyward.pool.chunks import LARGEST

WORTHWHILE: Final = 0.01  # seconds of work in a chunk: a message costs some hundred microseconds
GROWTH: Final = 8  # how much larger than the one before a chunk may be
RISE: Final = 1.25  # the same for those that had to be divided: to find out that one is too large costs a copy of it


class ChunkSize:
    """The size of the next chunk."""

    __slots__ = ("_alone", "_by_bytes", "_by_time")

    def __init__(self, *, alone: bool) -> None:
        """``alone``: no two items go together."""
        self._alone = alone
        self._by_time = 1
        self._by_bytes: float = LARGEST

    @property
    def items(self) -> int:
        """Return how many items the next chunk has."""
        return min(self._by_time, int(self._by_bytes))

    def note_parts(self, items: int, parts: int) -> None:
        """Note into how many parts so many items had to be divided for their bytes."""
        self._by_bytes = min(LARGEST, RISE * self._by_bytes) if parts == 1 else items // parts

    def note_time(self, seconds: float, most: int) -> None:
        """Note how long an item took, and how many its worker would have in a chunk at most."""
        if not self._alone:
            wanted = int(WORTHWHILE / max(seconds, 1e-9))
            self._by_time = max(1, min(wanted, GROWTH * self._by_time, most))
