"""Whether a connection that does not get on is to be dialled again."""

from __future__ import annotations

import pytest

from skyward.dispatch.stalls import ANSWERS, GRACE, LONGEST, LOOKS, PATIENCE, Flow, Stalls, pause

LINK, OTHER = "link", "other"


def answer(stalls: Stalls, times: int, now: float) -> list[bool]:
    """Return what so many answers in a row, to what was asked at that moment, lead to."""
    return [stalls.answered(LINK, now, now) for _ in range(times)]


@pytest.mark.rule("F27")
@pytest.mark.rule("T17")
def test_stalled_connection_is_dialled_when_the_port_answers() -> None:
    """The port is asked as soon as it stalls; more than one answer is wanted, as one packet more may be lost."""
    stalls = Stalls()
    assert not stalls.note(LINK, Flow.FLOWS, 1.0)
    assert stalls.note(LINK, Flow.STALLS, 2.0)
    assert answer(stalls, ANSWERS, 2.0) == [False] * (ANSWERS - 1) + [True]


@pytest.mark.rule("F21")
def test_stall_without_an_answer_changes_nothing() -> None:
    """The network is gone, or slow: the port is asked as long as it lasts, and no connection is given up."""
    stalls = Stalls()
    for moment in range(100):
        assert stalls.note(LINK, Flow.STALLS, float(moment))
    assert not stalls.note(LINK, Flow.FLOWS, 100.0)
    assert answer(stalls, ANSWERS, 100.0) == [False] * ANSWERS


def test_answers_from_before_the_stall_prove_nothing() -> None:
    """Nor do those between which the connection got on."""
    stalls = Stalls()
    stalls.note(LINK, Flow.STALLS, 2.0)
    assert not any(stalls.answered(LINK, 1.9, 2.1) for _ in range(2 * ANSWERS))
    for moment in (2.0, 3.0):
        stalls.note(LINK, Flow.STALLS, moment)
        assert answer(stalls, ANSWERS - 1, moment) == [False] * (ANSWERS - 1)
        stalls.note(LINK, Flow.FLOWS, moment)


@pytest.mark.rule("T17")
def test_broken_connection_is_dialled_when_zeromq_takes_long() -> None:
    """It dials by itself, but its next try may be seconds away; an answer then is enough."""
    late = 2.0 + PATIENCE
    for moment, dialled in ((late, True), (2.0, False)):
        stalls = Stalls()
        assert not stalls.note(LINK, Flow.DOWN, 2.0)
        assert stalls.note(LINK, Flow.DOWN, moment) is dialled
        assert answer(stalls, 1, moment) == [dialled]


@pytest.mark.parametrize("flow", [Flow.STALLS, Flow.DOWN])
def test_dial_has_its_time(flow: Flow) -> None:
    """Handshakes far away take long: until then nothing is asked, and no answer counts."""
    stalls = Stalls()
    stalls.note(LINK, flow, 2.0)
    assert any(answer(stalls, ANSWERS, 2.0 + PATIENCE))
    late = 2.0 + PATIENCE + GRACE
    assert not stalls.note(LINK, Flow.DOWN, late - 0.1)
    assert not any(answer(stalls, ANSWERS, late - 0.1))
    stalls.note(LINK, Flow.DOWN, late)
    assert stalls.note(LINK, Flow.DOWN, late + PATIENCE)


@pytest.mark.rule("F27")
@pytest.mark.parametrize("seen", list(Flow))
def test_dial_has_its_time_whatever_is_seen_meanwhile(seen: Flow) -> None:
    """A connection that is up shows nothing yet: the node answers over it, or does not."""
    stalls = Stalls()
    stalls.note(LINK, Flow.STALLS, 2.0)
    assert any(answer(stalls, ANSWERS, 2.0))
    for moment in (2.1, 2.2):
        assert not stalls.note(LINK, seen, moment)
        assert not stalls.note(LINK, Flow.STALLS, moment)
        assert not any(answer(stalls, ANSWERS, moment))
    assert stalls.note(LINK, Flow.STALLS, 2.0 + GRACE)


@pytest.mark.rule("F27")
def test_each_dial_without_an_answer_has_twice_the_time() -> None:
    """Up to a minute; it may get on in between. When the node has answered over it all begins anew."""
    stalls, now = Stalls(), 2.0
    found: list[float] = []
    while not found or found[-1] < LONGEST or len(found) < 7:
        assert stalls.note(LINK, Flow.STALLS, now)
        assert answer(stalls, ANSWERS, now)[-1]
        began = now
        while not stalls.note(LINK, Flow.STALLS, now):
            now += 1.0
        found.append(now - began)
        stalls.note(LINK, Flow.FLOWS, now)
    assert found == [GRACE, 2 * GRACE, 4 * GRACE, 8 * GRACE, 16 * GRACE, LONGEST, LONGEST]
    stalls.forget(LINK)
    stalls.note(LINK, Flow.STALLS, now)
    assert answer(stalls, ANSWERS, now)[-1]
    assert stalls.note(LINK, Flow.STALLS, now + GRACE)


def test_connections_are_judged_each_by_itself() -> None:
    """One that gets on is left alone, and so is one that is forgotten; forgetting twice is harmless."""
    stalls = Stalls()
    stalls.note(LINK, Flow.STALLS, 2.0)
    assert not any(stalls.answered(OTHER, 2.0, 2.0) for _ in range(ANSWERS))
    stalls.forget(LINK)
    stalls.forget(LINK)
    assert not any(answer(stalls, ANSWERS, 2.0))


@pytest.mark.rule("F27")
def test_looks_follow_the_heartbeat() -> None:
    """A third of it, neither so often that it costs, nor so rarely that a healed network waits."""
    assert pause(0.3) == pytest.approx(0.1)
    assert (pause(0.001), pause(60.0)) == LOOKS
