"""What a worker has to send: as few messages as possible, and none that nobody would take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from skyward.wire import pipe
from skyward.wire.codec import Decoder, check_body
from skyward.wire.frames import Payload
from skyward.wire.lone import MAX_SMALL, REPLIES, Reply
from skyward.wire.messages import MAX_BUFFERS, Results
from skyward.wire.statuses import OK
from skyward_node.worker.outbox import MOST, Outbox


def ids_of(*payloads: Payload) -> list[list[int]]:
    """Return the tasks of each message that these outcomes are sent in; each is one that a daemon takes."""
    outbox = Outbox(cast("Any", None), lambda: None)
    outbox.done.extend((id, OK, payload, 0) for id, payload in enumerate(payloads))
    found: list[list[int]] = []
    for header, *body in outbox.take():
        message = Decoder((Results, Reply)).decode(header)
        assert isinstance(message, Results | Reply)
        check_body(message, body)
        pipe.pack([header, *body])
        found.append(message.ids)
    return found


def test_outcomes_share_a_message() -> None:
    """As many as have come, up to a bound."""
    assert ids_of(*[Payload(b"value")] * 3) == [[0, 1, 2]]
    assert list(map(len, ids_of(*[Payload(b"value")] * (MOST + 1)))) == [MOST, 1]


@pytest.mark.rule("R43")
def test_outcomes_with_many_buffers_do_not_share_a_message() -> None:
    """What is too many buffers together goes in several messages; one outcome alone goes whatever it has."""
    third = Payload(b"value", (b"",) * (MAX_BUFFERS // 3))
    assert ids_of(*[third] * 5) == [[0, 1], [2, 3], [4]]
    assert ids_of(Payload(bytes(40_000), (b"",) * MAX_BUFFERS), Payload(b"value")) == [[0], [1]]


@pytest.mark.parametrize(("payload", "frames"), [(bytes(MAX_SMALL), 1), (bytes(MAX_SMALL + 1), 2)])
def test_small_outcome_alone_is_one_frame(payload: bytes, frames: int) -> None:
    """Its value stands in the header."""
    outbox = Outbox(cast("Any", None), lambda: None)
    outbox.done.append((1, OK, Payload(payload), 0))
    (message,) = outbox.take()
    assert len(message) == frames


@pytest.mark.rule("R28")
def test_outcome_told_at_once_comes_behind_output_and_others() -> None:
    """Small or large, with or without buffers, and whatever waits."""
    log: list[Any] = []
    pipes = SimpleNamespace(
        write=lambda *messages: log.extend(Decoder((Results, Reply)).decode(frames[0]).ids for frames in messages),  # type: ignore[union-attr]  # none is a hint
        write_packed=lambda data: log.append(REPLIES.from_stream(data)),
    )
    outbox = Outbox(cast("Any", pipes), lambda: log.append("output"))
    outbox.tell((1, OK, Payload(bytes(MAX_SMALL)), 7))
    assert log == ["output", Reply(0, 0, 1, OK, 7, bytes(MAX_SMALL))]
    for id, payload in ((2, Payload(bytes(MAX_SMALL + 1))), (3, Payload(b"value", (b"buffer",)))):
        log.clear()
        outbox.tell((id, OK, payload, 7))
        assert log == ["output", [id]]
    outbox.done.append((4, OK, Payload(b"value"), 7))
    log.clear()
    outbox.tell((5, OK, Payload(b"value"), 7))
    assert log == ["output", [4, 5]]
