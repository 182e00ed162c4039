"""The end of a pool's work: all of it is cancelled, and what runs gets a moment to clean up before goodbye is said.

A node ends by force what runs for a client that says BYE. Cancelled tasks are interrupted: most end at once then, after
their ``finally``, and their node says so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from skyward.answers.waiting import Waiter
from skyward.dispatch.tasks import Stop
from skyward.errors import PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.mesh.engine import Engine

MOMENT: Final = 0.3  # seconds: a program that leaves its pool exits within two, whatever does not end


class Stopping:
    """Cancels everything for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: set[tuple[int, int]] = set()  # rank and id of tasks of which their nodes have not said the end
        self._over = Waiter()

    def refuse(self) -> None:
        """Take no more calls: what waits for room gives up (any thread)."""
        self._engine.loop.run(self._refuse)

    def _refuse(self) -> None:
        self._engine.closing = True
        self._engine.window.look(closing=True)

    def stop(self) -> None:
        """Cancel everything, and return when it has ended, or soon (any thread)."""
        patience = min(MOMENT, self._engine.options.cancel_grace)
        self._engine.loop.wait(self._over, time.monotonic() + patience, self.cancel_all)

    def cancel_all(self) -> None:
        """Take no more calls, and cancel those that there are."""
        engine = self._engine
        engine.closing = True
        engine.opened(PoolClosedError("the pool was closed while it opened"))
        actions = engine.scheduler.on_cancel_all()
        for action in actions:
            mate = engine.crew.mates.get(action.rank) if isinstance(action, Stop) else None
            if isinstance(action, Stop) and mate is not None and not mate.threads:  # those cannot be stopped
                self._running.update((action.rank, task.id) for task in action.tasks)
        engine.perform(actions)
        self.ended(0, ())

    def ended(self, rank: int, ids: Iterable[int]) -> None:
        """A node has said what became of these tasks."""
        self._running.difference_update((rank, id) for id in ids)
        if not self._running:
            self._over.finish()
