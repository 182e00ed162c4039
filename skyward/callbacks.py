"""Callbacks of futures that belong to an event loop: added while one runs in the calling thread, as asyncio's own are.

`asyncio.wait` adds callbacks that touch its loop without telling it, so they must run in that loop.
"""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


class InLoop:
    """A callback, with the loop and the context in which it runs."""

    __slots__ = ("_context", "_loop", "fn")

    def __init__(self, fn: Callable[[Any], object], loop: AbstractEventLoop) -> None:
        self.fn = fn
        self._loop = loop
        self._context = contextvars.copy_context()

    def schedule(self, call: Callable[[Callable[[Any], object]], None]) -> bool:
        """Have the loop run ``call(fn)`` soon, from any thread; False if it is closed."""
        try:
            self._loop.call_soon_threadsafe(call, self.fn, context=self._context)
        except RuntimeError:
            return False
        return True


def running_loop() -> AbstractEventLoop | None:
    """Return the event loop that this thread runs, without importing asyncio for the answer."""
    events = sys.modules.get("asyncio.events")
    loop: AbstractEventLoop | None = None if events is None else events._get_running_loop()
    return loop
