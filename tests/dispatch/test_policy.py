"""How much work a node may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.pace import WEIGHT
from skyward.dispatch.policy import (
    AHEAD,
    FLOOR,
    KNOWN,
    LOW,
    MOST,
    RUN,
    RUN_TIME,
    TOO_LONG,
    Durations,
    charge,
    is_short,
    may_send_ahead,
    room_ahead,
    run_length,
    runs_low,
)


def test_unknown_function_has_no_cost() -> None:
    """Nothing is guessed about a function that has never run."""
    assert Durations().cost(b"f") is None


def test_first_batch_sets_the_cost() -> None:
    """The first mean that is seen is believed."""
    durations = Durations()
    durations.observe(b"f", 400.0)
    assert durations.cost(b"f") == 400.0


def test_later_batches_move_the_cost() -> None:
    """The cost follows what is seen, a quarter of the way at a time."""
    durations = Durations()
    durations.observe(b"f", 400.0)
    durations.observe(b"f", 800.0)
    assert durations.cost(b"f") == 400.0 + WEIGHT * 400.0


def test_empty_task_costs_something() -> None:
    """A task that takes no time is not free, or a node would get any number."""
    durations = Durations()
    durations.observe(b"f", 0.0)
    assert durations.cost(b"f") == FLOOR


def test_durations_remember_a_bounded_number_of_functions() -> None:
    """A loop that redefines its function uses no more memory for ever; the oldest is forgotten."""
    durations = Durations()
    for number in range(KNOWN + 1):
        durations.observe(number.to_bytes(4, "big"), 100.0)
    assert durations.cost((0).to_bytes(4, "big")) is None
    assert durations.cost((1).to_bytes(4, "big")) == 100.0
    assert durations.cost(KNOWN.to_bytes(4, "big")) == 100.0


@pytest.mark.rule("R18")
@pytest.mark.parametrize(
    ("cost", "load", "held", "slots", "may"),
    [
        (None, 0, 1, 1, False),  # nothing is known
        (TOO_LONG + 1, 0, 1, 8, False),  # long tasks are held back
        (100.0, AHEAD - 100, 1, 1, True),  # up to the budget
        (100.0, AHEAD - 99, 2, 1, False),  # and no further
        (TOO_LONG, AHEAD - 1, 1, 1, True),  # but one may wait for each slot
        (TOO_LONG, AHEAD - 1, 2, 1, False),
        (TOO_LONG, AHEAD, 1, 1, False),  # unless what runs is long, or unknown
        (100.0, AHEAD, 1, 2, True),  # which grows with the slots
        (FLOOR, 0, MOST - 1, 1, True),  # up to a number of tasks
        (FLOOR, 0, MOST, 1, False),
        (FLOOR, 0, 0, 0, False),  # all slots are gone
    ],
)
def test_short_tasks_go_ahead_up_to_a_budget(cost: float | None, load: int, held: int, slots: int, may: bool) -> None:
    """A busy node gets some milliseconds of short tasks, and nothing that is long or unknown."""
    assert may_send_ahead(cost, load, held, slots) is may


@pytest.mark.parametrize(("cost", "short"), [(None, False), (FLOOR, True), (TOO_LONG, True), (TOO_LONG + 1, False)])
def test_only_known_short_tasks_are_short(cost: float | None, short: bool) -> None:
    """What is too long for every node need not be tried on any."""
    assert is_short(cost) is short


def test_task_is_charged_at_most_a_slots_budget() -> None:
    """A long task, or one of which nothing is known, occupies one slot and not its neighbours."""
    assert charge(7.9) == 7
    assert charge(1e9) == AHEAD
    assert charge(None) == AHEAD


def test_task_that_may_go_ahead_leaves_a_rest_of_the_budget() -> None:
    """What a node is charged tells whether all that it runs is short."""
    assert charge(AHEAD + 1.0) == charge(TOO_LONG) == AHEAD - 1
    assert charge(TOO_LONG + 1) == AHEAD


@pytest.mark.parametrize(
    ("load", "held", "slots", "low"),
    [
        (LOW, 9, 1, True),
        (LOW + 1, 9, 1, False),
        (2 * LOW, 9, 2, True),  # by the slot
        (AHEAD, 1, 1, True),  # nothing waits
    ],
)
def test_node_gets_more_when_half_of_it_is_used_up(load: int, held: int, slots: int, low: bool) -> None:
    """Between two messages a node works off several tasks, and is never without one that waits."""
    assert runs_low(load, held, slots) is low


def test_runs_are_short_in_time_and_in_number() -> None:
    """Between two turns a node gets a millisecond of work, but at least one task and at most `RUN`."""
    assert run_length(FLOOR) == RUN
    assert run_length(RUN_TIME / 10) == 10
    assert run_length(TOO_LONG) == 1


@given(
    cost=st.none() | st.integers(int(FLOOR), int(2 * TOO_LONG)).map(float),
    load=st.integers(0, 3 * AHEAD),
    held=st.integers(0, 2 * MOST),
    slots=st.integers(1, 3),
)
def test_tasks_in_a_row_are_as_many_as_go_one_by_one(cost: float | None, load: int, held: int, slots: int) -> None:
    """Whoever asks once takes what whoever asks for each would."""
    room = room_ahead(cost, load, held, slots)
    one_by_one = 0
    while may_send_ahead(cost, load + one_by_one * charge(cost), held + one_by_one, slots):
        one_by_one += 1
    assert room == one_by_one
