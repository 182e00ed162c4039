"""When a process tells what its tasks came to: in few messages, and before it has nothing left to do.

A message costs the task behind it more than the writing: whoever is woken by it may take this processor, and has the
next ones wait. So outcomes gather as long as there is work in hand, and are told when as many tasks have been done as
are left: then others come in time. The first one after a pause is told at once: somebody may wait for it. Meanwhile
the control thread sends what has gathered, every few milliseconds, if the task that runs lets it. That costs this
thread nothing, so as long as it comes by it is left to do so.

Knows no pipes: it is lent a way to take in what has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from skyward_node.worker.outbox import Outbox, Outcome

MOST_NS: Final = 4_000_000  # ns of work whose outcomes may gather, should the control thread not come by
LEAST_NS: Final = 200_000  # ns of work that is worth a message while something is left to do: ten times its cost
AWAY_NS: Final = 2_000_000  # ns that the control thread stays away, if what runs lets it: see `control.TICK`
MOST_SIZE: Final = 256 * 1024  # bytes that may gather: what a socket buffer takes without waiting


class Teller:
    """Puts outcomes into the outbox, and has them sent when it is time."""

    __slots__ = ("_look", "_order", "_outbox", "_since", "_size", "paused")

    def __init__(self, outbox: Outbox, order: Sized, look: Callable[[], bool]) -> None:
        """``order``: what is left to do; ``look`` takes in what has come, and returns whether more may come."""
        self._outbox = outbox
        self._order = order
        self._look = look
        self._size = 0  # bytes that have gathered
        self._since = 0  # when the first of their tasks began, by perf_counter_ns
        self.paused = True  # nothing has been told since there was nothing to do

    def take(self, outcome: Outcome, started: int, ended: int) -> None:
        """Take the outcome of a task that ran from ``started`` to ``ended``."""
        outbox = self._outbox
        done = outbox.done
        outbox.ready = False
        if not done:  # whatever was here has been sent
            self._size, self._since = 0, started
        done.append(outcome)
        data, buffers = outcome[2]
        self._size += len(data)
        work = ended - self._since
        # One that refers to memory is told at once: the next task could change that.
        if buffers or self._size > MOST_SIZE or work > MOST_NS:
            outbox.flush()
        elif work > LEAST_NS:
            if self.paused or (self._runs_low() and not self._is_looked_after(work, ended)):
                self.paused = False
                outbox.flush()
            else:
                outbox.make_ready()

    def _runs_low(self) -> bool:
        """Return whether no more is left to do than has been done since the daemon heard of us."""
        done, order = self._outbox.done, self._order
        return len(order) <= len(done) and (not self._look() or len(order) <= len(done))

    def _is_looked_after(self, work: int, now: int) -> bool:
        """Return whether the control thread comes by before what is left is done."""
        outbox = self._outbox
        done = len(outbox.done)
        if not done:  # it has just been here
            return True
        left = work * len(self._order) // done
        return left > AWAY_NS and now - outbox.looked < 2 * AWAY_NS
