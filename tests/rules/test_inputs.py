"""Arguments that are fed element by element."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import daemons
from tests.rules.work import add, echo, until, where
from tests.rules.yielding import caught, checksum, count, double, is_idle, kind_of, marks, take, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["process", "thread"])
def either(request: pytest.FixtureRequest) -> Iterator[sky.Compute]:
    """Return a pool of one node with two slots, of processes and of threads."""
    with sky.Compute(nodes=1, executor=request.param, concurrency=2) as pool:
        yield pool


NAME: ContextVar[str] = ContextVar("NAME", default="none")


class Counter:
    """An iterable that counts what was pulled."""

    def __init__(self, stop: int = 10**9) -> None:
        self.pulled = 0
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        for number in range(self.stop):
            self.pulled += 1
            yield number


@pytest.mark.rule("R24")
def test_iterator_parameter_is_fed_from_any_iterable(either: sky.Compute) -> None:
    """By position or keyword; from a list, a range, a generator, an iterator."""
    for given in ([1, 2, 3], range(1, 4), (number for number in (1, 2, 3)), iter((1, 2, 3)), {1: 0, 2: 0, 3: 0}):
        assert total(given) >> either == 6  # type: ignore[arg-type]  # any iterable will do
    assert total(numbers=[4, 5]) >> either == 9  # type: ignore[arg-type]  # the same
    assert total(iter(())) >> either == 0
    assert total(iter(range(20_000))) >> either == sum(range(20_000))


@pytest.mark.rule("R24")
def test_iterable_parameter_is_fed_only_from_what_is_used_up(either: sky.Compute) -> None:
    """A container travels as a value, and is in the task what it is without a pool."""
    for container in ([1, 2], (1, 2), range(2), {1: 0, 2: 0}, frozenset((1, 2))):
        assert kind_of(container) >> either == kind_of.local(container)
        assert kind_of(values=container) >> either == kind_of.local(values=container)
    assert kind_of(iter([1, 2])) >> either == ("Input", [1, 2])
    assert kind_of(number for number in range(2)) >> either == ("Input", [0, 1])


@pytest.mark.rule("R24")
def test_container_that_a_parameter_allows_too_travels_as_a_value(pool: sky.Compute) -> None:
    """As without a pool; what is used up is fed."""

    @sky.function
    def kind_of(values: list[int] | str | Iterator[int] | None) -> str:
        return type(values).__name__

    for given in ([1, 2], "ab", None):
        assert kind_of(given) >> pool == kind_of.local(given)
    assert kind_of(iter([1, 2])) >> pool == "Input"


@pytest.mark.rule("R1")
@pytest.mark.rule("R24")
def test_decorated_function_is_fed(pool: sky.Compute) -> None:
    """A decorator that takes anything says by `functools.wraps` what it takes."""

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @sky.function
    @noted
    def first(numbers: Iterator[int]) -> int:
        return next(numbers)

    assert first([1, 2]) >> pool == 1
    assert first(numbers=(number for number in [3])) >> pool == 3


@pytest.mark.rule("R24")
def test_elements_are_fed_as_they_are_made(either: sky.Compute) -> None:
    """Both directions at once: what comes back decides what is sent next."""
    answers: list[int] = []

    def questions() -> Iterator[int]:
        yield 1
        for _ in range(5):
            until(lambda: answers and answers[-1] != 0)
            answer, answers[-1] = answers[-1], 0
            yield answer

    for answer in double(questions()) >> either:
        answers += [answer]
    assert answers[-1] == 64


@pytest.mark.rule("R24")
def test_long_streams_flow_both_ways(either: sky.Compute) -> None:
    """Through several stages, each a call."""
    stage: Any = range(2_000)
    for _ in range(3):
        stage = double(stage) >> either
    assert list(stage) == [8 * number for number in range(2_000)]


@pytest.mark.rule("R24")
def test_exception_of_the_iterable_is_raised_in_the_function(either: sky.Compute) -> None:
    """At that point; what the function does not catch is the call's own failure."""

    def bad() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no more")

    assert caught(bad()) >> either == ([1, 2], "no more")
    with pytest.raises(ValueError, match="no more"):
        total(bad()) >> either
    with pytest.raises(sky.SerializationError):
        take(iter([1, threading.Lock()]), 2) >> either
    assert take(iter([1, threading.Lock()]), 1) >> either == [1]


@pytest.mark.rule("R24")
def test_iterator_belongs_to_one_task(pool: sky.Compute) -> None:
    """Using it twice, or for every node, is a `ValueError`; a list does for all."""
    makers: list[Callable[[], Iterator[int]]] = [lambda: iter([1, 2]), lambda: (number for number in [1, 2])]
    for make in makers:
        with pytest.raises(ValueError, match="broadcast"):
            total(make()) @ pool
        numbers = make()
        with pytest.raises(ValueError, match="another call"):
            (total(numbers) & total(numbers)) >> pool
        numbers = make()
        assert total(numbers) >> pool == 3
        with pytest.raises(ValueError, match="another call"):
            total(numbers) >> pool
    assert total([1, 2]) @ pool == [3, 3]  # type: ignore[arg-type]  # any iterable will do
    assert (total([1]) & total([1])) >> pool == (1, 1)  # type: ignore[arg-type]  # the same
    assert [list(values) for values in double([1, 2]) @ pool] == [[2, 4], [2, 4]]  # type: ignore[arg-type]  # the same


@pytest.mark.rule("R24")
def test_iterator_that_was_used_is_known_for_good(pool: sky.Compute) -> None:
    """Also one of the standard library's, and after many others."""
    numbers = iter([1, 2])
    assert total(numbers) >> pool == 3
    assert sky.gather(*[total(iter([i])) for i in range(300)]) >> pool == tuple(range(300))
    with pytest.raises(ValueError, match="another call"):
        total(numbers) >> pool


@pytest.mark.rule("R24")
def test_iterator_of_which_nothing_was_pulled_can_be_passed_again(pool: sky.Compute) -> None:
    """The call to which it belonged has failed, or was cancelled, before that."""
    for numbers in (iter([1, 2]), (number for number in [1, 2])):
        with pytest.raises(sky.AbsentRankError):
            total(numbers).on(9) >> pool
        future = total(numbers).on(9) > pool
        with pytest.raises(sky.AbsentRankError):
            future.result()
        assert total(numbers) >> pool == 3
        with pytest.raises(ValueError, match="another call"):
            total(numbers) >> pool


@pytest.mark.rule("R24")
@pytest.mark.rule("R30")
@pytest.mark.parametrize("how", ["absent", "unserializable", "taken in part"])
def test_values_that_no_call_takes_any_more_hold_up_no_end(how: str) -> None:
    """A generator that feeds a call is waited for as long as that call takes what it yields."""

    @sky.function
    def three(values: Iterator[int], _other: object = None) -> int:
        return sum(itertools.islice(values, 3))

    with sky.Compute(nodes=2) as pool:
        values = count(10**9) >> pool
        if how == "absent":
            with pytest.raises(sky.AbsentRankError):
                three(values).on(9) >> pool
        elif how == "unserializable":
            with pytest.raises(sky.SerializationError):
                three(values, threading.Lock()) >> pool
        else:
            assert three(values) >> pool == 3
    with pytest.raises(sky.PoolClosedError):
        list(values)


@pytest.mark.rule("R24")
def test_broadcast_that_was_refused_leaves_the_iterator_alone(pool: sky.Compute) -> None:
    """It can be passed to one call after that."""
    numbers = iter([1, 2])
    with pytest.raises(ValueError, match="broadcast"):
        total(numbers) @ pool
    assert total(numbers) >> pool == 3


@pytest.mark.rule("R14")
@pytest.mark.rule("R24")
def test_what_feeds_an_argument_runs_in_the_context_of_the_call(pool: sky.Compute) -> None:
    """Its ``>> sky`` is the pool of whoever has sent the call, whatever another thread has opened later."""
    opened, over = threading.Event(), threading.Event()

    def open_another() -> None:
        with sky.Compute(nodes=1):
            opened.set()
            over.wait()

    seen: list[str] = []

    def numbers() -> Iterator[int]:
        _, info = where() >> sky
        assert info is not None
        seen.append(NAME.get())
        yield info.total_nodes

    other = threading.Thread(target=open_another)
    other.start()
    token = NAME.set("mine")
    try:
        opened.wait()
        assert total(numbers()) >> sky == 2
        assert sky.gather(total(numbers()), total(numbers())) >> sky == (2, 2)
        assert seen == ["mine"] * 3
    finally:
        NAME.reset(token)
        over.set()
        other.join()


@pytest.mark.rule("R25")
@pytest.mark.rule("F64")
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 10, 300])
def test_pulling_stops_when_the_function_ends(either: sky.Compute, taken: int) -> None:
    """Wherever it leaves off, and little more than it took was pulled."""
    numbers = Counter()
    assert take(numbers, taken) >> either == list(range(taken))  # type: ignore[arg-type]  # any iterable will do
    until(lambda: "skyward-input" not in [thread.name for thread in threading.enumerate()])
    assert numbers.pulled <= 4 * taken + 10
    assert (numbers.pulled == 0) == (taken == 0)


@pytest.mark.rule("R25")
@pytest.mark.rule("F64")
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 10, 300])
def test_break_stops_both_directions(either: sky.Compute, taken: int) -> None:
    """A closed iterator stops the generator and what it is fed from."""
    numbers = Counter()
    values: Any = double(numbers) >> either  # type: ignore[arg-type]  # any iterable will do
    for number in range(taken):
        assert next(values) == 2 * number
    values.close()
    until(lambda: is_idle(either), timeout=3.0)
    until(lambda: "skyward-input" not in [thread.name for thread in threading.enumerate()])
    assert add(1, 1) >> either == 2


@pytest.mark.rule("R25")
def test_slow_function_holds_back_its_input(either: sky.Compute) -> None:
    """No more is pulled than a little ahead of what it has taken."""
    numbers = Counter()
    values: Any = double(numbers) >> either  # type: ignore[arg-type]  # any iterable will do
    assert [next(values), next(values)] == [0, 2]
    time.sleep(0.3)
    assert numbers.pulled < 20
    values.close()


@pytest.mark.rule("R25")
def test_task_that_waits_for_its_input_lends_its_slot() -> None:
    """On a single slot, what feeds a call can be a call that starts after it."""
    with sky.Compute(nodes=1) as pool:
        ready = threading.Event()

        def numbers() -> Iterator[int]:
            ready.wait()
            yield from count(50) >> pool

        future = total(numbers()) > pool
        assert add(1, 2) >> pool == 3
        ready.set()
        assert future.result() == sum(range(50))


@pytest.mark.rule("R39")
@pytest.mark.rule("R25")
def test_iterable_that_blocks_holds_up_nobody(either: sky.Compute) -> None:
    """Other calls run, heartbeats go on, and a cancelled call is let go of."""
    go = threading.Event()

    def blocked() -> Iterator[int]:
        yield 1
        go.wait()
        yield 2

    future = total(blocked()) > either
    until(lambda: future.running() or either.snapshot().in_flight == 1)
    assert (sky.gather(*[add(i, i) for i in range(50)]) >> either)[49] == 98
    values: Any = double(blocked_twin := itertools.chain([1], blocked())) >> either
    assert next(values) == 2
    values.close()
    assert blocked_twin is not None
    future.cancel()
    until(lambda: is_idle(either), timeout=5.0)
    go.set()


@pytest.mark.rule("R36")
@pytest.mark.parametrize("taken", [1, 20])
def test_call_whose_input_was_pulled_is_not_run_again(pool: sky.Compute, tmp_path: Path, taken: int) -> None:
    """When its node dies it fails; one whose input was not pulled may move."""
    blocked = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(taken)
        blocked.wait()

    future = take(numbers(), taken + 1, str(tmp_path)).with_retries(3) > pool
    try:
        until(lambda: marks(tmp_path, "starts") == 1)
        time.sleep(0.1)
        for daemon in daemons(pool):
            os.kill(daemon.pid, signal.SIGKILL)
        with pytest.raises(sky.NodeLostError):
            future.result(timeout=10)
    finally:
        blocked.set()
    assert marks(tmp_path, "starts") == 1
    assert echo(1) >> pool == 1


@pytest.mark.rule("R24")
def test_local_call_gets_the_iterator_itself() -> None:
    """Without a pool nothing changes."""
    numbers = iter([1, 2, 3])
    assert take.local(numbers, 1) == [1]
    assert next(numbers) == 2


@pytest.mark.rule("R24")
def test_arrays_are_as_they_were_yielded(either: sky.Compute) -> None:
    """An iterable that goes on and changes what it has yielded changes nothing that was sent."""
    import numpy as np

    def chunks(stop: int, size: int) -> Iterator[Any]:
        array = np.zeros(size, dtype=np.uint8)
        for number in range(stop):
            array[:] = number
            yield array

    for size in (100, 50_000, 1_000_000):
        assert checksum(chunks(40, size)) >> either == (40, sum(range(40)))


@pytest.mark.rule("R21")
@pytest.mark.rule("R25")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("megabytes", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_is_flat(megabytes: int) -> None:
    """However much is fed, node and worker hold a few elements of it."""
    import numpy as np

    with sky.Compute(nodes=1) as pool:
        processes = [*daemons(pool), *daemons(pool)[0].children(recursive=True)]
        peak = 0

        def chunks() -> Iterator[Any]:
            nonlocal peak
            for number in range(megabytes):
                if number % 50 == 0:
                    peak = max(peak, *(process.memory_full_info().uss for process in processes))
                yield np.full(2**20, number % 2, dtype=np.uint8)

        assert checksum(chunks()) >> pool == (megabytes, megabytes // 2)
        assert peak < 150 * 2**20
