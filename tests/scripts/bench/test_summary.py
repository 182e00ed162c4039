"""Medians, percentiles, and how numbers are written."""

from __future__ import annotations

import math

import pytest

from skyward_scripts.bench.summary import Spread, percentile, show_number, show_spread, spread


def test_spread_is_median_lowest_and_highest() -> None:
    """One bad round moves the range, not the figure."""
    assert spread([3.0, 1.0, 100.0]) == Spread(3.0, 1.0, 100.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    """Nearest rank: nothing is interpolated."""
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1_234_567.8, "1,234,568"),
        (math.inf, "inf"),
    ],
)
def test_number_has_three_digits(number: float, text: str) -> None:
    """Or all of those before the point."""
    assert show_number(number) == text


def test_spread_shows_its_range_where_there_is_one() -> None:
    """A single round has none."""
    assert show_spread(Spread(2.0, 1.0, 3.0)) == "2.00 (1.00–3.00)"
    assert show_spread(Spread(2.0, 2.0, 2.0)) == "2.00"
