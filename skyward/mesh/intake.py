"""How tasks come to an engine: in bursts from any thread, or alone from one that waits for the outcome."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine

BURST: Final = 4  # tasks handed in one by one since the last look: whoever does that will go on for a while
CROWD: Final = 128  # unsettled tasks, some of them ahead on nodes, among which 2 ms more make no difference to any


class Intake:
    """Takes in tasks for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._handed_in: deque[Task] = deque()
        self._taking_in = False

    def hand_in(self, tasks: Sequence[Task], size: int) -> None:
        """Take in tasks of ``size`` bytes from any thread; those that come before the owner looks go as one batch."""
        self._engine.window.admit(size)
        self._handed_in.extend(tasks)
        if not self._taking_in:
            self._taking_in = True
            self._engine.loop.post(self._take_in)

    def _take_in(self) -> None:
        self._taking_in = False  # first: whoever hands in after this calls again
        tasks = [self._handed_in.popleft() for _ in range(len(self._handed_in))]
        engine = self._engine
        engine.submit(tasks, admitted=True)
        if len(tasks) > BURST:
            scheduler = engine.scheduler
            engine.loop.doze(deaf=scheduler.unsettled > CROWD and bool(scheduler.assignment.crowded))

    def submit_awaited(self, tasks: Sequence[Task]) -> None:
        """Take in tasks for which a thread waits (the owner); one that is alone is sent before it is noted."""
        engine, task = self._engine, tasks[0]
        scheduler = engine.scheduler
        node = scheduler.calm() if len(tasks) == 1 and task.movable and not engine.closing else None
        if node is None or not engine.talk.call(engine.crew.mates[node.rank], task, alone=True):
            engine.submit(tasks)
            return
        try:
            engine.window.admit(task.size)
            scheduler.on_sent(task, node)
        except Exception:
            engine.strand(tasks)
            raise
