"""Waiting for sockets and descriptors: nothing that has come is slept through."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from skyward.dispatch.alertness import Alertness
from skyward.transport.polling import Poller
from skyward.transport.sockets import READABLE, WRITABLE, make_dealer, make_router, receive_frames, send_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.transport.sockets import Socket

WAIT = 10.0  # seconds for what takes a moment


class Ends:
    """A dealer under a poller, and the router at its other end."""

    def __init__(self, context: zmq.Context[Socket], endpoint: str) -> None:
        self.router = make_router(context, max_frame=1_000_000)
        self.router.bind(endpoint)
        self.dealer = make_dealer(context)
        self.poller = Poller()
        self.poller.register(self.dealer)
        self.dealer.connect(endpoint)
        assert self.dealer.poll(int(WAIT * 1000), zmq.POLLOUT)
        send_frames(self.dealer, [b"hello"])
        assert self.router.poll(int(WAIT * 1000))
        self.peer = receive_frames(self.router, copied=2)[0]

    def say(self, *texts: bytes) -> None:
        """Send messages to the dealer."""
        for text in texts:
            send_frames(self.router, [self.peer, text])

    def arrived(self) -> bool:
        """Wait until the dealer can be read, without the poller; it looks at the socket's descriptor on the way."""
        return bool(self.dealer.poll(int(WAIT * 1000)))

    def close(self) -> None:
        """Close everything."""
        self.poller.unregister(self.dealer)
        self.poller.close()
        self.dealer.close(0)
        self.router.close(0)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return both ends of a connection."""
    with tempfile.TemporaryDirectory(prefix="sky") as directory:
        context: zmq.Context[Socket] = zmq.Context()
        ends = Ends(context, f"ipc://{Path(directory) / 's'}")
        yield ends
        ends.close()
        context.term()


def until_quiet(poller: Poller) -> None:
    """Have the poller forget what it has been told of: commands of the socket, no messages."""
    while poller.poll(0.0):
        pass


def test_message_ends_the_wait(ends: Ends) -> None:
    """A message that comes is told, and told until it is read."""
    ends.say(b"first")
    assert [source for source, _ in ends.poller.poll(WAIT)] == [ends.dealer]
    ends.poller.used(ends.dealer)
    assert ends.poller.poll(WAIT) == [(ends.dealer, READABLE)]


def test_message_that_a_send_has_taken_note_of_is_told(ends: Ends) -> None:
    """The descriptor was read on the way: only who asks the socket learns of the message."""
    ends.poller.used(ends.dealer)
    until_quiet(ends.poller)
    ends.say(b"first")
    assert ends.arrived()  # as a send would, this has emptied the descriptor
    ends.poller.used(ends.dealer)
    began = time.monotonic()
    assert ends.poller.poll(WAIT) == [(ends.dealer, READABLE)]
    assert time.monotonic() - began < WAIT


def test_socket_that_was_read_in_part_is_told_again(ends: Ends) -> None:
    """Of several messages none is forgotten, if whoever leaves some says so."""
    ends.say(b"first", b"second")
    seen: list[bytes] = []
    while len(seen) < 2:
        for source, _ in ends.poller.poll(WAIT):
            assert source is ends.dealer
            seen.append(bytes(receive_frames(ends.dealer, copied=2)[0]))
            ends.poller.used(ends.dealer)
    assert seen == [b"first", b"second"]


def test_socket_may_be_waited_for_until_it_can_be_written(ends: Ends) -> None:
    """Who waits to write is told, and no more once it only wants to read."""
    ends.poller.register(ends.dealer, READABLE | WRITABLE)
    assert ends.poller.poll(WAIT) == [(ends.dealer, WRITABLE)]
    ends.poller.register(ends.dealer)
    assert ends.poller.poll(0.0) == []


class Way(Alertness):
    """Takes one way, and notes what is told."""

    def __init__(self, *, awake: bool) -> None:
        super().__init__()
        self.awake = awake
        self.told: list[tuple[bool, bool]] = []

    def stay_awake(self) -> bool:
        """Return what the test says."""
        return self.awake

    def note(self, seconds: float, *, awake: bool, answered: bool = True) -> None:
        """Note it."""
        assert seconds >= 0.0
        self.told.append((awake, answered))


@pytest.mark.parametrize("awake", [True, False])
def test_answer_is_found_whichever_way_it_is_waited_for(ends: Ends, awake: bool) -> None:
    """Also one that comes long after a moment; an answer that is there already is no wait."""
    way = Way(awake=awake)
    until_quiet(ends.poller)
    assert ends.poller.poll(0.01, way) == []
    assert way.told == [(awake, False)]
    later = threading.Timer(0.05, ends.say, [b"answer"])
    later.start()
    assert [source for source, _ in ends.poller.poll(WAIT, way)] == [ends.dealer]
    assert way.told == [(awake, False), (awake, True)]
    later.join()
    ends.poller.used(ends.dealer)
    assert ends.poller.poll(WAIT, way) == [(ends.dealer, READABLE)]
    assert len(way.told) == 2


def test_descriptors_are_watched_beside_sockets(ends: Ends) -> None:
    """What a descriptor has to say comes along, and not after it was forgotten."""
    read, write = os.pipe()
    try:
        ends.poller.register(read)
        until_quiet(ends.poller)
        os.write(write, b"x")
        assert ends.poller.poll(WAIT) == [(read, READABLE)]
        ends.poller.unregister(read)
        assert ends.poller.poll(0.0) == []
    finally:
        os.close(read)
        os.close(write)
