"""What the shipped policy does on simulated clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward_scripts.simulation.cluster import Churn, simulate
from skyward_scripts.simulation.durations import DISTRIBUTIONS, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward_scripts.simulation.cluster import Run

ROUND_TRIP = 0.001  # seconds: two links, two pipes, and four threads, with room to spare
SIZES = (1, 2, 4, 8, 16, 32, 64)


def run(durations: Sequence[float], nodes: int, slots: int = 1) -> Run:
    """Simulate, and see that every task had one outcome after one run, and no node was given too much."""
    made = simulate(durations, nodes, slots=slots)
    assert all(made.watch.starts[id] == made.watch.results[id] == 1 for id in range(len(durations)))
    assert not made.watch.failed
    assert made.watch.crowded == 0
    return made


@pytest.mark.rule("R17")
@pytest.mark.rule("R18")
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("nodes", SIZES)
def test_makespan_is_near_the_ideal(distribution: str, nodes: int) -> None:
    """Tasks of a tenth of a second take hardly longer than on a cluster that costs nothing, from 1 to 64 nodes.

    No node is given more than it has slots while another has a free one.
    """
    made = run(draw(distribution, 10 * nodes, 0.1), nodes)
    assert 0.98 <= made.ratio <= 1.03  # by luck less than 1: the order of unequal tasks decides who is last


@pytest.mark.rule("R18")
@pytest.mark.parametrize("mean", [0.001, 0.005, 0.015])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_short_tasks_do_not_wait_for_round_trips(distribution: str, mean: float) -> None:
    """Whatever short tasks take, links and workers do not wait for each other."""
    made = run(draw(distribution, 1_000, mean), 4)
    assert made.ratio <= 1.06
    assert made.watch.longest_waste <= 0.25 + 0.01  # a heartbeat, for what is not worth a message


@pytest.mark.rule("R17")
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_all_slots_work_at_once(slots: int) -> None:
    """Parallelism is nodes times slots."""
    made = run([0.1] * 8 * slots, 8, slots=slots)
    assert made.makespan == pytest.approx(0.1, abs=0.01)


@pytest.mark.rule("R18")
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_long_tasks_never_queue_while_a_node_idles(distribution: str) -> None:
    """Where tasks are known to be long, none waits on a node that works while another has nothing to do."""
    made = run(draw(distribution, 200, 1.0), 8)
    assert made.watch.longest_waste <= 3 * ROUND_TRIP


@pytest.mark.rule("R18")
@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_work_behind_a_straggler_is_taken_back(nodes: int) -> None:
    """Short tasks that were sent ahead do not wait for one that turns out to be long: idle nodes get them."""
    times = [0.004] * 50 * nodes
    times[-2 * nodes] = 3.0  # by then all nodes have work in hand
    made = run(times, nodes)
    assert made.watch.returned >= 1
    assert made.watch.longest_waste <= 5 * ROUND_TRIP
    assert made.ratio <= 1.05


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("mean", [0.002, 0.1])
def test_nothing_is_lost_or_duplicated_under_churn(distribution: str, mean: float) -> None:
    """While nodes die and are replaced each task has one outcome, and runs again only because its node has died."""
    durations = draw(distribution, 400, mean)
    made = simulate(durations, 8, churn=Churn(life=20 * mean, replace=mean), retries=20)
    watch = made.watch
    assert all(watch.results[id] == 1 for id in range(len(durations)))
    assert not watch.failed
    assert watch.crowded == 0
    assert sum(watch.starts.values()) > len(durations), "no node died under a task"


@pytest.mark.rule("R36")
def test_lost_tasks_without_retries_fail_once() -> None:
    """What may not run twice has a result or an error, never both, and began at most once."""
    made = simulate([0.1] * 200, 8, churn=Churn(life=1.0), retries=0)
    watch = made.watch
    assert watch.failed
    assert all(watch.results[id] + (id in watch.failed) == 1 for id in range(200))
    assert max(watch.starts.values()) == 1


def test_simulation_is_repeatable() -> None:
    """The same tasks on the same cluster give the same run, losses included."""
    runs = [simulate(draw("pareto", 200, 0.05), 4, churn=Churn(life=1.0)) for _ in range(2)]
    assert runs[0].makespan == runs[1].makespan
    assert runs[0].watch.starts == runs[1].watch.starts


def test_client_becomes_the_limit() -> None:
    """Tasks that are too short for the number of nodes keep the client busy, and the nodes idle."""
    made = run([0.001] * 6_400, 64)
    assert made.client > 0.9
    assert made.ratio > 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_five_hundred_nodes_are_kept_busy(distribution: str) -> None:
    """With tasks of half a second one client is enough for them."""
    assert run(draw(distribution, 5_000, 0.5), 500).ratio <= 1.03
