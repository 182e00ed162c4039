"""How long calls of a function take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.pace import SURPRISE, UNSURPRISING, WARY, WEIGHT, Pace

STEADY = 5_000.0  # µs
LONG = 200_000.0


def steady(batches: int = 1) -> Pace:
    """Return what is expected of a function whose calls all took the same."""
    pace = Pace()
    for _ in range(batches):
        pace.observe(STEADY)
    return pace


def test_first_batch_is_believed() -> None:
    """Nothing is known before."""
    pace = Pace()
    assert pace.mean is None
    assert pace.observe(LONG) == pace.mean == LONG


def test_later_batches_move_what_is_expected() -> None:
    """It follows what is seen, a quarter of the way at a time, also downwards."""
    assert steady().observe(2 * STEADY) == STEADY + WEIGHT * STEADY
    assert steady().observe(0.0) == STEADY - WEIGHT * STEADY


@pytest.mark.rule("R18")
def test_straggler_is_no_change() -> None:
    """One call that takes much longer does not make long ones of those behind it."""
    pace = steady()
    for _ in range(3):
        assert pace.observe(LONG) < 2 * STEADY
        for _ in range(WARY):
            pace.observe(STEADY)


def test_second_surprise_is_believed() -> None:
    """A function that takes longer from now on shows it one batch later."""
    pace = steady()
    pace.observe(LONG)
    for _ in range(WARY - 1):
        pace.observe(STEADY)
    assert pace.observe(LONG) > WEIGHT * LONG


def test_short_times_are_no_surprise() -> None:
    """What takes no time may take some: that is counted in full."""
    pace = Pace()
    pace.observe(0.0)
    assert pace.observe(UNSURPRISING) == WEIGHT * UNSURPRISING
    assert pace.observe(UNSURPRISING) > WEIGHT * UNSURPRISING


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_what_is_expected_lies_between_what_was_seen(means: list[float]) -> None:
    """However calls take turns."""
    pace = Pace()
    for mean in means:
        expected = pace.observe(mean)
        assert min(means) * (1 - 1e-9) <= expected <= max(means) * (1 + 1e-9)


@given(st.floats(0, 1e7), st.floats(0, 1e9))
def test_change_shows_after_some_batches(before: float, after: float) -> None:
    """Whatever calls took, a dozen batches later they are expected to take about what they do."""
    pace = Pace()
    pace.observe(before)
    for _ in range(25):
        pace.observe(after)
    assert pace.mean == pytest.approx(after, rel=0.1, abs=abs(after - before) * 0.01 + 1e-6)


def test_surprise_counts_in_part() -> None:
    """It counts for some times what was expected."""
    assert steady().observe(LONG) == STEADY + WEIGHT * (SURPRISE - 1) * STEADY
