"""Thread mode: the threads that run a worker's tasks.

There are as many as the worker has slots, and one more for each task that has lent its slot while it waits: `seats`
says whose turn it is.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final

from skyward.machine.mapped_files import tidy
from skyward_node.worker.instance import enter
from skyward_node.worker.process import or_die
from skyward_node.worker.seats import Seats

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from skyward_node.pipe_messages import Context
    from skyward_node.worker.control import Control
    from skyward_node.worker.inbox import Entry
    from skyward_node.worker.outbox import Outbox
    from skyward_node.worker.slot import Slot


_running: Final[ContextVar[int | None]] = ContextVar("skyward_task", default=None)


class SlotThreads:
    """All of one worker, and what they take: ids of tasks from a queue, the tasks themselves from ``pending``."""

    def __init__(
        self,
        count: int,
        *,
        queue: SimpleQueue[int | None],
        pending: dict[int, Entry],
        control: Control,
        outbox: Outbox,
        cells: memoryview,
        new_slot: Callable[[], Slot],
        end_calls: Callable[[int], object],
    ) -> None:
        """``count`` slots; in ``cells`` it is noted which task each of them runs."""
        self.context: Context | None = None  # what the daemon has told last
        self._count = count
        self._queue = queue
        self._pending = pending
        self._control = control
        self._outbox = outbox
        self._cells = cells
        self._new_slot = new_slot
        self._end_calls = end_calls
        self._seats = Seats(count)
        self._local = threading.local()  # .slot
        self._threads: list[threading.Thread] = []  # those beyond ``count`` run while others wait

    def start(self) -> None:
        """Start one for each slot."""
        for _ in range(self._count):
            self._start_one()

    def finish(self) -> None:
        """Return when all that has come has run. Nothing may come any more."""
        self._seats.end(len(self._threads))
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start_one(self) -> None:
        thread = threading.Thread(target=or_die, args=(partial(self._serve, self._new_slot()),))
        self._threads.append(thread)
        thread.start()

    def _serve(self, slot: Slot) -> None:
        queue, pending, control, outbox = self._queue, self._pending, self._control, self._outbox
        cells, seats, context, seat = self._cells, self._seats, None, -1
        self._local.slot = slot
        seats.wait_for_turn()
        while (id := queue.get()) is not None:
            if seats.owed and seats.pay(partial(queue.put, id)):
                continue
            slot.current = id
            _running.set(id)
            entry = pending.pop(id, None)
            if entry is not None:
                slot.seat = seats.take()
                if context is not self.context or seat != slot.seat:
                    context, seat = self.context, slot.seat
                    enter(context, seat)
                if (pending or outbox.done) and not control.watching:
                    control.watch()
                cells[seat] = id
                outbox.done.append(slot.run(entry))
                self._end_calls(id)
                seats.leave(slot.seat)
            slot.current = entry = None
            outbox.flush()
            tidy()

    # --- what tasks ask for -------------------------------------------------------------------

    def current_task(self) -> int | None:
        """Return the task that runs in this thread, or in whose context, as that of `asyncio.to_thread`, it runs."""
        slot: Slot | None = getattr(self._local, "slot", None)
        if slot is not None:
            return slot.current
        task = _running.get()
        return None if task is None or self._slot_of(task) is None else task

    def lend(self, task: int) -> None:
        """Let one more thread run while a task waits."""
        slot = self._slot_of(task)
        if slot is not None and len(self._threads) < self._seats.lend(slot.seat):
            self._start_one()

    def take_back(self, task: int) -> None:
        """Give a task that goes on a slot."""
        if (slot := self._slot_of(task)) is not None:
            slot.seat = self._seats.take_back()
            self._cells[slot.seat] = task

    def _slot_of(self, task: int) -> Slot | None:
        return next((slot for slot in self._control.slots if slot.current == task), None)
