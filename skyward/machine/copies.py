"""Copies of memory that are found again, so that the same bytes are not copied twice.

A copy is found by the memory that it was made of, as long as somebody has it, and used again if the bytes there are
still the same. Whose that memory was does not matter. To compare takes as long as to copy into pages that are warm, and
a fifth of that if these are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.wire.frames import Buffer

C = TypeVar("C")


class Copies(Generic[C]):
    """The copies that somebody has; any thread may look for one, or add one."""

    def __init__(self, bytes_of: Callable[[C], Buffer]) -> None:
        """``bytes_of``: returns what a copy holds."""
        self._bytes_of = bytes_of
        self._known: WeakValueDictionary[tuple[int, int], C] = WeakValueDictionary()  # by address and length

    def find(self, memory: Buffer) -> C | None:
        """Return a copy of this memory as it is now, if there is one."""
        from skyward.machine.comparing import are_equal, locate  # brings ctypes, 4 ms: most pools never need it

        known = self._known.get(locate(memory))
        return known if known is not None and are_equal(self._bytes_of(known), memory) else None

    def add(self, memory: Buffer, copy: C) -> None:
        """Note a copy of this memory."""
        from skyward.machine.comparing import locate

        self._known[locate(memory)] = copy
