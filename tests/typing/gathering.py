"""What `gather` gives, as mypy and pyright see it. Never run, only checked; see ``operators.py``."""

from collections.abc import Iterator  # noqa: TC003 - written as users write it
from typing import assert_type

import skyward as sky
from skyward import Future, PendingFunctionGroup, ResultStream


@sky.function
def double(number: int) -> int:
    return 2 * number


@sky.function
def name(number: int) -> str:
    return str(number)


@sky.function
async def fetch(url: str) -> bytes:
    return url.encode()


def tuples(pool: sky.Compute) -> None:
    many = [double(i) for i in range(3)]
    assert_type(sky.gather(*many) >> pool, tuple[int, ...])
    assert_type(sky.gather(many) >> pool, tuple[int, ...])
    assert_type(sky.gather(double(i) for i in range(3)) >> pool, tuple[int, ...])
    assert_type(sky.gather(*many).with_timeout(3) >> sky, tuple[int, ...])
    assert_type(sky.gather(*many, stream=False) >> pool, tuple[int, ...])
    assert_type(sky.gather(*many, return_exceptions=True) >> pool, tuple[int | BaseException, ...])
    assert_type(sky.gather(many, return_exceptions=True) >> pool, tuple[int | BaseException, ...])
    assert_type(sky.gather(double(1), name(2)) >> pool, tuple[int, str])
    assert_type(sky.gather(double(1), name(2), fetch("u")) >> pool, tuple[int, str, bytes])
    assert_type(sky.gather(*many) > pool, Future[tuple[int, ...]])
    assert_type(sky.gather(*many, progress=True) >> pool, tuple[int, ...])
    assert_type(sky.gather(double(1), name(2), progress="label") >> pool, tuple[int, str])
    assert_type(sky.gather(many, stream=True, progress="label") >> pool, ResultStream[int])
    assert_type((sky.gather(*many) & name(1)) >> pool, tuple[*tuple[int, ...], str])
    assert_type(sky.gather(double(1), name(2)), PendingFunctionGroup[int, str])
    total: int = sum(sky.gather(*many) >> pool)
    print(total)
    sky.gather(1, 2)  # E: call-overload reportArgumentType
    sky.gather(double(1), 2)  # E: call-overload reportArgumentType


def streams(pool: sky.Compute) -> None:
    many = [double(i) for i in range(3)]
    stream = sky.gather(*many, stream=True) >> pool
    assert_type(stream, ResultStream[int])
    values: Iterator[int] = stream
    assert_type(next(values), int)
    assert_type(len(stream), int)
    assert_type(next(iter(stream.indexed())), tuple[int, int])
    for value in sky.gather(*many, stream=True, ordered=False) >> pool:
        assert_type(value, int)
    with sky.gather((double(i) for i in range(3)), stream=True) >> sky as results:
        assert_type(list(results), list[int])
    assert_type(sky.gather(*many, stream=True, return_exceptions=True) >> pool, ResultStream[int | BaseException])
    assert_type(sky.gather(many, stream=True).with_timeout(3) >> pool, ResultStream[int])


async def async_streams(pool: sky.Compute) -> None:
    async for value in sky.gather(name(1), name(2), stream=True) >> pool:
        assert_type(value, str)


def flags(pool: sky.Compute, stream: bool) -> None:
    group = sky.gather(double(1), name(2), stream=stream)
    print(group >> pool)
