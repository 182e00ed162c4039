"""The control channel: how it comes and goes, and what is said over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Beat, Bye, Cancel, Pulse, Refused
from skyward_node.core.actions import Blocked, Gone, Incoming, Kill, Nonsense, Send

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core.actions import Action

    Rig = Any

EPOCH = 77
BLOB = b"code of f"
BEAT = 0.25  # seconds


def refused(code: str, reason: str, peer: bytes = b"peer1") -> Send:
    """Return a refusal."""
    return Send(peer, Refused(code, reason, "3.11.7", 1))


def open_control(rig: Rig, peer: bytes = b"control") -> list[Action]:
    """Have the client say hello on a second connection."""
    actions: list[Action] = rig.hello(peer=peer, channel="control")
    return actions


def pulse(rig: Rig, peer: bytes, heard: int = 0) -> Send:
    """Return a sign of life."""
    return Send(peer, Pulse(EPOCH, 0, 0, rig.core.node.sessions[rig.session].echo, heard))


@pytest.mark.rule("R36")
def test_control_channel_is_welcomed_and_gets_the_pulses(rig: Rig) -> None:
    """Nothing is said again for its sake; data goes on over the first connection."""
    rig.open(heartbeat=BEAT)
    rig.submit(1)
    rig.finish(1, 1)
    assert open_control(rig) == [rig.welcome(peer=b"control", resumed=True)]
    assert rig.handle(after=BEAT) == [pulse(rig, b"control")]
    assert rig.submit(2) == [rig.give(1, 2)]
    assert rig.finish(1, 2) == [rig.results(2, 2)]


@pytest.mark.rule("R36")
def test_pulse_goes_over_data_without_a_control_channel(rig: Rig) -> None:
    """Also when there is none any more; not when that connection takes nothing."""
    rig.open(heartbeat=BEAT)
    assert rig.handle(after=BEAT) == [pulse(rig, b"peer1")]
    open_control(rig)
    rig.handle(Gone(b"control"))
    assert rig.handle(after=BEAT) == [pulse(rig, b"peer1")]
    rig.handle(Blocked(b"peer1", blocked=True))
    assert rig.handle(after=BEAT) == []


@pytest.mark.rule("R36")
@pytest.mark.rule("F20")
@pytest.mark.rule("F27")
def test_beat_is_answered_at_once_over_both_connections(rig: Rig) -> None:
    """Once, whichever of them it comes over first; no other pulse is due before the next beat is overdue."""
    rig.open(heartbeat=BEAT)
    open_control(rig)
    rig.handle(after=BEAT)
    for moment in (1.0, 2.0):
        rig.handle(after=BEAT * 0.5)
        beat = Beat(EPOCH, 0, moment)
        answers = rig.handle(Incoming(b"control", beat), Incoming(b"peer1", beat), after=BEAT * 0.5)
        assert answers == [pulse(rig, b"peer1"), pulse(rig, b"control")]
        assert answers[0].message.echo == moment
    assert rig.handle(after=BEAT * 1.2) == []
    assert rig.handle(after=BEAT * 0.1) == [pulse(rig, b"control")]


@pytest.mark.rule("F26")
def test_beats_that_come_too_often_have_no_answers_of_their_own(rig: Rig) -> None:
    """Nor has one that says what was said before; where the data is blocked the other connection takes the answer."""
    rig.open(heartbeat=BEAT)
    open_control(rig)
    rig.handle(Blocked(b"peer1", blocked=True))
    assert rig.handle(Incoming(b"control", Beat(EPOCH, 0, 1.0)), after=BEAT * 0.9) == [pulse(rig, b"control")]
    assert rig.handle(Incoming(b"control", Beat(EPOCH, 0, 2.0)), after=BEAT * 0.1) == []
    assert rig.handle(Incoming(b"control", Beat(EPOCH, 0, 2.0)), after=BEAT) == []


@pytest.mark.rule("R36")
@pytest.mark.rule("F26")
def test_client_that_is_slow_to_read_still_gets_pulses(rig: Rig) -> None:
    """The second connection is there for that; being blocked itself it changes nothing for the first."""
    rig.open(heartbeat=BEAT)
    open_control(rig)
    rig.handle(Blocked(b"peer1", blocked=True))
    assert rig.handle(after=BEAT) == [pulse(rig, b"control")]
    rig.handle(Blocked(b"control", blocked=True))
    assert rig.core.node.sessions[rig.session].blocked
    rig.handle(Blocked(b"peer1", blocked=False))
    assert not rig.core.node.sessions[rig.session].blocked


@pytest.mark.rule("R36")
def test_beats_count_on_either_channel(make_rig: Callable[..., Rig]) -> None:
    """Results are acknowledged by both, and the client is heard."""
    rig = make_rig(1, lease=10.0)
    rig.open(heartbeat=BEAT)
    open_control(rig)
    session = rig.core.node.sessions[rig.session]
    rig.submit(1)
    rig.finish(1, 1)
    for _ in range(30):
        rig.handle(after=BEAT)
    assert session.silence > 7.0
    rig.say(Beat(EPOCH, 1, 5.0), peer=b"control")
    assert session.silence <= 0.0
    assert (session.echo, bool(session.outbox)) == (5.0, False)


@pytest.mark.rule("R43")
@pytest.mark.parametrize("kind", ["tasks", "function"])
def test_control_channel_takes_no_data(rig: Rig, kind: str) -> None:
    """Anything else ends that connection, and nothing but it."""
    rig.open(heartbeat=BEAT)
    open_control(rig)
    message, body = {
        "tasks": rig.tasks_message(1),
        "function": (rig.function(), [BLOB]),
    }[kind]
    reason = f"{type(message).__name__} does not belong on a control channel"
    assert rig.say(message, body, peer=b"control") == [refused("protocol", reason, b"control")]
    assert rig.handle(after=BEAT) == [pulse(rig, b"peer1")]
    assert rig.submit(1) == rig.first(1, 1)


@pytest.mark.rule("R40")
def test_goodbye_over_the_control_channel_ends_the_session(rig: Rig) -> None:
    """It overtakes what is under way on the first connection; the same that comes there later is no news."""
    rig.open()
    open_control(rig)
    rig.submit(1)
    assert Kill(1) in rig.say(Bye(EPOCH, 0, ""), peer=b"control")
    assert (rig.core.node.sessions, rig.core.node.peers) == ({}, {})
    assert [*rig.say(Cancel(EPOCH, [1], True)), *rig.say(Bye(EPOCH, 0, ""))] == []


@pytest.mark.rule("R40")
def test_goodbye_behind_a_hello_ends_what_that_has_opened(rig: Rig) -> None:
    """The session was ended over the other connection before; of its results the new one knows nothing."""
    rig.open()
    open_control(rig)
    rig.submit(1)
    rig.finish(1, 1)
    rig.say(Bye(EPOCH, 1, ""), peer=b"control")
    rig.hello(peer=b"peer2", epoch=EPOCH, ack=1)
    rig.say(Bye(EPOCH, 1, ""), peer=b"peer2")
    assert (rig.core.node.sessions, rig.core.node.peers) == ({}, {})


@pytest.mark.rule("R43")
def test_nonsense_on_the_control_channel_ends_it_alone(rig: Rig) -> None:
    """The session goes on over its first connection."""
    rig.open()
    open_control(rig)
    assert rig.handle(Nonsense(b"control", "protocol", "no message")) == [refused("protocol", "no message", b"control")]
    assert rig.submit(1) == rig.first(1, 1)


def test_control_channel_needs_a_session(rig: Rig) -> None:
    """Heartbeats of nobody keep nothing alive."""
    rig.start()
    reason = "there is no such session; say hello on a data channel first"
    assert open_control(rig) == [refused("session", reason, b"control")]
    assert rig.core.node.sessions == {}


def test_other_channels_do_not_exist(rig: Rig) -> None:
    """A later revision may have more."""
    rig.open()
    assert rig.hello(peer=b"peer2", channel="gossip") == [refused("protocol", "there is no channel 'gossip'", b"peer2")]


@pytest.mark.rule("R43")
@pytest.mark.parametrize(("peer", "channel"), [(b"peer1", "control"), (b"control", "data")])
def test_connection_keeps_its_channel(rig: Rig, peer: bytes, channel: str) -> None:
    """Saying hello for the other one is nonsense."""
    rig.open()
    open_control(rig)
    reason = "this connection belongs to another session or channel"
    assert rig.hello(peer=peer, channel=channel) == [refused("protocol", reason, peer)]


def test_new_control_channel_takes_the_place_of_the_old(rig: Rig) -> None:
    """The old one is nobody's from then on."""
    rig.open(heartbeat=BEAT)
    open_control(rig, b"old")
    open_control(rig, b"new")
    assert rig.handle(after=BEAT) == [pulse(rig, b"new")]
    reason = "this connection has no session here; say hello first"
    assert rig.say(Beat(EPOCH, 0, 0.0), peer=b"old") == [refused("session", reason, b"old")]


def test_control_channel_ends_with_its_session(rig: Rig) -> None:
    """Neither connection belongs to it any more."""
    rig.open()
    open_control(rig)
    rig.say(Bye(EPOCH, 0, ""))
    assert rig.core.node.peers == {}
