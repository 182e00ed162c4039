"""Messages on a byte stream: they come out as they went in, wherever the stream is cut."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire.pipe import JOIN, LARGE, MAGIC, MAPPED, MAX_COUNT, Unpacker, pack

if TYPE_CHECKING:
    from skyward.wire.frames import Buffer

MOST = 64 * 2**20  # bytes of a frame, in these tests

SIZES = st.one_of(
    st.integers(0, 40),
    st.sampled_from([JOIN - 30, JOIN, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE, MAPPED - 1, MAPPED]),
)


def filled(size: int, fill: int) -> bytes:
    """Return a frame."""
    return bytes([fill]) * size


FRAMES = st.lists(st.builds(filled, SIZES, st.integers(0, 255)), min_size=1, max_size=4)
MESSAGES = st.lists(FRAMES, max_size=4)


def stream_of(*messages: list[Buffer] | list[bytes]) -> bytes:
    """Return the bytes on the wire."""
    return b"".join(b"".join(pack(frames)) for frames in messages)


def prefix(*lengths: int, magic: bytes = MAGIC) -> bytes:
    """Return a prefix, whether or not it is allowed."""
    return struct.pack(f">4sI{len(lengths)}Q", magic, len(lengths), *lengths)


# --- what comes out ------------------------------------------------------------------------


@pytest.mark.rule("R37")
@given(MESSAGES, st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=12))
def test_messages_survive_any_cut(messages: list[list[bytes]], cuts: list[tuple[float, bool]]) -> None:
    """Wherever the stream is cut, and whether or not large frames are received in place."""
    stream = memoryview(stream_of(*messages))
    ends = set(accumulate([len(stream_of(message)) for message in messages], initial=0))
    unpacker = Unpacker(MOST)
    out: list[list[Buffer]] = []
    start = 0
    for cut, in_place in [*sorted(cuts), (1.0, True), (1.0, False)]:
        piece = stream[start : int(cut * len(stream))]
        place = unpacker.want()
        if place is not None and in_place:
            piece = piece[: len(place)]
            place[: len(piece)] = piece
            unpacker.filled(len(piece))
        else:
            unpacker.feed(bytes(piece))
        start += len(piece)
        out += unpacker.messages()
        assert unpacker.between == (start in ends)
    assert out == messages
    assert unpacker.want() is None


@given(FRAMES, st.integers(0, 40), st.integers(1, 9))
def test_message_survives_cuts_close_to_each_other(frames: list[bytes], begin: int, step: int) -> None:
    """Also when prefixes and small frames come in crumbs."""
    stream = stream_of(frames, frames)
    unpacker = Unpacker(MOST)
    unpacker.feed(stream[:begin])
    for start in range(begin, begin + 200, step):
        unpacker.feed(stream[start : start + step])
    unpacker.feed(stream[begin + step * len(range(0, 200, step)) :])
    assert unpacker.messages() == [frames, frames]


@given(st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=3), max_size=3))
def test_messages_survive_byte_by_byte(messages: list[list[bytes]]) -> None:
    """A message is out with its last byte, not later."""
    unpacker = Unpacker(MOST)
    out: list[list[Buffer]] = []
    for message in messages:
        for byte in stream_of(message):
            assert unpacker.messages() == []
            unpacker.feed(bytes([byte]))
        out += unpacker.messages()
    assert out == messages


@given(FRAMES, st.data())
def test_truncated_message_stays_inside(frames: list[bytes], data: st.DataObject) -> None:
    """Nothing comes out before the message is complete."""
    stream = stream_of(frames)
    unpacker = Unpacker(MOST)
    unpacker.feed(stream[: data.draw(st.integers(0, len(stream) - 1))])
    assert unpacker.messages() == []


def test_messages_are_given_once() -> None:
    """What was taken is not given again."""
    unpacker = Unpacker(MOST)
    unpacker.feed(stream_of([b"a"], [b"b", b""]))
    assert unpacker.messages() == [[b"a"], [b"b", b""]]
    assert unpacker.messages() == []


@pytest.mark.parametrize("size", [LARGE, MAPPED])
def test_large_frame_is_received_in_place(size: int) -> None:
    """After its first bytes a large frame says where the rest belongs, and that memory is what comes out."""
    unpacker = Unpacker(MOST)
    unpacker.feed(prefix(1, size, 0) + b"h" + b"first")
    place = unpacker.want()
    assert place is not None
    assert len(place) == size - 5
    place[:] = b"z" * len(place)
    unpacker.filled(len(place))
    assert unpacker.want() is None
    ((head, large, last),) = unpacker.messages()  # also the empty frame behind it
    assert (head, last) == (b"h", b"")
    assert large == b"first" + b"z" * (size - 5)


@pytest.mark.rule("R4")
@pytest.mark.parametrize("size", [LARGE, MAPPED])
def test_large_frame_is_writable_and_its_own(size: int) -> None:
    """A large frame shares no memory with what was fed, and can be written."""
    data = bytearray(stream_of([bytes(size)]))
    unpacker = Unpacker(MOST)
    unpacker.feed(data)
    ((large,),) = unpacker.messages()
    assert not isinstance(large, bytes)
    large[0] = 1
    data[-1] = 7
    assert (large[0], large[-1]) == (1, 0)


def test_small_frames_are_bytes_of_their_own() -> None:
    """A small frame does not change with the buffer that was fed."""
    data = bytearray(stream_of([b"abc", b""]))
    unpacker = Unpacker(MOST)
    unpacker.feed(data)
    ((frame, empty),) = unpacker.messages()
    data[-1] = 0
    assert (frame, empty) == (b"abc", b"")
    assert isinstance(frame, bytes)
    assert isinstance(empty, bytes)


def test_finished_frame_is_not_held() -> None:
    """The unpacker keeps no view of a frame that is complete: its owner may resize it."""
    unpacker = Unpacker(MOST)
    unpacker.feed(stream_of([bytes(LARGE)]))
    ((large,),) = unpacker.messages()
    assert isinstance(large, bytearray)
    large.append(1)


# --- what goes in --------------------------------------------------------------------------


def test_small_message_is_one_buffer() -> None:
    """A small message is copied together, so that sending it takes one piece."""
    assert pack([b"ab", b"", bytearray(b"c")]) == [prefix(2, 0, 1) + b"abc"]


@pytest.mark.rule("R20")
def test_large_frames_are_not_copied() -> None:
    """The frames of a large message are handed on as they are."""
    head, large = b"head", bytearray(JOIN)
    packed = pack([head, memoryview(large)])
    assert packed[0] == prefix(4, JOIN)
    assert packed[1] is head
    assert isinstance(packed[2], memoryview)
    assert packed[2].obj is large


@pytest.mark.parametrize("count", [0, MAX_COUNT + 1])
def test_message_that_no_peer_takes_is_not_packed(count: int) -> None:
    """A message has a frame, and no more than the protocol allows."""
    with pytest.raises(ProtocolError, match=f"a message of {count} frames"):
        pack([b""] * count)


def test_longest_message_passes() -> None:
    """As many frames as the protocol allows come through."""
    unpacker = Unpacker(MOST)
    unpacker.feed(stream_of([b""] * MAX_COUNT))
    assert [len(frames) for frames in unpacker.messages()] == [MAX_COUNT]


# --- rubbish -------------------------------------------------------------------------------


@pytest.mark.rule("R43")
@given(st.lists(st.one_of(st.binary(max_size=40), st.just(MAGIC), st.just(prefix(3, 70_000)))))
def test_any_bytes_are_refused_or_understood(pieces: list[bytes]) -> None:
    """Whatever comes, nothing but a `ProtocolError` is raised."""
    unpacker = Unpacker(100_000)
    with suppress(ProtocolError):
        for piece in pieces:
            unpacker.feed(piece)


BAD = [
    pytest.param(prefix(1, magic=b"SKY\x02") + b"x", "rubbish", id="magic"),
    pytest.param(prefix(), "0 frames", id="no frames"),
    pytest.param(MAGIC + struct.pack(">I", MAX_COUNT + 1), "65539 frames", id="many frames"),
    pytest.param(prefix(1, 1001), "1001 bytes, more than 1000", id="long frame"),
    pytest.param(prefix(1, 2**64 - 1), "more than 1000", id="endless frame"),
]


@pytest.mark.rule("R43")
@pytest.mark.parametrize(("stream", "reason"), BAD)
def test_rubbish_is_refused_for_good(stream: bytes, reason: str) -> None:
    """After rubbish even a good message is refused: nobody knows where it would begin."""
    unpacker = Unpacker(1000)
    for data in (stream_of([b"good"]) + stream, stream_of([b"good"])):
        with pytest.raises(ProtocolError, match=reason):
            unpacker.feed(data)


def test_frame_of_the_largest_size_passes() -> None:
    """The bound itself is allowed."""
    unpacker = Unpacker(1000)
    unpacker.feed(stream_of([bytes(1000)]))
    assert unpacker.messages() == [[bytes(1000)]]


def resident() -> int:
    """Return the bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.rule("R43")
def test_claimed_length_costs_no_memory() -> None:
    """A frame takes memory as its bytes arrive, not as its length is announced."""
    before = resident()
    unpacker = Unpacker(2**40)
    unpacker.feed(prefix(2**30) + b"x")
    place = unpacker.want()
    assert place is not None
    assert len(place) == 2**30 - 1
    assert resident() - before < 16 * 2**20


@pytest.mark.rule("R43")
def test_frame_that_no_machine_holds_is_refused() -> None:
    """An announced length that memory cannot hold is a fault of the peer, not of ours."""
    unpacker = Unpacker(2**64 - 1)
    with pytest.raises(ProtocolError, match="no memory"):
        unpacker.feed(prefix(2**63) + b"x")
