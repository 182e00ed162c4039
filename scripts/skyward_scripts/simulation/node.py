"""A daemon around the real `skyward_node.core.Core`: one thread, its workers, and the link to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyward.wire.codec import pack_body
from skyward.wire.lone import Call
from skyward.wire.messages import PROTOCOL, Cancel, Function, Hello, Results, Returned, Slots, Tasks
from skyward_node.core import Core, Identity, Limits
from skyward_node.core.actions import Control, Give, Incoming, Send, Spawn
from skyward_node.executors.events import Received, Spawned
from skyward_scripts.simulation.clock import Desk
from skyward_scripts.simulation.worker import NOTHING, SimulatedWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward_scripts.simulation.clock import Clock
    from skyward_scripts.simulation.costs import Costs
    from skyward_scripts.simulation.watching import Watch

PEER: Final = b"client"
SESSION: Final = b"s" * 16
KEY: Final = b"f" * 16
FOREVER: Final = 1e9  # seconds: nobody is silent here
CALM: Final = 60.0  # seconds: the longest heartbeat; what it would carry is of no interest


class SimulatedNode:
    """One life of one node."""

    def __init__(
        self, clock: Clock, costs: Costs, watch: Watch, durations: Sequence[float], *, life: int, rank: int, slots: int
    ) -> None:
        self.clock = clock
        self.costs = costs
        self.watch = watch
        self.durations = durations  # by task id
        self.life = life
        self.rank = rank
        self.slots = slots
        self.alive = True
        self.deliver: Callable[[SimulatedNode, Any], None] = lambda _node, _message: None  # to the client
        self._seen = 0  # messages with results that the client was sent
        self._workers: dict[int, SimulatedWorker] = {}
        self._desk = Desk(clock, self._turn)
        identity = Identity(life, "3.11", {}, "host", "", 1, [])
        limits = Limits(slots, threads=False, reuse=True, lease=FOREVER, max_payload=0)
        self._core = Core(limits, identity, clock.now)
        self._open()

    def _open(self) -> None:
        """Bring up workers and session, which takes no time: it is over before the client learns of the node."""
        hello = Hello(
            PROTOCOL, "3.11", {}, SESSION, epoch=0, ack=0, lease=FOREVER, heartbeat=CALM, cancel_grace=1.0,
            max_payload=0, label="simulation", retries=3,
        )  # fmt: skip
        code = Function(self.life, KEY, [], "f")
        actions = [
            *self._core.start(),
            *self._core.handle([Incoming(PEER, hello), Incoming(PEER, code, [b""])], self.clock.now),
        ]
        spawned = [action.worker for action in actions if isinstance(action, Spawn)]
        self._workers = {id: SimulatedWorker(id, self) for id in spawned}
        self._core.handle([Spawned(id, id) for id in spawned], self.clock.now)

    def end(self) -> None:
        """Be gone, with all that runs here."""
        self.alive = False
        self.watch.node_went(self.life)

    def learn(self, mean: float) -> None:
        """Know how long tasks take, in seconds, as if some had run before."""
        self._core.node.sessions[SESSION].library.code(KEY).observe(mean * 1e6)

    # --- what comes in -----------------------------------------------------------------------

    def tasks(self, ids: Sequence[int], retries: Sequence[int]) -> None:
        """Have a batch of tasks arrive."""
        if self.alive:
            self.watch.arrived(self.life, ids)
            sizes, buffers, body = pack_body([NOTHING] * len(ids))
            message = Tasks(
                self.life, self._seen, [KEY], list(ids), [0] * len(ids), sizes, buffers,
                list(retries) if any(retries) else [], [],
            )  # fmt: skip
            self._desk.put(Incoming(PEER, message, body))

    def stop(self, ids: Sequence[int]) -> None:
        """Have the client ask for what has not started."""
        if self.alive:
            self._desk.put(Incoming(PEER, Cancel(self.life, list(ids), running=False)))

    def hear(self, word: Received) -> None:
        """Have a worker's message arrive."""
        if self.alive:
            self._desk.put(word)

    # --- the daemon's thread -----------------------------------------------------------------

    def _turn(self, events: Sequence[Any]) -> None:
        if not self.alive:
            return
        desk, costs = self._desk, self.costs
        desk.spent += costs.node_message * len(events)
        for action in self._core.handle(events, self.clock.now):
            self._perform(action)

    def _perform(self, action: Any) -> None:
        desk, costs = self._desk, self.costs
        match action:
            case Give(worker=id, message=Tasks(ids=ids) | Call(ids=ids)):
                desk.spent += costs.node_message
                desk.later(costs.pipe, self._workers[id].take, ids)
            case Control(worker=id, message=Cancel(ids=ids)):
                desk.spent += costs.node_message
                desk.later(costs.pipe, self._workers[id].cancel, ids)
            case Send(message=Results() as message):
                self._seen = message.seq
                desk.spent += costs.node_message + costs.node_task * len(message.ids)
                desk.later(costs.link, self.deliver, self, message)
            case Send(message=Returned() as message):
                desk.spent += costs.node_message
                desk.later(0.0, self._leave, message.ids)
                desk.later(costs.link, self.deliver, self, message)
            case Send(message=Slots() as message):
                raise AssertionError(f"nothing lends slots here: {message}")
            case Spawn(worker=id):
                self._workers[id] = SimulatedWorker(id, self)
                desk.later(costs.pipe, self.hear_of_birth, id)
            case _:
                pass  # code, contexts, progress, pulses, logs

    def hear_of_birth(self, worker: int) -> None:
        """Have a worker that was started report itself."""
        if self.alive:
            self._desk.put(Spawned(worker, worker))

    def _leave(self, ids: Iterable[int]) -> None:
        if self.alive:
            self.watch.handed_back(self.life, list(ids))
