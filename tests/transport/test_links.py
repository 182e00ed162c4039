"""One connection to one node: nothing is lost, reordered, or read without end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from skyward.transport.links import READS, Link
from skyward.transport.polling import Poller
from skyward.transport.sockets import READABLE, make_router, receive_frames, send_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.transport.sockets import Socket
    from skyward.wire.frames import Buffer

WAIT = 10_000  # ms for what takes one


class Watched(Poller):
    """A poller that counts how often a link began to wait until it may write."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked = 0

    def register(self, source: Socket | int, events: int = READABLE) -> None:
        """Count."""
        self.blocked += events != READABLE
        super().register(source, events)


class Line:
    """A node's socket and a client's link to it."""

    def __init__(self, context: zmq.Context[Socket], endpoint: str) -> None:
        self.context = context
        self.endpoint = endpoint
        self.poller = Watched()
        self.link = Link(context, endpoint, 3, self.poller)
        self.router: Socket | None = None

    def serve(self) -> Socket:
        """Have the node come up."""
        self.router = make_router(self.context, max_frame=1_000_000)
        self.router.bind(self.endpoint)
        return self.router

    def connect(self) -> Socket:
        """Have the node come up, and return when the link may send."""
        router = self.serve()
        assert self.link.socket.poll(WAIT, zmq.POLLOUT)
        return router


@pytest.fixture
def line() -> Iterator[Line]:
    """Return a link whose node is not up yet."""
    with tempfile.TemporaryDirectory(prefix="sky") as directory:
        context: zmq.Context[Socket] = zmq.Context()
        line = Line(context, f"ipc://{Path(directory) / 's'}")
        yield line
        line.link.close()
        line.poller.close()
        if line.router is not None:
            line.router.close(0)
        context.term()


def received(router: Socket) -> list[bytes]:
    """Return the next message that reached the node."""
    assert router.poll(WAIT)
    return [bytes(frame) for frame in receive_frames(router, copied=2)[1:]]


def test_message_reaches_the_node(line: Line) -> None:
    """Frames arrive as they were sent, small and large."""
    router = line.connect()
    line.link.send([b"header", b"", bytes(100_000)])
    assert received(router) == [b"header", b"", bytes(100_000)]
    assert not line.poller.blocked


def test_messages_wait_for_the_connection_in_order(line: Line) -> None:
    """Until the node is there they wait in the link, which says so once, and go when it is flushed."""
    for number in range(3):
        line.link.send([b"%d" % number])
    assert line.poller.blocked == 1
    assert not line.link.flush()
    router = line.connect()
    line.link.send([b"3"])  # not before those that wait
    assert line.link.flush()
    assert [received(router) for _ in range(4)] == [[b"0"], [b"1"], [b"2"], [b"3"]]


def test_link_says_again_when_messages_wait_again(line: Line) -> None:
    """After a flush that left nothing, the next full socket is reported anew; nothing is lost."""
    router = line.connect()
    sent = 0
    while not line.poller.blocked:
        line.link.send([b"%d" % sent, bytes(10_000)])
        sent += 1
    assert [received(router)[0] for _ in range(sent - 1)] == [b"%d" % number for number in range(sent - 1)]
    assert line.link.socket.poll(WAIT, zmq.POLLOUT)
    assert line.link.flush()
    assert received(router)[0] == b"%d" % (sent - 1)
    while line.poller.blocked < 2:
        line.link.send([b"more", bytes(10_000)])


def test_link_reads_what_has_come(line: Line) -> None:
    """All messages that are there come at once; header and blob as bytes, the rest writable."""
    router = line.connect()
    line.link.send([b"hello"])
    assert router.poll(WAIT)
    peer = receive_frames(router, copied=2)[0]
    send_frames(router, [peer, b"first", b"blob", b"buffer"])
    send_frames(router, [peer, b"second"])
    messages: list[list[Buffer]] = []
    while len(messages) < 2:
        assert line.link.socket.poll(WAIT)
        messages += line.link.receive()
    (header, blob, buffer), second = messages
    assert (header, blob, second) == (b"first", b"blob", [b"second"])
    assert isinstance(buffer, bytearray)
    assert line.link.receive() == []


def test_one_link_does_not_take_all_the_time(line: Line) -> None:
    """Of a flood one read takes a bounded part, so that other links have their turn."""
    router = line.connect()
    line.link.send([b"hello"])
    assert router.poll(WAIT)
    peer = receive_frames(router, copied=2)[0]
    counts: list[int] = []
    for _ in range(100):  # until so many were there at one moment
        for _ in range(2 * READS):
            send_frames(router, [peer, b"x"])
        left = 2 * READS
        while left:
            assert line.link.socket.poll(WAIT)
            counts.append(len(line.link.receive()))
            left -= counts[-1]
        if max(counts) >= READS:
            break
    assert max(counts) == READS


def test_new_link_knows_nothing_of_its_node(line: Line) -> None:
    """No code has been sent, no result seen, and the repr says so."""
    link = line.link
    assert (link.ready, link.greeted, link.seen, link.heard, link.unacked) == (False, 0, 0, 0, 0)
    assert (link.functions, link.modules, list(link.unconfirmed)) == (set(), set(), [])
    assert repr(link) == "<Link to node 3, connecting, epoch 0>"
    link.ready, link.epoch = True, 0xABC
    assert repr(link) == "<Link to node 3, ready, epoch abc>"


def test_closed_link_drops_what_waited(line: Line) -> None:
    """A node that is given up gets nothing more, and closing twice is harmless."""
    line.link.send([b"too late"])
    line.link.close()
    assert line.link.flush()
    assert line.link.socket.closed
    line.link.close()


# --- greeting ------------------------------------------------------------------------------


def test_nothing_but_hellos_is_sent_until_one_is_answered(line: Line) -> None:
    """What is said meanwhile is dropped: it would be lost, or come twice, and is said again after the answer."""
    router = line.connect()
    line.link.greet([b"hello"])
    line.link.send([b"dropped"])
    line.link.greet([b"hello again"])
    assert line.link.greeted == 2
    line.link.greeted = 0
    line.link.send([b"heard"])
    assert [received(router) for _ in range(3)] == [[b"hello"], [b"hello again"], [b"heard"]]


def test_hello_goes_before_what_waits(line: Line) -> None:
    """What waited for the old connection is not sent over the new one."""
    line.link.send([b"old"])
    line.link.greet([b"hello"])
    router = line.connect()
    assert line.link.flush()
    line.link.greeted = 0
    line.link.send([b"heard"])
    assert [received(router) for _ in range(2)] == [[b"hello"], [b"heard"]]


@pytest.mark.rule("R40")
def test_last_word_goes_behind_a_greeting(line: Line) -> None:
    """The node reads both in this order, and nobody says a last word again."""
    router = line.connect()
    line.link.greet([b"hello"])
    line.link.send_last([b"bye"])
    assert [received(router) for _ in range(2)] == [[b"hello"], [b"bye"]]


def test_new_connection_is_told_nothing_before_it_is_greeted(line: Line) -> None:
    """It knows nothing of us."""
    router = line.connect()
    line.link.fresh = True
    line.link.send([b"dropped"])
    line.link.greet([b"hello"])
    assert not line.link.fresh
    assert received(router) == [b"hello"]
    assert not router.poll(50)
