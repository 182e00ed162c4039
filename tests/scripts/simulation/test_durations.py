"""How long simulated tasks take, and the best that can be made of it."""

from __future__ import annotations

import pytest

from skyward_scripts.simulation.durations import CUT, DISTRIBUTIONS, draw
from skyward_scripts.simulation.ideal import list_schedule, lower_bound


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution_has_its_mean(name: str) -> None:
    """Twenty thousand samples come near to the mean; the tail of the Pareto distribution is cut."""
    times = draw(name, 20_000, 0.1)
    assert sum(times) / len(times) == pytest.approx(0.1, rel=0.15 if name == "pareto" else 0.05)
    assert min(times) >= 0
    assert max(times) <= (CUT if name == "pareto" else 20) * 0.1


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draw_is_repeatable(name: str) -> None:
    """The same seed gives the same times, another seed others."""
    assert draw(name, 50, 0.1, 3) == draw(name, 50, 0.1, 3)
    assert name == "constant" or draw(name, 50, 0.1, 3) != draw(name, 50, 0.1, 4)


def test_list_schedule_gives_each_task_to_the_first_free_slot() -> None:
    """In order, at no cost."""
    assert list_schedule([3.0, 1.0, 1.0, 2.0], 2) == 4.0
    assert list_schedule([1.0, 2.0], 3) == 2.0
    assert list_schedule([], 3) == 0.0


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_list_schedule_is_within_grahams_bound(name: str) -> None:
    """No more than twice what no schedule can beat."""
    times = draw(name, 200, 0.1)
    assert 1 - 1e-9 <= list_schedule(times, 8) / lower_bound(times, 8) <= 2
