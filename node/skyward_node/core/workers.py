"""A worker as the core knows it: what it was given and has not finished, in order.

A worker serves one session for its life. It runs its tasks first in, first out, ``slots`` at a time; so
the tasks that run are the first ones that do not wait for calls of their own.

PURE: no processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.wire.shelf import CALLS, WORKER, Shelf
from skyward_node.cells import READY
from skyward_node.core.lines import Lines
from skyward_node.core.tasks import GIVEN, RUNNING, WAITING

if TYPE_CHECKING:
    from skyward_node.core.library import Code, Source
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task


class Worker:
    """One worker process."""

    __slots__ = (
        "brought", "calls", "dying", "id", "idle_since", "index", "known", "last", "lines", "load", "pace", "place",
        "retiring", "session", "slots", "spawned", "spent", "stuck", "tasks", "threads", "told", "used",
    )  # fmt: skip

    def __init__(self, id: int, slots: int, place: int, now: float, *, threads: bool) -> None:
        self.id = id
        self.slots = slots
        self.threads = threads  # one more starts while one waits, also if there is a single slot
        self.place = place  # among the workers of the node
        self.session: Session | None = None
        self.index = 0  # the slot of the node that its tasks run on, as they see it; see `crew.seat`
        self.tasks: dict[int, Task] = {}  # given and not finished, in order
        self.last = READY  # the task whose outcome it told last
        self.load = 0  # slots of the node it takes
        self.pace = 0.0  # expected µs of each of its tasks
        self.known: Shelf[bool] = Shelf(WORKER)  # code it has
        self.brought: list[Source] = []  # modules that it has sent, and no function after them
        self.calls: Shelf[Code] = Shelf(CALLS)  # code of its calls, which it relies on us to have
        self.told: tuple[int, int] = (-1, 0)  # version of the roster, and index
        self.spawned = False
        self.used = False  # it was given a task
        self.stuck = False  # what it runs takes longer than expected: nothing is queued behind it
        self.spent = False  # it ends when its tasks have, and gets no more
        self.retiring = False
        self.dying = False  # killed; its end was not reported yet
        self.idle_since = now
        self.lines: dict[int, Lines] = {1: Lines(), 2: Lines()}

    @property
    def leaving(self) -> bool:
        """Return whether it gets no more work."""
        return self.dying or self.retiring

    def measure(self) -> int:
        """Set ``load`` to the slots it takes now; return by how much that is more than before."""
        before = self.load
        if self.dying or not self.tasks:
            self.load = 0
        elif not self.threads:
            # Behind a task that waits nothing can run: its slot is free for other workers.
            self.load = 0 if next(iter(self.tasks.values())).state == WAITING else 1
        else:
            waiting = sum(task.state == WAITING for task in self.tasks.values())
            self.load = min(self.slots, len(self.tasks) - waiting)
        return self.load - before

    def starting(self) -> list[Task]:
        """Return the tasks that run by now, by the order in which they were given, and are not yet marked."""
        if not self.spawned or self.dying:
            return []
        if not self.threads:
            head = next(iter(self.tasks.values()), None)
            return [head] if head is not None and head.state == GIVEN else []
        first: list[Task] = []
        for task in self.tasks.values():
            if len(first) == self.slots:
                break
            if task.state != WAITING:
                first.append(task)
        return [task for task in first if task.state == GIVEN]

    def unannounced(self) -> list[Task]:
        """Return the tasks that run without the client knowing; mark them as known."""
        found: list[Task] = []
        for task in self.tasks.values():
            if task.state == GIVEN:
                break
            if task.state == RUNNING and not task.told:
                task.told = True
                found.append(task)
        return found

    def not_started(self) -> list[Task]:
        """Return the tasks that sit in its own queue."""
        return [task for task in self.tasks.values() if task.state == GIVEN]

    def __repr__(self) -> str:
        state = "dying" if self.dying else "retiring" if self.retiring else f"{len(self.tasks)} tasks"
        return f"<Worker {self.id}: {state} on {self.slots} slots>"
