"""Nodes that are let go, and pools that have none for a while by intention: what becomes of their tasks."""

from __future__ import annotations

import pytest

from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import Absent, Cancelled, NoNodes, Settle
from tests.dispatch.making import finish, make, scheduler, sent, settled

BUSY = 10**6  # µs of a task that is too long to be sent ahead


@pytest.mark.rule("R33")
def test_retiring_node_does_what_is_bound_to_it() -> None:
    """To free slots only, in order; other calls go elsewhere, and new ones bound to it are told that it is gone."""
    made = scheduler(1, 1)
    running, *bound = make(3, rank=1, retries=0)
    assert sent(made.on_submit([running, *bound])) == {1: [running]}
    assert made.on_node_retiring(1) == []
    others = make(3)
    assert sent(made.on_submit(others)) == {0: others[:1]}
    late = make(1, rank=1)
    assert made.on_submit(late) == [Settle(late, Absent(1, (0,)))]
    assert sent(finish(made, 1, [running], BUSY)) == {1: bound[:1]}
    assert made.on_cancel(bound[1:]) == [Settle(bound[1:], Cancelled())]
    assert finish(made, 1, bound[:1], BUSY) == []
    assert not made.nodes[1].in_flight
    assert not made.nodes[1].pinned
    assert made.on_node_lost(1, "it was let go") == []


def test_node_that_retires_can_still_be_lost() -> None:
    """What is bound to it fails then, as it would have before."""
    made = scheduler(1, 1)
    running, waiting = make(2, rank=1)
    made.on_submit([running, waiting])
    made.on_node_retiring(1)
    assert settled(made.on_node_lost(1, "gone")) == [waiting, running]
    assert made.on_node_retiring(1) == []


@pytest.mark.rule("R33")
def test_node_that_is_taken_back_takes_tasks_again() -> None:
    """Those that wait, those that are bound to it, old ones and new, and it counts for a broadcast."""
    made = scheduler(1, 1)
    made.on_submit(make(1, rank=0))
    running, bound = make(2, rank=1)
    made.on_submit([running, bound])
    made.on_node_retiring(1)
    waiting = make(1)
    made.on_submit(waiting)
    assert made.ready_ranks() == (0,)
    assert made.on_node_retiring(1, stays=True) == []
    assert made.ready_ranks() == (0, 1)
    assert (list(made.assignment.bound), list(made.assignment.leaving)) == ([1], [])
    late = make(1, rank=1)
    assert made.on_submit(late) == []
    assert sent(finish(made, 1, [running], BUSY)) == {1: [bound]}
    assert sent(finish(made, 1, [bound], BUSY)) == {1: waiting}
    assert sent(finish(made, 1, waiting, BUSY)) == {1: late}
    assert finish(made, 1, late, BUSY) == []
    assert sent(made.on_submit(make(1))).keys() == {1}


@pytest.mark.rule("R36")
def test_loss_of_a_node_that_was_taken_back_is_charged() -> None:
    """It is a mishap again."""
    made = scheduler(1)
    (task,) = make(1, retries=1)
    made.on_submit([task])
    made.on_node_retiring(0)
    made.on_node_retiring(0, stays=True)
    assert made.on_node_lost(0, "gone") == []
    assert task.losses == 1


@pytest.mark.rule("F50")
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_node_that_ends_by_itself_cannot_be_taken_back(first: bool) -> None:
    """It has said so, before the pool let it go or afterwards: it gets nothing new."""
    made = scheduler(1)
    (running,) = make(1)
    made.on_submit([running])
    if first:
        made.on_node_draining(0)
    made.on_node_retiring(0)
    if not first:
        made.on_node_draining(0)
    assert made.on_node_retiring(0, stays=True) == []
    assert made.ready_ranks() == ()
    assert finish(made, 0, [running]) == []
    assert made.on_submit(make(1)) == []
    assert made.on_node_retiring(1, stays=True) == []


@pytest.mark.rule("R33")
def test_node_that_is_waking_is_waited_for() -> None:
    """A pool that slept has no node by intention: the time runs when the first one does not come."""
    made = Scheduler(60.0)
    tasks = make(1)
    made.on_submit(tasks)
    for now in (0.0, 100.0, 200.0):
        assert made.on_tick(now, waking=True) == []
    assert made.on_tick(200.0) == []
    assert made.on_tick(260.0) == [Settle(tasks, NoNodes(60.0, ()))]
