"""Large buffers of results and of what tasks yield: put where the daemon, and a client beside it, can read them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.machine.memory import Arena
    from skyward.wire.frames import Buffer, Ref


class Shared:
    """What one worker has put there. Thread-safe."""

    def __init__(self, make_arena: Callable[[], Arena]) -> None:
        """``make_arena`` is called when the first result needs one."""
        self._make_arena = make_arena
        self._arena: Arena | None = None
        self._lock = threading.Lock()
        self._regions: dict[int, Ref] = {}  # that somebody may be reading

    def put(self, buffer: Buffer) -> Buffer:
        """Return a reference to a copy of the buffer; the buffer itself if there is no room for it."""
        with self._lock:
            if self._arena is None:
                self._arena = self._make_arena()
            ref = self._arena.put(buffer)
        if ref is None:
            return buffer
        self._regions[ref.number] = ref
        return ref

    def release(self, regions: Iterable[int]) -> None:
        """Let regions be used again."""
        for region in regions:
            self._regions.pop(region, None)
