"""Calls of generator functions: iterators over what the remote side yields."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import daemons
from tests.rules.work import add, echo, fail, hold, let_go, until
from tests.rules.yielding import (
    arrays,
    count,
    count_async,
    die_after,
    double,
    fail_after,
    is_idle,
    kinds,
    marks,
    place_of,
    yield_then_block,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


@pytest.fixture(params=["process", "thread"])
def either(request: pytest.FixtureRequest) -> Iterator[sky.Compute]:
    """Return a pool of one node with two slots, of processes and of threads."""
    with sky.Compute(nodes=1, executor=request.param, concurrency=2) as pool:
        yield pool


@contextmanager
def in_time(*streams: Any) -> Generator[None]:
    """Close the streams if the block takes too long: what waits for them then fails instead of hanging."""
    timer = threading.Timer(15.0, lambda: [stream.close() for stream in streams])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def has_ended(directory: Path, times: int) -> bool:
    """Return whether generators have ended so many times."""
    return marks(directory, "ends") == times


@pytest.mark.rule("R23")
def test_generator_gives_an_iterator_at_once(either: sky.Compute, tmp_path: Path) -> None:
    """Values come as they are yielded, while the generator runs on."""
    values = yield_then_block(str(tmp_path), 3) >> either
    assert iter(values) is values
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    assert not marks(tmp_path, "ends")
    (tmp_path / "go").touch()
    assert list(values) == [3]
    assert marks(tmp_path, "ends") == 1
    assert list(values) == []
    assert list(count(5000) >> either) == list(range(5000))
    assert list(count(0) >> either) == []


@pytest.mark.rule("R23")
@pytest.mark.rule("R49")
def test_async_generator_streams(either: sky.Compute) -> None:
    """It runs on the worker's event loop, and its iterator works with `for` and with `async for`."""
    assert list(count_async(500) >> either) == list(range(500))

    async def consume() -> tuple[list[int], list[int]]:
        first = [value async for value in count_async(300) >> either]
        values: Any = count(300) >> either  # it is asynchronous all the same
        return first, [value async for value in values]

    assert asyncio.run(consume()) == (list(range(300)), list(range(300)))


@pytest.mark.rule("R23")
def test_slow_generator_is_not_late(pool: sky.Compute, tmp_path: Path) -> None:
    """Of values that come fast before the generator blocks none is held back."""
    values: Any = yield_then_block(str(tmp_path), 100) >> pool
    with in_time(values):
        assert [next(values, None) for _ in range(100)] == list(range(100))
    values.close()


@pytest.mark.rule("R23")
def test_values_of_all_kinds_are_as_they_were_yielded(either: sky.Compute) -> None:
    """Also what the generator goes on to change, among numbers that it cannot."""
    expected = [copy for number in range(300) for copy in (number, str(number), (number, [number]), [number], None)]
    assert list(kinds(300) >> either) == expected


@pytest.mark.rule("R23")
def test_broadcast_gives_an_iterator_for_each_node(pool: sky.Compute) -> None:
    """In rank order, each from its own node."""
    streams = place_of(3) @ pool
    assert [[rank for rank, _ in stream] for stream in streams] == [[0] * 3, [1] * 3]


@pytest.mark.rule("R23")
def test_group_mixes_iterators_and_values(either: sky.Compute, tmp_path: Path) -> None:
    """An iterator stands at its place, and the group does not wait for its end."""
    group = add(1, 2) & yield_then_block(str(tmp_path), 1) & echo("x")
    number, values, text = group.with_timeout(15.0) >> either
    assert (number, text, next(values)) == (3, "x", 0)
    (tmp_path / "go").touch()
    assert list(values) == [1]
    one, two = (count(3) & count(4)) >> either
    assert (list(two), list(one)) == ([0, 1, 2, 3], [0, 1, 2])
    future = sky.gather(count(3), add(1, 1)) > either
    values, number = future.result()
    assert (list(values), number) == ([0, 1, 2], 2)
    assert list((count(3) > either).result()) == [0, 1, 2]
    assert [list(values) for values in (sky.gather(count(1), count(2)) > either).result()] == [[0], [0, 1]]


@pytest.mark.rule("R23")
def test_stream_of_a_group_has_iterators_as_members(pool: sky.Compute) -> None:
    """In submission order, mixed with values; a lazy one is not pulled far ahead."""
    members: Any = sky.gather(add(1, 1), count(3), add(2, 2), count(2), stream=True) >> pool
    assert [value if isinstance(value, int) else list(value) for value in members] == [2, [0, 1, 2], 4, [0, 1]]
    made: list[int] = []

    def calls() -> Iterator[Any]:
        for number in range(200):
            made.append(number)
            yield count(number)

    stream = sky.gather(calls(), stream=True) >> pool
    assert list(next(stream)) == []
    assert len(made) < 100
    assert [len(list(values)) for values in stream] == list(range(1, 200))


@pytest.mark.rule("R23")
def test_exception_is_raised_at_its_point(either: sky.Compute) -> None:
    """After what was yielded before it; with its class, and not as the failure of a group."""
    values = fail_after(3) >> either
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="bad after 3") as caught:
        next(values)
    assert "fail_after" in str(caught.value.__cause__)
    assert list(values) == []
    number, values = (add(1, 1) & fail_after(0)) >> either
    assert number == 2
    with pytest.raises(ValueError, match="bad after 0"):
        next(values)


@pytest.mark.rule("R23")
@pytest.mark.rule("R13")
def test_failing_group_stops_its_generators(either: sky.Compute, tmp_path: Path) -> None:
    """Nobody has their iterators."""
    with pytest.raises(ValueError, match="bad 1"):
        (yield_then_block(str(tmp_path), 1) & fail(1)) >> either
    (tmp_path / "go").touch()  # a thread stops at its next yield
    until(lambda: is_idle(either))
    assert add(1, 1) >> either == 2


@pytest.mark.rule("R23")
@pytest.mark.rule("R29")
def test_value_that_cannot_be_pickled_ends_the_stream(either: sky.Compute, tmp_path: Path) -> None:
    """What came before it is there, the generator is closed, and the error says so."""

    @sky.function
    def locks(directory: str) -> Iterator[Any]:
        try:
            yield 1
            yield threading.Lock()
        finally:
            with open(f"{directory}/closed", "w", encoding="ascii") as file:
                file.write("x")

    values = locks(str(tmp_path)) >> either
    assert next(values) == 1
    with pytest.raises(sky.SerializationError):
        next(values)
    assert marks(tmp_path, "closed") == 1


@pytest.mark.rule("R23")
def test_arrays_are_as_they_were_yielded(either: sky.Compute) -> None:
    """A generator that goes on and changes what it has yielded changes nothing that was sent."""
    for size in (100, 50_000, 1_000_000):
        got = [(int(array[0]), int(array[-1]), array.flags.writeable) for array in arrays(40, size) >> either]
        assert got == [(number, number, True) for number in range(40)]


@pytest.mark.rule("R25")
@pytest.mark.rule("F64")
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 10, 500])
def test_break_stops_the_generator(either: sky.Compute, tmp_path: Path, taken: int) -> None:
    """Wherever the consumer leaves off, the generator's ``finally`` runs within a second."""
    seen = 0
    values: Any = count(10**9, str(tmp_path)) >> either
    with values:
        for _ in values:
            if seen == taken:
                break
            seen += 1
    until(lambda: marks(tmp_path, "ends") == 1, timeout=2.0)
    until(lambda: is_idle(either), timeout=2.0)
    assert marks(tmp_path, "yielded") <= 4 * taken + 100
    assert add(1, 1) >> either == 2


@pytest.mark.rule("R25")
def test_dropping_the_iterator_stops_the_generator(either: sky.Compute, tmp_path: Path) -> None:
    """By `close`, by a `break` out of an unnamed one, and by garbage collection."""
    for way, expected in enumerate(("close", "break", "drop"), 1):
        if way == 2:
            for _ in count(10**9, str(tmp_path)) >> either:
                break
        else:
            values: Any = count(10**9, str(tmp_path)) >> either
            assert next(values) == 0
            if expected == "close":
                values.close()
                assert list(values) == []
            del values
        gc.collect()
        until(partial(has_ended, tmp_path, way), timeout=5.0)
    values = count_async(10**9, str(tmp_path)) >> either
    assert next(values) == 0
    values.close()
    until(lambda: marks(tmp_path, "ends") == 4, timeout=5.0)
    until(lambda: is_idle(either))


@pytest.mark.rule("R25")
def test_close_interrupts_code_that_runs(pool: sky.Compute, tmp_path: Path) -> None:
    """In a process the generator is stopped in the middle of its code."""
    values: Any = yield_then_block(str(tmp_path), 1) >> pool
    assert next(values) == 0
    time.sleep(0.05)
    values.close()
    until(lambda: marks(tmp_path, "ends") == 1, timeout=2.0)
    until(lambda: is_idle(pool))


@pytest.mark.rule("R25")
def test_generator_waits_for_its_consumer(either: sky.Compute, tmp_path: Path) -> None:
    """It is only a little ahead of a slow one, and no work is lost meanwhile."""
    values = count(1000, str(tmp_path)) >> either
    for number in range(5):
        assert next(values) == number
        time.sleep(0.05)
    assert marks(tmp_path, "yielded") < 50
    assert list(values) == list(range(5, 1000))


@pytest.mark.rule("R25")
@pytest.mark.parametrize("executor", ["process", "thread"])
@pytest.mark.parametrize(("slots", "most"), [(1, 8), (2, 10)])
def test_more_generators_than_slots_can_be_zipped(executor: Any, slots: int, most: int) -> None:
    """One that waits for its consumer lends its slot."""
    with sky.Compute(nodes=1, executor=executor, concurrency=slots) as pool:
        streams = [count(200) >> pool for _ in range(most)]
        with in_time(*streams):
            assert list(zip(*streams, strict=False)) == [(number,) * most for number in range(200)]
        assert add(1, 1) >> pool == 2


@pytest.mark.rule("R25")
def test_timeout_does_not_count_the_wait(either: sky.Compute) -> None:
    """A generator whose consumer takes its time is not over its own; one that takes it itself is."""
    values = count(50).with_timeout(1.0) >> either
    assert next(values) == 0
    time.sleep(1.5)
    assert list(values) == list(range(1, 50))


@pytest.mark.rule("R39")
@pytest.mark.rule("R25")
def test_timeout_is_raised_at_its_point(pool: sky.Compute, tmp_path: Path) -> None:
    """What was yielded before is there."""
    values = yield_then_block(str(tmp_path), 2).with_timeout(0.3) >> pool
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(sky.TaskTimeoutError):
        next(values)


@pytest.mark.rule("R36")
@pytest.mark.rule("R23")
@pytest.mark.parametrize("taken", [1, 50])
def test_lost_node_ends_its_streams(pool: sky.Compute, tmp_path: Path, taken: int) -> None:
    """`NodeLostError` comes where the next value would have; a generator that has yielded is not run again."""
    values = yield_then_block(str(tmp_path), taken).on(1) >> pool
    other = yield_then_block(str(tmp_path), taken) >> pool
    assert [next(values) for _ in range(taken)] == list(range(taken))
    assert [next(other) for _ in range(taken)] == list(range(taken))
    for daemon in daemons(pool):
        os.kill(daemon.pid, signal.SIGKILL)
    for stream in (values, other):
        with pytest.raises(sky.NodeLostError):
            next(stream)
        assert list(stream) == []
    assert add(1, 1) >> pool == 2


@pytest.mark.rule("R36")
@pytest.mark.rule("R38")
def test_generator_that_has_yielded_is_not_run_again(pool: sky.Compute, tmp_path: Path) -> None:
    """Not after the death of its worker either, whatever its retries; one that has not is."""
    values = die_after(3, str(tmp_path)).with_retries(3) >> pool
    assert [next(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(sky.WorkerCrashedError):
        next(values)
    assert marks(tmp_path, "starts") == 1
    values = die_after(0, str(tmp_path)).with_retries(3) >> pool
    with pytest.raises(sky.WorkerCrashedError):
        next(values)
    assert marks(tmp_path, "starts") == 3


@pytest.mark.rule("R30")
@pytest.mark.rule("R23")
def test_closing_the_pool_stops_generators(tmp_path: Path) -> None:
    """Leaving waits for futures, and not for generators that nobody reads."""
    with sky.Compute(nodes=1, concurrency=2) as pool:
        values = count(10**9, str(tmp_path)) >> pool
        future = hold(str(tmp_path), "a") > pool
        assert next(values) == 0
        let_go(tmp_path, "a")
    assert future.result() == "a"
    assert marks(tmp_path, "ends") == 1
    with pytest.raises(sky.PoolClosedError):
        list(values)


@pytest.mark.rule("R24")
@pytest.mark.rule("R23")
def test_closing_the_pool_waits_for_calls_that_read_generators() -> None:
    """A future whose argument is fed by a generator is waited for."""
    from tests.rules.yielding import total

    with sky.Compute(nodes=1, concurrency=2) as pool:
        future = total(double(count(2000) >> pool) >> pool) > pool
    assert future.result() == 2 * sum(range(2000))


@pytest.mark.rule("R23")
def test_interrupt_closes_the_iterator(pool: sky.Compute, tmp_path: Path) -> None:
    """What the interrupted thread waits for is stopped, and the pool goes on."""
    values = yield_then_block(str(tmp_path), 1) >> pool
    assert next(values) == 0
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(values)
    timer.join()
    until(lambda: marks(tmp_path, "ends") == 1, timeout=3.0)
    assert list(values) == []
    assert add(1, 1) >> pool == 2


@pytest.mark.rule("R23")
def test_local_generator_is_the_function_itself() -> None:
    """Without a pool nothing changes."""
    assert list(count.local(3)) == [0, 1, 2]
    assert list(double.local(iter([1, 2]))) == [2, 4]


@pytest.mark.rule("R23")
def test_generator_of_a_plain_function_is_refused(pool: sky.Compute) -> None:
    """Only what is known to yield streams; the error says what to mark."""

    @sky.function
    def hidden() -> Any:
        return (number for number in range(3))

    with pytest.raises(TypeError, match="is no generator function"):
        hidden() >> pool


@pytest.mark.rule("R16")
def test_function_that_returns_an_iterator_gives_that_iterator(one: sky.Compute) -> None:
    """It is annotated as a generator function may be, so that `Iterator` is the type of both."""
    evens = sky.function(lambda: iter([0, 2]))
    assert type(evens() >> one) is type(iter([1]))
