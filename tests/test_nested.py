"""The pool as a task sees it, without a node: what it sends up."""

from __future__ import annotations

import threading
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

    pool = NestedPool(send, lambda: 1, lambda _task, _waiting: None)
    each = 2 * MAX_BUFFERS // 300
    tasks = [Task(id, blob(), b"args", (b"",) * each, Single(), 0, 0) for id in range(count)]
    pool._submit(tasks)
    assert sent == list(range(count))


@pytest.mark.rule("R22")
def test_slot_is_lent_from_the_first_wait_to_the_last() -> None:
    """Several threads and coroutines of a task may wait at once, and end in any order."""
    said: list[bool] = []
    pool = NestedPool(lambda _message, _body: None, lambda: 1, lambda _task, waiting: said.append(waiting))
    one, two = pool.lent(), pool.lent()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert said == [True]
    two.__exit__(None, None, None)
    assert said == [True, False]
    with pool.lent():
        pool.ended(1)
    assert said == [True, False, True, False]


@pytest.mark.rule("R25")
def test_stream_that_is_collected_sends_nothing_by_itself() -> None:
    """The collector may run in a thread that is just sending, and holds the lock of the pipe."""
    sent: list[tuple[Message, threading.Thread]] = []
    done = threading.Event()

    def send(message: Message, _body: Sequence[Buffer]) -> None:
        sent.append((message, threading.current_thread()))
        if isinstance(message, Revoke):
            done.set()

    pool = NestedPool(send, lambda: 1, lambda _task, _waiting: None)
    buffer = ValueBuffer(pool)
    task = buffer.task = Task(5, blob(), b"args", (), buffer, 0, 0)
    pool._submit([task])
    buffer.close()
    assert done.wait(30)
    message, thread = sent[-1]
    assert message == Revoke(0, 1, [5])
    assert thread is not threading.current_thread()
    pool._revokes.close(30)
