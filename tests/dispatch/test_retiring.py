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
def test_node_that_is_waking_is_waited_for() -> None:
    """A pool that slept has no node by intention: the time runs when the first one does not come."""
    made = Scheduler(60.0)
    tasks = make(1)
    made.on_submit(tasks)
    for now in (0.0, 100.0, 200.0):
        assert made.on_tick(now, waking=True) == []
    assert made.on_tick(200.0) == []
    assert made.on_tick(260.0) == [Settle(tasks, NoNodes(60.0, ()))]
