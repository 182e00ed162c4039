"""A client around the real `Scheduler`: one thread that handles a message at a time, as `skyward.mesh.engine` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import Send, Settle, Stop, Task
from skyward.wire.messages import Results, Returned
from skyward_scripts.simulation.clock import Desk
from skyward_scripts.simulation.node import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.dispatch.tasks import Action
    from skyward_scripts.simulation.clock import Clock
    from skyward_scripts.simulation.costs import Costs
    from skyward_scripts.simulation.node import SimulatedNode
    from skyward_scripts.simulation.watching import Watch

PATIENCE: Final = 1e9  # seconds that calls wait for a node


@dataclass(frozen=True, slots=True)
class OneFunction:
    """The function of some tasks."""

    key: bytes = KEY


@dataclass(frozen=True, slots=True)
class Submitted:
    """The user's thread hands in calls."""

    ids: range
    retries: int
    key: bytes = KEY  # of their function


@dataclass(frozen=True, slots=True)
class Joined:
    """A node has said welcome."""

    node: SimulatedNode


@dataclass(frozen=True, slots=True)
class Died:
    """A node's end was noticed."""

    node: SimulatedNode


@dataclass(frozen=True, slots=True)
class Heard:
    """A node's message has come."""

    node: SimulatedNode
    message: Any


@dataclass(frozen=True, slots=True)
class Ticked:
    """A heartbeat is over."""


class SimulatedClient:
    """One client, and the nodes as it knows them."""

    def __init__(self, clock: Clock, costs: Costs, watch: Watch, stopwatch: Callable[[], float] | None = None) -> None:
        self.scheduler = Scheduler(PATIENCE)
        self.messages = 0  # sent and received
        self.deciding = 0.0  # seconds by ``stopwatch`` that the scheduler took, on the machine that simulates
        self.finished = 0.0  # when the last outcome was delivered
        self._clock = clock
        self._costs = costs
        self._watch = watch
        self._stopwatch = stopwatch
        self._nodes: dict[int, SimulatedNode] = {}
        self._submitted = False
        self.desk = Desk(clock, self._turn)

    @property
    def joined(self) -> int:
        """Return how many nodes it knows."""
        return len(self._nodes)

    def is_done(self) -> bool:
        """Return whether all that was submitted has its outcome."""
        return self._submitted and self.scheduler.is_idle()

    def learn(self, mean: float) -> None:
        """Let all know how long tasks take, in seconds, as if some had run before."""
        self.scheduler.assignment.durations.observe(KEY, mean * 1e6)
        for node in self._nodes.values():
            node.learn(mean)

    def _turn(self, events: Sequence[Any]) -> None:
        for event in events:
            self._handle(event)

    def _handle(self, event: Any) -> None:
        match event:
            case Submitted():
                self._submit(event)
                self.desk.later(self._costs.heartbeat, self.tick)
            case Joined(node):
                self._nodes[node.rank] = node
                self._watch.joined(node.life, node.slots)
                self._perform(self._timed(self.scheduler.on_node_ready, node.rank, node.slots))
            case Died(node):
                del self._nodes[node.rank]
                self._watch.lost(node.life)
                self._perform(self._timed(self.scheduler.on_node_lost, node.rank, "gone"))
            case Heard(node, message) if self._nodes.get(node.rank) is node:
                self._hear(node, message)
            case Ticked():
                self._perform(self._timed(self.scheduler.on_tick, self._clock.now))
                self.desk.later(self._costs.heartbeat, self.tick)
            case _:
                pass  # from a node that is known to be gone

    def tick(self) -> None:
        """Look after what waits, now and at every heartbeat, until all is done."""
        if not self.scheduler.is_idle():
            self.desk.put(Ticked())

    def _submit(self, calls: Submitted) -> None:
        self._submitted = True
        function = OneFunction(calls.key)
        tasks = [Task(id, function, b"", (), None, 0, calls.retries, movable=True) for id in calls.ids]
        self._perform(self._timed(self.scheduler.on_submit, tasks))

    def _hear(self, node: SimulatedNode, message: Any) -> None:
        self.messages += 1
        self.desk.spent += self._costs.client_message
        match message:
            case Results(ids=ids, elapsed=elapsed):
                known = self._timed(self.scheduler.on_results, node.rank, ids, elapsed)
                self._settle(node, [task for task in known if task is not None])
                self._perform(self._timed(self.scheduler.dispatch))
            case Returned(ids=ids):
                self._watch.settled(node.life, ids, outcome=False)
                self._perform(self._timed(self.scheduler.on_returned, node.rank, ids))
            case _:
                raise AssertionError(message)

    def _settle(self, node: SimulatedNode, tasks: Sequence[Task]) -> None:
        self.desk.spent += self._costs.client_task * len(tasks)
        self._watch.settled(node.life, [task.id for task in tasks], outcome=True)
        self.finished = self._clock.now + self.desk.spent

    def _perform(self, actions: Iterable[Action]) -> None:
        batches: list[tuple[int, Sequence[int]]] = []
        for action in actions:
            match action:
                case Send(rank, tasks):
                    node = self._nodes[rank]
                    batches.append((node.life, [task.id for task in tasks]))
                    self._send(node.tasks, batches[-1][1], [task.retries - task.losses for task in tasks])
                case Stop(rank, tasks):
                    self._send(self._nodes[rank].stop, [task.id for task in tasks])
                case Settle(tasks):
                    self._watch.failed.update(task.id for task in tasks)
                    self.finished = self._clock.now + self.desk.spent
        self._watch.sent(batches)

    def _send(self, receive: Callable[..., None], *arguments: Any) -> None:
        self.messages += 1
        self.desk.spent += self._costs.client_message
        self.desk.later(self._costs.link, receive, *arguments)

    def _timed(self, decide: Callable[..., Any], *arguments: Any) -> Any:
        if self._stopwatch is None:
            return decide(*arguments)
        start = self._stopwatch()
        decided = decide(*arguments)
        self.deciding += self._stopwatch() - start
        return decided
