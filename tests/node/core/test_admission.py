"""Who may talk to the node, by the actions that come out: keys, channels, resuming, and being alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from skyward.wire.clients import Admit, Clients
from skyward.wire.messages import Beat, Bye, Draining, Need, Refused, Returned
from skyward_node.core import admission
from skyward_node.core.actions import (
    Admitted,
    Crowded,
    Exit,
    Gone,
    Incoming,
    Kill,
    List,
    Listed,
    Log,
    Send,
    Shutdown,
    Unguarded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core.actions import Action

    Rig = Any

EPOCH = 77
ALICE, BOB = "a" * 40, "b" * 40
BLOB = b"code of f"
BEAT = 0.25  # seconds


def refused(code: str, reason: str, peer: bytes = b"peer1") -> Send:
    """Return a refusal."""
    return Send(peer, Refused(code, reason, "3.11.7", 1))


def say(rig: Rig, message: Any, body: Any = (), *, peer: bytes = b"peer1", user: str = ALICE) -> list[Action]:
    """Hand in a message that came under a key."""
    actions: list[Action] = rig.handle(Incoming(peer, message, body, user))
    return actions


@pytest.fixture
def keyed(rig: Rig) -> Rig:
    """Return a core that admits Alice and Bob, and has Alice's session."""
    rig.start()
    rig.handle(Admitted(frozenset({ALICE, BOB})))
    assert say(rig, rig.hello_message()) == [rig.welcome()]
    say(rig, rig.function(), [BLOB])
    return rig


# --- the list ------------------------------------------------------------------------------


@pytest.mark.rule("R42")
def test_list_is_changed_and_told_whatever_tasks_do(make_rig: Callable[..., Rig]) -> None:
    """Who asks is told over its own connection, also why nothing was changed."""
    rig = make_rig(1, listed=True)
    rig.start()
    rig.handle(Admitted(frozenset({ALICE})))
    assert say(rig, rig.hello_message()) == [rig.welcome()]
    say(rig, rig.function(), [BLOB])
    say(rig, *rig.tasks_message(1, 2))
    assert say(rig, Admit(EPOCH, BOB, "bob", "eve")) == [List(b"peer1", BOB, "bob", "eve")]
    told = Clients(EPOCH, [ALICE, BOB], ["", "bob"])
    assert rig.handle(Listed(b"peer1", ((ALICE, ""), (BOB, "bob")))) == [Send(b"peer1", told)]
    assert rig.handle(Listed(b"peer1", (), "no room")) == [Send(b"peer1", Clients(EPOCH, [], [], "no room"))]


@pytest.mark.rule("R42")
def test_node_without_a_list_is_not_asked_for_one(keyed: Rig) -> None:
    """It does not say that it has one: whoever asks is no client of ours."""
    complaint = refused("protocol", "this node keeps no list of clients")
    assert say(keyed, Admit(EPOCH)) == [complaint]


# --- keys ----------------------------------------------------------------------------------


@pytest.mark.rule("R42")
def test_hello_under_a_key_that_is_not_admitted_is_refused(keyed: Rig) -> None:
    """ZeroMQ lets nobody else in; a connection may be older than the list, though."""
    hello = keyed.hello_message(session=b"t" * 16)
    complaint = refused("auth", "this key is not admitted any more", b"peer2")
    assert say(keyed, hello, peer=b"peer2", user="c" * 40) == [complaint]
    assert say(keyed, hello, peer=b"peer2", user="") == [complaint]
    assert list(keyed.core.node.sessions) == [keyed.session]


@pytest.mark.rule("R42")
@pytest.mark.rule("F37")
@pytest.mark.parametrize("channel", ["data", "control"])
def test_session_is_not_taken_over_under_another_key(keyed: Rig, channel: str) -> None:
    """Who is admitted and knows the session's key is refused, and its owner notices nothing."""
    message, body = keyed.tasks_message(1)
    say(keyed, message, body)
    theft = keyed.hello_message(epoch=EPOCH, channel=channel)
    complaint = refused("auth", "this session belongs to another key", b"thief")
    assert say(keyed, theft, peer=b"thief", user=BOB) == [complaint]
    assert keyed.finish(1, 1) == [keyed.results(1, 1)]


@pytest.mark.rule("R42")
@pytest.mark.rule("F37")
def test_message_under_another_key_ends_its_connection(keyed: Rig) -> None:
    """Whatever it says: a connection has one key for its life."""
    message, body = keyed.tasks_message(1)
    assert say(keyed, message, body, user=BOB) == [refused("auth", "this session belongs to another key")]
    assert keyed.core.node.sessions[keyed.session].tasks == {}
    assert keyed.core.node.peers == {}


@pytest.mark.rule("R42")
def test_session_ends_with_its_key(keyed: Rig) -> None:
    """When the list changes: what it runs is killed, its client is told, and others go on."""
    say(keyed, keyed.hello_message(session=b"t" * 16), peer=b"peer2", user=BOB)
    say(keyed, *keyed.tasks_message(1))
    assert keyed.handle(Admitted(frozenset({BOB}))) == [
        Send(b"peer1", Bye(EPOCH, 0, "this key is not admitted any more")),
        Kill(1),
    ]
    assert list(keyed.core.node.sessions) == [b"t" * 16]
    assert say(keyed, keyed.hello_message()) == [refused("auth", "this key is not admitted any more")]
    assert say(keyed, Beat(EPOCH, 0, 0.0), peer=b"peer2", user=BOB) == []


@pytest.mark.rule("R42")
def test_session_may_go_on_when_other_keys_change(keyed: Rig) -> None:
    """And one that was removed may come back."""
    assert keyed.handle(Admitted(frozenset({ALICE}))) == []
    keyed.handle(Admitted(frozenset()))
    assert keyed.core.node.sessions == {}
    keyed.handle(Admitted(frozenset({ALICE})))
    assert say(keyed, keyed.hello_message()) == [keyed.welcome()]


@pytest.mark.rule("R42")
def test_file_of_keys_that_does_not_count_is_told(keyed: Rig) -> None:
    """The keys from before go on counting."""
    assert keyed.handle(Admitted(frozenset({ALICE}), "others can write to it")) == []
    reason = {"reason": "others can write to it"}
    assert keyed.logged[-1] == Log("error", "the file of admitted keys does not count", reason)
    assert list(keyed.core.node.sessions) == [keyed.session]


@pytest.mark.rule("F61")
def test_node_without_descriptors_tells_what_to_do(keyed: Rig) -> None:
    """And serves on whoever is connected."""
    assert keyed.handle(Crowded()) == []
    advice = {"advice": "raise ulimit -n"}
    assert keyed.logged[-1] == Log("error", "no descriptors are left: new connections wait", advice)


@pytest.mark.rule("R42")
def test_node_that_can_admit_nobody_ends(keyed: Rig) -> None:
    """Rather than only seem to serve."""
    assert keyed.handle(Unguarded()) == [Exit(1)]
    assert keyed.logged[-1] == Log("error", "the handler that admits clients is gone: the node ends", {})


def test_link_that_needs_no_key_has_none(rig: Rig) -> None:
    """Over a socket in a private directory nobody asks."""
    rig.start()
    assert rig.hello() == [rig.welcome()]
    assert rig.core.node.sessions[rig.session].user == ""


# --- coming back ---------------------------------------------------------------------------


@pytest.mark.rule("R37")
def test_client_that_is_back_gets_what_it_has_not_seen(rig: Rig) -> None:
    """Results above its acknowledgement, in order, and nothing it has."""
    rig.open()
    for id in (1, 2, 3):
        rig.submit(id)
        rig.finish(1, id)
    actions = rig.hello(peer=b"peer2", epoch=EPOCH, ack=1)
    expected = [Send(b"peer2", *rig.results_message(id, seq=id)) for id in (2, 3)]
    assert actions == [rig.welcome(peer=b"peer2", resumed=True), *expected]


def test_missing_code_is_asked_for_again(rig: Rig) -> None:
    """The question, or the answer, may have been lost with the connection."""
    rig.start()
    rig.hello()
    assert rig.submit(1) == [Send(b"peer1", Need(EPOCH, [rig.key], []))]
    assert rig.hello(peer=b"peer2", epoch=EPOCH) == [
        rig.welcome(peer=b"peer2", resumed=True),
        Send(b"peer2", Need(EPOCH, [rig.key], [])),
    ]
    assert rig.say(rig.function(), [BLOB], peer=b"peer2") == rig.first(1, 1)
    assert rig.hello(peer=b"peer3", epoch=EPOCH) == [rig.welcome(peer=b"peer3", resumed=True)]


@pytest.mark.rule("R43")
def test_goodbye_of_somebody_else_ends_nothing(keyed: Rig) -> None:
    """Not under another key, over whatever connection, nor of who never had a session."""
    keyed.handle(Gone(b"peer1"))
    for peer in (b"peer1", b"peer9"):
        (answer,) = say(keyed, Bye(EPOCH, 0, ""), peer=peer, user=BOB)
        assert isinstance(answer, Send)
        assert isinstance(answer.message, Refused)
    assert len(keyed.core.node.sessions) == 1


def test_client_that_is_back_learns_that_the_node_is_draining(make_rig: Callable[..., Rig]) -> None:
    """A known session is let in for its results, and gets no new tasks done."""
    rig = make_rig(1, lease=60.0)
    rig.open()
    rig.submit(1)
    rig.handle(Gone(b"peer1"))
    rig.handle(Shutdown(30.0, "asked"))
    welcome, draining = rig.hello(peer=b"peer2", epoch=EPOCH)
    assert welcome == rig.welcome(peer=b"peer2", resumed=True)
    assert isinstance(draining.message, Draining)
    assert draining.message.deadline == pytest.approx(30.0, abs=0.1)
    assert rig.submit(2, peer=b"peer2") == [Send(b"peer2", Returned(EPOCH, [2]))]


@pytest.mark.rule("R36")
@pytest.mark.parametrize("epoch", [0, EPOCH - 1])
def test_client_that_took_the_node_for_dead_begins_anew(rig: Rig, epoch: int) -> None:
    """It has given the tasks to others, so what runs is killed; what it has seen of another life says nothing."""
    rig.open()
    rig.submit(1, 2)
    rig.finish(1, 1)
    actions = rig.hello(peer=b"peer2", epoch=epoch, ack=99, heard=99)
    assert Kill(2) in actions
    assert [action for action in actions if isinstance(action, Send)] == [rig.welcome(peer=b"peer2")]
    assert rig.core.node.sessions[rig.session].tasks == {}
    assert list(rig.core.node.peers) == [b"peer2"]


def test_greeting_said_twice_is_one(rig: Rig) -> None:
    """A client that asks again on one connection keeps its tasks."""
    rig.open()
    rig.submit(1)
    assert rig.hello() == [rig.welcome(resumed=True)]
    assert list(rig.core.node.sessions[rig.session].tasks) == [1]


@pytest.mark.rule("R42")
def test_client_that_begins_anew_under_another_key_ends_nothing(keyed: Rig) -> None:
    """Whose session it is comes first."""
    say(keyed, *keyed.tasks_message(1))
    complaint = refused("auth", "this session belongs to another key", b"thief")
    assert say(keyed, keyed.hello_message(), peer=b"thief", user=BOB) == [complaint]
    assert list(keyed.core.node.sessions[keyed.session].tasks) == [1]


def test_client_does_not_begin_anew_where_the_node_ends(rig: Rig) -> None:
    """It drains: what the client has given up is dropped, and nothing new comes."""
    rig.open()
    rig.submit(1)
    rig.handle(Shutdown(30.0, "asked"))
    *_, answer, over = rig.hello(peer=b"peer2")
    assert over == Exit(0)
    assert answer == refused("full", "the node is shutting down", b"peer2")


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("changes", "reason"), [({"ack": 9}, "results up to 9"), ({"heard": 9}, "9 calls and answers")]
)
def test_hello_that_confirms_what_was_never_sent_is_nonsense(rig: Rig, changes: dict[str, int], reason: str) -> None:
    """The connection is refused."""
    rig.open()
    (answer,) = rig.hello(peer=b"peer2", epoch=EPOCH, **changes)
    assert (answer.message.code, answer.message.reason[: len(reason)]) == ("protocol", reason)


# --- being alone ---------------------------------------------------------------------------


@pytest.mark.rule("R40")
@pytest.mark.rule("F11")
def test_launched_node_without_a_client_ends_itself(make_rig: Callable[..., Rig]) -> None:
    """So long after its start, or after its last session has ended; not before, and once."""
    rig = make_rig(1, alone=10.0)
    rig.start()
    for _ in range(9):
        assert rig.handle(after=1.0) == []
    rig.open()
    for _ in range(20):
        rig.handle(after=1.0)
    rig.say(Bye(EPOCH, 0, ""))
    for _ in range(10):
        assert rig.handle(after=0.999) == []
    assert rig.handle(after=1.0) == [Exit(0)]
    assert rig.handle(after=1.0) == []


@pytest.mark.rule("R40")
def test_node_that_slept_was_not_alone_for_that_time(make_rig: Callable[..., Rig]) -> None:
    """Of a gap between two looks only so much counts: its clients slept with it, or are on their way."""
    rig = make_rig(1, alone=10.0)
    rig.start()
    assert rig.handle(after=3_600.0) == []
    assert rig.core.node.alone == pytest.approx(admission.LOOK, abs=0.1)
    assert rig.core.next_deadline() - rig.now <= admission.LOOK, "it looks often enough for all time awake to count"


@pytest.mark.rule("R40")
def test_node_started_by_a_person_waits_for_ever(rig: Rig) -> None:
    """Unless somebody says otherwise nodes are there for clients to come."""
    rig.start()
    for _ in range(100):
        assert rig.handle(after=1.0) == []


@pytest.mark.rule("R40")
def test_lease_and_loneliness_add_up(make_rig: Callable[..., Rig]) -> None:
    """A client that falls silent costs the node its tasks first, and then its life."""
    rig = make_rig(1, lease=5.0, alone=3.0)
    rig.open(heartbeat=1.0)
    rig.submit(1)
    actions: list[Action] = []
    seconds = 0
    while Exit(0) not in actions:
        actions = [action for action in rig.handle(after=1.0) if not isinstance(action, Send)]
        seconds += 1
        assert actions in ([], [Kill(1)], [Exit(0)])
        assert (Kill(1) in actions) == (seconds == 6)
    assert seconds == 9


# --- lanes ---------------------------------------------------------------------------------


@pytest.mark.rule("F37")
def test_lane_is_its_clients_alone(rig: Rig) -> None:
    """It begins with what a node has told that client, and nobody else can know."""
    rig.open()
    node = rig.core.node
    token = rig.peer + rig.session
    assert admission.owner_of(node, token) == rig.peer
    for other in (rig.peer, rig.session, rig.peer + b"t" * 16, b"peer2" + rig.session, b"", token + b"x"):
        assert admission.owner_of(node, other) == b""
    rig.hello(channel="control", peer=b"peer2")
    assert admission.owner_of(node, b"peer2" + rig.session) == b""
    rig.hello(peer=b"peer3")
    assert admission.owner_of(node, token) == b""


def test_welcome_says_what_a_lane_begins_with(rig: Rig) -> None:
    """If the node takes in any."""
    rig.start()
    assert [action.message.lane for action in rig.hello()] == [b""]
    rig.core.node.limits = structs.replace(rig.limits, lanes=True)
    (welcome, *_) = rig.hello()
    assert welcome.message.lane == rig.peer + rig.session
