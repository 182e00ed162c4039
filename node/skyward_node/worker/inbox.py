"""Tasks that have come and not started, and who takes each of them: a slot, or a cancel.

Whoever pops a task from ``pending`` owns it; ``dict.pop`` is atomic, so slots take no lock. A slot says that a task
is its current one *before* it pops it. So a cancel that finds a task neither pending nor current, nor among those read
of late, knows that it has not been read from the data pipe yet, or has finished long ago. In the pipe it may sit for as
long as another task runs, and that one may be waiting for it. So it is answered for at once (the daemon ignores the
answer if it has the result), and *doomed*: its copy is dropped when it is read.

Each cancel comes twice. Its *original* comes by the control pipe, its *copy* by the data pipe, behind the tasks that it
can be about: that lifts the doom. An original that comes later than its copy finds nothing to do but to interrupt.

A task that was handed back may be given to this worker again, also while what was given before is unread. So what was
handed back does not count as read, and a task is dropped as many times as it was answered for. The daemon asks for a
task that it has given once, and a second time only if the task is to end: then it is not given again.
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

    __slots__ = ("ends", "number", "times")

    def __init__(self) -> None:
        self.times = 0  # that it was answered for, and will be read
        self.number = 0  # of the last cancel that names it
        self.ends = False  # one was for running tasks, too: the task is not given again


class Inbox:
    """The tasks of a worker. The main thread adds, slots take, the control thread drops."""

    __slots__ = ("_copies", "_doomed", "_lock", "_originals", "_recent", "announce", "pending", "retract")

    def __init__(self, announce: Callable[[int], object], retract: Callable[[int], object] = int) -> None:
        """``announce`` puts an id where slots wait for one; ``retract`` takes it away there, if it can."""
        self.announce = announce
        self.retract = retract
        self.pending: dict[int, Entry] = {}
        self._doomed: dict[int, Doom] = {}
        self._recent: deque[list[int]] = deque(maxlen=RECENT)  # ids of the batches read last, without what went back
        self._lock = threading.Lock()  # one of the two pipes is acted upon at a time
        self._originals = 0  # cancels read from the control pipe
        self._copies = 0  # those read from the data pipe

    def add(self, message: Tasks, body: Sequence[Buffer]) -> None:
        """Take in a batch."""
        functions, pending, announce = message.functions, self.pending, self.announce
        rows = split_body(message.sizes, message.buffers, body)
        counts = message.counts or [1] * len(rows)
        with self._lock:
            dropped = self._drop_doomed(message.ids) if self._doomed else ()
            self._note_read(message.ids)
            for id, fn, (data, buffers), count in zip(message.ids, message.fns, rows, counts, strict=True):
                if not dropped or id not in dropped:
                    pending[id] = id, functions[fn], data, buffers, count
                    announce(id)

    def add_one(self, message: Call) -> None:
        """Take in a task that comes alone."""
        id = message.id
        with self._lock:
            dropped = self._drop_doomed([id]) if self._doomed else ()
            self._note_read([id])
            if not dropped:
                self.pending[id] = id, message.function, message.data, (), 1
                self.announce(id)

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

    def _note_read(self, ids: list[int]) -> None:
        doomed = self._doomed
        self._recent.append(ids if not doomed else [id for id in ids if id not in doomed or doomed[id].ends])

    def _drop_doomed(self, ids: Iterable[int]) -> set[int]:
        """Return those of the ids, which have been read, that were answered for."""
        dropped: set[int] = set()
        for id in ids:
            doom = self._doomed.get(id)
            if doom is not None and doom.times:
                doom.times -= 1
                dropped.add(id)
        return dropped

    def _claim(self, message: Cancel) -> list[int]:
        """Take away what is pending."""
        # From the last: a slot that takes the next task meanwhile begins none before one that is handed back.
        claimed = [id for id in reversed(message.ids) if self.pending.pop(id, None) is not None][::-1]
        for id in claimed:  # else one that comes again would begin in its old place, before those ahead of it
            self.retract(id)
        if claimed and not message.running:
            gone = set(claimed)
            for place, batch in enumerate(self._recent):
                if not gone.isdisjoint(batch):
                    self._recent[place] = [id for id in batch if id not in gone]
        return claimed

    def cancel(self, message: Cancel, current: Callable[[], Collection[int | None]]) -> tuple[list[int], list[int]]:
        """Apply a cancel from the control pipe: return what is to be answered for, and what was not pending.

        ``current`` tells what slots run now.
        """
        with self._lock:
            self._originals += 1
            if self._copies >= self._originals:  # what is pending was given after it
                return [], message.ids
            dropped = self._claim(message)
            others = [id for id in message.ids if id not in dropped] if len(dropped) < len(message.ids) else []
            if others:
                runs = current()
                unread = [id for id in others if id not in runs and not any(id in batch for batch in self._recent)]
                dropped += [id for id in unread if self._doom(id, ends=message.running)]
        return dropped, others

    def _doom(self, id: int, *, ends: bool) -> bool:
        """Have a task dropped once more when it is read; return whether that is to be answered for."""
        doom = self._doomed.get(id)
        if doom is None:
            doom = self._doomed[id] = Doom()
        doom.number = self._originals
        if doom.ends:
            return False
        doom.times += 1
        doom.ends = ends
        return True

    def settle(self, message: Cancel) -> list[int]:
        """Apply a cancel's copy from the data pipe; return what it has dropped."""
        with self._lock:
            self._copies += 1
            for id in message.ids:
                doom = self._doomed.get(id)
                if doom is not None and doom.number <= self._copies:
                    del self._doomed[id]
            return self._claim(message)
