"""Whatever callers and nodes do, in whatever order, every task has one outcome and the books are right."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]  # it is half annotated
)

from skyward.dispatch.policy import runs_low
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import ANY, SENT, Absent, Cancelled, Lost, NoNodes, Send, Settle, Stop, Task
from tests.dispatch.making import F, G, Watched, make

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from skyward.dispatch.tasks import Action
    from tests.dispatch.making import Function

WAIT = 60.0  # seconds that calls wait for a node
MOST_NODES = 6
some = st.randoms(use_true_random=False)


class FakeNode:
    """What a node knows: the tasks it holds, in the order in which they came."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held: list[Task] = []
        self.draining = False

    @property
    def free(self) -> int:
        """Return how many slots have nothing to do."""
        return 0 if self.draining else self.slots - len(self.held)


class Simulation(RuleBasedStateMachine):
    """One scheduler, its callers, and its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Scheduler(WAIT)
        self.nodes: dict[int, FakeNode] = {}
        self.tasks: list[Task] = []  # submitted and not settled
        self.outcomes: Counter[int] = Counter()
        self.runs: Counter[int] = Counter()  # sent and not handed back
        self.position: dict[int, int] = {}  # in the order of submission, nested calls first
        self.cancelled: set[int] = set()
        self.asked: dict[int, list[Task]] = {}  # what nodes were asked to hand back
        self.first = self.last = 0
        self.now = 0.0

    # --- performing actions -----------------------------------------------------------------------

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the scheduler wants, and see that it may."""
        beyond: list[Task] = []
        moved: list[Task] = []
        for action in actions:
            match action:
                case Send(rank, tasks):
                    for task in tasks:
                        self.send(rank, task, beyond)
                    moved += [task for task in tasks if task.movable]
                case Stop(rank, tasks, running):
                    assert set(tasks) <= set(self.nodes[rank].held)
                    if not running:
                        assert any(node.free > 0 for node in self.nodes.values())
                        assert all(task.movable and task.id not in self.cancelled for task in tasks)
                        self.asked[rank] = list(tasks)
                case Settle(tasks, verdict):
                    for task in tasks:
                        self.check(task, verdict)
                        self.settle(task)
        self.check_order(moved)
        if any(node.free > 0 for node in self.nodes.values()):
            assert not beyond, "a node was given work to queue while another idles"

    def send(self, rank: int, task: Task, beyond: list[Task]) -> None:
        """Hand a task to a node."""
        node = self.nodes[rank]
        assert not node.draining
        assert task.state == SENT
        assert task.rank in (ANY, rank)
        assert task.id not in self.cancelled
        assert not self.outcomes[task.id]
        assert all(task not in other.held for other in self.nodes.values())
        self.runs[task.id] += 1
        assert self.runs[task.id] <= 1 + task.retries
        if len(node.held) >= node.slots:
            assert task.retries > task.losses, "a task that may not run again was queued on a node"
            if task.movable:
                beyond.append(task)
        node.held.append(task)

    def check(self, task: Task, verdict: object) -> None:
        """See that a verdict has its reason."""
        match verdict:
            case Cancelled():
                assert task.id in self.cancelled
            case Lost():
                assert not task.movable or not task.retries or task.losses == task.retries + 1
            case Absent(rank, present):
                assert rank not in present
            case NoNodes():
                assert not self.nodes
            case _:
                raise AssertionError(verdict)

    def settle(self, task: Task) -> None:
        """Take the outcome of a task."""
        self.outcomes[task.id] += 1
        self.tasks.remove(task)

    def check_order(self, moved: list[Task]) -> None:
        """What leaves is older than all that stays."""
        waiting = [self.position[task.id] for task in self.waiting() if task.movable]
        if moved and waiting:
            assert max(self.position[task.id] for task in moved) < min(waiting)

    def waiting(self) -> list[Task]:
        """Return what is submitted, not settled, and on no node."""
        held = {task for node in self.nodes.values() for task in node.held}
        return [task for task in self.tasks if task not in held]

    # --- callers --------------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 40),
        function=st.sampled_from([F, F, G]),
        retries=st.sampled_from([0, 1, 3, 3]),
        rank=st.sampled_from([ANY, ANY, ANY, 0, 1, 2]),
        urgent=st.booleans(),
        early=st.integers(0, 8),
    )
    def submit(self, count: int, function: Function, retries: int, rank: int, urgent: bool, early: int) -> None:
        """Submit tasks, of which one may have been cancelled already."""
        tasks = make(count, function, retries=retries, rank=rank, kind=Watched)
        if early < len(tasks):
            assert self.made.on_cancel([tasks[early]]) == []
            self.cancelled.add(tasks[early].id)
        if urgent:
            self.first -= count
            places = range(self.first, self.first + count)
        else:
            places = range(self.last + 1, self.last + 1 + count)
            self.last += count
        self.position.update(zip([task.id for task in tasks], places, strict=True))
        self.tasks += tasks
        self.perform(self.made.on_submit(tasks, urgent=urgent))

    @precondition(lambda self: self.tasks)
    @rule(random=some, share=st.sampled_from([0.05, 0.5, 1.0]))
    def cancel(self, random: Random, share: float) -> None:
        """Cancel some tasks."""
        chosen = [task for task in self.tasks if random.random() < share]
        self.cancelled.update(task.id for task in chosen)
        self.perform(self.made.on_cancel(chosen))

    @rule(really=st.sampled_from([True, False, False, False, False]))
    def cancel_all(self, really: bool) -> None:
        """Now and then, cancel everything."""
        if not really:
            return
        self.cancelled.update(task.id for task in self.tasks)
        actions = self.made.on_cancel_all()
        self.perform(actions)
        assert not self.tasks
        for node in self.nodes.values():
            node.held.clear()

    # --- nodes ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.nodes) < MOST_NODES)
    @rule(slots=st.integers(0, 4))
    def join(self, slots: int) -> None:
        """Have a node join, under the lowest free rank."""
        rank = next(rank for rank in itertools.count() if rank not in self.nodes)
        self.nodes[rank] = FakeNode(slots)
        self.perform(self.made.on_node_ready(rank, slots))

    @precondition(lambda self: self.nodes)
    @rule(random=some)
    def lose(self, random: Random) -> None:
        """Lose a node."""
        rank = random.choice(sorted(self.nodes))
        if self.nodes[rank].draining:  # it was told to leave: that is not charged
            self.runs.subtract(task.id for task in self.nodes[rank].held if task.retries)
        del self.nodes[rank]
        self.asked.pop(rank, None)
        self.perform(self.made.on_node_lost(rank, "gone"))

    @precondition(lambda self: self.nodes)
    @rule(random=some)
    def drain(self, random: Random) -> None:
        """Have a node drain, and hand back some of what it holds."""
        rank = random.choice(sorted(self.nodes))
        self.nodes[rank].draining = True
        self.perform(self.made.on_node_draining(rank))
        self.hand_back(rank, [task for task in self.nodes[rank].held if random.random() < 0.5])

    @precondition(lambda self: self.nodes)
    @rule(random=some, slots=st.integers(0, 4))
    def change_slots(self, random: Random, slots: int) -> None:
        """Have a node lend or reclaim slots."""
        rank = random.choice(sorted(self.nodes))
        self.nodes[rank].slots = slots
        self.perform(self.made.on_node_slots(rank, slots))

    @precondition(lambda self: self.nodes)
    @rule(random=some, share=st.sampled_from([0.1, 0.5, 1.0]), elapsed=st.sampled_from([0, 10, 900, 6000, 10**6]))
    def report(self, random: Random, share: float, elapsed: int) -> None:
        """Have a node report results, of tasks it holds and of one it does not."""
        rank = random.choice(sorted(self.nodes))
        node = self.nodes[rank]
        done = [task for task in node.held if random.random() < share]
        node.held = [task for task in node.held if task not in done]
        ids = [task.id for task in done]
        assert self.made.on_results(rank, [0, *ids], [elapsed] * (1 + len(ids))) == [None, *done]
        for task in done:
            self.settle(task)
        self.perform(self.made.dispatch())

    @precondition(lambda self: self.asked)
    @rule(random=some)
    def answer(self, random: Random) -> None:
        """Have a node hand back what it was asked for, as far as it has not started."""
        rank = random.choice(sorted(self.asked))
        asked = self.asked.pop(rank)
        self.hand_back(rank, [task for task in self.nodes[rank].held if task in asked and random.random() < 0.8])

    def hand_back(self, rank: int, back: list[Task]) -> None:
        """Return tasks that had not started."""
        node = self.nodes[rank]
        node.held = [task for task in node.held if task not in back]
        for task in back:
            self.runs[task.id] -= 1
        self.perform(self.made.on_returned(rank, [task.id for task in back]))

    @rule(seconds=st.sampled_from([0.25, 30.0]))
    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.perform(self.made.on_tick(self.now))

    # --- what always holds ------------------------------------------------------------------------------

    @invariant()
    def tasks_have_one_outcome(self) -> None:
        """No task is settled twice, and none that is settled is still there."""
        assert all(count == 1 for count in self.outcomes.values())
        assert not any(self.outcomes[task.id] for task in self.tasks)

    @invariant()
    def no_slot_is_free_while_a_task_could_use_it(self) -> None:
        """Work does not wait where there is room for it."""
        waiting = self.waiting()
        for rank, node in self.nodes.items():
            if node.free > 0:
                assert not any(task.rank in (ANY, rank) for task in waiting)

    @invariant()
    def books_agree_with_the_truth(self) -> None:
        """What the scheduler counts is what there is."""
        made = self.made
        assert made.is_idle() == (not self.tasks)
        assert made.in_flight() == sum(len(node.held) for node in self.nodes.values())
        assert made.waiting() == len(self.waiting())
        assert len(made.queue) == sum(task.movable for task in self.waiting())
        assert set(made.nodes) == set(self.nodes)
        for rank, node in made.nodes.items():
            assert list(node.in_flight.values()) == self.nodes[rank].held
            assert node.load == sum(task.cost for task in node.in_flight.values()) >= 0

    @invariant()
    def index_of_nodes_agrees_with_the_truth(self) -> None:
        """The short lists of nodes leave none out."""
        assignment = self.made.assignment
        nodes = assignment.nodes.items()
        assert set(assignment.open) == {rank for rank, node in nodes if node.free > 0}
        assert set(assignment.crowded) == {rank for rank, node in nodes if node.free < 0}
        assert set(assignment.low) == {
            rank for rank, node in nodes if runs_low(node.load, len(node.in_flight), node.slots)
        }
        assert set(assignment.bound) == {rank for rank, node in nodes if node.pinned}

    def teardown(self) -> None:
        """In the end everything is settled."""
        self.join(1)
        for _ in range(100_000):
            if not self.tasks:
                break
            for rank, node in list(self.nodes.items()):
                done, node.held = node.held, []
                self.made.on_results(rank, [task.id for task in done], [50] * len(done))
                for task in done:
                    self.settle(task)
            for rank, node in list(self.nodes.items()):
                if not node.slots and not node.draining:
                    node.slots = 1
                    self.perform(self.made.on_node_slots(rank, 1))
            self.perform(self.made.dispatch())
        self.tasks_have_one_outcome()
        self.books_agree_with_the_truth()
        assert not self.tasks, "tasks were left without an outcome"
        assert set(self.outcomes) == set(self.position)


@pytest.mark.rule("R17")
@pytest.mark.rule("R18")
@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
def test_every_task_has_one_outcome_whatever_happens() -> None:
    """In many random lives of a scheduler no promise is broken."""
    run_state_machine_as_test(Simulation, settings=settings(max_examples=60, stateful_step_count=60, deadline=None))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_task_has_one_outcome_in_many_lives() -> None:
    """The same for longer."""
    run_state_machine_as_test(Simulation, settings=settings(max_examples=300, stateful_step_count=80, deadline=None))
