"""Bundles as the engine deals with them: whether there are any, and the tasks that come out of one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from skyward.dispatch.tasks import total_size
from skyward.errors import ProtocolError
from skyward.pool.bundling import Bundle, Bundler, is_worthwhile, size_of_bundles
from skyward.results import Collection
from skyward.wire import bundles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.results import Sink
    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Welcome

_logger: Final = logging.getLogger("skyward")


class Bundling:
    """What one engine knows of bundles; it is their owner."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.possible = engine.max_payload >= bundles.MOST  # every node that there has been takes them
        self._waiting: list[Task] = []  # calls that were part of a bundle, and that the scheduler has not got yet
        self._handing_over = False

    # --- any thread --------------------------------------------------------------------------

    def bundler(self, sink: Sink, calls: int, slots: int) -> Bundler | None:
        """Return who puts so many calls of a group together; None if nobody shall."""
        if not self.possible or not isinstance(sink, Collection) or size_of_bundles(None, calls, slots) == 1:
            return None
        return Bundler(self, sink, self._engine.scheduler.assignment.durations.cost, calls, slots)

    def new_id(self) -> int:
        """Return an id for a task."""
        return next(self._engine.ids)

    # --- the owner of the loop ---------------------------------------------------------------

    def welcomed(self, message: Welcome) -> None:
        """Note what a node takes."""
        small = 0 < message.max_payload < bundles.MOST
        self.possible = self.possible and message.bundles and not small

    def note_failure(self) -> None:
        """Count a call that has failed."""
        self._engine.failed += 1

    def again(self, tasks: Sequence[Task], *, done: int, failed: int) -> None:
        """Have calls that were part of a bundle run; so many of them were counted as done, and as failed."""
        engine = self._engine
        engine.failed -= failed
        engine.scheduler.note_again(len(tasks), done)
        engine.window.admit(total_size(tasks))
        self._waiting += tasks
        if not self._handing_over:  # else we come here from below, once for each of many bundles
            self._handing_over = True
            try:
                self._hand_over()
            finally:
                self._handing_over = False

    def _hand_over(self) -> None:
        engine = self._engine
        while self._waiting:
            tasks, self._waiting = self._waiting, []
            try:
                engine.perform(engine.scheduler.on_again(tasks, closing=engine.closing))
            except Exception:
                engine.strand(tasks + self._waiting)
                raise

    def interim(self, rank: int, id: int, data: Buffer) -> None:
        """Hand out what has become of a bundle so far, and have others run what it leaves."""
        engine = self._engine
        node = engine.scheduler.nodes.get(rank)
        task = None if node is None else node.in_flight.get(id)
        if task is None or not isinstance(task.sink, Bundle):
            return
        engine.console.settle(rank, [id])
        try:
            ended, left, tasks = task.sink.interim(task, data, rank)
        except ProtocolError as error:  # a task has written to its worker's pipe; the outcome is there for all else
            _logger.warning("node %d says what makes no sense of task %d: %s", rank, id, error)
            return
        engine.scheduler.note_split(task, ended, left)
        if tasks:
            self.again(tasks, done=0, failed=0)

    def dissolve(self, mate: Mate, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks to send; of bundles that the node does not take, or that take long, the calls run alone."""
        packed = [task for task in tasks if task.count > 1 and not self._may_go(mate, task)]
        if not packed:
            return tasks
        scheduler = self._engine.scheduler
        scheduler.note_dissolved(mate.rank, packed)
        for task in packed:
            sink, task.sink = task.sink, None
            self._engine.window.released += task.size
            self.again(sink.dissolve(task), done=0, failed=0)
        gone = {id(task) for task in packed}
        return [task for task in tasks if id(task) not in gone]

    def _may_go(self, mate: Mate, task: Task) -> bool:
        if mate.link is None or not mate.link.bundles or 0 < mate.max_payload < task.size:
            return False
        return is_worthwhile(self._engine.scheduler.assignment.durations.cost(task.function.key))
