"""What travels in one frame says the same as the batch that it stands for."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from skyward.errors import ProtocolError
from skyward.wire.codec import Decoder, check_body, encode, split_body
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward.wire.lone import CALLS, LONGEST, MAX_SMALL, REPLIES, Call, Lone, Reply, frame_to_stream
from skyward.wire.messages import Results, Tasks
from skyward.wire.pipe import JOIN, Unpacker, pack
from tests.wire import strategies

DECODE = Decoder(tuple(dict.fromkeys(CLIENT_MESSAGES + NODE_MESSAGES))).decode
KEY = bytes(16)


@given(strategies.messages(Call, Reply))
def test_lone_message_is_a_batch_of_one(sample: strategies.Sample) -> None:
    """All that is said of the one task, or outcome, is in the columns."""
    message, _ = sample
    assert isinstance(message, Call | Reply)
    batch, body = message.as_batch()
    assert DECODE(encode(batch)) == batch
    check_body(batch, body)
    assert split_body(batch.sizes, batch.buffers, body) == [(message.data, ())]
    assert (batch.epoch, batch.ids) == (message.epoch, message.ids)
    if isinstance(message, Call):
        assert isinstance(batch, Tasks)
        assert (batch.ack, batch.functions) == (message.ack, [message.function])
        assert (batch.retries or [0], batch.timeouts or [0.0]) == ([message.retries], [message.timeout])
    else:
        assert isinstance(batch, Results)
        assert (batch.seq, batch.statuses, batch.elapsed) == (message.seq, [message.status], [message.elapsed])


@pytest.mark.rule("R43")
@pytest.mark.parametrize("data", [b"", bytes(MAX_SMALL + 1)])
def test_pickle_in_a_header_is_small_and_there(data: bytes) -> None:
    """What is not is refused where it comes in."""
    for message in (Call(7, 0, KEY, 1, data), Reply(7, 1, 1, 0, 9, data)):
        with pytest.raises(ProtocolError, match="data"):
            DECODE(encode(message))


@given(strategies.messages(Call, Reply))
def test_lone_message_is_coded_like_any_other(sample: strategies.Sample) -> None:
    """The bytes are the same, and what is of the other type, or more than one, is not taken."""
    message, _ = sample
    kind, other = cast(
        "tuple[Lone[Any], Lone[Any]]", (CALLS, REPLIES) if isinstance(message, Call) else (REPLIES, CALLS)
    )
    header = encode(message)
    (stream,) = pack([header])
    assert (kind.to_frame(message), kind.to_stream(message), frame_to_stream(header)) == (header, stream, stream)
    assert (kind.from_frame(header), kind.from_stream(bytes(stream))) == (message, message)
    assert (other.from_frame(header), other.from_stream(bytes(stream))) == (None, None)
    assert kind.from_stream(bytes(stream) * 2) is kind.from_stream(bytes(stream)[:-1]) is None


@given(strategies.messages(Call), st.integers(0, 60), st.binary(min_size=1, max_size=3))
def test_damaged_lone_message_is_left_to_the_decoder(sample: strategies.Sample, place: int, damage: bytes) -> None:
    """What a glance takes the decoder takes, too, for the same; all else is none."""
    header = encode(sample[0])
    damaged = header[:place] + damage + header[place + len(damage) :]
    try:
        message = DECODE(damaged)
    except ProtocolError:
        message = None
    assert CALLS.from_frame(damaged) == (message if isinstance(message, Call) else None)


@pytest.mark.rule("R43")
def test_long_header_is_not_looked_at() -> None:
    """A peer may add fields, but not send bytes without end to a worker: these go the usual way, and no further."""
    header = bytearray(encode(Call(7, 0, KEY, 1, bytes(MAX_SMALL))))
    header[2] += 1  # one more field
    known = bytes(header) + b"\x01"
    long = bytes(header) + msgpack.encode(bytes(LONGEST - len(header)))
    assert CALLS.from_frame(known) == DECODE(known) == DECODE(long)
    assert CALLS.from_frame(long) is None


@pytest.mark.rule("R43")
def test_nesting_without_end_is_no_lone_message() -> None:
    """It is refused by the decoder, and does not end whoever glances at it."""
    header = bytearray(encode(Call(7, 0, KEY, 1, b"x")))
    header[2] += 1
    assert CALLS.from_frame(bytes(header) + b"\x91" * 8_000 + b"\xc0") is None


@given(st.binary(max_size=2 * JOIN) | st.builds(bytes, st.integers(JOIN - 20, JOIN + 20)), st.integers(0, 40))
def test_message_of_one_frame_is_taken_as_it_comes(frame: bytes, cut: int) -> None:
    """As a whole at once, if that is all that has come; else it is fed, and comes out the same."""
    stream = b"".join(pack([frame]))
    unpacker = Unpacker(10**6)
    taken = unpacker.alone(stream)
    assert taken == frame if taken is not None else not 0 < len(frame) < JOIN - 16
    for part in (stream[: len(stream) - cut], stream + b"S", stream[cut:] if cut else b""):
        assert unpacker.alone(part) is None or part == stream
    unpacker.feed(stream[:cut])
    assert unpacker.alone(stream[cut:]) is None or not cut
    unpacker.feed(stream[cut:])
    assert unpacker.messages() == [[frame]]


@pytest.mark.rule("R43")
def test_message_of_one_frame_over_the_bound_is_refused() -> None:
    """It is not taken, but fed."""
    unpacker = Unpacker(10)
    stream = b"".join(pack([bytes(11)]))
    assert unpacker.alone(stream) is None
    with pytest.raises(ProtocolError, match="a frame of 11 bytes"):
        unpacker.feed(stream)
    assert unpacker.alone(b"".join(pack([bytes(9)]))) is None  # after rubbish nothing more is accepted
