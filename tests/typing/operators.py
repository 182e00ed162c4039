"""What the operators give, as mypy and pyright see it. Never run, only checked.

A line that ends in ``# E: <mypy code> <pyright rule>`` must be an error for both; every other line for neither.
"""

import asyncio
import concurrent.futures  # noqa: TC003 - written as users write it
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import as_completed, wait
from typing import assert_type

import skyward as sky
from skyward import Future, PendingFunction, PendingFunctionGroup, ResultStream, ValueStream


@sky.function
def count(text: str, /, letter: str = "a", *, fold: bool = False) -> int:
    return text.count(letter)


@sky.function(timeout=5, retries=0)
def name(number: int) -> str:
    return str(number)


@sky.function()
def half(number: float) -> float:
    return number / 2


@sky.function
def nothing() -> None: ...


@sky.function
async def fetch(url: str) -> bytes:
    return url.encode()


async def plain_fetch(url: str) -> bytes:
    return url.encode()


@sky.function(timeout=1)
async def fetch_soon(url: str) -> list[bytes]:
    return [url.encode()]


@sky.function
def numbers(stop: int) -> Iterator[int]:
    yield from range(stop)


@sky.function
async def ticks() -> AsyncIterator[float]:
    yield 0.0


def calls() -> None:
    assert_type(count("a"), PendingFunction[int])
    assert_type(fetch("u"), PendingFunction[bytes])
    assert_type(numbers(3), PendingFunction[Iterator[int]])
    assert_type(count("a").with_timeout(3).with_retries(2).on("head").on(1).named("x"), PendingFunction[int])
    count("a", "b", fold=True)
    count(5)  # E: arg-type reportArgumentType
    count("a", 5)  # E: arg-type reportArgumentType
    count("a", fold="yes")  # E: arg-type reportArgumentType
    count("a", None, 3)  # E: call-arg reportCallIssue
    count()  # E: call-arg reportCallIssue
    count("a", other=1)  # E: call-arg reportCallIssue
    count(text="a")  # E: call-arg reportCallIssue
    name("a")  # E: arg-type reportArgumentType
    fetch(1)  # E: call-overload reportArgumentType
    numbers("a")  # E: arg-type reportArgumentType
    count("a").on("tail")  # E: arg-type reportArgumentType
    count("a").args = ()  # E: misc reportAttributeAccessIssue


async def local() -> None:
    assert_type(count.local("a"), int)
    assert_type(await fetch.local("u"), bytes)
    assert_type(list(numbers.local(3)), list[int])
    count.local(5)  # E: arg-type reportArgumentType


def one(pool: sky.Compute) -> None:
    assert_type(count("a") >> pool, int)
    assert_type(name(1) >> pool, str)
    assert_type(fetch("u") >> pool, bytes)
    assert_type(fetch_soon("u") >> pool, list[bytes])
    assert_type(numbers(3) >> pool, Iterator[int])
    assert_type(ticks() >> pool, ValueStream[float])
    assert_type(half(1) >> sky, float)
    assert_type(half(1) >> sky.sky, float)
    number: str = half(1) >> pool  # E: assignment reportAssignmentType
    print(number)
    _ = count("a") >> 5  # E: operator reportOperatorIssue
    _ = 5 >> pool  # E: operator reportOperatorIssue
    _ = len("a") > pool  # E: operator reportOperatorIssue
    _ = 5 @ pool  # E: operator reportOperatorIssue
    _ = count >> pool  # E: operator reportOperatorIssue
    _ = count > pool  # E: operator reportOperatorIssue
    _ = count @ pool  # E: operator reportOperatorIssue


def everywhere(pool: sky.Compute) -> None:
    assert_type(count("a") @ pool, list[int])
    assert_type(count("a") @ sky, list[int])
    assert_type(fetch("u") @ pool, list[bytes])


async def later(pool: sky.Compute) -> None:
    assert_type(count("a") > pool, Future[int])
    assert_type((count("a") > pool).result(), int)
    assert_type(await (count("a") > pool), int)
    assert_type(count("a") & name(1) > pool, Future[tuple[int, str]])
    assert_type(await (count("a") & name(1) > sky), tuple[int, str])
    assert_type(await (fetch("u") > pool), bytes)
    assert_type(await asyncio.gather(count("a") > pool, name(1) > pool), tuple[int, str])
    futures = [name(i) > pool for i in range(3)]
    assert_type([future.result() for future in as_completed(futures)], list[str])
    done, _ = wait(futures, timeout=3)
    assert_type([future.result() for future in done], list[str])
    futures[0].add_done_callback(lambda future: print(future.result()))
    plain: concurrent.futures.Future[str] = futures[0]
    print(plain)
    number: int = await (name(1) > pool)  # E: assignment reportAssignmentType
    print(number)
    assert_type(pool.run_async(name(1)), Future[str])
    assert_type(pool.run_async(name(1) & count("a")), Future[tuple[str, int]])
    assert_type(pool.run(name(1)), str)
    assert_type(pool.run(name(1) & count("a")), tuple[str, int])
    assert_type(sky.sky.run(sky.gather(name(1), name(2), stream=True)), ResultStream[str])
    pool.run(5)  # E: call-overload reportArgumentType
    assert_type(pool.broadcast(name(1)), list[str])
    assert_type(pool.run_parallel(name(1), name(2)), tuple[str, str])
    assert_type(pool.run_parallel(*[name(1), name(2)]), tuple[str, ...])
    assert_type(list(pool.map(name, [1])), list[str])
    assert_type(list(pool.map(name.local, [1])), list[str])
    assert_type(list(pool.map(fetch, ["u"])), list[bytes])
    assert_type(list(pool.map(plain_fetch, ["u"])), list[bytes])
    assert_type(list(pool.map(half.local, range(3))), list[float])
    assert_type(list(pool.map(str.replace, ["a"], ["b"], ["c"])), list[str])
    assert_type(list(pool.map(name, [1], ["b"])), list[str])
    pool.map(name.local, ["a"])  # E: arg-type reportArgumentType
    pool.map(name, ["a"])  # E: arg-type reportArgumentType
    pool.map(name, 1)  # E: call-overload reportArgumentType
    pool.map(name)  # E: call-overload reportCallIssue
    pool.map(half.local)  # E: call-overload reportCallIssue
    async for text in pool.map(name, [1]):
        assert_type(text, str)
    assert_type(list(pool.map(lambda number: number + 1, [1])), list[int])


async def context() -> None:
    with sky.Compute(nodes=2) as pool:
        assert_type(name(1) >> pool, str)
    async with sky.Compute() as pool:
        assert_type(await (name(1) > pool), str)
    with sky.Compute(sky.Local(), (1, 2), options=sky.Options(worker=sky.Worker(concurrency=2))) as pool:
        assert_type(pool.current_nodes(), int)
    opened = sky.Compute().open()
    assert_type(opened, sky.Compute)
    opened.close(cancel=True)


def several(pool: sky.Compute) -> None:
    a, b, c, d = count("a"), name(1), half(1), nothing()
    assert_type((a & b) >> pool, tuple[int, str])
    assert_type((a & b & c) >> pool, tuple[int, str, float])
    assert_type(
        (a & b & c & d & a & b & c & d & a & b & c & d & a & fetch("u")) >> pool,
        tuple[int, str, float, None, int, str, float, None, int, str, float, None, int, bytes],
    )
    assert_type((a & (b & c)) >> pool, tuple[int, str, float])
    assert_type(((a & b) & (c & d)) >> pool, tuple[int, str, float, None])
    assert_type((a & b) & (c & d & a), PendingFunctionGroup[int, str, float, None, int])
    assert_type((a & b & c & d & fetch("u")) >> pool, tuple[int, str, float, None, bytes])
    twelve = a & b & c & d & a & b & c & d & a & b & c & d
    assert_type(twelve >> pool, tuple[int, str, float, None, int, str, float, None, int, str, float, None])
    assert_type((a & b & c & d & fetch("u")) > pool, Future[tuple[int, str, float, None, bytes]])
    assert_type(
        (a & b & twelve) >> pool, tuple[int, str, int, str, float, None, int, str, float, None, int, str, float, None]
    )
    assert_type((a & b).with_timeout(3) >> pool, tuple[int, str])
    first, second = (a & b) >> pool
    assert_type(first, int)
    assert_type(second, str)
    third: tuple[int, str, int] = (a & b) >> pool  # E: assignment reportAssignmentType
    print(third)
    _ = a & 5  # E: operator reportOperatorIssue
    _ = 5 & a  # E: operator reportOperatorIssue
    _ = count & a  # E: operator reportOperatorIssue
    _ = (a & b) @ pool  # E: operator reportOperatorIssue
    _ = a & b >> pool  # E: operator reportOperatorIssue
