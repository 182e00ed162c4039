"""`pool.map`: chunks, and what keeps them apart; they run in this process, when they are waited for."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from skyward.calls import function
from skyward.errors import PoolClosedError, SerializationError, WorkerCrashedError
from skyward.pool import chunks, mapping
from skyward.pool.chunk_size import GROWTH
from skyward.results import CancelledError
from tests.mapped import quick, sizes, taken
from tests.operating import OperatedPool

if TYPE_CHECKING:
    from collections.abc import Iterator


def double(number: int) -> int:
    return 2 * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


__all__ = ["quick"]  # a fixture


# --- order and chunks ----------------------------------------------------------------------


@pytest.mark.rule("R15")
def test_map_gives_values_in_order() -> None:
    """Of plain and of marked functions, of several iterables as long as the shortest, of no items at all."""
    pool = OperatedPool()
    assert list(pool.map(double, range(100))) == [2 * i for i in range(100)]
    assert list(pool.map(function(double), [1, 2])) == [2, 4]
    assert list(pool.map(pow, [2, 3, 4], (5, 2))) == [32, 9]
    assert list(pool.map(double, [])) == []


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_chunks_grow_while_items_are_cheap() -> None:
    """By a factor at most, up to a limit; the first ones have one item."""
    pool = OperatedPool()
    ahead = mapping.AHEAD * pool.slots
    total = 3 * chunks.LARGEST
    assert list(pool.map(double, range(total))) == [2 * i for i in range(total)]
    found = sizes(pool)
    assert found[: ahead + 3] == [1] * ahead + [GROWTH, GROWTH**2, GROWTH**3]
    assert max(found) == chunks.LARGEST
    assert sum(found) == total


@pytest.mark.rule("R15")
def test_chunks_of_dear_items_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they are spread over all workers."""
    clock = iter(range(1_000))
    monkeypatch.setattr(chunks, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    pool = OperatedPool()
    assert list(pool.map(double, range(20))) == [2 * i for i in range(20)]
    assert sizes(pool) == [1] * 20


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("alone", ["timeout", "pool timeout", "retries", "pool retries"])
def test_items_with_a_limit_of_their_own_stand_alone(alone: str) -> None:
    """A time limit is an item's, and an item that must not run twice must not share a chunk."""
    options: dict[str, Any] = {"pool timeout": {"timeout": 5}, "pool retries": {"retries": 0}}.get(alone, {})
    marks: dict[str, Any] = {"timeout": {"timeout": 5}, "retries": {"retries": 0}}.get(alone, {})
    pool = OperatedPool(**options)
    assert list(pool.map(function(**marks)(double), range(50))) == [2 * i for i in range(50)]
    assert sizes(pool) == [1] * 50


@pytest.mark.rule("R15")
def test_function_that_is_fed_is_refused() -> None:
    """Items travel as they are, and cannot be fed."""

    @function
    def first(numbers: Iterator[int]) -> int:
        return next(numbers)

    with pytest.raises(TypeError, match=r"first takes an iterator, .* sky.gather"):
        OperatedPool().map(first, [[1], [2]])  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.rule("R15")
def test_function_that_yields_is_refused() -> None:
    """At once, whether it is marked or not, and with the line to write; a wrapper that returns is none."""

    def count(number: int) -> Iterator[int]:
        yield number

    @functools.wraps(count)
    def counted(number: int) -> list[int]:
        return list(count(number))

    pool = OperatedPool()
    for fn in (count, function(count)):
        with pytest.raises(TypeError, match=r"map takes a function that returns .*count.* yields .*f\(item\) >> pool"):
            pool.map(fn, [1])
    assert pool.submitted == []
    assert list(pool.map(counted, [1])) == [[1]]


@pytest.mark.rule("R15")
def test_items_are_pulled_as_results_are_taken() -> None:
    """Some chunks ahead of what has been taken, and no more."""
    pool = OperatedPool(lazy=True)
    pulled: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            pulled.append(number)
            yield number
            number += 1

    results = pool.map(double, endless())
    assert pulled == []
    pool.lazy = False
    assert next(results) == 0
    assert len(pulled) == mapping.AHEAD * pool.slots
    results.close()


@pytest.mark.rule("R49")
def test_items_of_a_coroutine_function_run_together() -> None:
    """Each item's failure is its own there, too."""

    async def work(number: int) -> int:
        return fail_at_three(number)

    values = taken(OperatedPool().map(work, range(5)), 5)
    assert [value for value in values if isinstance(value, int)] == [0, 1, 2, 4]
    assert isinstance(values[3], ValueError)


# --- failures ------------------------------------------------------------------------------


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("bad", [{0, 1}, {7}, {0, 3, 4, 7}, set(range(8))])
@pytest.mark.parametrize("error", [ValueError, StopIteration])
def test_failures_stand_where_their_items_do(bad: set[int], error: type[Exception]) -> None:
    """Wherever in a chunk they are; one that would end a loop is an error like any other."""

    def work(number: int, other: int) -> int:
        assert other == number + 1
        if (number - start) in bad:
            raise error(number)
        return number

    pool = OperatedPool()
    start = mapping.AHEAD * pool.slots  # these go one by one, and what comes then in one chunk
    values = taken(pool.map(work, range(start + GROWTH), range(1, 100)), start + GROWTH)[start:]
    assert sizes(pool)[start:] == [GROWTH]
    kind = RuntimeError if error is StopIteration else error
    assert [place for place, value in enumerate(values) if isinstance(value, kind)] == sorted(bad)
    assert [place for place, value in enumerate(values) if not isinstance(value, int)] == sorted(bad)


@pytest.mark.rule("R21")
@pytest.mark.usefixtures("quick")
def test_value_is_the_takers_alone() -> None:
    """The iterator keeps nothing that it has given, also not of a chunk of which there is more."""

    class Value:
        pass

    pool = OperatedPool()
    results = pool.map(lambda _: Value(), range(100))
    taken(results, mapping.AHEAD * pool.slots)
    dropped = weakref.ref(next(results))
    kept = next(results)
    assert sizes(pool)[-1] > 1
    pool.submitted.clear()  # tasks of this pool keep their futures
    gc.collect()
    assert dropped() is None
    assert isinstance(kept, Value)


@pytest.mark.rule("R15")
def test_item_that_fails_is_the_only_one() -> None:
    """It raises when it is its turn, with a note of where it ran, and iteration goes on."""
    values = taken(OperatedPool().map(fail_at_three, range(6)), 6)
    error = values.pop(3)
    assert isinstance(error, ValueError)
    assert error.__notes__[0].startswith("raised by fail_at_three on node")
    assert values == [0, 1, 2, 4, 5]


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_chunk_whose_worker_died_is_run_again_item_by_item() -> None:
    """Only the culprit fails."""
    pool = OperatedPool()
    ahead = mapping.AHEAD * pool.slots
    results = pool.map(double, range(ahead + GROWTH))
    assert taken(results, ahead) == [2 * i for i in range(ahead)]
    assert sizes(pool)[ahead:] == [GROWTH]
    crash = WorkerCrashedError(exitcode=3)
    chunk = ahead + 1
    pool.failures = {chunk: crash, chunk + 3: crash}  # and its third item alone
    values = taken(results, GROWTH)
    assert values.pop(2) is crash
    assert values == [2 * i for i in range(ahead, ahead + GROWTH) if i != ahead + 2]
    assert sizes(pool)[ahead:] == [GROWTH] + [1] * GROWTH


@pytest.mark.rule("R15")
def test_item_that_cannot_be_pickled_is_the_only_one() -> None:
    """Whether it leads or shares its chunk."""
    things: list[Any] = [1, 2, threading.Lock(), 4, *range(100), threading.Lock(), 5]
    values = taken(OperatedPool().map(repr, things), len(things))
    assert [index for index, value in enumerate(values) if isinstance(value, SerializationError)] == [2, 104]
    assert [value for value in values if isinstance(value, str)] == [
        repr(thing) for thing in things if isinstance(thing, int)
    ]


@pytest.mark.rule("R15")
def test_failure_of_the_iterable_is_raised_in_its_turn() -> None:
    """After the items that came before it."""

    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    values = taken(OperatedPool().map(double, broken()), 3)
    assert values[:2] == [2, 4]
    assert isinstance(values[2], KeyError)


@pytest.mark.rule("R15")
def test_interrupt_ends_the_iteration() -> None:
    """It has cancelled what was waited for, so that nothing can follow in its turn; the pool is not to blame."""
    pool = OperatedPool(lazy=True)
    results = pool.map(double, range(10))
    pool.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert list(results) == []


@pytest.mark.rule("R15")
def test_interrupt_of_what_is_sent_ends_the_iteration() -> None:
    """What was to be sent is as lost as what is waited for, and no later item takes its turn."""

    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    pool = OperatedPool(lazy=True)
    items: list[Any] = [1, Interrupting(), 3, 4]
    results = pool.map(double, items)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert list(results) == []
    assert pool.queue == []


def test_end_of_the_pool_is_no_item() -> None:
    """It ends the iteration."""
    pool = OperatedPool()
    pool.failures = {1: CancelledError()}
    results = pool.map(double, range(10))
    with pytest.raises(PoolClosedError):
        next(results)
    assert list(results) == []


# --- the end -------------------------------------------------------------------------------


@pytest.mark.rule("R15")
@pytest.mark.parametrize("way", ["close", "with", "drop"])
def test_end_of_the_iterator_cancels_what_is_under_way(way: str) -> None:
    """By `close`, by leaving its block, by losing the last reference."""
    pool = OperatedPool()
    results = pool.map(double, range(1_000))
    assert next(results) == 0
    under_way = [task.id for task in pool.queue]
    assert under_way
    if way == "close":
        results.close()
        assert list(results) == []
    elif way == "with":
        with results as same:
            assert same is results
    else:
        del results
        gc.collect()
    assert pool.cancelled == under_way


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((5, [1]), "map takes a function, got 5"), ((double,), "map needs at least one iterable")],
)
def test_wrong_arguments_are_told(arguments: Any, message: str) -> None:
    """At the call."""
    with pytest.raises(TypeError, match=message):
        OperatedPool().map(*arguments)


@pytest.mark.rule("R37")
def test_threads_that_share_a_map_get_each_value_once() -> None:
    """Whoever comes for the next values when another thread sees to them waits for that."""
    pool = OperatedPool()
    results = pool.map(double, range(2_000))
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(results)) for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(got) == [2 * number for number in range(2_000)]


@pytest.mark.rule("R15")
def test_interrupt_of_the_iterable_loses_no_item() -> None:
    """What it has given before is sent when iteration goes on."""

    class Interrupted:
        given = 0

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            self.given += 1
            if self.given == 400:
                raise KeyboardInterrupt
            if self.given > 1_000:
                raise StopIteration
            return self.given

    results = OperatedPool().map(double, Interrupted())
    values: list[int] = []
    interrupts = 0
    while True:
        try:
            values.append(next(results))
        except KeyboardInterrupt:
            interrupts += 1
        except StopIteration:
            break
    assert interrupts == 1
    assert values == [2 * number for number in range(1, 1_001) if number != 400]
