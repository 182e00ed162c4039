"""The pool as a task sees it, without a node: what it sends up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.answers.values import ValueBuffer
from skyward.dispatch.tasks import Task
from skyward.pool.later import arrive
from skyward.results import Single
from skyward.task.nested import NestedPool
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.messages import MAX_BUFFERS, Function, Message, Module, Revoke, Submit
from skyward.wire.shelf import CALLS
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob


@pytest.fixture(autouse=True)
def complete() -> None:
    """Import what a pool imports when the first call is made."""
    arrive()


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


class Recorder:
    """What a daemon hears."""

    def __init__(self) -> None:
        self.names: list[str] = []  # of code, in order
        self.raised: list[BaseException] = []  # what the next calls of `send` raise

    def send(self, message: Message, _body: Sequence[Buffer]) -> None:
        """Note a message; or fail as an interrupt does."""
        if self.raised:
            raise self.raised.pop()
        if isinstance(message, Function | Module):
            self.names.append(message.name)


def call(pool: NestedPool, *functions: FunctionBlob) -> None:
    """Have the task call functions."""
    pool._submit([Task(number, function, b"", (), Single(), 0, 0) for number, function in enumerate(functions)])


def large(name: str, *modules: str) -> FunctionBlob:
    """Return a function of which a node keeps no third one."""
    return blob(name, *modules)._replace(body=bytes(CALLS))


@pytest.mark.rule("R19")
@pytest.mark.rule("R22")
def test_code_goes_up_once_while_the_node_has_it() -> None:
    """And again when the node has given it up: what it keeps is the same rule."""
    daemon = Recorder()
    pool = NestedPool(daemon.send, lambda: 1, lambda _task, _waiting: None, lambda command: command())
    for name in ("a", "b", "a", "b", "c", "b", "a", "b"):
        call(pool, large(name))
    assert daemon.names == ["a", "b", "c", "a"]
    call(pool, large("a"), large("b"), large("c"), large("c"))
    assert daemon.names[4:] == ["c"]
    call(pool, blob("small", "m"))
    call(pool, blob("other", "m"))
    assert daemon.names[5:] == ["m", "small", "other"]


@pytest.mark.rule("R22")
def test_code_goes_up_again_after_an_interrupt() -> None:
    """What has arrived of a message that was interrupted, nobody can tell."""
    daemon = Recorder()
    pool = NestedPool(daemon.send, lambda: 1, lambda _task, _waiting: None, lambda command: command())
    call(pool, blob("a"))
    daemon.raised = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        call(pool, blob("a"))
    call(pool, blob("a"))
    assert daemon.names == ["a", "a"]


@pytest.mark.rule("R21")
def test_calls_hold_no_code_when_they_have_gone_up() -> None:
    """A future keeps its task."""
    pool = NestedPool(Recorder().send, lambda: 1, lambda _task, _waiting: None, lambda command: command())
    task = Task(1, blob(), b"args", (), Single(), 0, 0)
    pool._submit([task])
    assert (task.function, task.data) == (None, b"")


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


def test_child_of_a_worker_waits_for_no_thread_of_it() -> None:
    """A fork copies locks that others hold, and not the threads that would give them back."""
    pool = NestedPool(Recorder().send, lambda: 1, lambda _task, _waiting: None, lambda command: command())
    held = pool._lock, pool._sending
    pool._renew_locks()
    assert not {pool._lock, pool._sending} & set(held)
