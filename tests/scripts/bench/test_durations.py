"""Random work, the same for everyone."""

from __future__ import annotations

from skyward_scripts.bench.durations import LONG, LONGEST_NAP, SHORT, short_naps, with_stragglers


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
