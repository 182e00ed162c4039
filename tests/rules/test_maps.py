"""`pool.map` on real nodes, with what users hand to it."""

from __future__ import annotations

import os
import threading

import pytest

import skyward as sky
from skyward.errors import SerializationError


@pytest.mark.rule("R15")
def test_map_takes_methods_that_are_marked(pool: sky.Compute) -> None:
    """A marked method of an object, plain or async, is run for each item."""

    class Scale:
        factor = 3

        @sky.function
        def times(self, x: int) -> int:
            return self.factor * x

        @sky.function
        async def later(self, x: int) -> int:
            return self.factor * x

    assert list(pool.map(Scale().times, [1, 2])) == [3, 6]
    assert list(pool.map(Scale().later, [1, 2])) == [3, 6]


@pytest.mark.rule("R15")
def test_items_have_processes_of_their_own_where_tasks_have() -> None:
    """With ``reuse_processes=False`` no item finds what another has left in its process."""
    with sky.Compute(nodes=1, reuse_processes=False) as pool:
        assert len(set(pool.map(lambda _: os.getpid(), range(6)))) == 6


@pytest.mark.rule("R15")
@pytest.mark.rule("R22")
def test_items_of_a_nested_map_have_processes_of_their_own_where_tasks_have() -> None:
    """A task that maps knows as much of its pool."""

    @sky.function
    def spread(handle: sky.Compute) -> list[int]:
        return list(handle.map(lambda _: os.getpid(), range(12)))

    with sky.Compute(nodes=1, reuse_processes=False) as pool:
        assert len(set(spread(pool) >> pool)) == 12


@pytest.mark.rule("R49")
def test_map_awaits_coroutines(pool: sky.Compute) -> None:
    """Those of a plain function as well; an item that fails is the only one that does."""

    async def divide(x: int) -> float:
        return 6 / x

    for fn in (divide, sky.function(divide), sky.function(divide).local, lambda x: divide(x + 0)):
        results = pool.map(fn, [1, 0, 2])
        assert next(results) == 6
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == [3]


@pytest.mark.rule("R5")
def test_map_names_the_culprit_in_the_words_of_its_function(pool: sky.Compute) -> None:
    """The path to what cannot be pickled starts at the function's own argument or variable."""
    lock = threading.Lock()

    def size(cfg: object) -> int:
        return len(str(cfg))

    results = pool.map(size, [1, [lock], 22])
    assert next(results) == 1
    with pytest.raises(SerializationError, match=r"arguments of .*size: argument 'cfg' → \[0\] → _thread.lock"):
        next(results)
    assert list(results) == [2]
    with pytest.raises(SerializationError, match=r"lambda>: closure variable 'lock' → _thread.lock"):
        next(pool.map(lambda _: lock, [1]))


@pytest.mark.rule("R5")
@pytest.mark.rule("R15")
def test_map_tells_of_values_as_of_results_of_calls(pool: sky.Compute) -> None:
    """Of the value of an item that is alone with its own path, and with nothing of the chunk."""

    @sky.function
    def lock(number: int) -> object:
        return [number, threading.Lock()]

    async def later(number: int) -> object:
        return lock.local(number)

    told = r"result of .* \(\[1\] → _thread\.lock: cannot pickle .*; the result was \[5, <unlocked [^,]*>\]\)"
    with pytest.raises(SerializationError, match=told):
        lock(5) >> pool
    for fn in (lock, later):
        with pytest.raises(SerializationError, match=told):
            next(pool.map(fn, [5]))
    with pytest.raises(SerializationError, match=r"call cannot be an argument or a result: .*\.local\(\)"):
        next(pool.map(lambda number: lock(number + 0), [5]))
