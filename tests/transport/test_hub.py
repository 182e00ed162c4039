"""All links of a pool under one poller, with real CURVE sockets at the other end."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import zmq

from skyward.dispatch.stalls import Flow
from skyward.transport.hub import Hub, News
from skyward.transport.keys import make_pair
from skyward.transport.links import Connection, Link, _is_unconfirmed
from tests.transport.curve import LONG, Port

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE = make_pair()


class Ends:
    """A hub, and what it has reported."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.hub = Hub(ALICE)
        self.news: list[tuple[int, Connection]] = []
        self.messages: list[list[bytes]] = []
        self.fds: list[int] = []
        self.ports: list[Port] = []

    def port(self, *admitted: str) -> Port:
        """Return a node's port."""
        self.ports.append(Port(self.context, *admitted))
        return self.ports[-1]

    def look(self) -> bool:
        """Poll once; return False, so that a condition may begin with it."""
        for source in self.hub.poll(0.001):
            if isinstance(source, News):
                self.news.append((source.link.rank, source.what))
            elif isinstance(source, Link):
                self.messages += [[bytes(frame) for frame in frames] for frames in source.receive()]
            else:
                self.fds.append(source)
        return False

    def heard(self, *expected: Connection, rank: int = 0) -> bool:
        """Poll once, and return whether this is what has become of a node's connection."""
        self.look()
        return [what for of, what in self.news if of == rank][-len(expected) :] == list(expected)

    def close(self) -> None:
        """Close all."""
        self.hub.close()
        for port in self.ports:
            port.close()
        self.context.term()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return a hub and what it is tested with."""
    ends = Ends()
    yield ends
    ends.close()


def test_unused_hub_has_no_thread_and_no_socket() -> None:
    """A pool that fails to launch anything costs nothing."""
    hub = Hub()
    assert hub.poll(0.0) == []
    hub.close()


@pytest.mark.rule("R42")
def test_link_that_is_up_is_told_and_carries_messages(ends: Ends) -> None:
    """When both sides have proved who they are."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    link.send([b"hello"])
    port.until(lambda: ends.heard(Connection.UP))
    port.until(lambda: ends.look() or port.router.poll(0))
    peer, hello = port.receive()
    assert hello == b"hello"
    port.router.send_multipart([peer, b"welcome"])
    port.until(lambda: ends.look() or ends.messages)
    assert ends.messages == [[b"welcome"]]
    assert ends.news == [(0, Connection.UP)]


@pytest.mark.rule("T17")
@pytest.mark.rule("F27")
def test_link_that_is_dialled_again_has_another_connection(ends: Ends) -> None:
    """At once, as if the old one had broken, and the node hears of it what it did of the old one."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    assert link.flow() is Flow.DOWN
    port.until(lambda: ends.heard(Connection.UP))
    assert link.flow() is Flow.FLOWS
    link.send([b"first"])
    first, _ = port.receive()
    link.redial()
    assert link.flow() is Flow.DOWN
    port.until(lambda: ends.look() or ends.news.count((0, Connection.UP)) == 2)
    assert link.flow() is Flow.FLOWS
    assert link.broken
    link.send([b"second"])
    second, words = port.receive()
    assert (second != first, words) == (True, b"second")


class Late:
    """A monitor with one thing to tell."""

    def __init__(self) -> None:
        self.left = 1

    def poll(self, _: int) -> bool:
        """Return whether it has."""
        self.left -= 1
        return self.left >= 0


@pytest.mark.rule("F27")
def test_end_of_a_connection_that_was_given_up_is_no_news(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be reported when there is another one already; that of the other is told."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    port.until(lambda: ends.heard(Connection.UP))
    ours, found = link._fd, []
    for fd in (ours + 1, ours):
        with monkeypatch.context() as patch:
            patch.setattr(link, "monitor", Late())
            told = int(zmq.EVENT_DISCONNECTED), fd
            patch.setattr("skyward.transport.links.read_event", lambda _: told)  # noqa: B023 - called here
            found.append((link.news(), link.flow()))
    assert found == [([], Flow.FLOWS), ([Connection.DOWN], Flow.DOWN)]


@pytest.mark.rule("F27")
def test_break_names_the_connection_that_broke(ends: Ends) -> None:
    """ZeroMQ says so: else no break would be told."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    port.until(lambda: ends.heard(Connection.UP))
    with socket.socket(fileno=os.dup(link._fd)) as end:
        end.shutdown(socket.SHUT_RDWR)
    port.until(lambda: ends.heard(Connection.UP, Connection.DOWN))


@pytest.mark.rule("F27")
def test_descriptor_of_zeromq_is_only_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is asked, so that nothing of ours closes it; what is no connection any more tells nothing."""
    asked: list[int] = []

    class Noted(socket.socket):
        def __init__(self, family: int, kind: int, protocol: int, fd: int) -> None:
            asked.append(fd)
            super().__init__(family, kind, protocol, fd)

    monkeypatch.setattr("skyward.transport.links.socket", Noted)
    ours, theirs = os.pipe()
    connection = os.eventfd(0)
    before = len(os.listdir("/proc/self/fd"))
    assert not _is_unconfirmed(connection)
    assert not _is_unconfirmed(ours)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not {connection, ours} & set(asked)
    for fd in (ours, theirs, connection):
        os.close(fd)
    assert not _is_unconfirmed(connection)


@pytest.mark.rule("R42")
@pytest.mark.rule("F33")
def test_key_that_is_not_admitted_is_told_as_refused(ends: Ends) -> None:
    """The node's handler has said no; nothing of what we had to say has left."""
    port = ends.port()
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    link.send([b"secret"])
    port.until(lambda: ends.heard(Connection.REFUSED))
    port.until(lambda: not ends.hub.poll(0.1))
    assert ends.news == [(0, Connection.REFUSED)]
    assert not port.router.poll(0)


@pytest.mark.rule("R42")
@pytest.mark.rule("F34")
def test_node_with_another_key_is_told_as_failed_again_and_again(ends: Ends) -> None:
    """Whoever answers there does not own the key that we were given; he hears nothing."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, make_pair().public)
    link.send([b"secret"])
    port.until(lambda: ends.look() or ends.news.count((0, Connection.FAILED)) >= 2)
    assert {what for _, what in ends.news} == {Connection.FAILED}
    assert not port.router.poll(0)


@pytest.mark.rule("R42")
@pytest.mark.parametrize(
    "says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)]
)
def test_whatever_else_listens_there_is_told_as_strange(ends: Ends, says: bytes) -> None:
    """A web server, or a ZeroMQ socket without CURVE: there is no second try."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = ends.hub.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", 0, make_pair().public)
        link.send([b"secret"])
        other, _ = server.accept()
        with other:
            heard = other.recv(10_000)
            other.sendall(says)
            ends.port().until(lambda: ends.heard(Connection.STRANGE))
            with suppress(ConnectionResetError):  # it may have hung up before it had read everything
                heard += other.recv(10_000)
    assert b"secret" not in heard
    assert ends.news == [(0, Connection.STRANGE)]


@pytest.mark.rule("R42")
def test_port_that_hangs_up_is_told_as_failed(ends: Ends) -> None:
    """Once for each try: it may be a node that has no descriptor left, and has one in a moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends.hub.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", 0, make_pair().public)
        for _ in range(2):
            server.accept()[0].close()
        ends.port().until(lambda: ends.heard(Connection.FAILED, Connection.FAILED))
    assert ends.news == [(0, Connection.FAILED)] * 2


@pytest.mark.rule("R36")
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "its loop hangs"])
def test_node_that_answers_no_handshake_is_told_as_that(ends: Ends, stopped: bool) -> None:
    """Its system takes connections, in the second case ZeroMQ's thread begins handshakes: neither is a wrong key."""
    port = ends.port(ALICE.public)  # whose handler answers when the test does
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}" if stopped else port.endpoint
        ends.hub.connect(endpoint, 0, port.keys.public)
        deadline = time.monotonic() + LONG
        while not ends.news and time.monotonic() < deadline:
            ends.look()
    assert ends.news == [(0, Connection.UNANSWERED)]


@pytest.mark.rule("R36")
def test_break_and_return_are_told(ends: Ends) -> None:
    """In this order."""
    port = ends.port(ALICE.public)
    ends.hub.connect(port.endpoint, 0, port.keys.public)
    port.until(lambda: ends.heard(Connection.UP))
    port.router.close(0)
    port.until(lambda: ends.heard(Connection.DOWN))
    port.listen()
    port.until(lambda: ends.heard(Connection.UP))
    assert [what for _, what in ends.news if what is not Connection.FAILED] == [
        Connection.UP,
        Connection.DOWN,
        Connection.UP,
    ]


def test_link_over_a_socket_file_has_no_news(ends: Ends, short_path: os.PathLike[str]) -> None:
    """Of the processes of this machine there are quicker witnesses."""
    link = ends.hub.connect(f"ipc://{short_path}/s", 0)
    assert link.monitor is None
    assert link.news() == []


def test_watched_descriptors_are_reported(ends: Ends) -> None:
    """Until they are watched no more."""
    read, write = os.pipe()
    try:
        ends.hub.watch(read)
        assert ends.hub.poll(0.0) == []
        os.write(write, b"x")
        assert ends.hub.poll(1.0) == [read]
        ends.hub.unwatch(read)
        ends.hub.unwatch(read)
        assert ends.hub.poll(0.0) == []
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.rule("R42")
def test_disconnected_link_is_silent(ends: Ends) -> None:
    """Nothing more is read from it, and no news comes of it; doing it again does nothing."""
    port = ends.port(ALICE.public)
    link = ends.hub.connect(port.endpoint, 0, port.keys.public)
    port.until(lambda: ends.heard(Connection.UP))
    ends.hub.disconnect(link)
    ends.hub.disconnect(link)
    port.router.close(0)
    assert ends.hub.poll(0.1) == []
