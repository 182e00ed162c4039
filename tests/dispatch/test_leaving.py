"""Nodes that were told to leave: what runs again for it is nobody's mishap."""

from __future__ import annotations

import pytest

from skyward.dispatch.tasks import Lost, Send, Settle
from tests.dispatch.making import make, scheduler


@pytest.mark.rule("F50")
def test_rerun_of_a_node_that_leaves_is_not_charged() -> None:
    """A task may run again as often after it as before."""
    made = scheduler(1, 1)
    (task,) = make(1, retries=1)
    made.on_submit([task])
    made.on_node_draining(0)
    assert made.on_node_lost(0, "it said goodbye") == [Send(1, [task])]
    assert task.losses == 0
    assert made.on_node_ready(2, 1) == []
    assert made.on_node_lost(1, "gone") == [Send(2, [task])]
    assert made.on_node_lost(2, "gone") == [Settle([task], Lost(2, "gone"))]


@pytest.mark.rule("F50")
def test_task_that_must_not_run_twice_does_not() -> None:
    """With retries=0 a node that leaves takes with it what it did not finish."""
    made = scheduler(1, 1)
    (task,) = make(1, retries=0)
    made.on_submit([task])
    made.on_node_draining(0)
    assert made.on_node_lost(0, "it said goodbye") == [Settle([task], Lost(0, "it said goodbye"))]
