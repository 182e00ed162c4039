"""Which slot a thread's task runs on."""

from __future__ import annotations

import pytest

from skyward_node.worker.seats import Seats


@pytest.mark.rule("R26")
def test_task_takes_the_lowest_free_slot() -> None:
    """What was given back is taken again first."""
    seats = Seats(3)
    assert [seats.take(), seats.take(), seats.take()] == [0, 1, 2]
    seats.leave(1)
    assert seats.take() == 1


def test_slots_are_shared_when_more_tasks_run_than_there_are() -> None:
    """No index is ever out of range, and the load is even."""
    seats = Seats(2)
    assert [seats.take() for _ in range(4)] == [0, 1, 0, 1]
    seats.leave(0)
    assert seats.take() == 0
