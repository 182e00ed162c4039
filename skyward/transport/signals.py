"""Deferring Python signal handlers while the main thread owns shared state.

A handler that raises (Ctrl-C's, or a user's) can strike between any two bytecodes. Were it to
strike while the main thread moves messages for every waiting thread of the pool, results would be
lost. So while it does, handlers are noted and run at the end of the guarded block, when the state is
whole again. The guarded block is told at once, through ``wake``, and ends as soon as it can.

Nothing outlives the block: the user's handlers are back in place before they run.
"""

from __future__ import annotations

import threading
from importlib import import_module
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

# What `signal` is made of, unknown to type checkers. signal.signal() converts to enums: 6 µs against 0.3, twice per
# call on the hot path.
_signal: Final[Any] = import_module("_signal")

_handler: Final[Callable[[int], Any]] = _signal.getsignal

_DEFERRED: Final[tuple[int, ...]] = (
    _signal.SIGINT,
    _signal.SIGTERM,
    _signal.SIGALRM,
    _signal.SIGHUP,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


class Guard:
    """Context manager: inside it, in the main thread, signal handlers are deferred."""

    __slots__ = ("_saved", "_wake", "pending")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake  # makes the guarded block look at ``pending``; async-signal-safe in Python terms
        self._saved: list[tuple[int, Any]] = []
        self.pending: dict[int, FrameType | None] = {}  # signals that came, and where they struck first

    def __enter__(self) -> Self:
        if threading.get_ident() == threading.main_thread().ident:
            try:
                self._defer()
            except BaseException:  # the handler of one that was not yet deferred has struck
                self._restore()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved:
            self._restore()

    @property
    def active(self) -> bool:
        """Return whether signals are deferred: in the main thread, if they have handlers."""
        return bool(self._saved)

    def _defer(self) -> None:
        for number in compress(_DEFERRED, map(callable, map(_handler, _DEFERRED))):  # each is asked for in its turn
            # Saved before it is replaced: an interrupt in between finds both in order.
            self._saved.append((number, _handler(number)))
            _signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pending.setdefault(number, frame)
        self._wake()

    def _restore(self) -> None:
        """Put the handlers back and run those that were called; one that raises keeps back no other."""
        handlers = dict(self._saved)
        try:
            self._put_back()
        finally:
            if self.pending:
                pending, self.pending = self.pending, {}
                _run(handlers, list(pending.items()))

    def _put_back(self) -> None:
        try:
            while self._saved:
                number, handler = self._saved[-1]  # SIGINT, the most likely to raise, is the last to be back
                _signal.signal(number, handler)
                self._saved.pop()
        finally:
            if self._saved:  # one that was back already has struck
                self._put_back()


def _run(handlers: dict[int, Any], pending: list[tuple[int, FrameType | None]]) -> None:
    if pending:
        (number, frame), *later = pending
        try:
            handlers[number](number, frame)
        finally:
            _run(handlers, later)
