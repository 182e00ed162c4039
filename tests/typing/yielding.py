"""Streams of values, as mypy and pyright see them. Never run, only checked; see ``operators.py``."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from typing import assert_type

import skyward as sky
from skyward import Future, ValueStream


@sky.function
def numbers(stop: int) -> Iterator[int]:
    yield from range(stop)


@sky.function
def names(stop: int) -> Generator[str, None, None]:
    yield from map(str, range(stop))


@sky.function
async def ticks(stop: int) -> AsyncIterator[float]:
    yield float(stop)


@sky.function
async def tocks(stop: int) -> AsyncGenerator[bytes, None]:
    yield bytes(stop)


@sky.function
def total(values: Iterator[int], start: int = 0) -> int:
    return sum(values, start)


@sky.function
def double(values: Iterable[int]) -> Iterator[int]:
    for value in values:
        yield 2 * value


class Source:
    """Has methods that yield."""

    @sky.function
    def lines(self, stop: int) -> Generator[str, None, None]:
        """Yield lines."""
        yield from map(str, range(stop))


def iterators(pool: sky.Compute) -> None:
    assert_type(numbers(3) >> pool, Iterator[int])
    assert_type(names(3) >> pool, ValueStream[str])
    assert_type(ticks(3) >> pool, ValueStream[float])
    assert_type(tocks(3) >> pool, ValueStream[bytes])
    assert_type(Source().lines(3) >> pool, ValueStream[str])
    assert_type(numbers(3) @ pool, list[Iterator[int]])
    assert_type(names(3) @ pool, list[ValueStream[str]])
    assert_type(ticks(3) > pool, Future[ValueStream[float]])
    assert_type((numbers(3) & total(iter([1]))) >> pool, tuple[Iterator[int], int])
    for name in names(3) >> pool:
        assert_type(name, str)
    for tick in ticks(3) >> pool:
        assert_type(tick, float)
    with names(3) >> pool as stream:
        assert_type(next(stream), str)
        stream.close()
    plain: Iterator[str] = names(3) >> pool
    print(plain)


async def asynchronous(pool: sky.Compute) -> None:
    async for tick in ticks(3) >> pool:
        assert_type(tick, float)
    async for name in names(3) >> pool:
        assert_type(name, str)


def inputs(pool: sky.Compute) -> None:
    assert_type(total(numbers(3) >> pool) >> pool, int)
    assert_type(double([1, 2]) >> pool, Iterator[int])
    total(names(3) >> pool)  # E: arg-type reportArgumentType
    total(5)  # E: arg-type reportArgumentType
    total(iter([1]), start="x")  # E: arg-type reportArgumentType
