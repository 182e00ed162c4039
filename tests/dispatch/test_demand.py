"""How many nodes the calls that wait are worth."""

from __future__ import annotations

from typing import Any

import pytest

from skyward.dispatch.demand import COLD, Demand
from skyward.dispatch.load import Load

pytestmark = pytest.mark.rule("R33")

START_UP = 10.0  # seconds
LOOK = 0.25  # seconds between two looks


def load(waiting: int, *, ready: int = 1, slots: int = 1, **fields: Any) -> Load:
    """Return a load of calls that take a second each, on busy nodes, unless it is said otherwise."""
    settings: dict[str, Any] = {"cost": 1.0, "known": 1.0, "done": 0, "submitted": waiting, **fields}
    ranks = range(ready)
    return Load(waiting=waiting, slots=ready * slots, served=dict.fromkeys(ranks, 0), busy=set(ranks), **settings)


def worth(demand: Demand, now: float, some: Load, *coming: float, slots: int = 1) -> int:
    """Return the decision of a moment."""
    demand.look(some, now)
    return demand.worth(some, coming, slots, START_UP, now)


def test_nothing_waits_nothing_is_started() -> None:
    """An empty queue is worth no node."""
    assert worth(Demand(), 5.0, load(0)) == 0


def test_work_that_will_be_gone_is_worth_no_node() -> None:
    """What the nodes do while another starts needs none."""
    assert worth(Demand(), 0.0, load(10)) == 0
    assert worth(Demand(), 0.0, load(40, ready=4)) == 0
    assert worth(Demand(), 0.0, load(40, ready=1, slots=4), slots=4) == 0


def test_each_node_is_worth_as_much_work_as_it_takes_to_start() -> None:
    """Beyond that, and the first half as much."""
    counts = {11: 0, 14: 0, 15: 1, 24: 1, 25: 2, 40: 3, 110: 10}
    assert {waiting: worth(Demand(), 0.0, load(waiting)) for waiting in counts} == counts


def test_nodes_of_several_slots_do_as_many_calls() -> None:
    """Four slots on the way take four times the work."""
    assert worth(Demand(), 0.0, load(80, slots=4), slots=4) == 1
    assert worth(Demand(), 0.0, load(100, slots=4), slots=4) == 2


def test_no_more_nodes_than_calls_for_their_slots() -> None:
    """However long a call takes it needs one slot."""
    assert worth(Demand(), 0.0, load(3, cost=1000.0)) == 3
    assert worth(Demand(), 0.0, load(3, slots=2, cost=1000.0), slots=2) == 2


def test_nodes_that_come_are_counted() -> None:
    """Looking again while they start asks for no more, and takes what they do when they are up into account."""
    demand = Demand()
    assert worth(demand, 0.0, load(40)) == 3
    for step in range(1, 40):
        now = step * LOOK
        left = load(40 - int(now), submitted=40, done=int(now))
        assert worth(demand, now, left, now, now, now) <= 3


def test_unknown_calls_take_what_running_ones_have_taken() -> None:
    """But for the first second, which may be an import."""
    demand = Demand()
    assert worth(demand, 0.0, load(100, known=0.0)) == 0
    assert worth(demand, COLD, load(100, known=0.0)) == 0
    assert worth(demand, COLD + 0.05, load(100, known=0.0)) == 0
    assert worth(demand, COLD + 0.5, load(100, known=0.0)) == 4  # 100 half seconds, less 10 s, in pieces of 10 s


def test_unknown_calls_take_what_others_take_lately() -> None:
    """A function that is new each time is as long as those that came before."""
    demand = Demand()
    worth(demand, 0.0, load(100, known=0.0))
    assert worth(demand, 1.0, load(100, known=0.0, done=2)) == 4


def test_time_without_nodes_tells_nothing_of_calls() -> None:
    """A call that ends soon after a pool has woken was short, however long the waking took."""
    demand = Demand()
    for step in range(40):
        worth(demand, step * LOOK, load(100, ready=0, known=0.0), step * LOOK)
    assert worth(demand, 10.0, load(99, known=0.0)) == 0
    assert worth(demand, 10.25, load(97, known=0.0, done=3)) == 0


def test_slots_that_do_not_become_free_do_no_work() -> None:
    """One call behind sixteen long ones waits for as long as a node takes to start; then it is worth one."""
    demand = Demand()
    some = load(1, ready=16, cost=600.0)
    assert worth(demand, 0.0, some) == 1  # they may have begun together
    long = load(1, ready=16, cost=100.0)
    demand = Demand()
    assert worth(demand, 0.0, long) == 0
    assert worth(demand, START_UP - LOOK, long) == 0
    assert worth(demand, START_UP, long) == 1


def test_slots_that_are_known_to_become_free_soon_do_work() -> None:
    """A call that has run for most of its time will end before another node is up."""
    demand = Demand()
    some = load(1, ready=2, cost=15.0)
    assert worth(demand, 0.0, some) == 0
    assert worth(demand, START_UP + 1.0, some) == 0
    assert worth(demand, 16.0, some) == 1  # it should have ended


def test_calls_that_keep_coming_are_foreseen() -> None:
    """They will for as long as they have, at most for as long as a node takes to start."""
    demand = Demand()
    decisions = [worth(demand, now, load(2 + now, submitted=2 + 2 * now, done=now)) for now in range(12)]
    assert decisions == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]  # for 2 + now that wait, 2 * now that will come, less 10


def test_burst_is_not_taken_for_a_flow() -> None:
    """What came at once says nothing about what will come."""
    demand = Demand()
    assert worth(demand, 0.0, load(9, submitted=900, done=891)) == 0
    for step in range(1, 8):
        assert worth(demand, step * LOOK, load(9, submitted=900, done=891)) == 0


def flow(demand: Demand, now: float, ready: int, *coming: float) -> int:
    """Return what a lazy source is worth: four calls wait at any moment, as many come as are done."""
    done = int(now * 8)
    return worth(demand, now, load(4, ready=ready, cost=0.1, submitted=done + 4, done=done), *coming)


def test_steady_pressure_is_worth_more_and_more_nodes() -> None:
    """One after a start-up time, and twice as many after another two if that was not enough."""
    demand = Demand()
    grown: dict[float, int] = {}
    ready, due = 1, 0.0
    for step in range(240):
        now = step * LOOK
        if due and now >= due:
            ready, due = ready + grown[due - START_UP], 0.0
        nodes = flow(demand, now, ready, *([now - due + START_UP] if due else []))
        if nodes and not due:
            grown[now], due = nodes, now + START_UP
            demand.answered(nodes)
    assert grown == {10.0: 1, 30.0: 2, 50.0: 4}


def test_pressure_that_ends_is_forgotten() -> None:
    """A moment without a call that waits begins anew."""
    demand = Demand()
    for step in range(40):
        assert flow(demand, step * LOOK, 1) == 0
    assert worth(demand, 9.9, load(0, done=99, submitted=99)) == 0
    assert flow(demand, 10.0, 1) == 0
    assert flow(demand, 19.75, 1) == 0


def test_calls_that_do_not_come_any_more_are_no_pressure() -> None:
    """A queue that only shrinks will be gone."""
    demand = Demand()
    for step in range(80):
        now = step * LOOK
        done = int(now * 10)
        assert worth(demand, now, load(200 - done, cost=0.05, submitted=200, done=done)) == 0


def test_calls_without_any_node_are_not_stuck() -> None:
    """While the first node is coming nothing can end."""
    demand = Demand()
    for now in (0.0, 10.0, 30.0):
        assert worth(demand, now, load(50, ready=0, known=0.0), now) == 0
