"""Whatever clients and workers do, in whatever order, every task has one outcome and the books are right."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.lone import Call
from skyward.wire.messages import Beat, Cancel, Hello, Progress, Results, Returned, Submit, Tasks
from skyward_node.cells import READY
from skyward_node.core.actions import Control, Exit, Give, Incoming, Kill, Retire, Send, Spawn
from skyward_node.core.tasks import GIVEN, QUEUED, WAITING
from skyward_node.executors.events import Exited, Received, Spawned
from skyward_node.pipe_messages import Context, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77
RETRIES = (0, 1, 3)  # of task n: the n-th, round and round


class FakeWorker:
    """A worker process: it has a queue, runs the first task of it, and does what it is told, later."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.up = False
        self.tasks: deque[int] = deque()
        self.waiting: set[int] = set()
        self.retired = False
        self.client = -1
        self.last = READY  # the task that it ended last
        self.begun = False  # it has told that it runs the first


class World:
    """One core, its workers and its clients, moved on at random."""

    def __init__(self, rig: Rig, seed: int, clients: int) -> None:
        self.rig = rig
        self.random = random.Random(seed)
        self.workers: dict[int, FakeWorker] = {}
        self.events: list[Any] = []
        self.outcomes: list[Counter[int]] = [Counter() for _ in range(clients)]
        self.open: list[set[int]] = [set() for _ in range(clients)]  # submitted, no outcome yet
        self.next_id = [1] * clients
        self.seen = [0] * clients
        self.connection = [0] * clients
        self.runs: Counter[tuple[int, int]] = Counter()  # of (client, task), as far as a worker got to it

    # --- the outside ----------------------------------------------------------------------------

    def peer(self, client: int) -> bytes:
        """Return the client's connection."""
        return b"%d-%d" % (client, self.connection[client])

    def hello(self, client: int) -> None:
        """Have the client say hello on its newest connection."""
        message: Hello = self.rig.hello_message(
            session=bytes([client]) * 16, epoch=EPOCH, ack=self.seen[client], lease=1e6, heartbeat=30.0
        )
        self.events.append(Incoming(self.peer(client), message))

    def say(self, client: int, message: Any, body: Any = ()) -> None:
        """Have the client send a message."""
        self.events.append(Incoming(self.peer(client), message, body))

    def submit(self, client: int, ids: list[int]) -> None:
        """Have the client send tasks."""
        columns = {
            "retries": [RETRIES[id % len(RETRIES)] for id in ids],
            "timeouts": [self.random.choice([0.0, 0.0, 0.5]) for _ in ids],
        }
        self.say(client, *self.rig.tasks_message(*ids, ack=self.seen[client], **columns))
        self.open[client] |= set(ids)

    def step_client(self) -> None:
        """Let a client do something."""
        client = self.random.randrange(len(self.open))
        dice = self.random.random()
        some = self.random.sample(sorted(self.open[client]), min(3, len(self.open[client])))
        if dice < 0.5:
            ids = list(range(self.next_id[client], self.next_id[client] + self.random.randint(1, 12)))
            self.next_id[client] = ids[-1] + 1
            self.submit(client, ids)
        elif dice < 0.6 and some:
            self.say(client, Cancel(EPOCH, some, running=True))
        elif dice < 0.7 and some:
            self.say(client, Cancel(EPOCH, some, running=False))
        elif dice < 0.75 and some:
            self.submit(client, sorted(some))  # sent twice
        elif dice < 0.8:
            self.connection[client] += 1
            self.hello(client)
        else:
            self.say(client, Beat(EPOCH, self.seen[client], 1.0))

    def step_worker(self, *, deadly: bool) -> None:
        """Let a worker do something."""
        alive = [id for id, worker in self.workers.items() if worker.up]
        if not alive:
            return
        id = self.random.choice(alive)
        worker = self.workers[id]
        dice = self.random.random()
        if worker.retired and not worker.tasks:
            self.die(id, 0, None)
        elif deadly and dice < 0.1:
            self.die(id, None, 9)
        elif not worker.tasks:
            return
        elif dice < 0.2:
            worker.begun = True
            self.events.append(Received(id, Progress(0, [], [worker.tasks[0]])))
        elif dice < 0.3:
            self.toggle_waiting(id, worker)
        elif not worker.waiting:
            count = self.random.randint(1, len(worker.tasks))
            done = [worker.tasks.popleft() for _ in range(count)]
            worker.last, worker.begun = done[-1], False
            self.runs.update((worker.client, task) for task in done)
            message, body = self.rig.results_message(*done, elapsed=self.random.choice([1, 50, 900, 20_000]))
            self.events.append(Received(id, message, body))

    def toggle_waiting(self, id: int, worker: FakeWorker) -> None:
        """Let a task begin or end to wait for a call of its own."""
        task = worker.tasks[0]
        waiting = worker.begun = task not in worker.waiting
        if waiting:
            worker.waiting.add(task)
            none = [0]
            submit = Submit(0, task, [self.rig.key], [task], none, none, none, none, [], [-1], ["f"])
            self.events.append(Received(id, submit, [b""]))
        else:
            worker.waiting.discard(task)
        self.events.append(Received(id, Waiting(task, waiting)))

    def die(self, id: int, exitcode: int | None, signal: int | None) -> None:
        """End a worker."""
        worker = self.workers.pop(id)
        running = tuple(worker.tasks)[: worker.slots] if worker.up else ()
        if worker.up and not worker.begun and self.random.random() < 0.3:
            running = (worker.last,)  # before it has begun the next one
        else:
            self.runs.update((worker.client, task) for task in running)
        self.events.append(Exited(id, exitcode, signal, running=running))

    # --- the core ---------------------------------------------------------------------------------

    def turn(self, after: float = 0.01) -> None:
        """Let the core take in what has happened."""
        events, self.events = self.events, []
        for action in self.rig.handle(*events, after=after):
            self.perform(action)
        self.check_books()

    def perform(self, action: Any) -> None:
        """Do what the core wants."""
        match action:
            case Spawn(worker=id, slots=slots):
                self.workers[id] = FakeWorker(slots)
            case Give(worker=id, message=Tasks(ids=ids) | Call(ids=ids)) if id in self.workers:
                self.workers[id].tasks.extend(ids)
            case Give(worker=id, message=Context(session=session)) if id in self.workers:
                self.workers[id].client = session[0]
            case Control(worker=id, message=Cancel(ids=ids, running=running)) if id in self.workers:
                self.obey(id, ids, running=running)
            case Kill(worker=id) if id in self.workers:
                self.die(id, None, 9)
            case Retire(worker=id) if id in self.workers:
                self.workers[id].retired = True
            case Send(message=Results() as message, peer=peer):
                self.receive(peer, message)
            case Send(message=Returned(ids=ids), peer=peer):
                client = int(peer.split(b"-")[0])
                self.open[client] -= set(ids)
            case Exit():
                raise AssertionError("nobody asked for the end")
            case _:
                pass

    def obey(self, id: int, ids: list[int], *, running: bool) -> None:
        """Drop tasks, or hand them back."""
        worker = self.workers[id]
        back = [task for task in ids if task in list(worker.tasks)[worker.slots :]]
        for task in back:
            worker.tasks.remove(task)
        if back:
            self.events.append(Received(id, Returned(0, back)))
        if running and worker.tasks and worker.tasks[0] in ids and self.random.random() < 0.5:
            task = worker.last = worker.tasks.popleft()
            worker.begun = False
            self.runs[worker.client, task] += 1
            worker.waiting.discard(task)
            message, body = self.rig.results_message(task, status=4)
            self.events.append(Received(id, message, body))

    def receive(self, peer: bytes, message: Results) -> None:
        """Take in results; each message counts once."""
        client = int(peer.split(b"-")[0])
        if message.seq <= self.seen[client]:
            return
        assert message.seq == self.seen[client] + 1
        self.seen[client] = message.seq
        self.outcomes[client].update(message.ids)
        self.open[client] -= set(message.ids)

    def check_books(self) -> None:
        """Check that what the core counts is so."""
        node = self.rig.core.node
        assert node.running == sum(worker.load for worker in node.workers.values())
        assert node.lent == sum(
            task.state == WAITING for worker in node.workers.values() for task in worker.tasks.values()
        )
        for session in node.sessions.values():
            assert session.queued == sum(task.state == QUEUED for task in session.queue)
            for worker in session.workers.values():
                assert (worker.id in session.idle) == (not worker.tasks and not worker.leaving)
                heads = [task.state != GIVEN for task in worker.tasks.values()]
                if worker.spawned and not worker.dying and worker.slots == 1 and heads:
                    assert heads[0], "the first task of a worker runs"


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("R38")
@pytest.mark.parametrize("seed", range(40))
def test_every_task_has_one_outcome(make_rig: Callable[..., Rig], seed: int) -> None:
    """Under cancels, crashes, timeouts, reconnects and waits no task is lost, and none has two results.

    Nothing with ``retries=0`` runs twice, and nothing three times.
    """
    chance = random.Random(seed)
    rig = make_rig(chance.choice([1, 2, 4]), threads=chance.random() < 0.3, reuse=chance.random() < 0.8)
    world = World(rig, seed, clients=chance.choice([1, 2, 3]))
    for action in rig.core.start():
        world.perform(action)
    for client in range(len(world.open)):
        world.hello(client)
        world.say(client, rig.function(), [b"code of f"])
    for step in range(400):
        for id, worker in world.workers.items():
            if not worker.up and chance.random() < 0.7:
                worker.up = True
                world.events.append(Spawned(id, id))
        for _ in range(chance.randint(0, 3)):
            if step < 300 and chance.random() < 0.4:
                world.step_client()
            else:
                world.step_worker(deadly=step < 300)
        world.turn(after=chance.choice([0.001, 0.01, 0.3]))
    settle(world)
    for client, outcomes in enumerate(world.outcomes):
        assert world.open[client] == set()
        assert set(outcomes.values()) <= {1}
    assert all(runs <= (2 if RETRIES[task % len(RETRIES)] else 1) for (_, task), runs in world.runs.items())
    node = rig.core.node
    assert (node.running, node.lent) == (0, 0)
    assert all(not session.tasks and not session.queued for session in node.sessions.values())


def settle(world: World) -> None:
    """Let everything that has begun come to its end."""
    for _ in range(3_000):
        if not any(world.open) and not world.events:
            return
        for id, worker in world.workers.items():
            if not worker.up:
                worker.up = True
                world.events.append(Spawned(id, id))
            for task in list(worker.waiting):
                worker.waiting.discard(task)
                world.events.append(Received(id, Waiting(task, waiting=False)))
        world.step_worker(deadly=False)
        world.turn()
