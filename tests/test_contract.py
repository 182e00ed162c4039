"""The contract of R36 to R41, whatever befalls client, nodes, workers and what joins them.

Both sides' own code, on wires that break, lose, and are slow as a random life of them says. Each task ends once; one
that must not run twice never begins twice; and no result counts that another life of a node, or a session that was
given up, has made.
"""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]  # it is half annotated
)

from skyward.dispatch.tasks import ANY, SETTLED, Task
from skyward_node.core.actions import Gone, Shutdown
from tests.contracts import LEASE, Client, Host, Wire, WireLink
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from skyward.mesh.mate import Mate

RANKS = 3
# Without shrinking: that takes minutes, and what a seed has chosen does not shrink.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
ranks = st.integers(0, RANKS - 1)
rarely = st.sampled_from([True, *[False] * 5])
FUNCTIONS = (blob("f"), blob("g", "module"))


class Contract(RuleBasedStateMachine):
    """One client, and up to three nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.hosts: dict[int, Host] = {}  # by rank
        self.tasks: dict[int, Task] = {}
        self.cancelled: set[int] = set()
        self.starts: Counter[int] = Counter()
        self.ids = itertools.count(1)
        self.numbers = itertools.count(1)  # of runs, connections, epochs
        self.seen = 0  # outcomes that were checked
        self.gone: set[object] = set()  # links that were given up
        self.now = 0.0
        for slots in (1, 2):
            self.come(slots)
        for rank in self.hosts:
            self.pass_on(rank, 9, 9)

    # --- what is and what moves -------------------------------------------------------------------

    def wire(self) -> Wire:
        """Return a new connection."""
        return Wire(b"%d" % next(self.numbers))

    def joined(self, rank: int) -> tuple[Mate, WireLink] | None:
        """Return a node that the client knows, and its link."""
        mate = self.client.mates.get(rank)
        return (mate, mate.link) if mate is not None and isinstance(mate.link, WireLink) else None

    def up(self, rank: int, count: int) -> None:
        """Let some messages come to a node."""
        for _ in range(count):
            if (known := self.joined(rank)) is None or not known[1].wire.up or self.hosts[rank].over:
                return
            self.hosts[rank].hear(known[1].wire, known[1])

    def down(self, rank: int, count: int) -> None:
        """Let some messages come to the client, which greets a connection that turns out to be new."""
        for _ in range(count):
            if (known := self.joined(rank)) is None or not known[1].wire.down:
                return
            mate, link = known
            self.client.hearing.handle(mate, link, link.wire.down.popleft())
            self.look()
            if self.client.of(link) is mate and link.fresh and not link.wire.down:
                self.client.greeting.hello(mate, link)

    def look(self) -> None:
        """Check what was delivered, and forget links that were given up."""
        for task, outcome in self.client.delivered[self.seen :]:
            if isinstance(outcome, tuple) and outcome[0] == 0:
                _, data, _, rank, id, _ = outcome
                named, run = map(int, bytes(data).split())
                assert named == id == task.id
                made_for, link = self.hosts[rank].runs[run]
                assert made_for == task.id
                assert link not in self.gone, "a result of a session that was given up"
                known = self.joined(rank)
                assert known is not None
                assert known[1] is link, "a result of another life"
        self.seen = len(self.client.delivered)
        self.gone.update(link for _, link in self.client.lost)
        self.client.lost.clear()

    def work(self, rank: int, id: int) -> None:
        """Let a worker begin a task."""
        task = self.hosts[rank].begin(id, next(self.numbers))
        if task:
            self.starts[task] += 1
            assert self.starts[task] == 1 or self.tasks[task].retries > 0, "it must not run twice"
            assert self.starts[task] <= 2 * (1 + self.tasks[task].retries)

    # --- the user ---------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 20),
        retries=st.sampled_from([0, 0, 1, 3]),
        rank=st.sampled_from([*[ANY] * 6, 0, 1]),
        function=st.sampled_from(FUNCTIONS),
    )
    def submit(self, count: int, retries: int, rank: int, function: object) -> None:
        """Submit tasks."""
        self.hand_in(count, retries, rank, function)
        self.go_on(20)

    def hand_in(self, count: int, retries: int, rank: int = ANY, function: object = FUNCTIONS[0]) -> None:
        """Hand tasks to the scheduler."""
        made = [
            Task(next(self.ids), function, b"args", (), None, 0, retries, rank=rank, movable=rank == ANY)
            for _ in range(count)
        ]
        self.tasks |= {task.id: task for task in made}
        self.client.perform(self.client.scheduler.on_submit(made))

    @precondition(lambda self: self.tasks)
    @rule()
    def cancel(self) -> None:
        """Cancel some that have not ended."""
        left = [task for task in self.tasks.values() if task.state != SETTLED]
        chosen = self.random.sample(left, min(2, len(left)))
        self.client.perform(self.client.scheduler.on_cancel(chosen))

    # --- messages and work --------------------------------------------------------------------------

    def pass_on(self, rank: int, sent: int, heard: int) -> None:
        """Let messages of one node come through, whatever other links do."""
        self.up(rank, sent)
        self.hosts[rank].spawn()
        self.down(rank, heard)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Begin; what data of hypothesis chooses is too often the same."""
        self.random = Random(seed)

    @rule(steps=st.integers(10, 100))
    def go_on(self, steps: int) -> None:
        """Let messages come and workers work, here and there."""
        random = self.random
        for _ in range(steps):
            rank = random.choice(sorted(self.hosts))
            host = self.hosts[rank]
            workers = [id for id, worker in host.workers.items() if worker.up]
            dice = random.random()
            if dice < 0.5 or not workers:
                self.pass_on(rank, random.randrange(6), random.randrange(6))
            elif dice < 0.7:
                self.work(rank, random.choice(workers))
            elif dice < 0.75:
                host.go_on(random.choice(workers))
            elif dice < 0.95:
                host.end(random.choice(workers))
            else:
                self.beat(rank)

    def beat(self, rank: int) -> None:
        """Acknowledge, and let time pass on both sides."""
        if (known := self.joined(rank)) is not None:
            self.client.talk.beat(known[0], self.now)
        self.hosts[rank].handle(after=0.1)
        self.now += 0.1
        self.client.perform(self.client.scheduler.on_tick(self.now))

    # --- mishaps --------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.hosts) < RANKS)
    @rule(slots=st.integers(1, 3))
    def come(self, slots: int) -> None:
        """Have a new node join, under a free rank."""
        rank = next(rank for rank in range(RANKS) if rank not in self.hosts)
        self.hosts[rank] = Host(1_000 + next(self.numbers), slots)
        self.client.join(rank, self.wire())

    @rule(rank=ranks, sent=st.integers(0, 5), heard=st.integers(0, 5), noticed=st.booleans())
    def cut(self, rank: int, sent: int, heard: int, noticed: bool) -> None:
        """Break a connection: of what was under way the first messages still come, and the others never."""
        self.go_on(10)
        self.hand_in(6, retries=self.random.choice([0, 3]))
        if (known := self.joined(rank)) is None:
            return
        mate, link = known
        old = link.wire
        self.up(rank, sent)
        self.down(rank, heard)
        if self.client.of(link) is not mate:
            return
        if noticed:  # else the node learns of it by the next hello
            self.hosts[rank].handle(Gone(old.peer))
        link.wire = self.wire()
        self.client.greeting.hello(mate, link)

    @rule(rank=ranks, restarted=st.booleans(), late=st.integers(0, 6), slots=st.integers(1, 3))
    def fall_silent(self, rank: int, restarted: bool, late: int, slots: int) -> None:
        """Have the client give a node up; the node works on, hears what was under way, and comes back, or is new."""
        self.go_on(10)
        if (known := self.joined(rank)) is None:
            return
        mate, link = known
        old, host = link.wire, self.hosts[rank]
        self.client.lose(mate, "it was silent")
        self.client.lose(mate, "and dead")
        self.look()
        for _ in range(late):
            if old.up and not host.over and old.peer in host.wires:
                host.hear(old, link)
        host.spawn()
        if restarted or host.over:
            self.hosts[rank] = Host(1_000 + next(self.numbers), slots)
        else:
            self.run_late(rank)
        self.client.join(rank, self.wire())

    def run_late(self, rank: int) -> None:
        """Let a node work that the client has given up."""
        for id in list(self.hosts[rank].workers)[:1]:
            self.work(rank, id)
            self.hosts[rank].end(id)

    @rule(rank=ranks, slots=st.integers(1, 3))
    def restart_unseen(self, rank: int, slots: int) -> None:
        """Have a daemon die and come back at its port before the client has noticed."""
        if (known := self.joined(rank)) is None:
            return
        self.hosts[rank] = Host(1_000 + next(self.numbers), slots)
        known[1].wire = self.wire()
        self.client.greeting.hello(*known)

    @rule()
    def kill_worker(self) -> None:
        """Have a worker die, one that runs something if there is one."""
        self.go_on(10)
        alive = [
            (not worker.run, self.random.random(), rank, id)
            for rank, host in self.hosts.items()
            for id, worker in host.workers.items()
            if worker.up
        ]
        if alive:
            *_, rank, id = min(alive)
            self.work(rank, id)
            self.hosts[rank].die(id)

    @rule(rank=ranks, really=rarely)
    def outlive_the_lease(self, rank: int, really: bool) -> None:
        """Have a node hear nothing for as long as the lease is."""
        if really and rank in self.hosts:
            self.hosts[rank].handle(after=LEASE)
            self.hosts[rank].handle(after=LEASE)

    @rule(rank=ranks, really=rarely)
    def drain(self, rank: int, really: bool) -> None:
        """Have somebody tell a daemon to end; what is over by then is replaced."""
        for each in self.hosts:
            self.bring_back(each)
        if really and rank in self.hosts:
            self.hosts[rank].handle(Shutdown(30.0, "asked"))

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def outcomes_are_few_and_right(self) -> None:
        """No task ends twice."""
        self.look()
        assert all(count == 1 for count in self.client.outcomes.values())

    def bring_back(self, rank: int) -> None:
        """Replace a node that is over, as far as the client knows by now."""
        if (known := self.joined(rank)) is not None and self.hosts[rank].over and not known[1].wire.down:
            self.client.lose(known[0], "its connection broke, and nobody listens there any more")
            self.look()
        if self.joined(rank) is None:
            self.hosts[rank] = Host(1_000 + next(self.numbers), 1)
            self.client.join(rank, self.wire())

    def teardown(self) -> None:
        """In the end every task has ended, once."""
        for _ in range(2_000):
            if self.client.scheduler.is_idle():
                break
            for rank in list(self.hosts):
                self.bring_back(rank)
                self.pass_on(rank, 50, 50)
                for id in list(self.hosts[rank].workers):
                    if id in self.hosts[rank].workers:
                        self.work(rank, id)
                        self.hosts[rank].end(id)
                self.pass_on(rank, 50, 50)
                self.beat(rank)
        self.look()
        assert self.client.scheduler.is_idle(), [task for task in self.tasks.values() if task.state != SETTLED]
        assert self.client.outcomes == Counter(list(self.tasks))


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("R40")
@pytest.mark.rule("F67")
def test_contract_is_kept_whatever_happens() -> None:
    """In many random lives no promise is broken."""
    run_state_machine_as_test(
        Contract, settings=settings(max_examples=50, stateful_step_count=50, deadline=None, phases=PHASES)
    )


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_contract_is_kept_in_many_lives() -> None:
    """The same for longer."""
    run_state_machine_as_test(
        Contract, settings=settings(max_examples=2_000, stateful_step_count=100, deadline=None, phases=PHASES)
    )
