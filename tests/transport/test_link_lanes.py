"""A link and its lane: when the lane may be used, and that nothing overtakes anything."""

from __future__ import annotations

import _socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import zmq

from skyward.transport import lanes
from skyward.transport.hub import Hub, News
from skyward.transport.links import Connection, Link
from skyward.transport.sockets import make_router, receive_frames, send_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skyward.transport.sockets import Socket

WAIT = 10_000  # ms for what takes one
TOKEN = b"who we are"


class Ends:
    """A hub with one link, the node's ROUTER, and where it takes in lanes."""

    def __init__(self, path: str) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self.router = make_router(self.context, max_frame=1_000_000)
        self.router.bind(f"ipc://{path}")
        listener = lanes.listen(lanes.path_beside(path))
        assert listener is not None
        self.listener = listener
        self.hub = Hub()
        self.link = self.hub.connect(f"ipc://{path}", 3)
        assert self.link.socket.poll(WAIT, zmq.POLLOUT)
        self.peer = b""
        self.lane: _socket.socket | None = None

    def open(self) -> _socket.socket:
        """Open the lane, and return the node's end, which has sent the token back."""
        far = self.dial()
        assert lanes.send(far, TOKEN)
        self.poll(self.link)
        return far

    def dial(self) -> _socket.socket:
        """Open the lane, and return the node's end."""
        self.hub.open_lane(self.link, TOKEN)
        self.lane = lanes.accept(self.listener)
        assert lanes.receive(self.lane) == TOKEN
        return self.lane

    def poll(self, *expected: object) -> None:
        """Poll until there is something; it is this."""
        assert self.hub.poll(WAIT / 1000) == list(expected)

    def received(self) -> bytes:
        """Return the next message that has reached the node by the road."""
        assert self.router.poll(WAIT)
        self.peer, frame = (bytes(part) for part in receive_frames(self.router, copied=2))
        return frame

    def level(self, id: int = 1) -> None:
        """Have the road be level: a task was the last to be said, and its outcome has come."""
        self.link.send_task(b"task", id)
        assert self.received() == b"task"
        self.link.note_end(id)
        assert self.link.level

    def answer(self, *frames: bytes) -> None:
        """Have the node say something by the road, and return when it is there."""
        for frame in frames:
            send_frames(self.router, [self.peer, frame])
        assert self.link.socket.poll(WAIT)

    def bring(self, outcome: bytes) -> None:
        """Have a task go by the lane, and its outcome come there."""
        far = self.open()
        self.level()
        self.link.send_by_lane(b"task")
        assert lanes.send(far, outcome)
        self.poll(self.link)

    def close(self) -> None:
        """Close all."""
        self.hub.close()
        self.listener.close()
        if self.lane is not None:
            self.lane.close()
        self.router.close(0)
        self.context.term()


@pytest.fixture
def ends(short_path: Path) -> Iterator[Ends]:
    """Return a link to a node that takes in lanes."""
    ends = Ends(f"{short_path}/n0.sock")
    yield ends
    ends.close()


def test_task_takes_the_lane_when_the_road_is_level(ends: Ends) -> None:
    """The outcome of the last that was said by the road shows that all before it has arrived."""
    far = ends.open()
    assert not ends.link.send_by_lane(b"too early")
    ends.level()
    assert ends.link.send_by_lane(b"first")
    assert ends.link.send_by_lane(b"second")
    assert [lanes.receive(far) for _ in range(3)] == [b"first", b"second", None]


@pytest.mark.parametrize("what", ["message", "task", "hello"])
def test_task_does_not_overtake_what_was_said(ends: Ends, what: str) -> None:
    """Whatever has gone by the road may be under way still, until a task after it has its outcome."""
    ends.open()
    ends.level(1)
    if what == "message":
        ends.link.send([b"beat"])
    elif what == "task":
        ends.link.send_task(b"task", 2)
    else:
        ends.link.greet([b"hello"])
        ends.link.greeted = 0
    assert not ends.link.send_by_lane(b"by lane")
    ends.link.note_end(1)
    assert not ends.link.send_by_lane(b"by lane")
    ends.link.send_task(b"task", 3)
    ends.link.note_end(3)
    assert ends.link.send_by_lane(b"by lane")


def test_outcome_shows_nothing_of_what_came_after_its_task(ends: Ends) -> None:
    """A task whose cancellation was said after it may end before that has arrived."""
    ends.open()
    ends.link.send_task(b"task", 1)
    ends.link.send([b"cancel"])
    ends.link.note_end(1)
    assert not ends.link.send_by_lane(b"by lane")


def test_outcome_of_a_task_that_was_said_again_shows_nothing(ends: Ends) -> None:
    """It may be of the first time, and what was said again be under way."""
    ends.open()
    ends.link.send_task(b"task", 1)
    ends.link.note_repeats()
    ends.link.note_end(1)
    assert not ends.link.send_by_lane(b"by lane")


def test_task_of_a_link_that_has_to_greet_does_not_take_the_lane(ends: Ends) -> None:
    """The node does not know the connection: whatever is said is said again after the greeting."""
    ends.open()
    ends.level()
    ends.link.fresh = True
    assert not ends.link.send_by_lane(b"by lane")


@pytest.mark.rule("R37")
def test_lane_is_not_used_before_the_node_has_said_so(ends: Ends) -> None:
    """Until it knows whose lane it is, it cannot tell what is to come first."""
    far = ends.dial()
    ends.link.send_task(b"task", 1)
    ends.link.note_end(1)
    assert not ends.link.send_by_lane(b"by lane")
    assert lanes.send(far, TOKEN)
    ends.poll(ends.link)
    assert ends.link.receive() == []
    ends.level(2)
    assert ends.link.send_by_lane(b"by lane")


def test_lane_of_somebody_else_is_given_up(ends: Ends) -> None:
    """A node that sends another token back is not the one that has said Welcome."""
    far = ends.dial()
    assert lanes.send(far, b"who else")
    ends.poll(News(ends.link, Connection.CUT))
    assert ends.link.lane is None
    assert lanes.receive(far) == b""


def test_lane_that_ends_is_told(ends: Ends) -> None:
    """Also whether a task was sent by it that nothing has come of."""
    far = ends.open()
    ends.level()
    assert ends.link.send_by_lane(b"task")
    far.close()
    ends.poll(News(ends.link, Connection.CUT))
    assert ends.link.lane is None
    assert ends.link.asked
    assert not ends.link.send_by_lane(b"by lane")


def test_message_of_the_lane_is_received_first(ends: Ends) -> None:
    """It comes as one of the road does."""
    ends.bring(b"outcome")
    assert not ends.link.asked
    assert ends.link.receive() == [[b"outcome"]]
    assert ends.link.receive() == []


@pytest.mark.rule("R37")
def test_road_does_not_overtake_the_lane(ends: Ends) -> None:
    """What has come by the lane before somebody looks was said before what the road has brought."""
    far = ends.open()
    ends.level()
    assert ends.link.send_by_lane(b"task")
    assert lanes.send(far, b"outcome 1")
    ends.answer(b"outcome 2")
    messages = ends.link.receive()  # as it is called when something else has come by the road a moment ago
    assert [bytes(frames[0]) for frames in messages] == [b"outcome 1", b"outcome 2"]


def test_greeting_drops_what_the_lane_has_brought(ends: Ends) -> None:
    """The node says it again, for the hello does not acknowledge it."""
    ends.bring(b"outcome")
    ends.link.greet([b"hello"])
    assert ends.link.receive() == []


def test_lane_that_is_opened_again_is_another_one(ends: Ends) -> None:
    """The old one is closed, and the new one not used before the node has answered."""
    old = ends.open()
    ends.level()
    with closing(old):
        new = ends.open()
        assert lanes.receive(old) == b""
    assert not ends.link.send_by_lane(b"too early")
    ends.level(2)
    assert ends.link.send_by_lane(b"task")
    assert lanes.receive(new) == b"task"


def test_link_takes_its_lane_with_it(ends: Ends) -> None:
    """Who closes the link closes the lane."""
    far = ends.open()
    ends.hub.disconnect(ends.link)
    assert lanes.receive(far) == b""


def test_hub_still_watches_other_descriptors(ends: Ends) -> None:
    """A lane is known by its descriptor, and so is what the pool watches."""
    far = ends.open()
    near, other = _socket.socketpair()
    with closing(near):
        other.close()
        ends.hub.watch(near.fileno())
        ends.poll(near.fileno())
        ends.hub.unwatch(near.fileno())
    assert lanes.send(far, b"more")
    (source,) = ends.hub.poll(WAIT / 1000)
    assert isinstance(source, Link)
