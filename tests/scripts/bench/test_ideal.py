"""The shortest times that a scheduler can hope for."""

from __future__ import annotations

import pytest

from skyward_scripts.bench.ideal import LONG, LONGEST_NAP, SHORT, list_schedule, short_naps, with_stragglers


@pytest.mark.parametrize(
    ("durations", "workers", "end"),
    [
        ([], 2, 0.0),
        ([3.0], 2, 3.0),
        ([1.0, 1.0, 1.0], 1, 3.0),
        ([1.0, 1.0, 1.0], 2, 2.0),
        ([1.0, 1.0, 4.0], 2, 5.0),  # the long one comes last, and no scheduler that knows no durations does better
        ([4.0, 1.0, 1.0], 2, 4.0),
    ],
)
def test_list_schedule_gives_the_next_task_to_whoever_is_free(durations: list[float], workers: int, end: float) -> None:
    """It ends when the last task does."""
    assert list_schedule(durations, workers) == end


def test_naps_are_the_same_for_the_same_seed() -> None:
    """All contestants of a round do the same work, and other rounds do other work."""
    naps = short_naps(100, 1)
    assert naps == short_naps(100, 1) != short_naps(100, 2)
    assert all(0 <= nap <= LONGEST_NAP for nap in naps)


def test_stragglers_lie_at_random_places_that_a_seed_fixes() -> None:
    """There are as many as asked for, wherever they are."""
    durations = with_stragglers(20, 2, 7)
    assert durations == with_stragglers(20, 2, 7) != with_stragglers(20, 2, 8)
    assert (durations.count(SHORT), durations.count(LONG)) == (20, 2)
