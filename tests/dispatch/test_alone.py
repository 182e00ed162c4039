"""The short way of a task that comes alone and the usual one are the same in all that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.assignment import Assignment
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import ANY, QUEUED, Send, Task
from tests.dispatch.making import F, G, make, scheduler, sent

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Action


class Script:
    """Steps of callers and nodes, each of which does something in every state."""

    def __init__(self, *, usual: bool = False) -> None:
        self.usual = usual
        self.made = Scheduler(60.0)
        self.tasks: dict[int, Task] = {}  # unsettled, by their number in the script
        self.count = 0

    def _new(self, number: int) -> Task:
        (task,) = make(
            1, G if number % 5 == 4 else F, retries=number % 3, rank=number % 4 if number % 11 == 10 else ANY
        )
        self.count += 1
        task.id = self.count
        self.tasks[task.id] = task
        return task

    def submit(self, number: int) -> list[Action]:
        """One task; some may not run twice, some are bound to a node."""
        made, task, urgent = self.made, self._new(number), number % 13 == 12
        if not self.usual and task.movable and not urgent and (node := made.calm()) is not None:
            made.on_sent(task, node)
            return [Send(node.rank, [task])]
        return made.on_submit([task], urgent=urgent)

    def submit_two(self, number: int) -> list[Action]:
        """Two tasks at once."""
        return self.made.on_submit([self._new(number), self._new(number + 1)])

    def finish(self, number: int) -> list[Action]:
        """A node ends its first task."""
        busy = [node for node in self.made.nodes.values() if node.in_flight]
        if not busy:
            return []
        node = busy[number % len(busy)]
        return self._end(node.rank, next(iter(node.in_flight)), number * 300)

    def finish_what_is_not_there(self, number: int) -> list[Action]:
        """A node ends a task that it does not have, or one ends one that is not there."""
        return self._end(number % 4, 10_000, number)

    def _end(self, rank: int, id: int, elapsed: int) -> list[Action]:
        made = self.made
        tasks = made.on_results(rank, [id], [elapsed]) if self.usual else [made.on_result(rank, id, elapsed)]
        return [*made.dispatch(), *[Send(rank, [task]) for task in tasks if task is not None]]

    def cancel(self, number: int) -> list[Action]:
        """A caller gives a task up."""
        task = self.tasks.get(1 + number % max(self.count, 1))
        return [] if task is None else self.made.on_cancel([task])

    def join(self, number: int) -> list[Action]:
        """A node takes part from now on."""
        rank = number % 4
        return [] if rank in self.made.nodes else self.made.on_node_ready(rank, 1 + number % 3)

    def lose(self, number: int) -> list[Action]:
        """A node is lost."""
        return self.made.on_node_lost(number % 4, "it was unplugged")

    def shrink(self, number: int) -> list[Action]:
        """Only some of the nodes take turns."""
        self.made.assignment.core = number % 5 or None
        return []

    def drain(self, number: int) -> list[Action]:
        """A node takes no more."""
        return self.made.on_node_draining(number % 4)


STEPS = [name for name in vars(Script) if not name.startswith("_")]
LIKELY = [*["submit", "finish"] * 8, "join", "join"]  # else nothing is ever alone


def told(actions: list[Action]) -> list[Any]:
    """Return what the actions say, tasks by their numbers."""
    return [
        (type(action).__name__, getattr(action, "rank", None), [task.id for task in action.tasks]) for action in actions
    ]


def books(script: Script) -> Any:
    """Return what a scheduler has written down."""
    made = script.made
    nodes: list[Any] = [
        (node.rank, list(node.in_flight), node.load, len(node.pinned), node.served, node.recalled)
        for node in made.nodes.values()
    ]
    assignment = made.assignment
    marked: list[dict[int, Any]] = [assignment.open, assignment.bound, assignment.crowded, assignment.low]
    tasks = [(task.id, task.state, task.node, task.cost, task.place) for task in script.tasks.values()]
    costs = [assignment.durations.cost(function.key) for function in (F, G)]
    queued = [task.id for task in made.queue]
    return nodes, [sorted(some) for some in marked], tasks, queued, made.unsettled, made.done, costs


@pytest.mark.rule("R17")
@given(st.lists(st.tuples(st.sampled_from(STEPS + LIKELY), st.integers(0, 100)), min_size=5, max_size=40))
def test_both_ways_decide_and_note_the_same(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, in whatever order, nothing tells which way a task has gone."""
    short, usual = Script(), Script(usual=True)
    for script in (short, usual):
        script.join(8)
        script.join(5)
    for name, number in steps:
        said = told(getattr(short, name)(number))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Assignment, "take_alone", lambda *_: None)
            assert said == told(getattr(usual, name)(number))
        assert books(short) == books(usual)


def test_task_that_comes_alone_goes_the_short_way() -> None:
    """It never stands in the queue."""
    made = scheduler(1, 1)
    (task,) = make(1)
    assert made.assignment.take_alone(task) is made.nodes[0]
    (other,) = make(1)
    assert sent(made.on_submit([other])) == {1: [other]}
    (third,) = make(1)
    assert made.assignment.take_alone(third) is None  # no slot is free
    assert third.state == QUEUED
    assert made.on_submit([third]) == []
    assert isinstance(made.on_node_ready(2, 1)[0], Send)


@pytest.mark.rule("R17")
def test_turn_goes_over_the_nodes_that_are_there() -> None:
    """It passes over ranks that nobody holds, and over nodes that take no more; then it begins again."""
    made = scheduler(1, 1, 1, 1)
    made.on_node_lost(1, "it was unplugged")
    ranks: list[int] = []
    for round in range(6):
        node = made.calm()
        assert node is not None
        (task,) = make(1)
        task.id = round + 1
        made.on_sent(task, node)
        assert made.calm() is None  # one is under way
        made.on_result(node.rank, task.id, 10)
        ranks.append(node.rank)
        if round == 3:
            made.on_node_draining(2)
    assert ranks == [0, 2, 3, 0, 3, 0]
    made.on_node_draining(0)
    made.on_node_draining(3)
    assert made.calm() is None
