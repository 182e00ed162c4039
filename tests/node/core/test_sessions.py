"""Clients come, fall silent, come back and go; none disturbs another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import (
    Beat,
    Bye,
    Cancel,
    Progress,
    Pulse,
    Refused,
    Tasks,
)
from skyward_node.core.actions import Give, Gone, Kill, Retire, Send, Spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core.actions import Action

    Rig = Any

EPOCH = 77
BLOB = b"code of f"


@pytest.mark.rule("R37")
def test_reconnect_resumes_the_session(rig: Rig) -> None:
    """A client that says hello on a new connection gets what it has not seen, and nothing else."""
    rig.open()
    rig.submit(1, 2)
    rig.finish(1, 1)
    rig.finish(2, 2)
    actions = rig.hello(peer=b"peer2", epoch=EPOCH, ack=1)
    assert actions[0] == rig.welcome(resumed=True, peer=b"peer2")
    assert rig.forgotten == [b"peer1"]
    assert actions[1:] == [Send(b"peer2", *rig.results_message(2, seq=2))]


def test_old_connection_has_no_session_after_a_reconnect(rig: Rig) -> None:
    """Only the newest connection of a session counts."""
    rig.open()
    rig.hello(peer=b"peer2", epoch=EPOCH)
    reason = "this connection has no session here; say hello first"
    assert rig.submit(1) == [Send(b"peer1", Refused("session", reason, "3.11.7", 1))]


@pytest.mark.rule("R40")
@pytest.mark.parametrize(("own", "named"), [(5.0, 0.0), (60.0, 5.0), (1.0, 5.0)])
def test_silent_client_loses_its_tasks_when_the_lease_is_over(
    make_rig: Callable[..., Rig], own: float, named: float
) -> None:
    """A session without a word for its lease, the node's own if it names none, ends, and its workers are killed."""
    rig = make_rig(1, lease=own)
    rig.open(heartbeat=1.0, lease=named)
    rig.submit(1)
    for _ in range(5):
        assert not any(isinstance(action, Kill) for action in rig.handle(after=1.0))
    assert rig.handle(after=1.0) == [
        Send(b"peer1", Bye(EPOCH, 0, "no word from the client for 5 s")),
        Kill(1),
    ]
    assert rig.core.node.sessions == {}


@pytest.mark.rule("R40")
def test_word_from_the_client_renews_the_lease(make_rig: Callable[..., Rig]) -> None:
    """Any message counts as a sign of life."""
    rig = make_rig(1, lease=5.0)
    rig.open(heartbeat=1.0)
    for _ in range(20):
        rig.handle(after=1.0)
        rig.say(Beat(EPOCH, 0, 1.0))
    assert rig.session in rig.core.node.sessions


def test_time_the_daemon_was_stopped_is_no_silence(make_rig: Callable[..., Rig]) -> None:
    """A daemon that was stopped for an hour has not listened in that hour."""
    rig = make_rig(1, lease=5.0)
    rig.open(heartbeat=1.0)
    rig.handle(after=3600.0)
    assert rig.session in rig.core.node.sessions


def test_goodbye_stops_everything_at_once(rig: Rig) -> None:
    """What a client that leaves has running is killed, and its idle workers end."""
    rig.open()
    rig.submit(1)
    rig.submit(2)
    rig.finish(2, 2)
    assert rig.say(Bye(EPOCH, 1, "")) == [Kill(1), Retire(2)]
    assert rig.core.node.running == 0


@pytest.mark.rule("R40")
def test_goodbye_counts_though_its_connection_is_found_gone_before_it_is_read(rig: Rig) -> None:
    """Somebody says it, closes, and the node has something to tell him before it looks what has come."""
    rig.open()
    rig.submit(1)
    rig.handle(Gone(b"peer1"))
    assert Kill(1) not in rig.say(Cancel(EPOCH, [1], True))
    assert rig.say(Bye(EPOCH, 0, "")) == [Kill(1)]
    assert rig.core.node.sessions == {}


@pytest.mark.rule("R43")
def test_nothing_else_counts_of_a_connection_that_is_gone(rig: Rig) -> None:
    """It may live, and only be too slow: then its client has to learn that it must say hello again."""
    rig.open()
    rig.submit(1)
    rig.handle(Gone(b"peer1"))
    (refused,) = rig.say(Beat(EPOCH, 0, 1.0))
    assert (refused.peer, refused.message.code) == (b"peer1", "session")
    assert not any(isinstance(action, Give) for action in rig.submit(2))
    assert list(rig.core.node.sessions[rig.session].tasks) == [1]


@pytest.mark.rule("R40")
def test_goodbye_counts_over_a_control_connection_that_is_gone(rig: Rig) -> None:
    """A pulse may have found that before it was read; but not if there is another since."""
    rig.open()
    rig.hello(peer=b"old", channel="control")
    rig.handle(Gone(b"old"))
    rig.hello(peer=b"new", channel="control")
    rig.say(Bye(EPOCH, 0, ""), peer=b"old")
    assert sorted(rig.core.node.peers) == [b"new", b"peer1"]
    rig.handle(Gone(b"new"))
    rig.say(Bye(EPOCH, 0, ""), peer=b"new")
    assert rig.core.node.sessions == {}


@pytest.mark.rule("R40")
def test_goodbye_counts_though_the_session_has_got_its_second_connection_since(rig: Rig) -> None:
    """Its hello may be read after the first one was found gone."""
    rig.open()
    rig.handle(Gone(b"peer1"))
    rig.hello(peer=b"control", channel="control")
    rig.say(Bye(EPOCH, 0, ""))
    assert rig.core.node.sessions == {}


@pytest.mark.rule("R40")
def test_goodbye_of_an_older_connection_ends_nothing(rig: Rig) -> None:
    """Who has come back by another one is there."""
    rig.open()
    rig.submit(1)
    rig.handle(Gone(b"peer1"))
    rig.hello(peer=b"peer2", epoch=EPOCH)
    rig.say(Bye(EPOCH, 0, ""))
    assert list(rig.core.node.peers) == [b"peer2"]
    assert rig.core.node.running == 1


def test_pulse_echoes_the_clients_clock(make_rig: Callable[..., Rig]) -> None:
    """Each heartbeat the node says how much it has to do, and returns the client's clock."""
    rig = make_rig(1)
    rig.open(heartbeat=0.5)
    rig.submit(1, 2)
    rig.say(Beat(EPOCH, 0, 12.5))
    assert rig.handle(after=0.5) == [
        Send(b"peer1", Pulse(EPOCH, 1, 1, 12.5)),
        Send(b"peer1", Progress(EPOCH, [], [1])),  # by now it is worth knowing what runs
    ]
    assert rig.handle(after=0.5) == [Send(b"peer1", Pulse(EPOCH, 1, 1, 12.5))]


# --- two sessions ------------------------------------------------------------------------------------


def test_sessions_take_turns(make_rig: Callable[..., Rig]) -> None:
    """Of two clients with work waiting, each gets every other chunk (F66)."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    rig.submit(*range(1, 201))
    second = b"t" * 16
    rig.hello(session=second, peer=b"peer2")
    rig.say(rig.function(), [BLOB], peer=b"peer2")
    rig.spawned(2)
    rig.submit(*range(1, 101), peer=b"peer2")
    rig.core.node.sessions[second].library.code(rig.key).observe(100.0)
    order: list[int] = []
    held = {1: list(range(1, 81)), 2: []}  # larger chunks, while there was nobody else
    for _ in range(12):
        busy = 1 if held[1] else 2
        for action in rig.finish(busy, *held[busy], elapsed=100):
            if isinstance(action, Give) and isinstance(action.message, Tasks):
                order.append(action.worker)
                held[action.worker] = list(action.message.ids)
        held[busy] = [] if order[-1] != busy else held[busy]
    assert order == [2, 1] * 6


def test_sessions_never_share_a_worker(make_rig: Callable[..., Rig]) -> None:
    """A second client's task goes to a process of its own, though the first client's worker idles."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.hello(session=b"t" * 16, peer=b"peer2")[1:] == [Spawn(2, 1, 1)]
    rig.say(rig.function(), [BLOB], peer=b"peer2")
    gives: list[Action] = rig.submit(1, peer=b"peer2")
    assert {action.worker for action in gives if isinstance(action, Give)} == {2}


def test_idle_worker_of_another_session_makes_room(make_rig: Callable[..., Rig]) -> None:
    """When there are too many processes, the one that idled longest ends."""
    rig = make_rig(1)
    actions: list[Action] = []
    for number in (1, 2, 3):
        session = bytes([number]) * 16
        peer = b"peer%d" % number
        rig.open(session=session, peer=peer)
        actions = rig.submit(1, peer=peer)
        rig.finish(number, 1)
    assert actions[:2] == [Retire(1), Spawn(3, 1, 0)]
