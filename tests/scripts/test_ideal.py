"""The best that can be asked of a scheduler."""

from __future__ import annotations

import pytest

from skyward_scripts.ideal import list_schedule
from skyward_scripts.simulation.durations import DISTRIBUTIONS, draw


@pytest.mark.parametrize(
    ("durations", "workers", "end"),
    [
        ([], 2, 0.0),
        ([3.0], 2, 3.0),
        ([1.0, 2.0], 3, 2.0),
        ([3.0, 1.0, 1.0, 2.0], 2, 4.0),
        ([1.0, 1.0, 1.0], 1, 3.0),
        ([1.0, 1.0, 1.0], 2, 2.0),
        ([1.0, 1.0, 4.0], 2, 5.0),  # the long one comes last, and no scheduler that knows no durations does better
        ([4.0, 1.0, 1.0], 2, 4.0),
    ],
)
def test_list_schedule_gives_the_next_task_to_whoever_is_free(durations: list[float], workers: int, end: float) -> None:
    """It ends when the last task does."""
    assert list_schedule(durations, workers) == end


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_list_schedule_is_within_grahams_bound(name: str) -> None:
    """No more than twice what no schedule can beat."""
    times = draw(name, 200, 0.1)
    least = max(sum(times) / 8, *times)
    assert 1 - 1e-9 <= list_schedule(times, 8) / least <= 2
