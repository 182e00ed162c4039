"""Results: merged, numbered, kept until they are seen."""

from __future__ import annotations

import pytest

from skyward.errors import ProtocolError
from skyward.wire.codec import pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Results
from skyward_node.core.outbox import MERGE, Outbox, Part


def part(*ids: int, size: int = 3, tail: int = 0) -> Part:
    """Return results with a pickle of ``size`` bytes each, and ``tail`` buffers of one byte."""
    payloads = [Payload(bytes([id % 256]) * size, (b"%d" % (id % 10),) * tail) for id in ids]
    sizes, buffers, body = pack_body(payloads)
    return Part(list(ids), [0] * len(ids), sizes, buffers, [1] * len(ids), body)


def test_single_part_is_passed_on_uncopied() -> None:
    """The body that a worker sent is the body that the client gets."""
    outbox = Outbox()
    given = part(1, 2)
    outbox.add(given)
    ((message, body),) = outbox.flush(9)
    assert body is given.body
    assert (message.epoch, message.seq, message.ids) == (9, 1, [1, 2])


def test_parts_merge_with_their_bodies() -> None:
    """A merged message says the same as its parts."""
    outbox = Outbox()
    outbox.add(part(1, 2, tail=1))
    outbox.add(part(3, size=40_000))
    outbox.add(part(4, tail=2))
    ((message, body),) = outbox.flush(9)
    assert isinstance(message, Results)
    rows = [
        (bytes(data), [bytes(b) for b in buffers]) for data, buffers in split_body(message.sizes, message.buffers, body)
    ]
    assert rows == [
        (b"\x01" * 3, [b"1"]),
        (b"\x02" * 3, [b"2"]),
        (b"\x03" * 40_000, []),
        (b"\x04" * 3, [b"4", b"4"]),
    ]
    assert message.ids == [1, 2, 3, 4]


def test_merging_stops_at_a_mebibyte() -> None:
    """No message of results holds up the link for long."""
    outbox = Outbox()
    for id in range(100):
        outbox.add(part(id, size=30_000))
    messages = outbox.flush(9)
    assert [message.seq for message, _ in messages] == [1, 2, 3]
    assert all(len(body[0]) <= MERGE for _, body in messages)
    assert [id for message, _ in messages for id in message.ids] == list(range(100))


def test_results_are_kept_until_seen() -> None:
    """What is not acknowledged can be said again, and counts as memory."""
    outbox = Outbox()
    for id in (1, 2, 3):
        outbox.add(part(id))
        outbox.flush(9)
    outbox.ack(2)
    assert [message.ids for message, _ in outbox.unacked()] == [[3]]
    assert outbox.size == 3
    assert [message.ids for message, _ in outbox.holding({3, 4})] == [[3]]
    outbox.ack(3)
    assert (outbox.size, bool(outbox)) == (0, False)


def test_impossible_acknowledgement_is_refused() -> None:
    """Nobody has seen what was never sent."""
    with pytest.raises(ProtocolError, match="up to 1 acknowledged, but only 0"):
        Outbox().ack(1)
