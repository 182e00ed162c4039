"""Tasks that wait, in the order in which they are to leave.

A task's *place* says where it stands: tasks take places as they are submitted, nested calls take ones
before all others, and a task that comes back keeps its own. A queue is sorted by place at all times.

A task that is settled while it waits stays where it is until its turn comes, or until half of the queue is
such, when they all go: cancelling is O(1) per task whatever the order, and memory stays in proportion to
what really waits.

PURE: a data structure.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from skyward.dispatch.tasks import NOWHERE, QUEUED, total_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from skyward.dispatch.tasks import Task


class Places:
    """The places that were given to calls: a bundle has as many as it has calls."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first = self._last = NOWHERE  # the ones given last to nested calls, and to all others

    def give(self, tasks: Sequence[Task], *, urgent: bool) -> int:
        """Give tasks their places, behind or, if ``urgent``, before all others; return how many calls these are."""
        count = total_count(tasks)
        if urgent:
            self._first = place = self._first - count
        else:
            place, self._last = self._last + 1, self._last + count
        for task in tasks:
            task.place = place
            place += task.count
        return count

    def give_next(self, task: Task) -> None:
        """Give a single call its place, behind all others."""
        self._last = task.place = self._last + 1

    @property
    def given(self) -> int:
        """Return how many there are."""
        return self._last - self._first


class Queue:
    """Waiting tasks, sorted by place."""

    __slots__ = ("_gone", "tasks")

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()  # those that no longer wait included; see `head`
        self._gone = 0  # tasks in it that no longer wait

    def add(self, tasks: Iterable[Task]) -> None:
        """Take in tasks whose places come after all others."""
        self.tasks.extend(tasks)

    def take_in(self, tasks: list[Task], *, urgent: bool) -> None:
        """Take in tasks whose places come behind or, of urgent ones, before all others."""
        if urgent:
            self.insert(tasks)
        else:
            self.add(tasks)

    def insert(self, tasks: list[Task]) -> None:
        """Take in tasks at their places. Cheap if these are near the front, as they are of tasks that had left."""
        if not tasks:
            return
        last = max(task.place for task in tasks)
        passed = list(tasks)
        while (task := self.head()) is not None and task.place < last:
            passed.append(self.pop())
        passed.sort(key=lambda task: task.place, reverse=True)
        self.tasks.extendleft(passed)

    def head(self) -> Task | None:
        """Return the first task."""
        tasks = self.tasks
        while tasks:
            task = tasks[0]
            if task.state == QUEUED:
                return task
            tasks.popleft()
            self._gone -= 1
        return None

    def pop(self) -> Task:
        """Remove the first task and return it; raises `IndexError` if there is none."""
        while True:
            task = self.tasks.popleft()
            if task.state == QUEUED:
                return task
            self._gone -= 1

    def forget(self, count: int) -> None:
        """Note that ``count`` more of the tasks no longer wait."""
        self._gone += count
        if 2 * self._gone > len(self.tasks):
            self.tasks = deque(self)
            self._gone = 0

    def drain(self) -> list[Task]:
        """Remove all tasks and return them."""
        tasks = list(self)
        self.tasks.clear()
        self._gone = 0
        return tasks

    @property
    def held(self) -> int:
        """Return how many tasks it keeps alive, those that no longer wait included."""
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return (task for task in self.tasks if task.state == QUEUED)

    def __len__(self) -> int:
        return len(self.tasks) - self._gone

    def __repr__(self) -> str:
        return f"<Queue of {len(self)}>"
