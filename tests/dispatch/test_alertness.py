"""Whoever waits for an answer sleeps or stays awake, whichever has been faster."""

from __future__ import annotations

from itertools import groupby

from skyward.dispatch.alertness import EXPLORE, MOMENT, MOST, Alertness

LONG = 10 * EXPLORE  # waits


def ways(waits: Alertness, count: int, *, awake: float, asleep: float) -> list[bool]:
    """Return which of the next waits are awake, if these take so many seconds."""
    taken: list[bool] = []
    for _ in range(count):
        taken.append(waits.stay_awake())
        waits.note(awake if taken[-1] else asleep, awake=taken[-1])
    return taken


def test_whoever_knows_nothing_sleeps() -> None:
    """The first answers may take any time."""
    assert not Alertness().stay_awake()


def test_short_waits_are_not_slept_through_where_that_is_faster() -> None:
    """But for one now and then, to see what it takes."""
    waits = Alertness()
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    taken = ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    assert taken.count(False) == LONG // EXPLORE


def test_short_waits_are_slept_through_where_that_is_faster() -> None:
    """Where processors are few or busy; again but for one now and then."""
    waits = Alertness()
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.2 * MOMENT)
    taken = ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.2 * MOMENT)
    assert taken.count(True) == LONG // EXPLORE


def test_way_follows_what_has_become_faster() -> None:
    """Each change is found by the waits that are done the other way."""
    waits = Alertness()
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    assert ways(waits, 100 * LONG, awake=0.9 * MOMENT, asleep=0.2 * MOMENT)[-LONG:].count(True) == LONG // EXPLORE
    assert ways(waits, 100 * LONG, awake=0.1 * MOMENT, asleep=0.8 * MOMENT)[-LONG:].count(False) == LONG // EXPLORE


def test_long_waits_are_slept_through() -> None:
    """Not one of them is spent awake; and a few of them after short ones end that soon."""
    waits = Alertness()
    assert not any(ways(waits, LONG, awake=0.0, asleep=2 * MOMENT))
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    taken = ways(waits, LONG, awake=MOST, asleep=MOST)
    assert [awake for awake, _ in groupby(taken)] == [True, False]
    assert taken.count(True) < 10


def test_wait_that_was_cut_short_tells_nothing() -> None:
    """Something else was due; but one that was longer than a moment tells that it was."""
    waits = Alertness()
    for _ in range(LONG):
        waits.note(0.0, awake=False, answered=False)
    assert not waits.stay_awake()
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    for _ in range(100):
        waits.note(2 * MOMENT, awake=True, answered=False)
    assert not waits.stay_awake()


def test_one_slow_answer_decides_nothing() -> None:
    """Some waits later all is as before."""
    waits = Alertness()
    ways(waits, LONG, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)
    waits.note(MOST, awake=True)
    assert ways(waits, 10, awake=0.5 * MOMENT, asleep=0.8 * MOMENT)[-2:] == [True, True]
