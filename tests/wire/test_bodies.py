"""How the pickles and buffers of many tasks share the frames of one message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.wire import messages as wire
from skyward.wire.codec import OWN_FRAME, check_body, pack_body, split_body
from skyward.wire.frames import Payload
from tests.wire import strategies


@given(st.lists(strategies.PAYLOAD, max_size=6), st.data())
def test_payloads_survive_a_body(payloads: list[Payload], data: st.DataObject) -> None:
    """Splitting a packed body gives the same pickles and buffers, whatever kind of frame they came in."""
    sizes, buffers, frames = pack_body(payloads)
    check_body(wire.Items(1, 2, 0, 0, sizes, buffers, end=False), frames)
    rows = split_body(sizes, buffers, data.draw(strategies.varied(frames)))
    assert rows == [(payload.data, payload.buffers) for payload in payloads]


def test_small_pickles_share_a_frame() -> None:
    """The blob holds small pickles one after the other; buffers follow in order."""
    packed = pack_body([Payload(b"ab", (b"1", b"2")), Payload(b"c", ()), Payload(b"de", (b"3",))])
    assert packed == ([2, 1, 2], [2, 0, 1], [b"abcde", b"1", b"2", b"3"])


def test_large_pickles_have_frames_of_their_own() -> None:
    """A pickle over 32 KiB is not copied into the blob: its size is 0 and it comes before its buffers."""
    large = bytes(OWN_FRAME + 1)
    edge = bytes(OWN_FRAME)
    sizes, buffers, frames = pack_body([Payload(b"ab", ()), Payload(large, (b"1",)), Payload(edge, ())])
    assert (sizes, buffers) == ([2, 0, OWN_FRAME], [0, 2, 0])
    assert frames == [b"ab" + edge, large, b"1"]


def test_empty_body_has_a_blob() -> None:
    """A batch without entries has one empty frame, and a pickle without bytes one of its own."""
    assert pack_body([]) == ([], [], [b""])
    assert pack_body([Payload(b"", ())]) == ([0], [1], [b"", b""])


@pytest.mark.parametrize("pickles", [[bytes(OWN_FRAME + 1)], [bytes(OWN_FRAME + 1)] * 3, [b"", bytes(OWN_FRAME + 1)]])
def test_large_pickle_is_copied_when_there_is_no_room_for_a_frame(pickles: list[bytes]) -> None:
    """A message with all the buffers it may have does not get one more: the pickle goes into the blob."""
    spare = wire.MAX_BUFFERS - pickles.count(b"")
    payloads = [Payload(pickle) for pickle in pickles[:-1]] + [Payload(pickles[-1], (b"",) * spare)]
    sizes, buffers, frames = pack_body(payloads)
    check_body(wire.Items(1, 2, 0, 0, sizes, buffers, end=False), frames)
    assert split_body(sizes, buffers, frames) == [tuple(payload) for payload in payloads]


@pytest.mark.rule("R20")
def test_buffers_are_not_copied() -> None:
    """Large buffers are the same objects before and after, on either side."""
    large, array = bytes(OWN_FRAME + 1), bytearray(100_000)
    sizes, buffers, frames = pack_body([Payload(large, (array,)), Payload(b"x", (array,))])
    assert [id(frame) for frame in frames[1:]] == [id(large), id(array), id(array)]
    (first, (second,)), (_, (third,)) = split_body(sizes, buffers, frames)
    assert first is large
    assert second is third is array


def test_pickles_are_views_of_a_view() -> None:
    """A blob that is a memoryview is not copied when it is split."""
    blob = bytearray(b"abcd")
    rows = split_body([1, 3], [0, 0], [memoryview(blob)])
    blob[:] = b"wxyz"
    assert rows == [(b"w", ()), (b"xyz", ())]
