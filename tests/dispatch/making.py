"""Tasks and schedulers for the tests of dispatch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import ANY, TABLE, Send, Settle, Stop, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

from skyward.dispatch.tasks import Action

_ids = itertools.count(1)
_MOVES = {move for moves in TABLE.values() for move in moves.items()}


@dataclass(frozen=True, slots=True)
class Function:
    """A function, as far as the scheduler sees it."""

    key: bytes


F = Function(b"f")
G = Function(b"g")


class Watched(Task):
    """A task whose state moves only as the table says."""

    def __setattr__(self, name: str, value: Any) -> None:
        assert name != "state" or self.state == value or (self.state, value) in _MOVES
        super().__setattr__(name, value)


def make(
    count: int,
    function: Function = F,
    *,
    retries: int = 3,
    rank: int = ANY,
    data: bytes = b"",
    buffers: Any = (),
    kind: type[Task] = Task,
) -> list[Task]:
    """Return tasks that nobody has seen yet."""
    return [
        kind(next(_ids), function, data, buffers, None, 0, retries, rank=rank, size=len(data), movable=rank == ANY)
        for _ in range(count)
    ]


def scheduler(*slots: int, node_wait: float = 60.0) -> Scheduler:
    """Return a scheduler with ready nodes 0, 1, … of so many slots."""
    made = Scheduler(node_wait)
    for rank, count in enumerate(slots):
        assert made.on_node_ready(rank, count) == []
    return made


def learn(made: Scheduler, microseconds: int, function: Function = F) -> None:
    """Let the scheduler see how long a function takes, on node 0, which is idle."""
    (task,) = make(1, function, rank=0)
    assert made.on_submit([task]) == [Send(0, [task])]
    finish(made, 0, [task], microseconds)


def finish(made: Scheduler, rank: int, tasks: Iterable[Task], microseconds: int = 10) -> list[Action]:
    """Have the node report that it has run the tasks; return what follows."""
    ids = [task.id for task in tasks]
    assert [task.id for task in made.on_results(rank, ids, [microseconds] * len(ids)) if task] == ids
    return made.dispatch()


def sent(actions: Iterable[Action]) -> dict[int, list[Task]]:
    """Return the tasks that the actions send, by node; there is nothing else among the actions."""
    found: dict[int, list[Task]] = {}
    for action in actions:
        assert isinstance(action, Send)
        found.setdefault(action.rank, []).extend(action.tasks)
    return found


def settled(actions: Iterable[Action]) -> list[Task]:
    """Return the tasks that the actions settle, whatever else is among them."""
    return [task for action in actions if isinstance(action, Settle) for task in action.tasks]


def stops(actions: Iterable[Action]) -> list[Stop]:
    """Return what the actions ask nodes to stop, whatever else is among them."""
    return [action for action in actions if isinstance(action, Stop)]
