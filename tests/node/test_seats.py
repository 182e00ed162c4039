"""Which slot a thread's task runs on."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from skyward_node.worker.seats import Seats
from tests.rules.work import until


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


def test_threads_rest_when_those_go_on_that_had_lent_theirs() -> None:
    """Who finds a task while a turn is owed puts it back; who lends again wakes it, or needs no other thread."""
    seats = Seats(1)
    back: list[int] = []
    seats.wait_for_turn()
    seat = seats.take()
    assert seats.lend(seat) == 2
    seats.wait_for_turn()  # the second thread
    assert not seats.pay(partial(back.append, 1))
    assert seats.take_back() == 0
    assert seats.owed == 1
    assert seats.lend(0) == 2
    assert seats.owed == 0  # nobody has rested, so nobody is woken
    seats.take_back()
    rests = threading.Thread(target=seats.pay, args=(partial(back.append, 2),))
    rests.start()
    until(lambda: seats.owed == 0)
    assert seats.lend(0) == 2
    rests.join()
    assert back == [2]


def test_nothing_is_put_back_at_the_end() -> None:
    """Every thread goes on until it finds that there is no more."""
    seats = Seats(1)
    seats.wait_for_turn()
    seats.lend(seats.take())
    seats.take_back()
    seats.end(2)
    assert not seats.pay(lambda: pytest.fail("it is lost"))
    seats.wait_for_turn()
    seats.wait_for_turn()
