"""Streams that the garbage collector closes, in the middle of anything: also of what holds a lock of ours."""

from __future__ import annotations

import gc
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import skyward as sky
from skyward.answers.streams import ResultStream, StreamBuffer
from skyward.answers.values import ValueBuffer, ValueStream
from skyward.dispatch.tasks import SENT, Task
from skyward.pool.feeding import Feeder
from skyward.pool.later import arrive
from skyward.pool.pumping import Pump
from skyward.task.nested import NestedPool
from skyward.wire.frames import Payload
from skyward_node.worker.outbox import Outbox
from tests.feedings import Pool, double
from tests.mesh.scripted import blob
from tests.rules.work import LONG, add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Garbage:
    """A stream in a reference cycle, for the collector to close."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.cycle = self


def within(run: Callable[[], object]) -> bool:
    """Run something in a thread; return whether it has ended."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONG)
    return not thread.is_alive()


@pytest.fixture(autouse=True)
def _no_other_collection() -> Iterator[None]:
    """Collect only where the test says so."""
    arrive()  # as when a pool opens, or a task calls
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.rule("R12")
def test_stream_collected_while_a_worker_writes_is_closed() -> None:
    """Its calls are taken back with the next message, behind the one that is being written."""
    written: list[Any] = []
    commands: list[Callable[[], None]] = []

    class Writer:
        """Drops a stream while it writes, which it does under the lock."""

        def write(self, *messages: Any) -> None:
            written.extend(messages)
            garbage.clear()
            gc.collect()

    outbox = Outbox(cast("Any", Writer()), lambda: None)
    pool = NestedPool(outbox.send, lambda: 1, lambda _task, _waiting: None, commands.append)
    buffer = StreamBuffer(1, ordered=True, return_exceptions=False, cancel=pool.cancel_tasks, soon=pool.soon)
    task = Task(1, blob(), b"args", (), buffer, 0, 0)
    garbage: list[Garbage] = []

    def run() -> None:
        buffer.expect([task])
        pool._submit([task])
        garbage.append(Garbage(ResultStream(buffer, pool.wait_for)))
        pool._submit([Task(2, blob(), b"args", (), buffer, 1, 0)])

    assert within(run)
    assert len(commands) == 1
    before = len(written)
    commands.pop()()
    assert len(written) == before + 1
    assert pool.awaited[1].keys() == {2}


@pytest.mark.rule("R12")
def test_streams_of_a_task_are_collected_at_any_moment() -> None:
    """A task that makes many, each in a cycle, with a collector that is always at work, comes to its end."""

    @sky.function
    def churn(count: int) -> str:
        gc.set_threshold(50, 1, 1)
        for _ in range(count):
            box: list[Any] = [sky.gather(add(1), add(2), stream=True) >> sky]
            box.append(box)
            del box
        return "done"

    with sky.Compute(nodes=1) as pool:
        assert (churn(300) > pool).result(LONG) == "done"


@pytest.mark.rule("R25")
def test_stream_collected_while_its_input_is_pulled_is_closed() -> None:
    """Nothing more is pulled."""
    ended = threading.Event()
    cancelled: list[Task] = []

    class Data(bytes):
        """Drops the stream when its length is asked for, which happens under the lock."""

        def __len__(self) -> int:
            garbage.clear()
            gc.collect()
            return 1

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    pool = cast(
        "Any",
        SimpleNamespace(
            pack_element=lambda _: Payload(Data()),
            push=lambda _: None,
            cancel_tasks=cancelled.extend,
            wait_for=None,
            lent=None,
        ),
    )
    buffer = ValueBuffer(pool)
    pump = Pump(pool, source(), 1)
    task = buffer.task = Task(1, SimpleNamespace(name="f", key=b""), b"", (), buffer, 0, 0)
    task.state, task.feeds = SENT, (pump,)
    garbage = [Garbage(ValueStream(buffer, pool))]
    pump.grant(100, 1000, 0)
    assert pump.thread is not None
    pump.thread.join(LONG)
    assert not pump.thread.is_alive()
    assert cancelled == [task]
    assert ended.wait(LONG)


@pytest.mark.rule("R12")
def test_stream_collected_while_its_feeder_goes_to_sleep_is_closed() -> None:
    """The thread that makes its calls ends, though it was about to wait for results."""
    pool = cast("Any", Pool())
    buffer = StreamBuffer(None, ordered=True, return_exceptions=False, cancel=pool.cancel, soon=pool.soon)

    def collect(_frame: object, event: str, called: Any) -> None:
        if feeder.hungry and garbage and (event == "c_return" or getattr(called, "__name__", "") == "acquire"):
            garbage.clear()
            gc.collect()

    def calls() -> Iterator[Any]:
        sys.setprofile(collect)  # of the thread that runs this
        while True:
            yield double(1)

    feeder = Feeder(pool, calls(), buffer, 0)
    garbage = [Garbage(ResultStream(buffer, lambda _: None))]
    feeder.start()
    feeder.thread.join(LONG)
    assert not feeder.thread.is_alive()
    assert not garbage


@pytest.mark.rule("R22")
def test_wait_that_is_collected_ends_elsewhere() -> None:
    """A coroutine that nobody awaits any more gives the slot back by the hand of another thread."""
    waits: list[bool] = []
    commands: list[Callable[[], None]] = []
    pool = NestedPool(
        lambda _message, _body: None, lambda: 1, lambda _task, waiting: waits.append(waiting), commands.append
    )

    def coroutine() -> Iterator[None]:
        with pool.lent():
            yield

    waiting = coroutine()
    next(waiting)
    del waiting
    assert waits == [True]
    commands.pop()()
    assert waits == [True, False]
