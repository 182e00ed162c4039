"""Calls that are bound to the first node of a pool that sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.tasks import Absent, Cancelled, NoNodes, Send, Settle
from tests.dispatch.making import make, scheduler

if TYPE_CHECKING:
    from skyward.dispatch.scheduler import Scheduler


def asleep(node_wait: float = 60.0) -> Scheduler:
    """Return the scheduler of a pool whose least number of nodes is 0."""
    made = scheduler(node_wait=node_wait)
    made.assignment.core = 0
    return made


@pytest.mark.rule("R33")
def test_call_for_the_head_waits_until_it_is_ready() -> None:
    """In the order of submission; they are no calls of other nodes."""
    made = asleep()
    tasks = make(2, rank=0)
    assert made.on_submit(tasks) == []
    assert (made.waiting(), len(made.head), len(made.queue)) == (2, 2, 0)
    assert made.on_node_ready(1, 2) == []
    assert made.on_node_ready(0, 2) == [Send(0, tasks)]
    assert not made.head


@pytest.mark.rule("R3")
def test_head_of_a_pool_that_never_sleeps_is_absent() -> None:
    """As is every other rank, and the head as soon as others are ready without it."""
    tasks = make(1, rank=0)
    assert scheduler().on_submit(tasks) == [Settle(tasks, Absent(0, ()))]
    other = make(1, rank=1)
    made = asleep()
    assert made.on_submit(other) == [Settle(other, Absent(1, ()))]
    assert made.on_node_ready(1, 1) == []
    late = make(1, rank=0)
    assert made.on_submit(late) == [Settle(late, Absent(0, (1,)))]


def test_call_for_the_head_can_be_cancelled_before_it_comes() -> None:
    """Alone, or with all others."""
    made = asleep()
    one, two = make(2, rank=0)
    made.on_submit([one, two])
    assert made.on_cancel([one]) == [Settle([one], Cancelled())]
    assert len(made.head) == 1
    assert made.on_cancel_all() == [Settle([two], Cancelled())]
    assert made.is_idle()
    assert made.on_node_ready(0, 1) == []


def test_call_for_the_head_is_not_forgotten_when_no_node_comes() -> None:
    """After ``node_wait`` it fails, as all that wait do; also when other nodes have come, and the head has not."""
    made = asleep(10.0)
    tasks = make(1, rank=0)
    made.on_submit(tasks)
    assert made.on_tick(0.0, waking=True) == made.on_tick(1.0) == made.on_tick(10.0) == []
    assert made.on_tick(11.0, ["no luck"]) == [Settle(tasks, NoNodes(10.0, ("no luck",)))]
    more = make(1, rank=0)
    made.on_submit(more)
    made.on_node_ready(1, 1)
    assert made.on_tick(20.0) == []
    assert made.on_tick(30.0) == [Settle(more, Absent(0, (1,)))]
