"""The streams of a worker, and what tasks on threads print."""

from __future__ import annotations

import os
import sys
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import pytest

from skyward import runtime
from skyward.task.output import silent
from skyward.wire.messages import Output
from skyward_node.worker.printing import PATIENCE_NS, Printing, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = runtime.InstanceInfo(node=0, worker=0)


class Rig:
    """A worker's printing, with pipes in place of descriptors 1 and 2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.streams: dict[str, Stream] = {}
        self.pipes = [os.pipe() for _ in range(2)]
        for name, (_, write) in zip(("stdout", "stderr"), self.pipes, strict=True):
            stream = Stream(write, "strict")
            stream.fd = 1 if name == "stdout" else 2
            self.streams[name] = stream
        self.sent: list[tuple[int, int, bytes]] = []
        self.watched = 0

    def start(self) -> None:
        """Begin: not in a fixture, because pytest sets its own streams after these."""
        for name, stream in self.streams.items():
            self._monkeypatch.setattr(sys, name, stream)
        self.printing = Printing(self._send, self._watch)

    def _send(self, message: Any, frames: Sequence[Any]) -> None:
        assert isinstance(message, Output)
        (text,) = frames
        assert bytes(text).count(b"\n") + 1 == message.lines
        self.sent.append((message.id, message.stream, bytes(text)))

    def _watch(self) -> None:
        self.watched += 1

    def written(self, stream: int = 0) -> bytes:
        """Return what has come through a pipe."""
        read = self.pipes[stream][0]
        os.set_blocking(read, False)
        try:
            return os.read(read, 65_536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close the pipes, and first the streams: one that is collected later writes what it holds to another pipe."""
        for stream in self.streams.values():
            stream.close()
        for pipe in self.pipes:
            for fd in pipe:
                os.close(fd)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Return a worker's printing."""
    runtime.set_instance(HERE)
    with monkeypatch.context() as patch:
        rig = Rig(patch)
        yield rig
    rig.close()
    runtime.set_instance(None)


def function() -> None:
    """Do nothing."""


# --- processes -------------------------------------------------------------------------------


def test_whole_line_is_written_at_once(rig: Rig) -> None:
    """And nobody has to look after it."""
    rig.start()
    sys.stdout.write("one\n")
    assert rig.written() == b"one\n"
    assert not rig.printing.late
    assert rig.watched == 0


@pytest.mark.rule("R28")
def test_line_that_has_begun_is_written_after_a_tenth_of_a_second(rig: Rig) -> None:
    """Also if the task goes on writing to it."""
    rig.start()
    print("one", end="")
    sys.stdout.write("two")
    assert rig.watched == 1
    assert rig.printing.late
    now = perf_counter_ns()
    rig.printing.look(now)
    assert rig.written() == b""
    rig.printing.look(now + PATIENCE_NS)
    assert rig.written() == b"onetwo"
    assert not rig.printing.late


@pytest.mark.rule("R28")
def test_end_of_a_task_ends_its_line(rig: Rig) -> None:
    """What the next task prints is another line."""
    rig.start()
    for number in range(2):
        output = rig.printing.begin(number, function, thread=False)
        print(number, end="")
        rig.printing.end(output)
    assert rig.written() == b"0\n1\n"


# --- threads ---------------------------------------------------------------------------------


@pytest.mark.rule("R28")
def test_lines_of_threads_are_taken_apart(rig: Rig) -> None:
    """However they alternate, each task's lines are whole and its own."""
    rig.start()
    turn = threading.Barrier(2)

    def run(task: int) -> None:
        output = rig.printing.begin(task, function, thread=True)
        for word in ("a", "b", "c\n", "d"):
            turn.wait()
            sys.stdout.write(f"{word}{task}")
        rig.printing.end(output)
        sys.stdout.write(f"after {task}\n")

    threads = [threading.Thread(target=run, args=(task,)) for task in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for task in (1, 2):
        text = b"\n".join([text for id, _, text in rig.sent if id == task])
        assert text == b"a%db%dc\n%dd%d" % (task, task, task, task)
    assert sorted(rig.written().splitlines()) == [b"after 1", b"after 2"]


@pytest.mark.rule("R28")
def test_thread_shows_a_line_that_has_begun(rig: Rig) -> None:
    """After a tenth of a second; a newline that comes then ends it, and is no line."""
    rig.start()
    output = rig.printing.begin(7, function, thread=True)
    print("name? ", end="", file=sys.stderr)
    now = perf_counter_ns()
    rig.printing.look(now)
    assert rig.sent == []
    assert rig.printing.late
    rig.printing.look(now + PATIENCE_NS)
    assert rig.sent == [(7, 2, b"name? ")]
    print(file=sys.stderr)
    rig.printing.end(output)
    assert rig.sent == [(7, 2, b"name? ")]


def test_many_lines_of_a_thread_travel_together(rig: Rig) -> None:
    """In order, in messages that the pipe takes at once."""
    rig.start()
    output = rig.printing.begin(7, function, thread=True)
    for number in range(10_000):
        print(number)
    sys.stdout.write("x" * 300_000)
    rig.printing.end(output)
    lines = b"\n".join([text for _, _, text in rig.sent]).split(b"\n")
    assert lines[:10_000] == [b"%d" % number for number in range(10_000)]
    assert b"".join(lines[10_000:]) == b"x" * 300_000
    assert max(len(line) for line in lines) == 65_536
    assert len(rig.sent) < 5_000


@pytest.mark.rule("R28")
@pytest.mark.parametrize("stream", [1, 2])
def test_silent_thread_prints_nothing(rig: Rig, stream: int) -> None:
    """The next one does."""
    rig.start()
    for task, what in ((1, silent(function)), (2, function)):
        output = rig.printing.begin(task, what, thread=True)
        print("word", file=sys.stdout if stream == 1 else sys.stderr)
        rig.printing.end(output)
    assert rig.sent == [(2, stream, b"word")]


def test_forked_child_writes_to_the_descriptors(rig: Rig) -> None:
    """It has neither the link nor anybody who looks after lines."""
    rig.start()
    output = rig.printing.begin(7, function, thread=True)
    rig.printing.leave()
    print("child")
    print("line", end="")
    assert rig.sent == []
    assert rig.written() == b"child\n"
    rig.printing.end(output)
    assert rig.sent == []
