"""The pool as a task sees it, without a node: what it sends up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.tasks import Task
from skyward.nested import NestedPool
from skyward.results import Single
from skyward.values import ValueBuffer
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.messages import MAX_BUFFERS, NODE_MESSAGES, Message, Revoke, Submit
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer


@pytest.mark.rule("R43")
@pytest.mark.parametrize("count", [0, 1, 300])
def test_calls_go_up_in_messages_that_a_client_takes(count: int) -> None:
    """Whatever the number of calls and of the buffers of their arguments."""
    sent: list[int] = []

    def send(message: Message, body: Sequence[Buffer]) -> None:
        assert Decoder(NODE_MESSAGES).decode(encode(message)) == message
        check_body(message, body)
        if isinstance(message, Submit):
            assert message.calls
            sent.extend(message.calls)

    pool = NestedPool(send, lambda: 1, lambda _task, _waiting: None, lambda command: command())
    each = 2 * MAX_BUFFERS // 300
    tasks = [Task(id, blob(), b"args", (b"",) * each, Single(), 0, 0) for id in range(count)]
    pool._submit(tasks)
    assert sent == list(range(count))


@pytest.mark.rule("R25")
def test_stream_that_is_collected_sends_nothing_by_itself() -> None:
    """The collector may run in a thread that is just sending, and holds the lock of the pipe."""
    sent: list[Message] = []
    posted: list[Callable[[], None]] = []
    pool = NestedPool(
        lambda message, _body: sent.append(message), lambda: 1, lambda _task, _waiting: None, posted.append
    )
    buffer = ValueBuffer(pool)
    task = buffer.task = Task(5, blob(), b"args", (), buffer, 0, 0)
    pool._submit([task])
    before = len(sent)
    buffer.close()
    assert len(sent) == before
    (command,) = posted
    command()
    assert sent[before:] == [Revoke(0, 1, [5])]
