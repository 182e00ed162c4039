"""Callbacks of futures that asyncio adds itself.

`asyncio.wait` adds callbacks that touch its loop without telling it, so they must run in that loop. Those of users
run in a thread, where they may block.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


class InLoop:
    """A callback, with the loop in which it runs."""

    __slots__ = ("_loop", "fn")

    def __init__(self, fn: Callable[[Any], object], loop: AbstractEventLoop) -> None:
        self.fn = fn
        self._loop = loop

    def schedule(self, call: Callable[[Callable[[Any], object]], None]) -> bool:
        """Have the loop run ``call(fn)`` soon, from any thread; False if it is closed."""
        try:
            self._loop.call_soon_threadsafe(call, self.fn)
        except RuntimeError:
            return False
        return True


def loop_of(fn: Callable[[Any], object]) -> AbstractEventLoop | None:
    """Return the running event loop if the callback is one of asyncio's own."""
    return running_loop() if str(getattr(fn, "__module__", "")).startswith("asyncio.") else None


def running_loop() -> AbstractEventLoop | None:
    """Return the event loop that this thread runs, without importing asyncio for the answer."""
    events = sys.modules.get("asyncio.events")
    loop: AbstractEventLoop | None = None if events is None else events._get_running_loop()
    return loop


def must_not_block() -> bool:
    """Return whether this thread runs an event loop, which blocking would stop."""
    return running_loop() is not None
