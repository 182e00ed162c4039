"""The node's end of lanes: what takes one, what does not, and who may have one."""

from __future__ import annotations

import os
import resource
import select
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from skyward.transport import lanes
from skyward.transport.polling import Poller
from skyward.transport.sockets import make_dealer, make_router, send_frames
from skyward.wire.codec import encode
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import Beat, Cancel, Output, Progress, Pulse
from skyward.wire.statuses import OK
from skyward_node import lanes as node_lanes
from skyward_node.core.actions import Incoming, Nonsense
from skyward_node.lanes import Lanes
from skyward_node.router import Router
from skyward_node.server import Server

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterator
    from pathlib import Path

PEER, OTHER = b"\0abcd", b"\0wxyz"
KEY = bytes(16)
WAIT = 10.0  # seconds for what takes a millisecond


def call(id: int = 1, ack: int = 0) -> Call:
    """Return a task whose client has so many results."""
    return Call(7, ack, KEY, id, b"args")


def reply(id: int = 1, seq: int = 1) -> Reply:
    """Return an outcome."""
    return Reply(7, seq, id, OK, 5, b"value")


class Rig:
    """The lanes of a node, whose tokens are connections in capitals."""

    def __init__(self, place: str) -> None:
        self.endpoint = f"ipc://{place}"
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = make_router(self.context, max_frame=1_000_000)
        path = lanes.path_beside(place)
        listener = lanes.listen(path)
        assert listener is not None
        self.known = {PEER.upper(): PEER, OTHER.upper(): OTHER}
        owner_of = lambda token: self.known.get(token, b"")  # noqa: E731 - what the core says
        self.router = Router(self.socket, 2**30)
        self.lanes = Lanes(listener, path, self.router.decode, owner_of)
        self.clients: list[socket] = []

    def dial(self, token: bytes) -> tuple[socket, int]:
        """Return a lane that has been taken in, and its descriptor at the node."""
        client = lanes.dial(self.endpoint, token)
        assert client is not None
        client.settimeout(WAIT)
        self.clients.append(client)
        return client, self.lanes.take_in()

    def open(self, peer: bytes = PEER) -> tuple[socket, int]:
        """Return a lane that is ready, and its descriptor at the node."""
        client, fd = self.dial(peer.upper())
        assert self.lanes.receive(fd) is None
        assert client.recv(99) == peer.upper()
        return client, fd

    def close(self) -> None:
        """Close all."""
        self.lanes.close()
        for client in self.clients:
            client.close()
        self.socket.close(0)
        self.context.term()


@pytest.fixture
def rig(short_path: Path) -> Iterator[Rig]:
    """Return the lanes of a node."""
    rig = Rig(f"{short_path}/n0.sock")
    yield rig
    rig.close()


@pytest.fixture
def server(rig: Rig) -> Iterator[Server]:
    """Return a server whose core and workers do nothing."""
    nothing: Any = SimpleNamespace
    signals = os.eventfd(0)
    server = Server(
        nothing(lifeline_fd=-1),
        nothing(node=nothing(identity=nothing(accelerators=[])), shortcut=None),
        rig.router,
        nothing(poller=Poller(), outcome=lambda *_: None, events=list),
        signals=signals,
        logger=nothing(),
        lanes=rig.lanes,
    )
    yield server
    server._poller.close()
    os.close(signals)


def ended(client: socket) -> bool:
    """Return whether a lane has ended, once something has become of it."""
    assert select.select([client], [], [], WAIT)[0]
    return lanes.receive(client) == b""


def said(client: socket) -> bool:
    """Return whether the node has said something by a lane."""
    client.setblocking(False)
    return bool(lanes.receive(client))


def test_task_becomes_an_event_of_its_connection(rig: Rig) -> None:
    """As if it had come by the road."""
    client, fd = rig.open()
    assert rig.lanes.receive(fd) is None
    client.send(encode(call()))
    assert rig.lanes.receive(fd) == Incoming(PEER, call(), [])


def test_outcome_of_its_task_takes_the_lane(rig: Rig) -> None:
    """If it is the next that the client knows of; once for each task that has come."""
    client, fd = rig.open()
    for done in range(3):
        client.send(encode(call(done + 1, ack=done)))
        rig.lanes.receive(fd)
        assert rig.lanes.answer(PEER, reply(done + 1, seq=done + 1))
        assert client.recv(999) == encode(reply(done + 1, seq=done + 1))
        assert not rig.lanes.answer(PEER, reply(done + 2, seq=done + 2))
    assert not said(client)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([Output(7, 1, 1, 1, 0)], id="output"),
        pytest.param([Pulse(7, 0, 0, 0.0, 0)], id="pulse"),
        pytest.param([Progress(7, [], [1])], id="progress"),
        pytest.param([reply(9, seq=0)], id="other outcome"),
    ],
)
@pytest.mark.rule("R28")
def test_outcome_does_not_overtake_what_was_said(rig: Rig, before: list[Any]) -> None:
    """What was said by the road since the task came may be under way: output is there before the result."""
    client, fd = rig.open()
    client.send(encode(call()))
    rig.lanes.receive(fd)
    for message in before:
        assert not rig.lanes.answer(PEER, message)
    assert not rig.lanes.answer(PEER, reply())
    assert not said(client)


@pytest.mark.rule("R37")
def test_outcome_does_not_overtake_another(rig: Rig) -> None:
    """One before it whose arrival the task does not confirm is under way by the road."""
    client, fd = rig.open()
    client.send(encode(call(ack=3)))
    rig.lanes.receive(fd)
    assert not rig.lanes.answer(PEER, reply(seq=5))
    assert not rig.lanes.answer(PEER, reply(seq=4))
    assert not said(client)


def test_outcome_of_a_task_that_came_by_the_road_goes_by_it(rig: Rig) -> None:
    """Without a task nobody says what the client knows."""
    client, _ = rig.open()
    assert not rig.lanes.answer(PEER, reply())
    assert not rig.lanes.answer(OTHER, reply())
    assert not said(client)


def test_outcome_for_a_client_that_is_gone_goes_by_the_road(rig: Rig) -> None:
    """It waits in the outbox until the client is back."""
    client, fd = rig.open()
    client.send(encode(call()))
    rig.lanes.receive(fd)
    client.close()
    assert not rig.lanes.answer(PEER, reply())


@pytest.mark.rule("R39")
def test_lane_comes_before_the_road(rig: Rig) -> None:
    """What follows a task by the road, as its cancellation, may be read first, and is not acted upon first."""
    client, fd = rig.open()
    other, _ = rig.open(OTHER)
    client.send(encode(call()))
    other.send(encode(call(5)))
    assert rig.lanes.before([Incoming(PEER, Beat(7, 0, 1.0), ())] * 2) == [Incoming(PEER, call(), [])]
    assert rig.lanes.before([Incoming(PEER, Beat(7, 0, 1.0), ())]) == []
    assert rig.lanes.receive(fd) is None
    client.close()
    assert rig.lanes.before([Incoming(PEER, Beat(7, 0, 1.0), ()), Incoming(b"\0none", Beat(7, 0, 1.0), ())]) == []


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"?", id="no header"),
        pytest.param(b"\x01\x02?", id="no message"),
        pytest.param(encode(Beat(7, 0, 1.0)), id="beat"),
        pytest.param(encode(reply()), id="reply"),
    ],
)
def test_nonsense_is_told(rig: Rig, frame: bytes) -> None:
    """What is no message, or does not belong on a lane, ends the connection, as on the road."""
    client, fd = rig.open()
    client.send(frame)
    event = rig.lanes.receive(fd)
    assert isinstance(event, Nonsense)
    assert event.peer == PEER
    assert not rig.lanes.answer(PEER, reply())


@pytest.mark.rule("F37")
@pytest.mark.parametrize("token", [b"?", PEER, bytes(lanes.MOST)])
def test_lane_of_nobody_ends(rig: Rig, token: bytes) -> None:
    """Who does not know what the client was told cannot say anything in its name, nor hear what is meant for it."""
    _, own = rig.open()
    client, fd = rig.dial(token)
    with pytest.raises(EOFError):
        rig.lanes.receive(fd)
    rig.lanes.drop(fd)
    assert ended(client)
    assert rig.lanes.fileno_of(PEER) == own


def test_end_is_told_and_what_came_before_it_counts(rig: Rig) -> None:
    """A client may say something and go."""
    client, fd = rig.open()
    client.send(encode(call()))
    client.close()
    assert rig.lanes.receive(fd) == Incoming(PEER, call(), [])
    for _ in range(2):
        with pytest.raises(EOFError):
            rig.lanes.receive(fd)
    rig.lanes.drop(fd)
    assert rig.lanes.fileno_of(PEER) == -1


def test_newest_lane_of_a_client_counts(rig: Rig) -> None:
    """Where the old one ends later, the new one stays."""
    old, old_fd = rig.open()
    new, fd = rig.open()
    old.close()
    rig.lanes.drop(old_fd)
    assert rig.lanes.fileno_of(PEER) == fd
    new.send(encode(call()))
    assert rig.lanes.receive(fd) == Incoming(PEER, call(), [])
    assert rig.lanes.answer(PEER, reply())


def test_clients_beyond_the_bound_have_the_road(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lanes are closed at once, and there is room again when one goes."""
    monkeypatch.setattr(node_lanes, "MOST", 1)
    _, own = rig.open()
    client, fd = rig.dial(OTHER.upper())
    assert fd == -1
    assert ended(client)
    rig.lanes.drop(own)
    rig.open(OTHER)


@pytest.mark.rule("F61")
def test_lack_of_descriptors_keeps_nobody_waiting(rig: Rig) -> None:
    """A lane that cannot be taken in is closed: else it would be reported for ever."""
    dialled = [lanes.dial(rig.endpoint, PEER.upper()) for _ in range(2)]
    rig.clients += [client for client in dialled if client is not None]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert [rig.lanes.take_in() for _ in range(2)] == [-1, -1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in dialled:
        assert client is not None
        assert ended(client)
    assert rig.lanes.take_in() == -1
    rig.open()


def test_nothing_is_left(rig: Rig, short_path: Path) -> None:
    """Neither lanes nor the socket file; closing twice does no harm."""
    client, _ = rig.open()
    for _ in range(2):
        rig.lanes.close()
    assert ended(client)
    assert [path.suffix for path in short_path.iterdir()] == []
    assert lanes.dial(rig.endpoint, PEER.upper()) is None


@pytest.mark.rule("R7")
def test_server_acts_on_lanes_before_the_road(rig: Rig, server: Server) -> None:
    """A cancellation that is read while its task waits on the lane would find nothing to cancel."""
    rig.socket.bind(rig.endpoint)
    with make_dealer(rig.context) as dealer:
        dealer.connect(rig.endpoint)
        assert dealer.poll(int(1000 * WAIT), zmq.POLLOUT)
        send_frames(dealer, [encode(Beat(7, 0, 1.0))])
        assert rig.socket.poll(int(1000 * WAIT))
        (event,) = server._on_router()
        assert isinstance(event, Incoming)
        rig.known[b"NEW"] = event.peer
        client, fd = rig.dial(b"NEW")
        rig.lanes.receive(fd)
        client.send(encode(call()))
        send_frames(dealer, [encode(Cancel(7, [1], True))])
        assert rig.socket.poll(int(1000 * WAIT))
        assert [type(getattr(event, "message", None)) for event in server._on_router()] == [Call, Cancel]
