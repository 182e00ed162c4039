"""Large frames in pieces: cut and joined, and every claim checked before it costs anything."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire import parcels
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.frames import Ref
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.messages import Answer, Message, Parcels, Part, Tasks
from skyward.wire.parcels import LARGEST, SIZE, Cutter, Joiner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

LIMIT = 10 * LARGEST
decode = Decoder(CLIENT_MESSAGES).decode


def receive(joiner: Joiner, messages: Sequence[Sequence[Buffer]]) -> list[tuple[Message, list[bytes]]]:
    """Return the messages that come out at the other end."""
    out: list[tuple[Message, list[bytes]]] = []
    for header, *frames in messages:
        message = decode(header)
        assert message is not None
        body: list[Buffer] = list(frames)
        joiner.join(message, body)
        if isinstance(message, Part):
            check_body(message, body)
            joiner.add(message, body[0])
        elif isinstance(message, Parcels):
            check_body(message, body)
            joiner.expect(message)
        else:
            out.append((message, [bytes(frame) for frame in body]))
    return out


def tasks(body: Sequence[Buffer]) -> Tasks:
    """Return a header that fits a body of one task."""
    return Tasks(7, 0, [b"k" * 16], [1], [0], [len(body[0])], [len(body) - 1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), min_size=1, max_size=4))
def test_messages_come_out_as_they_went_in(bodies: list[list[bytes]]) -> None:
    """Whatever is large and what is not; nothing is kept once it has been joined."""
    with mock.patch.object(parcels, "SIZE", 4), mock.patch.object(parcels, "LARGEST", 8):
        cutter, joiner = Cutter(), Joiner(10_000)
        cut = [frames for body in bodies for frames in cutter.cut(7, tasks(body), body)]
        assert receive(joiner, cut) == [(tasks(body), body) for body in bodies]
        largest = max(len(frame) for _, *frames in cut for frame in frames) if cut else 0
        assert largest <= 8
    assert joiner.held == 0


def test_small_frames_travel_whole() -> None:
    """A message without a large frame is as it was."""
    body = [b"args", bytes(LARGEST)]
    assert list(Cutter().cut(7, tasks(body), body)) == [[encode(tasks(body)), *body]]


def test_pieces_are_not_copies() -> None:
    """Cutting costs no memory."""
    frame = bytearray(3 * SIZE)
    pieces = list(Cutter().cut(7, tasks([b"a", frame]), [b"a", frame]))[:-2]
    frame[SIZE] = 9
    assert [len(piece[1]) for piece in pieces] == [SIZE] * 3
    assert pieces[1][1][0] == 9


def test_joined_frame_is_writable() -> None:
    """So an array in it is, without another copy (R4)."""
    frame = bytes(3 * SIZE)
    joiner = Joiner(LIMIT)
    *pieces, expect, (_, *rest) = Cutter().cut(7, tasks([b"a", frame]), [b"a", frame])
    receive(joiner, [*pieces, expect])
    body: list[Any] = list(rest)
    joiner.join(tasks([b""]), body)
    body[1][0] = 5
    assert body[1][0] == 5


class Reserved:
    """Memory that others read, as the owner of a reference to it."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(2 * size))

    def open(self, ref: Ref) -> bytes:
        """Return a copy."""
        return bytes(self.view[: ref.length])


def reserve(size: int) -> Ref | None:
    """Return a reference, unless there is no room."""
    if size > 4 * LARGEST:
        return None
    ref = Ref.make(1, 2, 3, 4, 5, size)
    ref.owner = Reserved(size)
    return ref


@pytest.mark.rule("R20")
def test_buffers_of_tasks_stay_where_their_reader_finds_them() -> None:
    """References take the place of buffers alone: pickles, and frames of other messages, are the bytes themselves."""
    frame, larger = b"x" * (LARGEST + 1), b"y" * (4 * LARGEST + 1)
    body = [frame, frame, frame, larger]
    message = Tasks(7, 0, [b"k" * 16], [1, 2], [0, 0], [len(frame), 0], [0, 3])
    other = Answer(7, 1, [1, 2], [0, 0], [len(frame), 0], [0, 3], [0, 0])
    for sent, kinds in ((message, [bytes, bytes, Ref, memoryview]), (other, [bytes, bytes, bytes, memoryview])):
        joiner = Joiner(LIMIT, reserve)
        *parts, expect, (_, *rest) = Cutter().cut(7, sent, body)
        receive(joiner, [*parts, expect])
        joined: list[Buffer] = list(rest)
        joiner.join(sent, joined)
        assert [type(got) for got in joined] == kinds
        check_body(sent, joined)
        opened = [got.owner.open(got) if isinstance(got, Ref) else bytes(got) for got in joined]
        assert opened == body
        assert joiner.held == 0


def test_parcels_may_alternate() -> None:
    """Pieces of several frames may come in turns."""
    size = LARGEST + 1
    joiner = Joiner(LIMIT)
    for offset in range(0, size, SIZE):
        for number in (1, 2):
            joiner.add(Part(7, number, size, offset), bytes([number]) * min(SIZE, size - offset))
    joiner.expect(Parcels(7, [0, 1], [2, 1]))
    body: list[Buffer] = [b"", b""]
    joiner.join(tasks([b""]), body)
    assert (bytes(body[0]), bytes(body[1])) == (b"\2" * size, b"\1" * size)


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(1, LARGEST + 1, 5, b"x")], "does not follow"),
        ([(1, LARGEST + 1, 0, b"")], "does not follow"),
        ([(1, LARGEST + 1, 0, b"x"), (1, LARGEST + 1, 2, b"x")], "does not follow"),
        ([(1, LARGEST + 1, 0, b"x"), (1, LARGEST + 1, 0, b"x")], "does not follow"),
        ([(1, LARGEST + 1, 0, b"x"), (1, LARGEST + 2, 1, b"x")], "does not follow"),
        ([(1, LARGEST + 1, 0, bytes(LARGEST + 2))], "does not follow"),
        ([(1, LARGEST, 0, b"x")], "too small"),
        ([(1, 0, 0, b"")], "too small"),
        ([(1, LIMIT + 1, 0, b"x")], "too much"),
        ([(1, 2**64 - 1, 0, b"x")], "too much"),
        ([(1, LIMIT - 5, 0, b"x"), (2, LARGEST + 1, 0, b"x")], "too much"),
    ],
)
def test_piece_that_does_not_follow_is_refused(pieces: list[tuple[int, int, int, bytes]], reason: str) -> None:
    """Gaps, repeats, other sizes, too many bytes: no correct peer sends that."""
    joiner = Joiner(LIMIT)
    *good, bad = pieces
    for number, size, offset, piece in good:
        joiner.add(Part(7, number, size, offset), piece)
    number, size, offset, piece = bad
    with pytest.raises(ProtocolError, match=reason):
        joiner.add(Part(7, number, size, offset), piece)


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("frames", "numbers", "body", "reason"),
    [
        ([0], [9], [b""], "not there as a whole"),
        ([0], [2], [b""], "not there as a whole"),
        ([5], [1], [b""], "stands for no frame"),
        ([0], [1], [b"x"], "stands for no frame"),
        ([0, 1], [1, 1], [b"", b""], "not there as a whole"),
    ],
)
def test_parcel_must_be_whole_and_have_a_place(
    frames: list[int], numbers: list[int], body: list[Buffer], reason: str
) -> None:
    """A message counts as a whole or not at all. Of parcels 1 and 2 only the first is complete."""
    joiner = Joiner(LIMIT)
    joiner.add(Part(7, 1, LARGEST + 1, 0), bytes(LARGEST + 1))
    joiner.add(Part(7, 2, LARGEST + 1, 0), b"x")
    joiner.expect(Parcels(7, frames, numbers))
    with pytest.raises(ProtocolError, match=reason):
        joiner.join(tasks([b""]), body)


@pytest.mark.rule("R43")
def test_parcels_are_for_the_next_message_alone() -> None:
    """Two of them in a row belong to no message."""
    joiner = Joiner(LIMIT)
    joiner.expect(Parcels(7, [], []))
    with pytest.raises(ProtocolError, match="belong to no message"):
        joiner.expect(Parcels(7, [], []))


@pytest.mark.rule("R43")
def test_claims_cost_no_memory() -> None:
    """A hundred gigabytes that are merely announced take the pages of the pieces that came."""
    joiner = Joiner(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(100):
        joiner.add(Part(7, number, 2**30, 0), bytes(1_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert joiner.held == 100 * 2**30


@pytest.mark.rule("R43")
def test_memory_that_cannot_be_claimed_is_the_peers_fault() -> None:
    """More than there are addresses is refused like any other nonsense."""
    with pytest.raises(ProtocolError, match="no memory"):
        Joiner(2**64).add(Part(7, 1, 2**62, 0), b"x")
