"""`pool.map` under asyncio, on real nodes."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import PoolClosedError
from tests.rules.work import LONG, add, hold, let_go, runs, until

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.pool.mapping import MapIterator


@sky.function
def divide(x: int) -> float:
    """Fail for 0."""
    return 6 / x


async def taken(results: MapIterator[Any]) -> list[Any]:
    """Return all that an ``async for`` takes."""
    return [value async for value in results]


@pytest.mark.rule("R15")
def test_async_for_takes_what_a_map_gives(pool: sky.Compute) -> None:
    """In order, lazily, from one iterable or several; in a ``with`` block or without one; and what ``for`` has left."""

    async def main() -> None:
        assert await taken(pool.map(add, range(3000))) == list(range(3000))
        assert await taken(pool.map(add, [1, 2], [3, 4])) == [4, 6]
        assert await taken(pool.map(add, [])) == []
        async with pool.map(add, itertools.count()) as results:
            assert [await anext(results), next(results), await anext(results)] == [0, 1, 2]
        assert await taken(results) == []

    asyncio.run(main())


@pytest.mark.rule("R15")
def test_async_for_goes_on_after_a_failure(pool: sky.Compute) -> None:
    """Failures are of one item each, whatever they traveled with."""

    async def main() -> list[object]:
        seen: list[object] = []
        results = pool.map(divide, [1, 0, 2, 0, 3])
        while True:
            try:
                seen.append(await anext(results))
            except ZeroDivisionError:
                seen.append("failed")
            except StopAsyncIteration:
                return seen

    assert asyncio.run(main()) == [6, "failed", 3, "failed", 2]


@pytest.mark.rule("R15")
def test_wait_for_a_map_leaves_the_event_loop_to_others(pool: sky.Compute, tmp_path: Path) -> None:
    """Two that wait for items of the same map are among them."""

    async def main() -> list[str]:
        results = pool.map(hold, [str(tmp_path)] * 2, ["a", "b"])
        waiting = [asyncio.ensure_future(anext(results)) for _ in range(2)]
        await asyncio.sleep(0)
        for name in "ab":
            await asyncio.to_thread(runs, tmp_path, name)
        assert not any(each.done() for each in waiting)
        for name in "ab":
            let_go(tmp_path, name)
        return await asyncio.gather(*waiting)

    assert sorted(asyncio.run(main())) == ["a", "b"]


@pytest.mark.rule("R15")
def test_cancelled_wait_ends_the_map(pool: sky.Compute, tmp_path: Path) -> None:
    """As it ends a stream: what is under way is cancelled, and the pool goes on."""

    async def main() -> list[str]:
        results = pool.map(hold, [str(tmp_path)], ["a"])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(results), 0.01)
        return await taken(results)

    assert asyncio.run(main()) == []
    until(lambda: not pool.snapshot().in_flight, LONG)
    assert add(1) >> pool == 1


@pytest.mark.rule("R30")
def test_end_of_the_pool_ends_an_async_map(tmp_path: Path) -> None:
    """With the error that a ``for`` loop would get."""

    async def main(pool: sky.Compute) -> None:
        waiting = asyncio.ensure_future(taken(pool.map(hold, [str(tmp_path)], ["a"])))
        await asyncio.sleep(0)
        await asyncio.to_thread(runs, tmp_path, "a")
        await asyncio.to_thread(pool.close, cancel=True)
        with pytest.raises(PoolClosedError):
            await waiting

    with sky.Compute(nodes=1) as pool:
        asyncio.run(main(pool))


@pytest.mark.rule("R22")
def test_coroutine_of_a_task_takes_a_map(one: sky.Compute) -> None:
    """Its slot, the only one, is lent while it waits."""

    @sky.function
    async def total(stop: int) -> int:
        return sum([value async for value in one.map(add, range(stop))])

    assert total(20) >> one == 190
