"""Streams whose calls come from an iterator, and groups larger than the window: memory is bounded."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.answers.streams import StreamBuffer
from skyward.pool.feeding import AHEAD
from tests.rules.work import add, echo, fail, hold, let_go, note, runs, until

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
WINDOW = 16 * MIB
SLACK = 64 * MIB  # bytes beyond the window that any process may take


@sky.function
def measure(_: bytes) -> int:
    """Return the length of what came."""
    return len(_)


@sky.function
def sleep(seconds: float) -> int:
    """Take a while."""
    time.sleep(seconds)
    return 0


def family() -> list[int]:
    """Return this process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def memory() -> dict[int, int]:
    """Return the bytes that each process of ours has in memory."""
    sizes: dict[int, int] = {}
    for pid in family():
        try:
            sizes[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        except OSError:
            continue
    return sizes


class Sampler:
    """Notes by how much each process has grown at most."""

    def __init__(self) -> None:
        self.before = memory()
        self.most: dict[int, int] = {}

    def look(self) -> None:
        """Take a sample."""
        for pid, size in memory().items():
            grown = size - self.before.get(pid, size)
            self.most[pid] = max(grown, self.most.get(pid, 0))


@pytest.mark.rule("R10")
def test_generator_is_pulled_lazily(pool: sky.Compute, tmp_path: Path) -> None:
    """At most a thousand calls ahead of what has ended, and on as results come."""
    pulled: list[int] = []

    def calls() -> Iterator[Any]:
        yield add(0).on(0)  # before a result is known there is little ahead
        yield hold(str(tmp_path), "first").on(0)
        yield hold(str(tmp_path), "second").on(1)
        for i in itertools.count():
            pulled.append(i)
            yield add(i).on(0)

    stream = sky.gather(calls(), stream=True) >> pool
    runs(tmp_path, "first")
    until(lambda: len(pulled) == AHEAD - 2)
    let_go(tmp_path, "second")
    let_go(tmp_path, "first")
    assert [next(stream) for _ in range(4)] == [0, "first", "second", 0]
    until(lambda: len(pulled) > AHEAD)
    stream.close()


@pytest.mark.rule("R10")
def test_lazy_stream_is_complete_and_in_order(pool: sky.Compute) -> None:
    """Every call once; with ``ordered=False`` each index once."""
    assert list(sky.gather((add(i, 1) for i in range(5_000)), stream=True) >> pool) == list(range(1, 5_001))
    stream = sky.gather((add(i, 1) for i in range(5_000)), stream=True, ordered=False) >> pool
    assert sorted(stream.indexed()) == [(i, i + 1) for i in range(5_000)]
    assert list(sky.gather(iter(()), stream=True) >> pool) == []


@pytest.mark.rule("R12")
def test_dispatch_goes_on_without_a_consumer(pool: sky.Compute, tmp_path: Path) -> None:
    """It begins at ``>>``, in the background."""
    stream = sky.gather((note(str(tmp_path), str(i)) for i in range(100)), stream=True) >> pool
    until(lambda: len(list(tmp_path.iterdir())) == 100)
    assert len(list(stream)) == 100


@pytest.mark.rule("R13")
def test_failures_of_a_lazy_stream_stand_in_place(pool: sky.Compute) -> None:
    """Also those of members that cannot be pickled, and the others go on."""
    lock = threading.Lock()
    calls = (make for i in range(300) for make in (add(i), fail(i), echo(lock)))
    stream = sky.gather(calls, stream=True, return_exceptions=True) >> pool
    kinds = [type(result) for result in stream]
    assert kinds == [int, ValueError, sky.SerializationError] * 300


@pytest.mark.rule("R13")
def test_first_failure_of_a_lazy_stream_ends_it(pool: sky.Compute) -> None:
    """In its turn, and no more calls are made."""
    made: list[int] = []

    def calls() -> Iterator[Any]:
        for i in itertools.count():
            made.append(i)
            yield fail(i) if i == 5 else add(i)

    stream = sky.gather(calls(), stream=True) >> pool
    got: list[Any] = []
    with pytest.raises(ValueError, match="bad 5"):
        got.extend(stream)
    assert got == [0, 1, 2, 3, 4]
    count = len(made)
    assert list(stream) == []
    assert len(made) <= count + 1


@pytest.mark.rule("R12")
def test_unnamed_lazy_stream_is_cancelled_by_break(pool: sky.Compute) -> None:
    """Its thread ends with it."""
    for value in sky.gather((add(i) for i in itertools.count()), stream=True) >> pool:
        if value == 10:
            break
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "skyward-feeder"])


@pytest.mark.rule("R12")
@pytest.mark.rule("R21")
@pytest.mark.parametrize("end", ["close", "drop", "failure"])
def test_stream_that_has_ended_keeps_nothing(pool: sky.Compute, end: str) -> None:
    """What calls come from is closed at once, though somebody still holds it; results are let go of."""
    ended: list[str] = []

    def calls() -> Iterator[Any]:
        try:
            for i in itertools.count():
                yield fail(i) if end == "failure" else add(i)
        finally:
            ended.append(threading.current_thread().name)

    before = buffers()
    source = calls()
    stream = sky.gather(source, stream=True) >> pool
    if end == "failure":
        with pytest.raises(ValueError, match="bad 0"):
            next(stream)
    else:
        assert next(stream) == 0
    if end == "close":
        stream.close()
    del stream
    until(lambda: ended == ["skyward-feeder"])
    until(lambda: not pool._underway._feeders)
    gc.collect()  # an error and its traceback refer to each other
    until(lambda: buffers() <= before)
    assert list(source) == []


def buffers() -> int:
    """Return how many streams of this process hold results, or may."""
    return sum(isinstance(value, StreamBuffer) for value in gc.get_objects())


@pytest.mark.rule("R10")
@pytest.mark.rule("R22")
@pytest.mark.parametrize("options", [{}, {"executor": "thread", "concurrency": 2}], ids=["process", "thread"])
def test_tasks_have_lazy_streams_of_their_own(options: Any) -> None:
    """The calls of the iterator are those of the task that has dispatched the stream."""

    @sky.function
    def total(count: int) -> int:
        return sum(sky.gather((add(i) for i in range(count)), stream=True) >> sky)

    with sky.Compute(nodes=1, **options) as pool:
        assert total(100) >> pool == 4_950


@pytest.mark.rule("F63")
@pytest.mark.rule("R21")
def test_memory_of_queued_calls_is_bounded(tmp_path: Path) -> None:
    """Futures block when the window is full, so what waits never exceeds it (F63)."""
    with sky.Compute(nodes=1, window=WINDOW) as pool:
        holder = hold(str(tmp_path), "x") > pool
        runs(tmp_path, "x")
        sampler, sent = Sampler(), list[Any]()

        def submit() -> None:
            for _ in range(1_000):
                sent.append(measure(bytes(100_000)) > pool)

        thread = threading.Thread(target=submit)
        thread.start()
        until(lambda: len(sent) >= WINDOW // 100_100 - 1)
        sampler.look()
        assert len(sent) <= WINDOW // 100_000
        let_go(tmp_path, "x")
        thread.join(60)
        assert {future.result() for future in sent} == {100_000}
        sampler.look()
        assert max(sampler.most.values()) < WINDOW + SLACK
        assert holder.result() == "x"


@pytest.mark.rule("R21")
@pytest.mark.parametrize("ordered", [True, False])
def test_memory_of_a_lazy_stream_is_bounded(ordered: bool) -> None:
    """On the client, the daemons and the workers, while one member takes its time."""
    check_memory(5_000, 1.0, ordered=ordered)


@pytest.mark.rule("R21")
@pytest.mark.rule("F63")
@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("ordered", [True, False])
def test_memory_of_a_million_calls_is_bounded(ordered: bool) -> None:
    """A hundred gigabytes of arguments pass through, and the first member sleeps for half a minute."""
    check_memory(1_000_000, 30.0, ordered=ordered)


def check_memory(count: int, pause: float, *, ordered: bool) -> None:
    """Send calls of 100 kB, and watch all processes."""
    with sky.Compute(nodes=2, window=WINDOW) as pool:
        list(sky.gather((measure(bytes(100_000)) for _ in range(50)), stream=True) >> pool)
        sampler = Sampler()

        def calls() -> Iterator[Any]:
            yield sleep(pause)
            for _ in range(count - 1):
                yield measure(bytes(100_000))

        seen = 0
        for seen, _ in enumerate(sky.gather(calls(), stream=True, ordered=ordered) >> pool, 1):
            if seen % 500 == 1:
                sampler.look()
        assert seen == count
    assert max(sampler.most.values()) < WINDOW + SLACK, sampler.most
