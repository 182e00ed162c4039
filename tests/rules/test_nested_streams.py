"""Streams of values between tasks: what a generator yields to the task that has called it, and what that feeds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator  # noqa: TC003 - evaluated where functions are marked
from pathlib import Path
from typing import Any

import pytest

import skyward as sky
from tests.rules.processes import pid_of
from tests.rules.work import LONG, echo, until
from tests.rules.yielding import (
    arrays,
    checksum,
    count,
    count_async,
    die_after,
    double,
    fail_after,
    is_idle,
    kind_of,
    mark,
    marks,
    take,
    total,
    yield_then_block,
)


@pytest.fixture(params=[("process", 1), ("process", 2), ("thread", 1)], ids=["process", "processes", "thread"])
def small(request: pytest.FixtureRequest) -> Iterator[sky.Compute]:
    """Return pools in which a task that holds its slot would keep its calls from running, and one with a node more."""
    executor, nodes = request.param
    with sky.Compute(nodes=nodes, executor=executor) as pool:
        yield pool
        pool.close(cancel=True)  # a test that has failed may have left calls that are held


@pytest.mark.rule("R22")
@pytest.mark.rule("R23")
def test_generator_streams_to_the_task_that_calls_it(small: sky.Compute) -> None:
    """Plain and async; with each operator, alone and in groups."""

    @sky.function
    def outer(stop: int) -> tuple[list[int], list[int], list[list[int]], list[int], int, list[int]]:
        plain, asynchronous = list(count(stop) >> sky), list(count_async(stop) >> sky)
        everywhere = [list(values) for values in count(3) @ sky]
        future = count(4) > sky
        number, values = (total(iter([1, 2])) & count(2)) >> sky
        return plain, asynchronous, everywhere, list(future.result(LONG)), number, list(values)

    nodes = small.current_nodes()
    assert outer(1000) >> small == (list(range(1000)), list(range(1000)), [[0, 1, 2]] * nodes, [0, 1, 2, 3], 3, [0, 1])


@pytest.mark.rule("R22")
@pytest.mark.rule("R23")
def test_values_come_as_they_are_yielded(small: sky.Compute, tmp_path: Path) -> None:
    """While the generator runs on: it goes on only when the task has taken one."""

    @sky.function
    def outer(directory: str) -> list[int]:
        values = yield_then_block(directory, 2) >> sky
        taken = [next(values), next(values)]
        Path(directory, "go").touch()
        return taken + list(values)

    assert outer(str(tmp_path)) >> small == [0, 1, 2]


@pytest.mark.rule("R22")
@pytest.mark.rule("R24")
def test_task_feeds_the_calls_it_makes(small: sky.Compute) -> None:
    """From iterators, containers and generators of its own, which may make calls themselves, and from streams."""

    @sky.function
    def outer(stop: int) -> tuple[int, tuple[str, list[int]], int, int]:
        def calling() -> Iterator[int]:
            for _ in range(3):
                yield total(iter([1, 2])) >> sky

        return (
            total(iter(range(stop))) >> sky,
            kind_of(iter(range(stop))) >> sky,
            total(calling()) >> sky,
            total(double(count(stop) >> sky) >> sky) >> sky,
        )

    assert outer(500) >> small == (124750, ("Input", list(range(500))), 9, 249500)


@pytest.mark.rule("R22")
@pytest.mark.rule("R23")
def test_exceptions_are_raised_at_their_place(small: sky.Compute) -> None:
    """Of the generator in the task behind what it has yielded, and of what the task feeds in the function."""

    @sky.function
    def catching(values: Iterator[int]) -> tuple[int, str]:
        taken = 0
        try:
            for _ in values:
                taken += 1
        except ZeroDivisionError as error:
            return taken, repr(error)
        return taken, "none"

    @sky.function
    def outer() -> tuple[tuple[list[int], str], tuple[int, str]]:
        taken: list[int] = []
        text = "none"
        try:
            taken.extend(iter(fail_after(3) >> sky))
        except ValueError as error:
            text = str(error)

        def feeding() -> Iterator[int]:
            yield from range(3)
            raise ZeroDivisionError("fed")

        values = fail_after(2) >> sky
        taken += [next(values), next(values)]
        return (taken, text), catching(feeding()) >> sky

    (taken, text), fed = outer() >> small
    assert (taken[-2:], text) == ([0, 1], "bad after 3")
    assert fed == (3, "ZeroDivisionError('fed')")


@pytest.mark.rule("R22")
@pytest.mark.rule("R25")
@pytest.mark.parametrize("way", ["close", "break", "return", "raise"])
def test_generator_of_a_task_is_stopped(small: sky.Compute, tmp_path: Path, way: str) -> None:
    """When the task closes its iterator, drops it, or ends: its `finally` runs, and nothing is left."""

    @sky.function
    def outer(directory: str, way: str) -> int:
        if way == "break":
            for value in count(10**9, directory) >> sky:
                if value == 2:
                    break
        else:
            values: Any = count(10**9, directory) >> sky
            next(values)
            if way == "close":
                values.close()
            if way == "raise":
                raise KeyError("mine")
        deadline = time.monotonic() + LONG
        while way in ("close", "break") and not marks(Path(directory), "ends"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return 1

    if way == "raise":
        with pytest.raises(KeyError):
            outer(str(tmp_path), way) >> small
    else:
        assert outer(str(tmp_path), way) >> small == 1
    until(lambda: marks(tmp_path, "ends") == 1)
    until(lambda: is_idle(small))


@pytest.mark.rule("R22")
@pytest.mark.rule("R25")
def test_slow_task_holds_back_the_generator(small: sky.Compute, tmp_path: Path) -> None:
    """It has yielded little more than what was taken, however long it could have gone on."""

    @sky.function
    def outer(directory: str) -> int:
        values: Any = count(10**9, directory) >> sky
        for _ in range(3):
            next(values)
        total(iter([1])) >> sky  # on the slot of the generator, if there is one only: it waits by then
        seen = marks(Path(directory), "yielded")
        values.close()
        return seen

    assert 3 <= outer(str(tmp_path)) >> small <= 12


@pytest.mark.rule("R22")
@pytest.mark.rule("R25")
def test_slow_function_holds_back_the_task_that_feeds_it(small: sky.Compute, tmp_path: Path) -> None:
    """Little more is pulled than it takes, and nothing after it has ended."""

    @sky.function
    def outer(directory: str) -> tuple[list[int], int]:
        def feeding() -> Iterator[int]:
            number = 0
            while True:
                mark(directory, "pulled")
                yield number
                number += 1

        return take(feeding(), 3) >> sky, marks(Path(directory), "pulled")

    taken, pulled = outer(str(tmp_path)) >> small
    assert taken == [0, 1, 2]
    assert 3 <= pulled <= 12


@pytest.mark.rule("R22")
@pytest.mark.rule("R25")
def test_task_may_zip_more_generators_than_slots(small: sky.Compute) -> None:
    """Each that waits for the task lends its slot, as the task does."""

    @sky.function
    def outer() -> list[tuple[int, ...]]:
        return list(zip(*[count(50) >> sky for _ in range(5)], strict=True))

    assert outer() >> small == [(number,) * 5 for number in range(50)]


@pytest.mark.rule("R22")
def test_generator_may_stream_what_another_yields(small: sky.Compute) -> None:
    """Through several tasks, up to the client."""

    @sky.function
    def passing(stop: int, depth: int) -> Iterator[int]:
        values = passing(stop, depth - 1) if depth else count(stop)
        for value in values >> sky:
            yield value + 1

    assert list(passing(100, 2) >> small) == list(range(3, 103))


@pytest.mark.rule("R22")
@pytest.mark.rule("R20")
def test_large_arrays_stream_between_tasks(small: sky.Compute) -> None:
    """They are as they were when they were yielded, or fed, whoever shares memory with whom."""

    @sky.function
    def outer(size: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
        import numpy as np

        found = [(int(array[0]), int(array.sum())) for array in arrays(20, size) >> sky]
        return found, checksum(np.full(size, number, np.uint8) for number in range(20)) >> sky

    size = 1_000_000
    found, fed = outer(size) >> small
    assert found == [(number, number * size) for number in range(20)]
    assert fed == (20, sum(range(20)))


@pytest.mark.rule("R22")
@pytest.mark.rule("R36")
def test_worker_that_dies_ends_the_stream_in_the_task(tmp_path: Path) -> None:
    """Behind what has come; a generator that has yielded is not run again."""

    @sky.function
    def outer(directory: str) -> tuple[list[int], str]:
        taken: list[int] = []
        try:
            taken.extend(iter(die_after(2, directory) >> sky))
        except sky.WorkerCrashedError as error:
            return taken, type(error).__name__
        return taken, "none"

    with sky.Compute(nodes=2) as pool:
        assert outer(str(tmp_path)) >> pool in [([0, 1], "WorkerCrashedError"), ([], "WorkerCrashedError")]
        assert marks(tmp_path, "starts") == 1


@pytest.mark.rule("R22")
def test_stream_ends_with_the_node_of_its_task(tmp_path: Path) -> None:
    """A generator whose caller is gone is stopped."""

    @sky.function(retries=0)
    def outer(directory: str) -> None:
        for _ in count(10**9, directory) >> sky:
            Path(directory, "pid").write_text(str(os.getppid()))
            time.sleep(LONG)

    with sky.Compute(nodes=2) as pool:
        future = outer(str(tmp_path)).on(0) > pool
        until((tmp_path / "pid").exists)
        os.kill(pid_of(pool.snapshot().nodes[0]), 9)
        with pytest.raises(sky.NodeLostError):
            future.result(LONG)
        until(lambda: is_idle(pool))


@pytest.mark.rule("R24")
def test_iterator_of_a_task_belongs_to_one_call(small: sky.Compute) -> None:
    """As on the client: a second call with it, or a broadcast, is refused."""

    @sky.function
    def outer() -> list[str]:
        said: list[str] = []
        values = iter([1, 2])
        total(values) >> sky
        for attempt in (lambda: total(values) >> sky, lambda: total(iter([1])) @ sky):
            try:
                attempt()
            except ValueError as error:
                said.append(str(error))
        return said

    second, broadcast = outer() >> small
    assert "belongs to another call already" in second
    assert "a broadcast runs on every node" in broadcast


@sky.function
async def awaiting(stop: int) -> tuple[int, list[int], list[Any]]:
    """Await a future, a stream of values, and a stream of results."""
    number = await (total(iter([1, 2])) > sky)
    values: Any = count(stop) >> sky
    taken = [value async for value in values]
    stream: Any = sky.gather(*[total(iter([each])) for each in range(3)], stream=True) >> sky
    return number, taken, [value async for value in stream]


@pytest.mark.rule("R22")
@pytest.mark.rule("R49")
def test_coroutine_that_awaits_calls_lends_its_slot(small: sky.Compute) -> None:
    """Futures, streams of values and of results: their calls may need the slot."""
    assert awaiting(100) >> small == (3, list(range(100)), [0, 1, 2])


@pytest.mark.rule("R5")
@pytest.mark.rule("R24")
def test_iterator_that_is_fed_is_no_value(small: sky.Compute) -> None:
    """Passed on as one, or returned, it is refused in words that say what to do."""

    @sky.function
    def pass_on(numbers: Iterator[int]) -> Any:
        return echo(numbers) >> sky

    @sky.function
    def give_back(numbers: Iterator[int]) -> Any:
        return numbers

    for function, path in ((pass_on, "argument 'value' → .*Input"), (give_back, "result of .*Input")):
        with pytest.raises(sky.SerializationError, match=rf"{path}.* annotated Iterator\[...\].* list\(...\)"):
            function(iter([1])) >> small
