"""The simulated node and worker, and the account that is kept of them."""

from __future__ import annotations

import pytest

from skyward_scripts.simulation.clock import Clock
from skyward_scripts.simulation.cluster import simulate
from skyward_scripts.simulation.costs import Costs
from skyward_scripts.simulation.watching import Watch

FREE = Costs(link=0.0, pipe=0.0, client_message=0.0, client_task=0.0, node_message=0.0, node_task=0.0, worker_task=0.0)


def test_nothing_is_slower_than_the_ideal_but_for_its_costs() -> None:
    """On a cluster that costs nothing, the policy is the greedy list schedule of long tasks."""
    assert simulate([0.3, 0.1, 0.1, 0.2, 0.5], 2, costs=FREE).ratio == pytest.approx(1.0, abs=1e-4)


def test_costs_of_one_task_add_up() -> None:
    """A lone task passes each part on its way, there and back."""
    costs = Costs()
    made = simulate([0.1], 1)
    way = 2 * costs.link + 2 * costs.pipe + 2 * costs.client_message + 4 * costs.node_message
    assert made.makespan == pytest.approx(0.1 + way + costs.client_task + costs.node_task + costs.worker_task, abs=1e-9)
    assert made.messages == 2


def test_watch_sees_an_idle_node_beside_one_where_work_waits() -> None:
    """The longest such time is noted."""
    clock = Clock()
    watch = Watch(clock)
    for life in (1, 2):
        watch.node_came(life, 1)
    clock.at(1.0, watch.arrived, 1, [10, 11])
    clock.at(3.0, watch.handed_back, 1, [11])
    clock.at(5.0, watch.arrived, 2, [11])
    clock.at(6.0, watch.ended, 1, 10)
    while clock.step():
        pass
    assert watch.longest_waste == 2.0
    assert watch.returned == 1


def test_watch_sees_an_unfair_decision() -> None:
    """A second task for one node while another has a free slot."""
    watch = Watch(Clock())
    for life in (1, 2):
        watch.joined(life, 1)
    watch.sent([(1, [10]), (2, [11])])
    watch.sent([(1, [12])])
    assert watch.crowded == 0
    watch.settled(2, [11], outcome=True)
    watch.sent([(1, [13])])
    assert watch.crowded == 1
