"""Connections that do not get on, told to an engine whose nodes do what the test says."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.stalls import ANSWERS, LOOKS, PATIENCE, Flow
from skyward.mesh.reach import LASTS, MOST, About
from skyward.transport.links import Connection, Link
from skyward.wire.messages import Bye, Pulse
from tests.mesh.meshes import QUIET
from tests.mesh.scripted import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.mesh.mate import Mate
    from skyward.mesh.reach import Probe
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

HEARTBEAT = 0.2
DUE = LOOKS[1]  # seconds between the looks of an engine whose heartbeats are rare
STEP = DUE + 2**-10  # seconds after which one is due however sums of moments are rounded


class Flows:
    """How links get on, in place of TCP connections; looks happen when a test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.of: dict[Link | None, Flow] = {}
        self.dialled: list[Link] = []
        patch.setattr(Link, "flow", lambda link: self.of.get(link, Flow.FLOWS))
        patch.setattr(Link, "redial", lambda link: self.dialled.append(link))  # noqa: PLW0108 - to become a method
        patch.setattr("skyward.mesh.reach._watched", self.watched)

    def watched(self, mate: Mate) -> list[Link]:
        """Return the links of which the test says something."""
        return [link for link in (mate.link, mate.control) if link in self.of and link is not None and link.ready]


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> Flows:
    """Return what says how links get on."""
    return Flows(monkeypatch)


@pytest.fixture
def place() -> Iterator[socket.socket]:
    """Return a port where connections are made, and nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LONG)
        yield server


def move(mesh: Mesh, node: Node, port: int, rank: int = 0) -> Link:
    """Let the engine think that a node is at that port; return its first link."""
    mate = mesh.engine.crew.mates[rank]
    mate.launched = node.launched = replace(mate.launched, endpoint=f"tcp://127.0.0.1:{port}")
    mesh.engine.reach._look_at = 0.0  # it has looked when the node became ready
    assert mate.link is not None
    return mate.link


def port_of(server: socket.socket) -> int:
    """Return its number."""
    return int(server.getsockname()[1])


def closed_port() -> int:
    """Return a port that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return port_of(server)


def look(mesh: Mesh, *moments: float) -> list[Probe]:
    """Look at these moments, one after the other; return what is asked then."""
    found: list[Probe] = []

    def run() -> None:
        for moment in moments:
            mesh.engine.reach.look(moment)
        found.extend(mesh.engine.reach._probes.values())

    mesh.do(run)
    return found


def say_something(server: socket.socket) -> None:
    """Answer a question, as a node does: with its first byte."""
    taken, _ = server.accept()
    taken.sendall(b"\xff")
    taken.close()


def control_of(mesh: Mesh, node: Node) -> Link:
    """Return the second link to the only node, opened and welcomed."""
    mate = mesh.engine.crew.mates[0]
    mesh.do(lambda: mesh.engine.crew._open_control(mate))
    control = mate.control
    assert control is not None
    while not control.ready:
        mesh.do(lambda: mesh.engine.talk.beat(mate, 1.0))
        node.receive()
    return control


# --- asking --------------------------------------------------------------------------------


def test_port_is_asked_at_looks_that_are_due(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """As long as a connection does not get on; a tick that comes for something else is no look."""
    (node,) = mesh.open()
    link = move(mesh, node, port_of(place))
    now = time.monotonic()
    flows.of = {link: Flow.FLOWS}
    assert look(mesh, now) == []
    flows.of = {link: Flow.STALLS}
    assert look(mesh, now + 0.01) == []
    assert mesh.engine.reach.next_look(now + 0.01) == now + DUE
    (probe,) = look(mesh, now + STEP)
    assert (probe.mate.rank, probe.about) == (0, About.STALL)
    assert len(look(mesh, now + STEP + 0.01)) == 1
    assert len(look(mesh, now + 2 * STEP)) == 2


@pytest.mark.rule("F27")
def test_question_is_given_its_time(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """Far away an answer takes long: a question is given up for another when it is old, and four are enough."""
    (node,) = mesh.open()
    flows.of = {move(mesh, node, port_of(place)): Flow.STALLS}
    now = time.monotonic()
    first = look(mesh, *(now + number * STEP for number in range(MOST)))
    assert len(first) == MOST
    assert look(mesh, now + MOST * STEP) == first
    later = look(mesh, time.monotonic() + LASTS + STEP)
    assert later[:-1] == first[1:]
    assert later[-1] is not first[0]


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
def test_closed_port_is_noticed_whatever_else_is_asked(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """A connection breaks while questions about a stall are under way: the node is gone."""
    node, _ = mesh.open(2)
    link = move(mesh, node, port_of(place))
    flows.of = {link: Flow.STALLS}
    now = time.monotonic()

    def cut() -> None:
        mesh.engine.reach.look(now)
        move(mesh, node, closed_port())
        mesh.engine.reach.on_news(link, Connection.DOWN)
        assert [probe.about for probe in mesh.engine.reach._probes.values()] == [About.STALL, About.BREAK]

    mesh.do(cut)
    assert node.ended.wait(LONG)
    assert mesh.causes() == ["node 0: its connection broke, and nobody listens there any more"]


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
def test_refused_question_about_a_stall_is_a_lost_node(mesh: Mesh, flows: Flows) -> None:
    """A port that is closed tells as much as after a break."""
    node, _ = mesh.open(2)
    flows.of = {move(mesh, node, closed_port()): Flow.STALLS}
    look(mesh, time.monotonic())
    assert node.ended.wait(LONG)
    assert mesh.causes() == ["node 0: its connection does not get on, and nobody listens there any more"]


def test_all_nodes_of_one_look_may_be_gone(mesh: Mesh, flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may refuse at once, while we look."""

    class Refusing(socket.socket):
        def connect_ex(self, address: object) -> int:
            return errno.ECONNREFUSED

    nodes = mesh.open(3)
    for rank, node in enumerate(nodes):
        flows.of[move(mesh, node, 1, rank)] = Flow.STALLS
    monkeypatch.setattr("skyward.mesh.reach.socket", Refusing)
    look(mesh, time.monotonic())
    assert len(mesh.causes()) == len(nodes)
    assert all(node.ended.wait(LONG) for node in nodes)


def test_questions_of_breaks_and_stalls_leave_each_other_alone(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """What is asked about a break stays, however much is asked about a stall."""
    (node,) = mesh.open()
    link = move(mesh, node, port_of(place))
    flows.of = {link: Flow.STALLS}
    mesh.do(lambda: mesh.engine.reach.on_news(link, Connection.DOWN))
    now = time.monotonic()
    found = look(mesh, *(now + LASTS + number * STEP for number in range(3 * MOST)))
    assert [probe.about for probe in found] == [About.BREAK] + [About.STALL] * MOST


@pytest.mark.rule("R36")
def test_stall_at_a_port_that_hangs_up_is_asked_about_at_the_next_look(
    mesh: Mesh, flows: Flows, place: socket.socket
) -> None:
    """It is no verdict, and starts no questions of its own."""
    (node,) = mesh.open()
    flows.of = {move(mesh, node, port_of(place)): Flow.STALLS}
    now = time.monotonic()
    look(mesh, now)
    place.accept()[0].close()
    while look(mesh):
        pass
    assert not mesh.engine._timers.heap
    assert len(look(mesh, now + STEP)) == 1
    assert mesh.causes() == []


# --- dialling ------------------------------------------------------------------------------


@pytest.mark.rule("F27")
@pytest.mark.rule("T17")
@pytest.mark.parametrize("flow", [Flow.STALLS, Flow.DOWN])
def test_link_is_dialled_when_the_port_answers(
    mesh: Mesh, flows: Flows, place: socket.socket, caplog: pytest.LogCaptureFixture, flow: Flow
) -> None:
    """Then it has its time, whatever is seen of it, until the node answers over it."""
    (node,) = mesh.open()
    link = move(mesh, node, port_of(place))
    flows.of = {link: flow}
    now = time.monotonic()
    with caplog.at_level(logging.INFO, "skyward"):
        look(mesh, now - 2 * PATIENCE, now - PATIENCE + 0.01)
        for _ in range(ANSWERS if flow is Flow.STALLS else 1):
            assert flows.dialled == []
            say_something(place)
        while not flows.dialled:
            mesh.do(lambda: None)
    assert flows.dialled == [link]
    assert [record.getMessage() for record in caplog.records] == [
        f"node 0 is dialled again: its port answers, and a connection to it {flow.value}"
    ]
    place.setblocking(False)
    while look(mesh):  # what else was asked is answered, and dials nothing
        with contextlib.suppress(BlockingIOError):
            say_something(place)
    now = time.monotonic() + STEP
    for number, seen in enumerate((flow, Flow.FLOWS, Flow.STALLS)):
        flows.of = {link: seen}
        assert look(mesh, now + number * STEP) == []
    link.broken = True
    mesh.do(lambda: mesh.engine.reach.on_news(link, Connection.UP))
    node.welcome(resumed=True)
    while link.greeted:
        mesh.do(lambda: None)
    assert len(look(mesh, now + 3 * STEP)) == 1
    assert flows.dialled == [link]


@pytest.mark.rule("F27")
def test_second_link_is_replaced_when_the_port_answers(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """The other one has its time, too: it is the same connection, made again."""
    (node,) = mesh.open()
    control = control_of(mesh, node)
    move(mesh, node, port_of(place))
    mate = mesh.engine.crew.mates[0]
    flows.of = {control: Flow.STALLS}
    look(mesh, time.monotonic())
    for _ in range(ANSWERS):
        say_something(place)
    while mate.control in {control, None}:
        mesh.do(lambda: None)
    assert (mate, "control") in mesh.engine.reach._stalls._stalls
    renewed = mate.control
    assert renewed is not None
    mesh.do(lambda: mesh.engine.reach.answers(mate, renewed))
    assert (mate, "control") not in mesh.engine.reach._stalls._stalls
    assert flows.dialled == []


def test_connection_that_gets_on_meanwhile_is_left_alone(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """The answers to what was asked come when nobody needs them."""
    (node,) = mesh.open()
    link = move(mesh, node, port_of(place))
    flows.of = {link: Flow.STALLS}
    now = time.monotonic()
    look(mesh, now, now + STEP)
    flows.of = {link: Flow.FLOWS}
    for _ in range(ANSWERS):
        say_something(place)
    while look(mesh):
        pass
    assert flows.dialled == []


def test_nothing_is_known_of_a_node_that_is_lost(mesh: Mesh, flows: Flows, place: socket.socket) -> None:
    """Neither its questions nor how its connections got on."""
    node, _ = mesh.open(2)
    flows.of = {move(mesh, node, port_of(place)): Flow.STALLS}
    assert len(look(mesh, time.monotonic())) == 1
    assert mesh.engine.reach._stalls._stalls
    node.send(Bye(node.epoch, 0, "so be it"))
    assert node.ended.wait(LONG)
    assert look(mesh) == []
    assert not mesh.engine.reach._stalls._stalls


# --- deaf nodes ----------------------------------------------------------------------------


@pytest.mark.rule("R36")
@pytest.mark.rule("F20")
@pytest.mark.parametrize("flow", [Flow.STALLS, Flow.FLOWS])
def test_node_that_does_not_hear_us_is_lost(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, flow: Flow) -> None:
    """It pulses, and names no new beat, and what it is sent is unconfirmed; if it is confirmed nothing is wrong."""
    (node,) = mesh.open(heartbeat=HEARTBEAT)
    control_of(mesh, node)
    monkeypatch.setattr(Link, "flow", lambda _: flow)
    began = time.monotonic()
    while not node.ended.is_set() and time.monotonic() < began + 5 * HEARTBEAT:
        node.say_over_control(Pulse(node.epoch, 0, 0, 0.0))
        mesh.do(lambda: None)
    if flow is Flow.STALLS:
        assert node.ended.wait(LONG)
        assert mesh.causes() == ["node 0: it has heard nothing of us for 0.6 s"]
    else:
        assert mesh.causes() == []


@pytest.mark.rule("R36")
@pytest.mark.parametrize("how", ["dies", "leaves", "is silent", "is deaf"])
def test_lost_node_leaves_no_clock(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """With or without a second link: else the engine would look for ever at what cannot be lost any more."""
    nodes = mesh.open(2, mortal=True)
    crew = mesh.engine.crew

    def begin() -> None:
        crew._beats_at = time.monotonic() + 100 * QUIET
        for mate in crew.mates.values():
            crew.forget_control(mate)
        crew.tick(time.monotonic())
        for mate in crew.mates.values():
            crew.hears(mate)

    mesh.do(begin)
    watched: list[list[int]] = []

    def clocks() -> None:
        watched.append([*sorted(crew._liveness), -1, *sorted(crew._hearing._clocks)])

    mesh.do(clocks)
    assert watched.pop() == [0, 1, -1]  # no second link, nothing to hear over it
    monkeypatch.setattr(Link, "flow", lambda _: Flow.STALLS)

    def strike() -> None:
        control = mesh.engine.hub.connect(nodes[0].endpoint, 0)
        control.ready = True
        crew.mates[0].control = control
        now = time.monotonic()
        crew.tick(now)
        crew.hears(crew.mates[0])
        clocks()
        for number in range(1, 5):
            crew._liveness.heard(1)
            if how == "is deaf":
                crew._liveness.heard(0)
            if how in {"is deaf", "is silent"}:
                crew.tick(now + number * QUIET)

    mesh.do(strike)
    assert watched.pop() == [0, 1, -1, 0]
    if how == "dies":
        nodes[0].die()
    elif how == "leaves":
        nodes[0].send(Bye(nodes[0].epoch, 0, "so be it"))
    assert nodes[0].ended.wait(LONG)
    mesh.do(clocks)
    assert list(crew.mates) == [1]
    assert watched.pop() == [1, -1]
    later = time.monotonic() + (4 * QUIET if how in {"is deaf", "is silent"} else 0.0)
    due: list[float] = []
    mesh.do(lambda: due.append(crew.next_tick(later)))
    assert due[0] > later + LONG
