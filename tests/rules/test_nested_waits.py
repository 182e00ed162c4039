"""All the ways in which a task can wait for calls of its own; each lends the slot."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.work import LONG, add, hold, let_go, runs, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@sky.function
async def awaits() -> list[int]:
    """Await a future."""
    return [await (add(i) > sky) for i in range(3)]


@sky.function
async def gathers() -> list[int]:
    """Await several at once."""
    return list(await asyncio.gather(*[add(i) > sky for i in range(3)]))


@sky.function
async def iterates() -> list[int]:
    """Take a stream's results."""
    return [value async for value in sky.gather(*[add(i) for i in range(3)], stream=True) >> sky]


@sky.function
def takes_as_completed() -> list[int]:
    """Take futures as they end."""
    futures = [add(i) > sky for i in range(3)]
    return sorted(future.result() for future in as_completed(futures))


@sky.function
def waits_for_all() -> list[int]:
    """Wait until all have ended."""
    futures = [add(i) > sky for i in range(3)]
    assert not wait(futures).not_done
    return [future.result() for future in futures]


@pytest.mark.rule("R22")
@pytest.mark.parametrize("executor", ["process", "thread"])
@pytest.mark.parametrize(
    "outer",
    [
        pytest.param(outer, id=outer.__name__)
        for outer in (awaits, gathers, iterates, takes_as_completed, waits_for_all)
    ],
)
def test_every_wait_lends_the_slot(outer: Any, executor: Any) -> None:
    """On the only slot of the only node the calls run while their parent waits, and it is back afterwards."""
    with sky.Compute(nodes=1, executor=executor) as pool:
        for _ in range(2):
            assert (outer() > pool).result(LONG) == [0, 1, 2]


@pytest.mark.rule("R22")
def test_slot_is_lent_as_long_as_a_thread_waits(tmp_path: Path) -> None:
    """When the call of one thread has ended, the slot is still there for what another one waits for."""

    @sky.function
    def outer(directory: str) -> list[int]:
        values: list[int] = []

        def later() -> Iterator[Any]:
            Path(directory, "asked").touch()
            until(Path(directory, "back").exists)
            yield add(1)
            until(Path(directory, "taken").exists)  # the end would wake the thread, which then waits anew

        def take() -> None:
            with sky.gather(later(), stream=True) >> sky as stream:
                values.append(next(stream))
                Path(directory, "taken").touch()

        thread = threading.Thread(target=take)
        thread.start()
        hold(directory, "a") >> sky
        Path(directory, "back").touch()
        thread.join()
        return values

    with sky.Compute(nodes=1) as pool:
        future = outer(str(tmp_path)) > pool
        runs(tmp_path, "a")
        until((tmp_path / "asked").exists)
        let_go(tmp_path, "a")
        assert future.result(LONG) == [1]


@pytest.mark.rule("R22")
def test_threads_of_a_task_make_calls_side_by_side() -> None:
    """More calls than threads, more threads than slots."""

    @sky.function
    def outer() -> list[int]:
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda i: add(i) >> sky, range(20)))

    with sky.Compute(nodes=1) as pool:
        assert (outer() > pool).result(LONG) == list(range(20))


@pytest.mark.rule("R22")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_wait_that_a_task_leaves_behind_ends_with_it(executor: Any, tmp_path: Path) -> None:
    """What still awaits when its task ends neither keeps the slot lent nor takes that of the next task."""

    @sky.function
    async def outer(directory: str, name: str) -> str:
        waiting = asyncio.ensure_future(asyncio.wait([asyncio.ensure_future(_await(hold(directory, name) > sky))]))
        await (add(1) > sky)
        return repr(waiting.done())

    with sky.Compute(nodes=1, executor=executor) as pool:
        for name in "abc":
            assert (outer(str(tmp_path), name) > pool).result(LONG) == "False"
            let_go(tmp_path, name)  # a thread cannot be stopped
        until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0))
        assert (gathers() > pool).result(LONG) == [0, 1, 2]


async def _await(future: Any) -> Any:
    return await future
