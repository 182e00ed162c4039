"""What handshakes, breaks and probes mean, told to an engine whose nodes do what the test says."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from skyward.errors import AuthError, NodeLostError
from skyward.mesh.reach import FAILURES
from skyward.model import Nodes
from skyward.transport.keys import make_pair
from skyward.transport.links import READS, Connection, Link
from skyward.wire import payload
from skyward.wire.codec import encode, pack_body
from skyward.wire.messages import Beat, Bye, Hello, Output, Pulse, Refused, Results, Roster
from skyward.wire.statuses import OK
from tests.mesh.scripted import LONG
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.wire.frames import Buffer
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

KEYS = make_pair()
HEARTBEAT = 0.2


def tell(mesh: Mesh, what: Connection, link: Link | None = None) -> None:
    """Let the engine hear of a link's connection: of the first node's first, if no other is named."""
    chosen = link or mesh.engine.crew.mates[0].link
    assert chosen is not None
    mesh.do(lambda: mesh.engine.reach.on_news(chosen, what))


@pytest.fixture
def place() -> Iterator[socket.socket]:
    """Return a port where somebody listens, until the test closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def move(mesh: Mesh, node: Node, server: socket.socket) -> None:
    """Let the engine think that the first node is at that port, as if it had been reached over TCP."""
    mate = mesh.engine.crew.mates[0]
    endpoint = f"tcp://some-name:{server.getsockname()[1]}"
    mate.launched = node.launched = replace(mate.launched, endpoint=endpoint)


def control_of(mesh: Mesh, node: Node) -> Link:
    """Return the second link to the only node, once it has been welcomed."""
    while not any(isinstance(message, Hello) for message in node.told):
        node.expect(Beat)
        node.pulse()
    control = mesh.engine.crew.mates[0].control
    assert control is not None
    until(lambda: control.ready)
    return control


# --- handshakes ----------------------------------------------------------------------------


@pytest.mark.rule("R42")
@pytest.mark.rule("F33")
def test_refused_key_ends_the_opening_at_once(mesh: Mesh) -> None:
    """The error has the command that mends it, with our key in it."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), keys=KEYS)
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        tell(mesh, Connection.REFUSED)
    (error,) = errors
    assert isinstance(error, AuthError)
    assert isinstance(error, PermissionError)
    assert str(error) == (
        f"node 0 at {node.endpoint}: it does not admit our key; on the node, run: skyward-node keys add '{KEYS.public}'"
    )


@pytest.mark.rule("R42")
@pytest.mark.rule("F34")
def test_failed_handshake_ends_the_opening_the_second_time(mesh: Mesh) -> None:
    """Once can be an accident; the error names the key that could not be proved."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), keys=KEYS)
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        mesh.engine.crew.mates[0].launched = replace(mesh.engine.crew.mates[0].launched, public_key="k" * 40)
        for _ in range(FAILURES - 1):
            tell(mesh, Connection.FAILED)
        tell(mesh, Connection.UP)
        for _ in range(FAILURES - 1):
            tell(mesh, Connection.FAILED)
        assert not errors
        tell(mesh, Connection.FAILED)
    (error,) = errors
    assert isinstance(error, AuthError)
    assert f"it cannot prove to own the key that we were given for it, {'k' * 40}" in str(error)


@pytest.mark.rule("R42")
def test_handshake_that_nobody_answers_is_no_verdict(mesh: Mesh) -> None:
    """The node may be stopped, and go on."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), keys=KEYS)
    with mesh.opening():
        node.expect(Hello)
        for _ in range(3 * FAILURES):
            tell(mesh, Connection.UNANSWERED)
        tell(mesh, Connection.DOWN)
        tell(mesh, Connection.UP)
        node.welcome()


@pytest.mark.rule("R42")
def test_whatever_else_listens_there_ends_the_opening(mesh: Mesh) -> None:
    """ZeroMQ would not dial again: nobody waits for it."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), keys=KEYS)
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        tell(mesh, Connection.STRANGE)
    (error,) = errors
    assert isinstance(error, AuthError)
    assert "does not speak CURVE" in str(error)


@pytest.mark.rule("R42")
@pytest.mark.parametrize("what", [Connection.REFUSED, Connection.STRANGE])
def test_node_of_an_open_pool_that_refuses_us_is_lost(mesh: Mesh, what: Connection) -> None:
    """Its tasks move; the pool goes on."""
    node, other = mesh.open(2)
    task, _ = mesh.send(node)
    tell(mesh, what)
    assert other.tasks() == [task.id]
    assert node.ended.wait(LONG)
    (cause,) = mesh.causes()
    assert cause.startswith(f"node 0: node 0 at {node.endpoint}: ")


def test_failed_handshakes_of_a_node_that_was_there_are_no_verdict(mesh: Mesh) -> None:
    """It may be out of descriptors, or be started again: silence will tell."""
    (node,) = mesh.open()
    for _ in range(3 * FAILURES):
        tell(mesh, Connection.FAILED)
    assert mesh.leaves_alone(node)
    assert mesh.causes() == []


def test_news_of_a_link_that_was_given_up_is_no_news(mesh: Mesh) -> None:
    """It may have waited in the same turn."""
    node, _ = mesh.open(2)
    link = mesh.engine.crew.mates[0].link
    node.send(Bye(node.epoch, 0, "so be it"))
    assert node.ended.wait(LONG)
    tell(mesh, Connection.REFUSED, link)
    assert len(mesh.causes()) == 1


# --- breaks --------------------------------------------------------------------------------


@pytest.mark.rule("R36")
@pytest.mark.rule("F23")
def test_node_is_greeted_when_its_connection_is_back(mesh: Mesh, place: socket.socket) -> None:
    """At once, without a message that has to be refused first; the first time up it has been greeted already."""
    (node,) = mesh.open()
    move(mesh, node, place)
    tell(mesh, Connection.UP)
    assert mesh.leaves_alone(node)
    tell(mesh, Connection.DOWN)
    tell(mesh, Connection.UP)
    hello = node.welcome(resumed=True)
    assert (hello.epoch, hello.channel) == (node.epoch, "data")
    node.expect(Roster)
    assert mesh.leaves_alone(node)


@pytest.mark.rule("R37")
def test_old_connection_is_read_to_its_end_before_the_new_one_is_greeted(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it can come after the answer then: the greeting says that all of it has been seen."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    output: list[Buffer] = [encode(Output(node.epoch, task.id, 1, 1, 0)), b"line"]
    sizes, buffers, body = pack_body([payload.dumps_value("seen")])
    results = [encode(Results(node.epoch, 1, [task.id], [OK], sizes, buffers, [1])), *body]
    batches: list[list[list[Buffer]]] = [[output] * READS, [output] * READS, [results], []]
    link = mesh.engine.crew.mates[0].link
    assert link is not None
    link.broken = True
    with monkeypatch.context() as patch:
        patch.setattr(Link, "receive", lambda _: batches.pop(0))
        tell(mesh, Connection.UP)
    assert batches == []
    assert node.expect(Hello).ack == 1
    assert mesh.outcome(single) == "seen"


@pytest.mark.rule("R36")
def test_break_with_nobody_listening_is_a_lost_node(mesh: Mesh, place: socket.socket) -> None:
    """It is asked at once, by its number: names may take time. Heartbeats of an hour show that nobody waited."""
    node, other = mesh.open(2)
    task, single = mesh.send(node, retries=0)
    move(mesh, node, place)
    place.close()
    tell(mesh, Connection.DOWN)
    error = mesh.outcome(single)
    assert isinstance(error, NodeLostError)
    assert error.reason == "its connection broke, and nobody listens there any more"
    assert node.ended.wait(LONG)
    mesh.send(other)
    assert task.id


@pytest.mark.rule("R36")
def test_break_with_somebody_listening_is_no_verdict(mesh: Mesh, place: socket.socket) -> None:
    """The node may be back: its epoch, or silence, will tell. It is asked once at a time."""
    (node,) = mesh.open()
    move(mesh, node, place)
    tell(mesh, Connection.DOWN)
    tell(mesh, Connection.DOWN)
    assert len(mesh.engine.reach._probes) <= 1
    place.accept()[0].close()
    until(lambda: not mesh.engine.reach._probes)
    assert mesh.leaves_alone(node)
    assert mesh.causes() == []


@pytest.mark.rule("R36")
def test_port_that_hangs_up_is_asked_again(mesh: Mesh, place: socket.socket) -> None:
    """A process that ends closes its connections a moment before its port, or after it."""
    node, _ = mesh.open(2)
    move(mesh, node, place)
    tell(mesh, Connection.DOWN)
    for reset in (b"\0" * 8, struct.pack("ii", 1, 0)):
        taken, _ = place.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        taken.close()
    place.accept()[0].close()
    place.close()
    assert node.ended.wait(LONG)
    assert mesh.causes() == ["node 0: its connection broke, and nobody listens there any more"]


def test_node_that_is_lost_is_not_asked_again(mesh: Mesh, place: socket.socket) -> None:
    """Its port is somebody else's, for all we know."""
    node, _ = mesh.open(2)
    move(mesh, node, place)
    mate = mesh.engine.crew.mates[0]
    mesh.do(lambda: mesh.engine.crew.lose(mate, "so be it"))
    mesh.do(lambda: mesh.engine.reach.probe(mate))
    assert mesh.engine.reach._probes == {}


def test_break_before_the_node_is_ready_is_not_asked_about(mesh: Mesh) -> None:
    """Whoever opens a pool hears of failed handshakes, and of silence."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1))
    with mesh.opening():
        node.expect(Hello)
        tell(mesh, Connection.DOWN)
        assert mesh.engine.reach._probes == {}
        tell(mesh, Connection.UP)
        node.welcome()


def test_probe_that_cannot_be_made_is_no_verdict(
    mesh: Mesh, place: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without descriptors must not blame its nodes, nor fail."""
    (node,) = mesh.open()
    move(mesh, node, place)

    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("skyward.mesh.reach.socket", fail)
    tell(mesh, Connection.DOWN)
    assert mesh.leaves_alone(node)


@pytest.mark.parametrize("when", ["node", "engine"])
def test_probe_under_way_at_the_end_is_forgotten(mesh: Mesh, place: socket.socket, when: str) -> None:
    """Its answer concerns nobody, and its descriptor is closed."""
    node, _ = mesh.open(2)
    move(mesh, node, place)

    def cut() -> None:
        link = mesh.engine.crew.mates[0].link
        assert link is not None
        mesh.engine.reach.on_news(link, Connection.DOWN)
        if when == "node":
            mesh.engine.crew.lose(mesh.engine.crew.mates[0], "so be it")

    mesh.do(cut)
    if when == "engine":
        mesh.engine.close()
    assert mesh.engine.reach._probes == {}
    assert mesh.engine.bug is None


# --- the second link -----------------------------------------------------------------------


@pytest.mark.rule("R36")
def test_ready_node_gets_a_second_link_for_heartbeats(mesh: Mesh) -> None:
    """Beats go over both; what the node says over the second one alone keeps it alive."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control = control_of(mesh, node)
    hello, *_ = node.told
    assert isinstance(hello, Hello)
    assert (hello.channel, hello.session, hello.epoch) == ("control", mesh.engine.session, 0)
    assert control.epoch == node.epoch
    for _ in range(8):
        node.expect(Beat)
        node.pulse()
    while not any(isinstance(message, Beat) for message in node.told):
        node.expect(Beat)
        node.pulse()
    assert mesh.causes() == []


@pytest.mark.rule("R36")
@pytest.mark.parametrize(
    "what", [Connection.DOWN, Connection.FAILED, Connection.UNANSWERED, Connection.REFUSED, Connection.STRANGE]
)
def test_second_link_that_fails_is_opened_anew(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, what: Connection) -> None:
    """It says nothing about the node, whose first link goes on; but a break is asked about."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control = control_of(mesh, node)
    asked: list[object] = []
    monkeypatch.setattr(mesh.engine.reach, "probe", asked.append)
    tell(mesh, Connection.UP, control)
    node.told.clear()
    tell(mesh, what, control)
    assert control_of(mesh, node) is not control
    assert len(asked) == (what is Connection.DOWN)
    assert mesh.causes() == []


def test_second_link_that_is_refused_is_opened_anew(mesh: Mesh) -> None:
    """By a word of the node, such as of one that has forgotten that connection."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control = control_of(mesh, node)
    node.say_over_control(Refused("session", "who are you?", "3.11.0", 1))
    node.told.clear()
    assert control_of(mesh, node) is not control
    assert mesh.causes() == []


@pytest.mark.rule("R43")
def test_anything_but_pulses_over_the_second_link_is_nonsense(mesh: Mesh) -> None:
    """The node is given up."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control_of(mesh, node)
    node.say_over_control(Bye(node.epoch, 0, ""))
    until(node.ended.is_set)
    assert mesh.causes() == ["node 0: it sent a message that makes no sense: Bye does not belong on a control channel"]


@pytest.mark.rule("R40")
def test_goodbye_goes_over_both_links(mesh: Mesh) -> None:
    """Large arguments may be under way on the first one for longer than the pool waits."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control_of(mesh, node)
    mesh.engine.close()
    node.expect(Bye)
    until(lambda: not node.hears_nothing())
    assert isinstance(node.told[-1], Bye)


def test_pulse_of_another_life_confirms_nothing(mesh: Mesh) -> None:
    """What it counts has not come from us."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control_of(mesh, node)
    node.say_over_control(Pulse(node.epoch + 1, 0, 0, 0.0, heard=99))
    node.expect(Beat)
    node.pulse()
    node.expect(Beat)
    assert mesh.causes() == []
