"""Whatever comes and goes, an elastic pool stays within its bounds, loses nothing, and comes to rest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]  # it is half annotated
)

from skyward.dispatch.load import survey
from skyward.dispatch.membership import Keep, Launch, Membership, Retire
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import ANY, Lost, Send, Settle, Stop
from skyward.model import Nodes, NodeState
from tests.dispatch.making import F, G, make

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from skyward.dispatch.membership import Change
    from skyward.dispatch.tasks import Action, Task
    from tests.dispatch.making import Function

HEARTBEAT = 0.25  # seconds
IDLE = 5.0  # seconds
some = st.randoms(use_true_random=False)
bounds = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)).map(
    lambda steps: Nodes(steps[0] + steps[1], steps[0], sum(steps))
)


class Lives(RuleBasedStateMachine):
    """One pool, its callers, its provider and its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = Scheduler(1e9)
        self.held: dict[int, list[Task]] = {}  # by rank of each ready node
        self.outcomes: Counter[int] = Counter()
        self.submitted: set[int] = set()
        self.now = 0.0

    @initialize(nodes=bounds)
    def open(self, nodes: Nodes) -> None:
        """Open the pool."""
        self.pool = Membership(nodes, idle_timeout=IDLE)
        self.made.assignment.core = nodes.least
        self.change(self.pool.on_open(self.now))

    # --- doing what is decided ----------------------------------------------------------------

    def change(self, changes: Iterable[Change]) -> None:
        """Let nodes come and go."""
        for change in changes:
            match change:
                case Launch(rank):
                    assert rank not in self.held
                    assert {*range(rank)} <= {*self.staying()}, "there is a gap below"
                case Keep(rank):
                    assert {*range(rank)} <= {*self.staying()} or self.pool.next_launch(), "there is a gap below"
                    self.perform(self.made.on_node_retiring(rank, stays=True))
                case Retire(rank):
                    self.perform(self.made.on_node_retiring(rank))
        self.retire()

    def retire(self) -> None:
        """Let those go that have finished."""
        for rank, state in list(self.pool.states.items()):
            if state is NodeState.DRAINING and rank in self.held:
                node = self.made.nodes[rank]
                if not node.in_flight and not node.pinned:
                    self.drop(rank, "it was let go")

    def drop(self, rank: int, reason: str) -> None:
        """Have no node of this rank any more."""
        del self.held[rank]
        self.perform(self.made.on_node_lost(rank, reason))
        self.change(self.pool.on_lost(rank, reason, self.now))

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the scheduler wants."""
        for action in actions:
            match action:
                case Send(rank, tasks):
                    self.held[rank] += tasks
                case Stop(rank, tasks):
                    self.held[rank] = [task for task in self.held[rank] if task not in tasks]
                    self.perform(self.made.on_returned(rank, [task.id for task in tasks]))
                case Settle(tasks, verdict):
                    assert isinstance(verdict, Lost)
                    assert verdict.reason == "gone", "a drain has lost a task"
                    self.outcomes.update(task.id for task in tasks)

    def starting(self) -> list[int]:
        """Return the ranks of nodes that come, wanted or not."""
        return sorted(rank for rank in self.pool.states if rank not in self.held)

    # --- what happens -------------------------------------------------------------------------

    @rule(count=st.integers(1, 30), function=st.sampled_from([F, F, G]), bound=st.booleans(), random=some)
    def submit(self, count: int, function: Function, bound: bool, random: Random) -> None:
        """Submit calls, to any node or to one that is ready."""
        ready = self.made.ready_ranks()
        tasks = make(count, function, rank=random.choice(ready) if bound and ready else ANY)
        self.submitted.update(task.id for task in tasks)
        if not self.pool.target:
            self.change(self.pool.on_wake(self.now))
        self.perform(self.made.on_submit(tasks))

    @precondition(lambda self: any(self.held.values()))
    @rule(random=some, elapsed=st.sampled_from([50, 30_000, 10**6, 10**7]))
    def finish(self, random: Random, elapsed: int) -> None:
        """Have a node end some of its tasks."""
        self.end(random.choice([rank for rank, tasks in self.held.items() if tasks]), random.random(), elapsed)

    def end(self, rank: int, share: float, elapsed: int) -> None:
        """Have a node end the first of its tasks, one at least."""
        held = self.held[rank]
        done = held[: max(1, int(share * len(held)))]
        self.held[rank] = held[len(done) :]
        assert self.made.on_results(rank, [task.id for task in done], [elapsed] * len(done)) == done
        self.outcomes.update(task.id for task in done)
        self.perform(self.made.dispatch())
        self.retire()

    @rule(looks=st.sampled_from([1, 1, 1, 4, 40]))
    def look(self, looks: int) -> None:
        """Let some heartbeats pass."""
        for _ in range(looks):
            self.now += HEARTBEAT
            load = survey(self.made)
            changes = self.pool.on_look(load, self.now)
            for change in changes:
                if isinstance(change, Retire):
                    assert not load.waiting
                    assert not self.held[change.rank], "a node that works was let go"
            if any(isinstance(change, Retire) for change in changes):
                assert len(self.staying()) >= self.pool.spec.least
            self.change(changes)

    @precondition(lambda self: self.starting())
    @rule(random=some)
    def arrive(self, random: Random) -> None:
        """Have a node come up."""
        self.join(random.choice(self.starting()))

    def join(self, rank: int) -> None:
        """Have the node of this rank be ready; if it is not wanted any more it goes."""
        self.pool.on_ready(rank, self.now)
        if self.pool.states[rank] is NodeState.READY:
            self.held[rank] = []
            self.perform(self.made.on_node_ready(rank, 1))
        else:
            self.change(self.pool.on_lost(rank, "it was let go", self.now))

    @precondition(lambda self: self.starting())
    @rule(random=some)
    def fail(self, random: Random) -> None:
        """Have a launch come to nothing."""
        self.change(self.pool.on_launch_failed(random.choice(self.starting()), "no", self.now))

    @precondition(lambda self: self.held)
    @rule(random=some)
    def lose(self, random: Random) -> None:
        """Lose a node."""
        self.drop(random.choice(sorted(self.held)), "gone")

    @rule(nodes=bounds)
    def resize(self, nodes: Nodes) -> None:
        """Have the user set other numbers."""
        load = survey(self.made)
        changes = self.pool.on_resize(nodes, load.served.keys() - load.busy, self.now)
        self.made.assignment.core = nodes.least
        self.change(changes)

    # --- what always holds --------------------------------------------------------------------

    def staying(self) -> list[int]:
        """Return the ranks of nodes that are not on their way out."""
        return [rank for rank, state in self.pool.states.items() if state is not NodeState.DRAINING]

    @invariant()
    def bounds_are_kept(self) -> None:
        """Never more nodes than max, and never the wish for fewer than min."""
        if hasattr(self, "pool"):
            assert len(self.staying()) <= self.pool.spec.most
            assert self.pool.spec.least <= self.pool.target <= self.pool.spec.most

    @invariant()
    def tasks_have_one_outcome(self) -> None:
        """Nothing is done twice."""
        assert all(count == 1 for count in self.outcomes.values())

    def teardown(self) -> None:
        """With a provider that works, all calls are done, and then the pool goes down to min, and stays there."""
        if not hasattr(self, "pool"):
            return
        for _ in range(4_000):
            if self.outcomes.keys() == self.submitted:
                break
            self.rest()
        assert self.outcomes.keys() == self.submitted, "calls are left"
        for _ in range(int(2 * (IDLE + 32.0) / HEARTBEAT)):
            self.rest()
        counts = {len(self.staying())}
        for _ in range(100):
            self.rest()
            counts.add(len(self.staying()))
        assert counts == {self.pool.spec.least}

    def rest(self) -> None:
        """Let all nodes come up and work for a heartbeat."""
        for rank in self.starting():
            self.join(rank)
        for rank in [rank for rank, tasks in self.held.items() if tasks]:
            if self.held.get(rank):
                self.end(rank, 0.0, 250_000)
        if self.made.queue and not self.pool.target:
            self.change(self.pool.on_wake(self.now))
        self.look(1)


@pytest.mark.rule("R33")
@pytest.mark.rule("R51")
def test_elastic_pool_keeps_its_promises_whatever_happens() -> None:
    """In many random lives it stays within its bounds, loses nothing by a drain, and comes to rest."""
    run_state_machine_as_test(Lives, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_elastic_pool_keeps_its_promises_in_many_lives() -> None:
    """The same for longer."""
    run_state_machine_as_test(Lives, settings=settings(max_examples=400, stateful_step_count=60, deadline=None))
