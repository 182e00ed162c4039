"""Tasks that have come and not started, and who takes each of them: a slot, or a cancel.

Whoever pops a task from ``pending`` owns it; ``dict.pop`` is atomic, so slots take no lock. A slot says that a task
is its current one *before* it pops it. So a cancel that finds a task neither pending nor current knows that it has
finished, or has not been read from the data pipe yet, where it may sit for as long as another task runs. Such ids are
``doomed``: when the task is read it is dropped. One that is not among those read of late is answered for at once (if
it had finished long ago, the daemon has its result, and ignores the answer), and the drop is silent. The copy of the
cancel that comes down the data pipe, behind the tasks it can be about, lifts the doom.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from skyward.wire.codec import split_body

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.lone import Call
    from skyward.wire.messages import Cancel, Tasks
    from skyward_node.worker.slot import Slot


# A task as it waits: its id, the function's key, the pickled arguments and their buffers, and its number of calls.
Entry: TypeAlias = "tuple[int, bytes, Buffer, tuple[Buffer, ...], int]"

RECENT: Final = 64  # batches: results of tasks that came before them are with the daemon


class Doom:
    """What is known of an unread task that was cancelled."""

    __slots__ = ("answered", "number", "running")

    def __init__(self) -> None:
        self.answered = False  # for a copy that has not been read
        self.number = 0  # of the last cancel that names it
        self.running = False  # whether that was for running ones too


class Inbox:
    """The tasks of a worker. The main thread adds, slots take, the control thread drops."""

    __slots__ = ("_copies", "_doomed", "_lock", "_originals", "_recent", "announce", "pending")

    def __init__(self, announce: Callable[[int], object]) -> None:
        self.announce = announce  # puts an id where slots wait for one
        self.pending: dict[int, Entry] = {}
        self._doomed: dict[int, Doom] = {}
        self._recent: deque[list[int]] = deque(maxlen=RECENT)  # ids of the batches read last
        self._lock = threading.Lock()  # one of the two pipes is acted upon at a time
        self._originals = 0  # cancels read from the control pipe
        self._copies = 0  # cancels read from the data pipe

    def add(self, message: Tasks, body: Sequence[Buffer]) -> list[tuple[list[int], bool]]:
        """Take in a batch. Return those that were cancelled before they came and not answered, by kind of cancel."""
        functions, pending, announce = message.functions, self.pending, self.announce
        rows = split_body(message.sizes, message.buffers, body)
        with self._lock:
            self._recent.append(message.ids)
            untold = self._drop_doomed(message.ids) if self._doomed else []
            counts = message.counts or [1] * len(rows)
            for id, fn, (data, buffers), count in zip(message.ids, message.fns, rows, counts, strict=True):
                if not self._doomed or id not in self._doomed:
                    pending[id] = id, functions[fn], data, buffers, count
                    announce(id)
        if not untold:
            return []
        return [(ids, running) for running in (False, True) if (ids := [id for id, kind in untold if kind is running])]

    def add_one(self, message: Call) -> list[tuple[list[int], bool]]:
        """Take in a task that comes alone; as `add`."""
        id = message.id
        with self._lock:
            self._recent.append([id])
            if not self._doomed or id not in self._doomed:
                self.pending[id] = id, message.function, message.data, (), 1
                self.announce(id)
                return []
            return [([id], running) for _, running in self._drop_doomed([id])]

    def claim(self, id: int, slot: Slot) -> bool:
        """Have a slot take a task that comes alone and finds it idle, as if it had waited here; False if it must.

        That is where it may have been cancelled before it came.
        """
        with self._lock:
            if self._doomed:
                return False
            self._recent.append([id])
            slot.current = id
        return True

    def _drop_doomed(self, ids: Iterable[int]) -> list[tuple[int, bool]]:
        """Return those of the ids whose drop nobody has told, and the kind of their cancel."""
        untold: list[tuple[int, bool]] = []
        for id in ids:
            doom = self._doomed.get(id)
            if doom is None:
                continue
            if doom.answered:
                doom.answered = False
            else:
                untold.append((id, doom.running))
        return untold

    def _claim(self, ids: Sequence[int]) -> list[int]:
        # From the last: a slot that takes the next task meanwhile begins none before one that is handed back.
        return [id for id in reversed(ids) if self.pending.pop(id, None) is not None][::-1]

    def cancel(self, message: Cancel, current: Callable[[], Collection[int | None]]) -> tuple[list[int], list[int]]:
        """Apply a cancel from the control pipe: return what is to be answered for, and what was not pending.

        ``current`` tells what slots run now.
        """
        with self._lock:
            self._originals += 1
            dropped = self._claim(message.ids)
            others = [id for id in message.ids if id not in dropped] if len(dropped) < len(message.ids) else []
            if others and self._copies < self._originals:  # else all that it is about has been read
                runs = current()
                dropped += [id for id in others if id not in runs and self._doom(id, message)]
        return dropped, others

    def _doom(self, id: int, message: Cancel) -> bool:
        """Have an id dropped when it is read; return whether that is to be answered for now."""
        doom = self._doomed.get(id)
        if doom is None:
            doom = self._doomed[id] = Doom()
            doom.answered = not any(id in batch for batch in self._recent)
            answer = doom.answered
        else:
            answer = False  # it was; or the task came back here meanwhile, and its second copy is told when it is read
        doom.number = self._originals
        doom.running = message.running
        return answer

    def settle(self, message: Cancel) -> list[int]:
        """Apply a cancel's copy from the data pipe; return what it has dropped."""
        with self._lock:
            self._copies += 1
            for id in message.ids:
                doom = self._doomed.get(id)
                if doom is not None and doom.number <= self._copies:
                    del self._doomed[id]
            return self._claim(message.ids)
