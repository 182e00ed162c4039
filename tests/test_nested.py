"""The pool as a task sees it, without a node: what it sends up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.tasks import Task
from skyward.nested import NestedPool
from skyward.results import Single
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.messages import MAX_BUFFERS, NODE_MESSAGES, Message, Submit
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from collections.abc import Sequence

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
