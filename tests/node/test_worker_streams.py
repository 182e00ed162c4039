"""What a worker sends of what its tasks yield, and what it asks for their arguments, without any pipe."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest

from skyward.errors import DeadlockError
from skyward.machine.memory import Files
from skyward.wire import failures
from skyward.wire.codec import pack_body
from skyward.wire.credit import FIRST, SIZE
from skyward.wire.frames import Payload
from skyward.wire.messages import Credit, Items
from skyward.wire.placeholders import Placeholder
from skyward.wire.statuses import OK, RAISED
from skyward_node.pipe_messages import Deadlock
from skyward_node.worker import inputs
from skyward_node.worker.driving import drive
from skyward_node.worker.inputs import Input, fill
from skyward_node.worker.interrupts import Interrupts
from skyward_node.worker.streams import Streams
from skyward_node.worker.yields import Closed, Emitter, Unsendable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import FrameType

TASK = 7
WAIT = 10.0  # seconds for what takes a moment


class Daemon:
    """Streams whose daemon writes down what it is told, and may answer."""

    def __init__(self, shield: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.sent: list[Any] = []
        self.waits: list[tuple[int, bool, bool]] = []
        self.answer: Any = lambda _message: None
        self.streams = Streams(self.send, self.wait, lambda: None, Files(), shield)

    def send(self, message: Any, body: Any) -> None:
        """Take a message."""
        self.sent.append(message)
        threading.Timer(0.01, self.answer, (message,)).start()

    def wait(self, task: int, waiting: bool, idle: bool) -> None:
        """Take the news of a wait."""
        self.waits.append((task, waiting, idle))

    def elements(self) -> int:
        """Return how many elements were sent."""
        return sum(sum(message.counts) or len(message.sizes) for message in self.sent if isinstance(message, Items))

    def feed(self, *values: Any, end: bool = False, failed: bool = False) -> None:
        """Send elements of the first argument."""
        sizes, buffers, body = pack_body([Payload(pickle.dumps(value)) for value in values])
        if failed:
            sizes, buffers, body = pack_body([Payload(failures.encode(failures.from_exception(values[0])))])
        self.streams.items(Items(0, TASK, 1, 0, sizes, buffers, end, failed), body)


def pack(value: Any) -> tuple[int, Payload]:
    """Pickle a value."""
    return OK, Payload(pickle.dumps(value))


def run(daemon: Daemon, generator: Any) -> None:
    """Run a generator as a slot does."""
    emitter = Emitter(daemon.streams, TASK, pack)
    try:
        drive(emitter, generator, TASK, Interrupts(), lambda: None)
    finally:
        emitter.end()


@pytest.mark.rule("R25")
def test_generator_goes_on_as_it_is_granted() -> None:
    """It sends what it may at once, lends its slot while it waits, and goes on with the next credit."""
    daemon = Daemon()
    daemon.answer = lambda _message: daemon.streams.credit(Credit(0, TASK, 0, 3, 100))
    run(daemon, iter_of(8))
    assert daemon.elements() == 8
    assert len(daemon.sent[0].sizes) <= FIRST
    assert daemon.waits[:2] == [(TASK, True, True), (TASK, False, True)]
    assert [message.first for message in daemon.sent] == sorted({message.first for message in daemon.sent})


def iter_of(stop: int, log: list[str] | None = None) -> Generator[int, None, None]:
    """Yield numbers, and note the end."""
    try:
        yield from range(stop)
    finally:
        if log is not None:
            log.append("closed")


def lists_of(stop: int, log: list[str]) -> Generator[list[int], None, None]:
    """Yield what can be changed afterwards, and so is pickled at once."""
    for number in iter_of(stop, log):
        yield [number]


@pytest.mark.rule("R25")
@pytest.mark.rule("F64")
def test_closed_generator_runs_its_finally() -> None:
    """While it waits for credit, and before it is forgotten."""
    daemon, log = Daemon(), list[str]()
    daemon.answer = lambda _message: daemon.streams.close(TASK)
    with pytest.raises(Closed):
        run(daemon, iter_of(100, log))
    assert log == ["closed"]
    assert TASK in daemon.streams.closed
    daemon.streams.end(TASK)
    assert (daemon.streams.producers, daemon.streams.closed) == ({}, set())


@pytest.mark.rule("R25")
def test_refused_wait_is_a_deadlock() -> None:
    """It is raised to whoever runs the generator, which is closed."""
    daemon, log = Daemon(), list[str]()
    daemon.answer = lambda _message: daemon.streams.refuse(Deadlock(TASK, "all wait"))
    with pytest.raises(DeadlockError, match="all wait"):
        run(daemon, iter_of(100, log))
    assert log == ["closed"]


def test_element_that_cannot_be_sent_closes_the_generator() -> None:
    """The failure that `pack` returned is how the task ends."""
    daemon, log = Daemon(), list[str]()
    emitter = Emitter(daemon.streams, TASK, lambda _: (RAISED, Payload(b"why")))
    with pytest.raises(Unsendable) as caught:
        drive(emitter, lists_of(3, log), TASK, Interrupts(), lambda: None)
    assert (caught.value.status, caught.value.payload.data, log) == (RAISED, b"why", ["closed"])


@pytest.mark.rule("R23")
def test_nothing_follows_what_the_control_thread_could_not_send() -> None:
    """A number may be huge; whoever finds out, what came before it is sent, and what comes after it is not."""
    daemon = Daemon()

    def refuse_huge(value: Any) -> tuple[int, Payload]:
        return pack(value) if not isinstance(value, int) or value < 2**64 else (RAISED, Payload(b"too large"))

    emitter = Emitter(daemon.streams, TASK, refuse_huge)
    emitter.grant(100, 0)
    emitter.stint()
    emitter.look()
    assert emitter.stint() == 2
    for value in (1, 2, 1 << 8_000_000, 3):
        emitter.gather(value)
    emitter.flush_late(time.perf_counter_ns() + 10**9)
    assert daemon.elements() == 2
    emitter.gather(4)
    with pytest.raises(Unsendable):
        emitter.look()
    with pytest.raises(Unsendable):
        emitter.add(*pack(["no number"]))
    unsendable = emitter.end()
    assert unsendable is not None
    assert unsendable.payload.data == b"too large"
    assert daemon.elements() == 2


@pytest.mark.rule("R23")
def test_late_elements_are_sent_by_the_control_thread() -> None:
    """What was gathered when the generator began to block leaves when it has waited for a millisecond."""
    daemon = Daemon()
    emitter = Emitter(daemon.streams, TASK, pack)
    emitter.grant(100, 0)
    for number in range(5):
        emitter.add(*pack(number))
    assert daemon.elements() < 5
    assert daemon.streams.has_late
    time.sleep(0.002)
    daemon.streams.look(time.perf_counter_ns())
    assert daemon.elements() == 5
    assert not daemon.streams.has_late


@pytest.mark.rule("R25")
def test_pickle_holds_at_most_a_quarter_of_what_is_granted() -> None:
    """So a consumer that counts them when all are taken has the next ones in time."""
    daemon = Daemon()
    daemon.answer = lambda _message: daemon.streams.credit(Credit(0, TASK, 0, 40, 1000))
    run(daemon, iter_of(2_000))
    counts = [count for message in daemon.sent if isinstance(message, Items) for count in message.counts or [1]]
    assert daemon.elements() == 2_000
    assert 1 < max(counts) <= 10


@pytest.mark.rule("R23")
def test_values_that_gather_are_sent_by_the_control_thread() -> None:
    """A generator that was fast and blocks keeps none of them, and looks at each one that follows."""
    daemon, blocked, go = Daemon(), threading.Event(), threading.Event()

    def fast_then_blocked() -> Generator[int, None, None]:
        yield from range(500)
        blocked.set()
        go.wait()
        yield 500

    def look() -> None:
        blocked.wait()
        time.sleep(0.003)
        late = daemon.streams.has_late
        daemon.streams.look(time.perf_counter_ns())
        found.append((late, daemon.elements(), daemon.streams.has_late, emitter.hurried))
        go.set()

    found: list[tuple[bool, int, bool, bool]] = []
    emitter = Emitter(daemon.streams, TASK, pack)
    emitter.grant(1_000, 100_000)
    thread = threading.Thread(target=look)
    thread.start()
    drive(emitter, fast_then_blocked(), TASK, Interrupts(), lambda: None)
    emitter.end()
    thread.join()
    assert found == [(True, 500, False, True)]
    assert daemon.elements() == 501


@pytest.mark.rule("R50")
@pytest.mark.rule("R25")
@pytest.mark.parametrize("way", ["close", "hurry"])
def test_hurried_generator_looks_at_its_next_element(way: str) -> None:
    """Whether nobody wants it any more, or it goes on in a forked child."""
    daemon, yielded, looked = Daemon(), list[int](), list[int]()

    def numbers() -> Generator[int, None, None]:
        for number in range(500):
            if number == 300:
                daemon.streams.close(TASK) if way == "close" else daemon.streams.hurry()
            yielded.append(number)
            yield number

    emitter = Emitter(daemon.streams, TASK, pack)
    emitter.grant(1_000, 100_000)
    with suppress(Closed):
        drive(emitter, numbers(), TASK, Interrupts(), lambda: looked.append(len(yielded)))
    emitter.end()
    assert 301 in looked
    assert (len(yielded) == 301) == (way == "close")


@pytest.mark.rule("R24")
def test_input_asks_when_its_first_element_is_taken() -> None:
    """Not before; and for more as it goes on, saying what was read."""
    daemon = Daemon()
    args, kwargs = fill(daemon.streams, TASK, (1, Placeholder(1)), {})
    assert (args[0], kwargs, daemon.sent) == (1, {}, [])
    values = args[1]
    threading.Timer(0.05, daemon.feed, ("a", "b")).start()
    assert next(values) == "a"
    assert daemon.sent[0] == Credit(0, TASK, 1, FIRST, SIZE)
    assert next(values) == "b"
    assert [message.read for message in daemon.sent[1:]] == [0, 1]
    assert daemon.waits == [(TASK, True, True), (TASK, False, True)]
    daemon.feed(end=True)
    assert list(values) == []


@pytest.mark.rule("R24")
def test_failure_of_the_iterable_is_raised_behind_its_elements() -> None:
    """With its class, and once."""
    daemon = Daemon()
    values = Input(daemon.streams, TASK, 1)
    daemon.feed(1, 2)
    daemon.feed(ValueError("bad"), end=True, failed=True)
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(ValueError, match="bad"):
        next(values)
    assert list(values) == []


@pytest.mark.rule("R24")
def test_thread_that_another_was_quicker_than_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An element that is gone again when it looks is not the end."""
    daemon = Daemon()
    values = Input(daemon.streams, TASK, 1)
    taken: list[int] = []

    def sleep(*_: object) -> None:
        daemon.feed(len(taken))
        if not taken:
            taken.append(next(values))

    monkeypatch.setattr(daemon.streams, "sleep", sleep)
    assert next(values) == 1
    assert taken == [0]


@pytest.mark.rule("R7")
@pytest.mark.usefixtures("interrupts")  # which puts back what handles the signal
def test_interrupted_input_holds_no_lock() -> None:
    """Wherever in its code the interrupt of a cancel strikes, the control thread can close it."""
    step, struck = 0, True
    while struck:
        interrupts = Interrupts()
        interrupts.install()
        daemon = Daemon(interrupts.shield)
        values = Input(daemon.streams, TASK, 1)
        daemon.feed(1)
        interrupts.arm(TASK)
        with suppress(KeyboardInterrupt), Striking(step, interrupts) as striking:
            assert next(values) == 1
        interrupts.disarm()
        closing = threading.Thread(target=values.close, daemon=True)
        closing.start()
        closing.join(WAIT)
        assert not closing.is_alive(), f"struck at step {step}"
        step, struck = step + 1, striking.struck
    assert step > 50


class Striking:
    """Interrupts a task at one step, an instruction of the interpreter's, of the code of inputs."""

    def __init__(self, step: int, interrupts: Interrupts) -> None:
        self.left = step
        self.interrupts = interrupts
        self.struck = False

    def __enter__(self) -> Self:
        sys.settrace(self.enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        """Follow a frame, if it is of that code."""
        if frame.f_code.co_filename != inputs.__file__:
            return None
        frame.f_trace_opcodes = True
        return self.step

    def step(self, _frame: FrameType, event: str, _arg: object) -> Any:
        """Count an instruction; the signal arrives with the last."""
        if event == "opcode":
            self.left -= 1
            if self.left < 0 and not self.struck:
                self.struck = True
                self.interrupts.request(TASK)
        return self.step


@pytest.mark.rule("R24")
def test_input_of_a_task_that_is_over_says_so() -> None:
    """An iterator that outlives its task does not wait for ever."""
    daemon = Daemon()
    values = Input(daemon.streams, TASK, 1)
    daemon.feed(1)
    daemon.streams.end(TASK)
    with pytest.raises(RuntimeError, match="is over"):
        next(values)


@pytest.mark.rule("R25")
def test_main_thread_reads_its_pipe_while_it_waits() -> None:
    """What comes down there may be what the other end of the stream waits for."""
    daemon = Daemon()
    read, write = os.pipe()
    seen: list[bytes] = []

    def on_data() -> bool:
        seen.append(os.read(read, 10))
        daemon.streams.credit(Credit(0, TASK, 0, 100, 100))
        return True

    daemon.streams.read_while_waiting(read, on_data)
    threading.Timer(0.05, os.write, (write, b"x")).start()
    run(daemon, iter_of(8))
    assert seen == [b"x"]
    for fd in (read, write, daemon.streams._bell):
        os.close(fd)
