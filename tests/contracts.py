"""A client and its nodes without sockets, processes or clock: their own code on both sides, on wires that break.

The client is `Scheduler`, `Talk`, `Hearing` and `Greeting`; a node is `Core`. What lies between, and what runs tasks,
is made here, and moves only when a test says so: bytes on a wire, workers, connections. Every run of a task is noted.
"""

from __future__ import annotations

import platform
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, ClassVar, cast

from skyward.config import Options
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import Send, Settle, Stop
from skyward.mesh.bundling import Bundling
from skyward.mesh.greeting import Greeting
from skyward.mesh.hearing import Hearing
from skyward.mesh.mate import Mate
from skyward.mesh.talk import Talk
from skyward.providers.base import Launched
from skyward.transport.links import Link
from skyward.wire.codec import Decoder, encode, pack_body
from skyward.wire.frames import Payload
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.lone import Call
from skyward.wire.messages import Cancel, Hello, Progress, Results, Returned, Tasks
from skyward.wire.shelf import CALLS, Shelf
from skyward.wire.statuses import OK
from skyward.wire.unconfirmed import Unconfirmed
from skyward_node.core import Core, Identity, Limits
from skyward_node.core import actions as node_actions
from skyward_node.executors.events import Exited, Received, Spawned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.dispatch.tasks import Action, Task
    from skyward.mesh.engine import Engine

LEASE = 30.0  # seconds
BEAT = 20.0  # seconds: nothing is due between two steps of a test
HASTE = 0.001  # seconds between two events of a node


class Wire:
    """One connection: what is under way in each direction, in order."""

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.up: deque[list[Any]] = deque()  # to the node
        self.down: deque[list[Any]] = deque()


class WireLink(Link):
    """A link of the client whose socket is a wire."""

    __slots__ = ("wire",)

    def __init__(self, rank: int, wire: Wire) -> None:
        self.wire = wire
        self.rank = rank
        self.monitor = self.cutter = self.joiner = None
        self._pending = deque()
        self._waiting, self.lane, self._tail, self._token = [], None, 0, b""
        self.level = self.asked = self.closed = False
        self.broken = self.fresh = self.ready = False
        self.linger = self.failures = self.greeted = self.refusals = 0
        self.epoch = self.seen = self.heard = self.shown = self.said = self.unacked = 0
        self.unconfirmed = Unconfirmed()
        self.functions, self.modules, self.brought = set(), set(), {}
        self.learned = Shelf(CALLS)

    def _try_send(self, frames: Sequence[Any]) -> bool:
        self.wire.up.append(list(frames))
        return True


class Silent:
    """A console that shows nothing."""

    def show(self, *_: object) -> None:
        """Do nothing."""

    tell = settle = show


class NoParents:
    """Calls of tasks, of which there are none."""

    parents: ClassVar[dict[tuple[int, int], object]] = {}


class NoLanes:
    """Sockets of a client, whose nodes take no lanes."""

    def close_lane(self, link: Link) -> None:
        """Do nothing."""


class Client:
    """What an engine is to `Talk` and `Greeting`, and what a crew is, without nodes that come by themselves."""

    session = b"s" * 16
    pid, head_port, max_payload = 1, 0, 1_000_000
    closing, failed, sharing = False, 0, None

    def __init__(self) -> None:
        self.options = Options(lease=LEASE, heartbeat=BEAT)
        self.scheduler = Scheduler(60.0)
        self.console = Silent()
        self.nesting = NoParents()
        self.hub = NoLanes()
        self.crew = self
        self.mates: dict[int, Mate] = {}
        self.outcomes: Counter[int] = Counter()
        self.delivered: list[tuple[Task, Any]] = []
        self.lost: list[tuple[int, Link]] = []  # since the test has looked
        self.bundling = Bundling(cast("Engine", self))
        self.greeting = Greeting(cast("Engine", self))
        self.talk = Talk(cast("Engine", self))
        self.hearing = Hearing(cast("Engine", self))

    # --- as an engine ---------------------------------------------------------------------------

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the scheduler has decided."""
        for action in actions:
            match action:
                case Send(rank, tasks):
                    self.talk.tasks(self.mates[rank], tasks)
                case Stop(rank, tasks, running):
                    if rank in self.mates:
                        self.talk.cancel(self.mates[rank], [task.id for task in tasks], running=running)
                case Settle(tasks, verdict):
                    for task in tasks:
                        self.settled(task, verdict)

    def settled(self, task: Task, outcome: Any) -> None:
        """Note an outcome."""
        self.outcomes[task.id] += 1
        self.delivered.append((task, outcome))

    def after_settling(self) -> None:
        """Hand out more."""
        self.perform(self.scheduler.dispatch())

    def started(self, *_: object) -> None:
        """Do nothing: nobody watches."""

    ended = strand = started

    # --- as a crew ------------------------------------------------------------------------------

    def of(self, link: Link) -> Mate | None:
        """Return the node at the other end, if the link is still in use."""
        mate = self.mates.get(link.rank)
        return mate if mate is not None and mate.link is link else None

    def welcomed(self, mate: Mate, link: Link) -> None:
        """Do nothing: no clock runs here."""

    def echoed(self, mate: Mate, echo: float) -> None:
        """Do nothing, for the same reason."""

    def ready_mates(self) -> list[Mate]:
        """Return the nodes that take part."""
        return [mate for _, mate in sorted(self.mates.items()) if mate.since]

    def join(self, rank: int, wire: Wire) -> None:
        """Say hello to a node."""
        mate = self.mates[rank] = Mate(rank, Launched(ident=str(rank), endpoint="tcp://h:1"))
        mate.link = WireLink(rank, wire)
        self.greeting.hello(mate, mate.link)

    def ready(self, mate: Mate, slots: int) -> None:
        """A node has said Welcome."""
        mate.slots, mate.since = slots, 1.0
        self.talk.roster()
        self.perform(self.scheduler.on_node_ready(mate.rank, slots))

    def lose(self, mate: Mate, reason: str) -> None:
        """A node is gone; said twice, only the first counts."""
        if self.mates.get(mate.rank) is not mate:
            return
        del self.mates[mate.rank]
        assert mate.link is not None
        self.lost.append((mate.rank, mate.link))
        mate.link = None
        self.perform(self.scheduler.on_node_lost(mate.rank, reason))

    def refused(self, mate: Mate, error: Exception) -> None:
        """A node will not talk to us."""
        self.lose(mate, str(error))


class Worker:
    """A worker: it has a queue, and runs the first task of it."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.up = self.retired = False
        self.tasks: deque[tuple[int, object]] = deque()  # and by which link it was sent
        self.run = 0  # the number of the run, while there is one


class Host:
    """One node: a core, its workers, and its connections."""

    def __init__(self, epoch: int, slots: int) -> None:
        version = platform.python_version()
        identity = Identity(epoch, version, {}, "host", "127.0.0.1", 1, [])
        self.core = Core(Limits(slots, False, True, LEASE, 1_000_000, 0.0), identity, 1.0)
        self.now = 1.0
        self.epoch = epoch
        self.wires: dict[bytes, Wire] = {}
        self.workers: dict[int, Worker] = {}
        self.owner: object = None  # the link of the session
        self.over = False
        self.runs: dict[int, tuple[int, object]] = {}  # by number: the task, and the link by which it was sent
        self._coming: deque[tuple[tuple[Any, ...], float]] = deque()
        self._decode = Decoder(CLIENT_MESSAGES).decode
        self._perform(self.core.start())

    def handle(self, *events: Any, after: float = HASTE) -> None:
        """Let the core take in what has happened; what follows from an action comes after all actions of its turn."""
        self._coming.append((events, after))
        if len(self._coming) > 1:
            return
        while self._coming:
            events, after = self._coming[0]
            if not self.over:
                self.now += after
                self._perform(self.core.handle(events, self.now))
            self._coming.popleft()

    def hear(self, wire: Wire, link: object) -> None:
        """Take in the next message of a connection."""
        header, *body = wire.up.popleft()
        message = self._decode(header)
        assert message is not None
        if isinstance(message, Hello):
            self.wires[wire.peer] = wire
            self.owner = link
        self.handle(node_actions.Incoming(wire.peer, message, body))

    def _perform(self, actions: Iterable[Any]) -> None:
        for action in actions:
            match action:
                case node_actions.Send(peer=peer, message=message, body=body):
                    if peer in self.wires:
                        self.wires[peer].down.append([encode(message), *body])
                case node_actions.Spawn(worker=id, slots=slots):
                    self.workers[id] = Worker(slots)
                case node_actions.Give(worker=id, message=Tasks(ids=ids) | Call(ids=ids)) if id in self.workers:
                    self.workers[id].tasks.extend((task, self.owner) for task in ids)
                case node_actions.Control(worker=id, message=Cancel(ids=ids, running=running)) if id in self.workers:
                    self._withdraw(id, ids, running=running)
                case node_actions.Kill(worker=id) if id in self.workers:
                    self.die(id)
                case node_actions.Retire(worker=id) if id in self.workers:
                    self.workers[id].retired = True
                case node_actions.Exit():
                    self.over = True
                case _:
                    pass

    # --- workers ----------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Let all workers come up that shall."""
        for id, worker in list(self.workers.items()):
            if not worker.up:
                worker.up = True
                self.handle(Spawned(id, id))

    def begin(self, id: int, number: int) -> int:
        """Begin the first task of a worker, as run ``number``; return the task, 0 if there was none to begin."""
        worker = self.workers[id]
        if worker.run or not worker.tasks or not worker.up:
            return 0
        worker.run = number
        self.runs[number] = worker.tasks[0]
        return worker.tasks[0][0]

    def go_on(self, id: int) -> None:
        """Let a worker say that its task takes long."""
        if self.workers[id].run:
            self.handle(Received(id, Progress(0, [], [self.workers[id].tasks[0][0]])))

    def end(self, id: int) -> None:
        """End the first task of a worker."""
        worker = self.workers[id]
        if not worker.run:
            return
        run, worker.run = worker.run, 0
        task, _ = worker.tasks.popleft()
        sizes, buffers, body = pack_body([Payload(b"%d %d" % (task, run), ())])
        self.handle(Received(id, Results(0, 0, [task], [OK], sizes, buffers, [900]), list(body)))

    def _withdraw(self, id: int, ids: Sequence[int], *, running: bool) -> None:
        worker = self.workers[id]
        begun = list(worker.tasks)[: 1 if worker.run else 0]
        back = [task for task, _ in list(worker.tasks)[len(begun) :] if task in ids]
        worker.tasks = deque(begun + [each for each in list(worker.tasks)[len(begun) :] if each[0] not in back])
        if back:
            self.handle(Received(id, Returned(0, back)))
        if running and begun and begun[0][0] in ids:
            self.end(id)  # it was faster

    def die(self, id: int) -> None:
        """End a worker."""
        worker = self.workers.pop(id)
        running = (worker.tasks[0][0],) if worker.run else ()
        self.handle(Exited(id, None, 9, running=running))
