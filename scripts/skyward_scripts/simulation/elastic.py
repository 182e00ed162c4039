"""A pool that grows and shrinks while a script is played, around the real `Membership`: as `skyward.mesh.crew` does.

Nodes take a given time to start; a launch can be made to fail, and a node to be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skyward.dispatch.load import survey
from skyward.dispatch.membership import Keep, Launch, Membership, Retire
from skyward.model import NodeState
from skyward_scripts.simulation.client import Died, Joined, SimulatedClient, Submitted, Ticked
from skyward_scripts.simulation.cluster import Cluster
from skyward_scripts.simulation.costs import Costs
from skyward_scripts.simulation.script import Moment, Script, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from skyward.dispatch.membership import Change
    from skyward.model import Nodes
    from skyward_scripts.simulation.clock import Clock
    from skyward_scripts.simulation.node import SimulatedNode
    from skyward_scripts.simulation.watching import Watch


@dataclass(frozen=True, slots=True)
class Elastic:
    """A pool, and what happens to it."""

    nodes: Nodes
    start_up: float = 0.5  # seconds that a node takes
    idle_timeout: float = 60.0  # seconds
    slots: int = 1
    failing: Collection[int] = ()  # launches that come to nothing, by their number
    lost: Mapping[float, int] = field(default_factory=dict[float, int])  # ranks, by the moment at which they are lost


@dataclass(frozen=True, slots=True)
class Failed:
    """A node could not be started."""

    rank: int


class ElasticClient(SimulatedClient):
    """A client whose nodes come and go as it wants."""

    def __init__(self, clock: Clock, costs: Costs, watch: Watch, pool: Elastic, launch: Callable[[int], None]) -> None:
        super().__init__(clock, costs, watch)
        self.membership = Membership(pool.nodes, idle_timeout=pool.idle_timeout, slots=pool.slots)
        self.scheduler.assignment.core = pool.nodes.least if self.membership.is_elastic else None
        self.moments: list[Moment] = []
        self._launch = launch

    def open(self) -> None:
        """Launch the first nodes, and look at them at every heartbeat."""
        self._change(self.membership.on_open(self._clock.now))
        self.tick()

    def tick(self) -> None:
        """Look after the pool, now and at every heartbeat."""
        self.desk.put(Ticked())

    def node(self, rank: int) -> SimulatedNode | None:
        """Return the node of this rank that is ready."""
        return self._nodes.get(rank)

    def _turn(self, events: Sequence[Any]) -> None:
        super()._turn(events)
        states = list(self.membership.states.values())
        starting = states.count(NodeState.STARTING)
        moment = (len(states) - starting, starting, self.scheduler.waiting(), self.scheduler.in_flight())
        last = self.moments[-1] if self.moments else None
        if last is None or moment != (last.ready, last.starting, last.waiting, last.running):
            self.moments.append(Moment(self._clock.now, *moment))

    def _handle(self, event: Any) -> None:
        now = self._clock.now
        match event:
            case Submitted():
                if not self.membership.target:
                    self._change(self.membership.on_wake(now))
                self._submit(event)
            case Joined(node):
                self.membership.on_ready(node.rank, now)
                super()._handle(event)
                self._retire()
            case Died(node):
                if self._nodes.get(node.rank) is node:
                    super()._handle(event)
                    self._change(self.membership.on_lost(node.rank, "gone", now))
            case Failed(rank):
                self._change(self.membership.on_launch_failed(rank, "it failed", now))
            case Ticked():
                if self.scheduler.queue and not self.membership.target:
                    self._change(self.membership.on_wake(now))
                self._change(self.membership.on_look(survey(self.scheduler), now))
                super()._handle(event)
            case _:
                super()._handle(event)
                self._retire()

    def _change(self, changes: Iterable[Change]) -> None:
        for change in changes:
            match change:
                case Launch(rank):
                    self._launch(rank)
                case Retire(rank):
                    self._perform(self.scheduler.on_node_retiring(rank))
                case Keep(rank):
                    self._perform(self.scheduler.on_node_retiring(rank, stays=True))
        self._retire()

    def _retire(self) -> None:
        for rank, state in list(self.membership.states.items()):
            node, held = self._nodes.get(rank), self.scheduler.nodes.get(rank)
            if state is NodeState.DRAINING and node and held and not (held.in_flight or held.pinned):
                node.end()
                super()._handle(Died(node))
                self._change(self.membership.on_lost(rank, "it was let go", self._clock.now))


def follow(script: Script, pool: Elastic, costs: Costs | None = None) -> Story:
    """Play a script on a pool until this has come to rest."""
    durations = [burst.seconds for burst in script.bursts for _ in range(burst.calls)]
    cluster = Cluster(durations, pool.slots, costs or Costs(), None)
    clock = cluster.clock
    launched: list[int] = []

    def launch(rank: int) -> None:
        launched.append(rank)
        when = clock.now + pool.start_up
        if len(launched) - 1 in pool.failing:
            clock.at(when, client.desk.put, Failed(rank))
        else:
            clock.at(when, cluster.start, client, rank)

    def lose(rank: int) -> None:
        node = client.node(rank)
        if node is not None:
            node.end()
            client.desk.put(Died(node))

    client = ElasticClient(clock, cluster.costs, cluster.watch, pool, launch)
    client.open()
    first = 0
    for burst in script.bursts:
        ids = range(first, first + burst.calls)
        clock.at(burst.at, client.desk.put, Submitted(ids, 3, f"{burst.seconds}".encode()))
        first = ids.stop
    for moment, rank in pool.lost.items():
        clock.at(moment, lose, rank)
    _play(client, clock, max(script.bursts[-1].at, *pool.lost, 0.0), pool)
    assert len(cluster.watch.results) == len(durations), "calls are left"
    return Story(script, client.moments, len(launched), client.finished)


def _play(client: ElasticClient, clock: Clock, last: float, pool: Elastic) -> None:
    """Go on until all is done and the pool has been as it is for as long as nodes may idle."""
    while clock.step():
        rests = clock.now - client.moments[-1].at if client.moments else 0.0
        done = clock.now > last and client.scheduler.is_idle()
        if done and rests > pool.idle_timeout + pool.start_up + 1.0:
            break
    client.moments.append(Moment(clock.now, *_state(client.moments[-1])))


def _state(moment: Moment) -> tuple[int, int, int, int]:
    return moment.ready, moment.starting, moment.waiting, moment.running
