"""Tasks that have come and not started, and who takes each of them: a slot, or a cancel.

Whoever pops a task from ``pending`` owns it; ``dict.pop`` is atomic, so no lock is taken per task.
A slot says that a task is its current one *before* it pops it. So a cancel that finds a task neither
pending nor current knows that it has finished, or has not been read from the data pipe yet. Such ids
are ``doomed``. The copy of the cancel that comes down the data pipe, behind the tasks it can be
about, lifts the doom: what is still doomed then had finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from skyward.wire.codec import split_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Cancel, Tasks


class Entry(NamedTuple):
    """A task as it waits: the function's key and the pickled arguments."""

    id: int
    function: bytes
    data: Buffer
    buffers: tuple[Buffer, ...]


class Inbox:
    """The tasks of a worker. The main thread adds, slots take, the control thread drops."""

    __slots__ = ("_copies", "_doomed", "_originals", "announce", "pending")

    def __init__(self, announce: Callable[[int], object]) -> None:
        self.announce = announce  # puts an id where slots wait for one
        self.pending: dict[int, Entry] = {}
        self._doomed: dict[int, bool] = {}  # id -> whether the cancel was for running ones too
        self._originals = 0  # cancels read from the control pipe
        self._copies = 0  # cancels read from the data pipe

    def add(self, message: Tasks, body: Sequence[Buffer]) -> list[tuple[list[int], bool]]:
        """Take in a batch. Return those that were cancelled before they came, by kind of cancel."""
        functions, pending, announce = message.functions, self.pending, self.announce
        rows = split_body(message.sizes, message.buffers, body)
        for id, fn, (data, buffers) in zip(message.ids, message.fns, rows, strict=True):
            pending[id] = Entry(id, functions[fn], data, buffers)
            announce(id)
        if not self._doomed:
            return []
        doomed = {id: self._doomed[id] for id in message.ids if id in self._doomed}
        return [
            (self._claim(id for id, kind in doomed.items() if kind is running), running) for running in (False, True)
        ]

    def _claim(self, ids: Iterable[int]) -> list[int]:
        return [id for id in ids if self.pending.pop(id, None) is not None]

    def cancel(self, message: Cancel) -> tuple[list[int], list[int]]:
        """Apply a cancel from the control pipe: return what it has dropped, and what was not pending."""
        self._originals += 1
        running = message.running
        self._doomed.update((id, running) for id in message.ids)  # first, so that a task read meanwhile is caught
        dropped = self._claim(message.ids)
        # The main thread counts before it lifts, and we look after we have doomed: one of us lifts.
        self._lift(message.ids if self._copies >= self._originals else dropped)
        return dropped, [id for id in message.ids if id not in dropped] if len(dropped) < len(message.ids) else []

    def settle(self, message: Cancel) -> list[int]:
        """Apply a cancel's copy from the data pipe; return what it has dropped."""
        self._copies += 1
        dropped = self._claim(message.ids)
        self._lift(message.ids)
        return dropped

    def _lift(self, ids: Iterable[int]) -> None:
        for id in ids:
            self._doomed.pop(id, None)
