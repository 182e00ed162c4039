"""A whole cluster in time: one client, its nodes, and what becomes of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from skyward_scripts.ideal import list_schedule
from skyward_scripts.simulation.client import Died, Heard, Joined, SimulatedClient, Submitted
from skyward_scripts.simulation.clock import Clock
from skyward_scripts.simulation.costs import Costs
from skyward_scripts.simulation.node import SimulatedNode
from skyward_scripts.simulation.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Churn:
    """Nodes are lost at random moments, and others come in their place."""

    life: float  # seconds a node lives, on average
    notice: float = 0.01  # seconds until the client knows that one is gone
    replace: float = 0.5  # seconds from then until another has taken its rank
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one simulation."""

    nodes: int
    slots: int  # per node
    tasks: int
    makespan: float  # seconds from the submission of all tasks to the delivery of the last outcome
    ideal: float  # seconds of the greedy list schedule
    client: float  # share of the time in which the client's thread was busy
    messages: int  # that the client sent and received
    deciding: float  # seconds that the scheduler took in truth; 0 without a stopwatch
    watch: Watch

    @property
    def ratio(self) -> float:
        """Return how many times the ideal it took."""
        return self.makespan / self.ideal if self.ideal else 1.0


class Cluster:
    """The nodes of a simulation, as they come and go."""

    def __init__(self, durations: Sequence[float], slots: int, costs: Costs, churn: Churn | None) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)
        self.durations = durations
        self.slots = slots
        self.costs = costs
        self.churn = churn
        self._random = Random(churn.seed if churn else 0)  # noqa: S311 - no secret
        self._lives = itertools.count(1)

    def start(self, client: SimulatedClient, rank: int) -> None:
        """Let a node come up, and the client know."""
        node = SimulatedNode(
            self.clock, self.costs, self.watch, self.durations, life=next(self._lives), rank=rank, slots=self.slots
        )
        node.deliver = lambda node, message: client.desk.put(Heard(node, message))
        self.watch.node_came(node.life, node.slots)
        client.desk.put(Joined(node))
        if self.churn:
            self.clock.at(self.clock.now + self._random.expovariate(1.0 / self.churn.life), self._lose, client, node)

    def _lose(self, client: SimulatedClient, node: SimulatedNode) -> None:
        if self.churn is None or client.scheduler.is_idle():
            return
        node.end()
        noticed = self.clock.now + self.churn.notice
        self.clock.at(noticed, client.desk.put, Died(node))
        self.clock.at(noticed + self.churn.replace, self.start, client, node.rank)


def simulate(
    durations: Sequence[float],
    nodes: int,
    *,
    slots: int = 1,
    costs: Costs | None = None,
    churn: Churn | None = None,
    retries: int = 3,
    warm: bool = False,
    stopwatch: Callable[[], float] | None = None,
) -> Run:
    """Run tasks of these durations, submitted at once, on a cluster, and return what came of it.

    ``warm``: the function has run before, for the mean of the durations, on every node.
    """
    cluster = Cluster(durations, slots, costs or Costs(), churn)
    clock = cluster.clock
    client = SimulatedClient(clock, cluster.costs, cluster.watch, stopwatch)
    for rank in range(nodes):
        cluster.start(client, rank)
    while client.joined < nodes and clock.step():
        pass
    if warm:
        client.learn(sum(durations) / len(durations))
    start = clock.now
    client.desk.put(Submitted(range(len(durations)), retries))
    while not client.is_done() and clock.step():
        pass
    makespan = client.finished - start
    return Run(
        nodes,
        slots,
        len(durations),
        makespan,
        list_schedule(durations, nodes * slots),
        min(client.desk.busy / makespan, 1.0) if makespan else 0.0,
        client.messages,
        client.deciding,
        cluster.watch,
    )
