"""Large frames that are sent again: the receiver keeps them, they are named only, and it learns when they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire import parcels
from skyward.wire.codec import check_body
from skyward.wire.frames import Ref
from skyward.wire.messages import MAX_BATCH, MAX_BUFFERS, Parcels, Part, Tasks
from skyward.wire.parcels import LARGEST, Cutter, Joiner
from tests.wire.test_parcels import decode, receive, reserve, tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

pytestmark = pytest.mark.rule("R20")

SIZE = LARGEST + 1
ROOM = 4 * SIZE


def make_frame(content: bytes = b"x", size: int = SIZE) -> memoryview:
    """Return a frame that is cut."""
    return memoryview(content * size)


class Ends:
    """Both ends of a connection."""

    def __init__(self, room: int = ROOM) -> None:
        self.cutter = Cutter()
        self.cutter.begin(room)
        self.joiner = Joiner(10 * ROOM, keep=room)
        self.pieces = 0  # that were sent
        self.said: list[Parcels] = []

    def send(self, *frames: Buffer, repeated: bool = False) -> None:
        """Send a message with these frames, which has to arrive as it is."""
        body = [b"args", *frames]
        cut = list(self.cutter.cut(7, tasks(body), body, repeated=repeated))
        messages = [decode(header) for header, *_ in cut]
        self.pieces += sum(isinstance(message, Part) for message in messages)
        self.said += [message for message in messages if isinstance(message, Parcels)]
        assert receive(self.joiner, cut) == [(tasks(body), list(map(bytes, body)))]

    def beat(self) -> None:
        """Say what was dropped."""
        if (message := self.cutter.drop(7)) is not None:
            self.joiner.expect(message)

    @property
    def kept(self) -> list[int]:
        """Return the numbers of the parcels that the receiver keeps."""
        return list(self.joiner._kept)


def test_frame_is_kept_when_it_comes_again() -> None:
    """It travels twice: that there would be a second time was not known at the first."""
    ends, frame = Ends(), make_frame()
    for _ in range(5):
        ends.send(frame)
    assert ends.pieces == 2 * 3
    assert ends.kept == [2]


def test_frame_that_is_about_to_come_again_travels_once() -> None:
    """Also where it stands in one message several times, and beside others."""
    ends, frame, other = Ends(), make_frame(), make_frame(b"y")
    ends.send(frame, frame, repeated=True)
    ends.send(b"small", frame, other, frame)
    assert ends.pieces == 2 * 3
    assert ends.kept == [1]


def test_what_nobody_has_is_dropped_with_the_next_message_or_beat() -> None:
    """And its room is there again, at both ends."""
    ends = Ends(room=SIZE)
    first, second = make_frame(), make_frame(b"y")
    ends.send(first, repeated=True)
    del first
    ends.send(second, repeated=True)
    assert ends.said[-2:] == [Parcels(7, [], [], [], [1]), Parcels(7, [1], [2], [2])]
    assert ends.kept == [2]
    del second
    ends.beat()
    assert ends.kept == []
    assert (ends.cutter._room, ends.joiner._room, ends.cutter._sent) == (SIZE, SIZE, {})
    assert ends.cutter.drop(7) is None


def test_other_frame_at_the_same_place_is_another() -> None:
    """Python gives what is made next the `id` of what has gone."""
    ends = Ends()
    for number in range(20):
        frame = make_frame(bytes([number]))
        ends.send(frame, repeated=True)
        del frame
    assert ends.pieces == 20 * 3


def test_bytes_are_not_kept() -> None:
    """Nobody tells when they are gone."""
    ends, frame = Ends(), bytes(SIZE)
    for _ in range(3):
        ends.send(frame, repeated=True)
    assert (ends.pieces, ends.kept) == (3 * 3, [])


def test_what_is_too_much_is_sent_each_time() -> None:
    """The receiver has said how much it keeps."""
    ends, frames = Ends(room=2 * SIZE), [make_frame(), make_frame(b"y"), make_frame(b"z")]
    for _ in range(3):
        ends.send(*frames, repeated=True)
    assert (len(ends.kept), ends.pieces) == (2, (2 + 3) * 3)


def test_receiver_that_keeps_nothing_is_asked_for_nothing() -> None:
    """As one that does not know of it."""
    ends, frame = Ends(room=0), make_frame()
    for _ in range(3):
        ends.send(frame, repeated=True)
    assert all((said.kept, said.dropped) == ([], []) for said in ends.said)
    assert ends.pieces == 3 * 3


def test_receiver_that_begins_anew_has_nothing() -> None:
    """What was dropped before is not told, and what was kept is sent."""
    ends, frame, other = Ends(), make_frame(), make_frame(b"y")
    ends.send(frame, other, repeated=True)
    ends.cutter.begin(ROOM)
    ends.joiner = Joiner(10 * ROOM, keep=ROOM)
    del other
    assert ends.cutter.drop(7) is None
    ends.send(frame, repeated=True)
    ends.send(frame)
    assert (ends.pieces, ends.kept) == (3 * 3, [3])


def test_more_than_a_message_may_name_is_told_in_several() -> None:
    """Frames may go faster than anybody speaks."""
    with mock.patch.object(parcels, "MAX_BATCH", 2):
        ends, frames = Ends(), [make_frame(bytes([number])) for number in range(4)]
        ends.send(*frames, repeated=True)
        assert ends.kept == [1, 2]
        ends.send(*frames, repeated=True)
        assert ends.kept == [1, 2, 5, 6]
        del frames
        ends.beat()
        assert len(ends.kept) == 2
        ends.beat()
        assert ends.kept == []
    assert MAX_BATCH > 2


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.lists(st.integers(0, 3), max_size=4), st.booleans()),
            st.tuples(st.just("gone"), st.integers(0, 3), st.binary(min_size=5, max_size=12)),
            st.tuples(st.sampled_from(["beat", "anew"])),
        ),
        max_size=30,
    ),
    st.integers(0, 40),
)
def test_messages_arrive_whatever_is_kept(deeds: Sequence[tuple[object, ...]], room: int) -> None:
    """Frames come and go, connections break: each message is as it was, and in the end nothing is kept."""
    with mock.patch.object(parcels, "SIZE", 4), mock.patch.object(parcels, "LARGEST", 8):
        ends, frames = Ends(room), [memoryview(bytes([number] * 10)) for number in range(4)]
        for deed in deeds:
            match deed:
                case ("send", list(which), bool(repeated)):
                    ends.send(*[frames[index] for index in which], repeated=repeated)
                case ("gone", int(index), bytes(content)):
                    frames[index] = memoryview(content)
                case ("beat",):
                    ends.beat()
                case _:
                    ends.cutter.begin(room)
                    ends.joiner = Joiner(10 * ROOM, keep=room)
            assert sum(frame.nbytes for frame, _ in ends.joiner._kept.values()) + ends.joiner._room == room
        frames.clear()
        ends.beat()
    assert (ends.kept, ends.cutter._room, ends.joiner.held) == ([], room, 0)


def test_kept_reference_is_shared_by_all_who_have_it() -> None:
    """Its memory is free when the last of them and the receiver have dropped it."""
    joiner, cutter, frame = Joiner(10 * ROOM, reserve, keep=ROOM), Cutter(), make_frame()
    cutter.begin(ROOM)
    bodies: list[list[Buffer]] = []
    for _ in range(2):
        *parts, expect, (_, *rest) = cutter.cut(7, tasks([b"a", frame]), [b"a", frame], repeated=True)
        receive(joiner, [*parts, expect])
        bodies.append(list(rest))
        joiner.join(tasks([b"a", frame]), bodies[-1])
    one, two = (body[1] for body in bodies)
    assert isinstance(one, Ref)
    assert isinstance(two, Ref)
    assert one.owner is two.owner


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Parcels(7, [], [], [], [1]), "is not kept"),
        (Parcels(7, [0], [2], [], [2]), "dropped, and others that are named"),
        (Parcels(7, [], [], [3], [2]), "dropped, and others that are named"),
        (Parcels(7, [], [], [], [2, 2]), "is not kept"),
        (Parcels(7, [0], [3]), "not there as a whole"),
        (Parcels(7, [0], [4], [4]), "too much to be kept"),
    ],
)
def test_nonsense_about_what_is_kept_is_refused(said: Parcels, reason: str) -> None:
    """What was never kept, or is not any more, and more than was agreed upon. Parcel 2 is kept, 4 is there."""
    joiner = Joiner(10 * ROOM, keep=SIZE)
    for number in (2, 3, 4):
        joiner.add(Part(7, number, SIZE, 0), bytes(SIZE))
    for number, kept in ((2, [2]), (3, [])):
        joiner.expect(Parcels(7, [0], [number], kept))
        joiner.join(tasks([b""]), [b""])
    with pytest.raises(ProtocolError, match=reason):
        joiner.expect(said)
        joiner.join(tasks([b""]), [b""])


@pytest.mark.rule("R43")
def test_claims_of_a_batch_cost_no_memory() -> None:
    """A header may say of many rows that each has many buffers, and the body have none of them."""
    rows = 2_000
    claims = Tasks(7, 0, [b"k" * 16], list(range(rows)), [0] * rows, [0] * rows, [MAX_BUFFERS] * rows)
    joiner = Joiner(10 * ROOM)
    joiner.expect(Parcels(7, [], []))
    joiner.join(claims, [b""])
    with pytest.raises(ProtocolError):
        check_body(claims, [b""])


@pytest.mark.rule("R43")
def test_who_keeps_nothing_is_not_made_to() -> None:
    """A client keeps nothing of a node's results."""
    joiner = Joiner(10 * ROOM)
    joiner.add(Part(7, 1, SIZE, 0), bytes(SIZE))
    joiner.expect(Parcels(7, [0], [1], [1]))
    with pytest.raises(ProtocolError, match="too much to be kept"):
        joiner.join(tasks([b""]), [b""])
