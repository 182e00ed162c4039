"""Whether a silent node is dead; heartbeats are a second here."""

from __future__ import annotations

import pytest

from skyward.dispatch.liveness import BEATS, STEP, Hearing, Liveness
from skyward.dispatch.stalls import Flow


def watching(*ranks: int) -> Liveness:
    """Return a liveness that has looked at 100 s and heard these nodes at that moment."""
    liveness = Liveness(1.0)
    assert liveness.watched(100.0) == []
    for rank in ranks:
        liveness.heard(rank)
    return liveness


@pytest.mark.rule("R36")
def test_node_silent_for_three_heartbeats_is_dead() -> None:
    """At three intervals a node is still given the benefit of the doubt; after them it is dead."""
    liveness = watching(1, 2)
    assert liveness.watched(101.0) == []
    assert liveness.watched(102.0) == []
    assert liveness.watched(103.0) == []
    assert liveness.watched(103.1) == [1, 2]


@pytest.mark.rule("R36")
def test_word_from_a_node_ends_its_silence() -> None:
    """Anything that is heard counts, and for that node only."""
    liveness = watching(1, 2)
    for moment in (101.0, 102.0):
        assert liveness.watched(moment) == []
    liveness.heard(2)
    assert liveness.watched(103.0) == []
    assert liveness.watched(104.0) == [1]


@pytest.mark.rule("R36")
def test_silence_begins_when_the_word_came() -> None:
    """With its moment, a word counts from then, not from the look before it."""
    liveness = watching()
    liveness.heard(1, 100.9)
    for moment in (101.0, 102.0, 103.0, 103.8):
        assert liveness.watched(moment) == []
    assert liveness.watched(104.0) == [1]


def test_word_before_the_look_counts_from_the_look() -> None:
    """A moment that lies before the last look makes no node older."""
    liveness = watching()
    liveness.heard(1, 99.0)
    assert liveness.next_death() == 100.0 + BEATS


@pytest.mark.rule("R36")
def test_time_in_which_nobody_looked_does_not_count() -> None:
    """A client that was stopped for a minute has observed nothing in that minute."""
    liveness = watching(1)
    assert liveness.watched(101.0) == []
    assert liveness.watched(161.0) == []  # a second and a half of it counts
    assert liveness.watched(161.0 + BEATS - 1.0 - STEP) == []
    assert liveness.watched(162.0) == [1]


def test_first_look_counts_nothing() -> None:
    """Before the first look nobody was watching, whatever the clock says."""
    liveness = Liveness(1.0)
    liveness.heard(1, 5.0)
    assert liveness.watched(1e9) == []


def test_forgotten_node_is_never_dead() -> None:
    """A node that is known to be gone is not reported again; forgetting twice is harmless."""
    liveness = watching(1)
    liveness.forget(1)
    liveness.forget(1)
    for moment in range(101, 110):
        assert liveness.watched(float(moment)) == []


def test_next_death_says_how_long_no_look_is_needed() -> None:
    """The driver may sleep until the first node can have become dead."""
    liveness = Liveness(1.0)
    assert liveness.next_death() is None
    liveness.heard(1)
    assert liveness.next_death() is None
    liveness.watched(100.0)
    liveness.heard(2, 100.5)
    assert liveness.next_death() == 103.0
    liveness.watched(101.0)
    liveness.heard(1, 101.25)
    assert liveness.next_death() == 103.5
    liveness.forget(2)
    assert liveness.next_death() == 104.25


def test_dead_node_is_not_waited_for() -> None:
    """It has been reported; whoever keeps it looks at it when there is something else to look at."""
    liveness = watching(1, 2)
    liveness.heard(2, 100.5)
    for moment in (101.0, 102.0, 103.0):
        assert liveness.watched(moment) == []
    assert liveness.watched(103.25) == [1]
    assert liveness.next_death() == 103.5
    liveness.forget(2)
    assert liveness.next_death() is None
    assert liveness.watched(103.3) == [1]
    liveness.heard(1, 103.3)
    assert liveness.next_death() == 106.3


# --- who hears us --------------------------------------------------------------------------


@pytest.mark.rule("R36")
@pytest.mark.rule("F20")
@pytest.mark.parametrize("flow", list(Flow))
def test_node_is_deaf_if_it_names_no_beat_and_confirms_nothing(flow: Flow) -> None:
    """For three heartbeats; what is confirmed has arrived, and what is down is opened again."""
    hearing = Hearing(1.0)
    flows = {1: lambda: flow, 2: lambda: flow}
    for moment in (100.0, 101.0, 102.0):
        assert hearing.deaf(moment, flows) == []
    hearing.heard(2, 102.5)
    assert hearing.deaf(103.0, flows) == []
    assert hearing.next_death() == 103.0
    assert hearing.deaf(103.1, flows) == ([1] if flow is Flow.STALLS else [])
    assert hearing.next_death() == 105.5
    hearing.forget(2)
    assert hearing.next_death() is None


@pytest.mark.rule("R36")
def test_hearing_counts_while_there_is_a_second_connection() -> None:
    """From its beginning, and not over the gap between one and the next; whatever is heard without one is no clock."""
    hearing = Hearing(1.0)
    flows = {1: lambda: Flow.STALLS}
    hearing.heard(1, 99.0)
    assert hearing.deaf(100.0, {}) == []
    hearing.heard(1, 100.5)
    assert hearing.next_death() is None
    for moment in (101.0, 102.0, 103.0, 104.0):
        assert hearing.deaf(moment, flows) == []
    assert hearing.deaf(104.05, {}) == []
    assert hearing.next_death() is None
    assert hearing.deaf(104.1, flows) == []
    assert hearing.next_death() == pytest.approx(107.1)
