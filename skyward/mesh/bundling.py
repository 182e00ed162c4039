"""Bundles as the engine deals with them: whether there are any, and the tasks that come out of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.bundling import Bundle, Bundler, is_worthwhile, size_of_bundles
from skyward.results import Collection
from skyward.wire import bundles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.results import Sink
    from skyward.wire.frames import Buffer


class Bundling:
    """What one engine knows of bundles; it is their owner."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.possible = True  # every node that there has been takes them

    # --- any thread --------------------------------------------------------------------------

    def bundler(self, sink: Sink, calls: int, slots: int) -> Bundler | None:
        """Return who puts so many calls of a group together; None if nobody shall."""
        engine = self._engine
        if not self.possible or not isinstance(sink, Collection) or engine.max_payload < bundles.SIZE:
            return None
        if size_of_bundles(None, calls, slots) == 1:
            return None
        return Bundler(self, sink, engine.scheduler.assignment.durations.cost, calls, slots)

    def new_id(self) -> int:
        """Return an id for a task."""
        return next(self._engine.ids)

    # --- the owner of the loop ---------------------------------------------------------------

    def note_failed(self, calls: int) -> None:
        """Count calls that have failed."""
        self._engine.failed += calls

    def again(self, tasks: Sequence[Task], *, done: int, failed: int) -> None:
        """Have calls that were part of a bundle run; so many of them were counted as done, and as failed."""
        engine = self._engine
        engine.failed -= failed
        engine.scheduler.on_again(len(tasks), done)
        engine.submit(tasks)

    def interim(self, rank: int, id: int, data: Buffer) -> None:
        """Hand out what has become of a bundle so far, and have others run what it leaves."""
        scheduler = self._engine.scheduler
        node = scheduler.nodes.get(rank)
        task = None if node is None else node.in_flight.get(id)
        if task is None or not isinstance(task.sink, Bundle):
            return
        ended, left, tasks = task.sink.interim(task, data, rank)
        scheduler.on_split(task, ended, left)
        if tasks:
            self.again(tasks, done=0, failed=0)

    def dissolve(self, mate: Mate, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks to send; of bundles that the node does not take, or that take long, the calls run alone."""
        packed = [task for task in tasks if task.count > 1 and not self._may_go(mate, task)]
        if not packed:
            return tasks
        self._engine.scheduler.on_dissolve(mate.rank, packed)
        for task in packed:
            alone = task.sink.dissolve(task)
            self._engine.window.released += task.size
            self.again(alone, done=0, failed=0)
        return [task for task in tasks if task not in packed]

    def _may_go(self, mate: Mate, task: Task) -> bool:
        cost = self._engine.scheduler.assignment.durations.cost
        return mate.link is not None and mate.link.bundles and is_worthwhile(cost(task.function.key))
