"""Ways into a pool and out of it that are easily forgotten."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.mesh import stopping
from tests.rules.processes import GONE, script
from tests.rules.work import LONG, add, naps, until
from tests.rules.yielding import count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.rule("R30")
def test_with_block_takes_a_pool_that_is_open() -> None:
    """It closes the pool at its end, as it does a file; a closed pool stays closed."""
    with sky.Compute(nodes=1).open() as pool:
        assert add(1, 2) >> pool == add(1, 2) >> sky == 3
    assert not pool.is_active
    with pytest.raises(sky.PoolClosedError, match="opened once"), pool:
        pass


@pytest.mark.rule("R30")
def test_pool_that_several_threads_open_is_opened_once() -> None:
    """One of them does; the others are told, and none leaves a second set of nodes behind."""
    pool, barrier = sky.Compute(nodes=1), threading.Barrier(4)

    def enter(_: int) -> str:
        barrier.wait()
        try:
            pool.open()
        except sky.PoolClosedError as error:
            return str(error)
        return "open"

    with ThreadPoolExecutor(barrier.parties) as threads:
        told = sorted(threads.map(enter, range(barrier.parties)))
    with pool:
        assert add(1, 2) >> pool == 3
    assert told == [*["a pool is opened once: make another sky.Compute(...)"] * 3, "open"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("skyward-pool")]


@pytest.mark.rule("R30")
@pytest.mark.rule("R25")
def test_what_is_left_by_an_exception_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and generators are interrupted before their workers end, as they are by `cancel`."""
    monkeypatch.setattr(stopping, "MOMENT", LONG)  # it is over when they have ended

    @sky.function
    def task() -> None:
        try:
            (tmp_path / "runs").touch()
            threading.Event().wait()
        finally:
            (tmp_path / "task").touch()

    @sky.function
    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            (tmp_path / "numbers").touch()

    with pytest.raises(ZeroDivisionError), sky.Compute(nodes=2, cancel_grace=LONG) as pool:
        future = task() > pool
        next(numbers() >> pool)
        values = numbers() >> pool
        next(values)
        until((tmp_path / "runs").exists)
        raise ZeroDivisionError
    assert future.cancelled()  # pyright: ignore[reportPossiblyUnboundVariable]  # what was raised was raised after it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numbers", "runs", "task"]


@pytest.mark.rule("R30")
@pytest.mark.rule("F6")
def test_callback_that_blocks_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """Cancelled futures call back, and the interpreter does not wait until that is done."""
    source = """
import threading
import time
import skyward as sky

pool = sky.Compute(nodes=1).open()
future = sky.function(time.sleep)(100) > pool
future.add_done_callback(lambda _: (print("called back", flush=True), threading.Event().wait()))
print("end", flush=True)
"""
    with script(source, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "end\n"
        began = time.monotonic()
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - began < GONE
        assert process.stdout.read() == "called back\n"


@pytest.mark.rule("R30")
def test_stream_is_read_after_its_pool_and_a_generator_is_not() -> None:
    """Its results have been waited for; values that a generator has not produced by then never will be."""
    with sky.Compute(nodes=1) as pool:
        results = sky.gather(*[add(i, i) for i in range(100)], stream=True) >> pool
        values = count(10_000) >> pool
        assert next(values) == 0
    assert list(results) == [2 * i for i in range(100)]
    with pytest.raises(sky.PoolClosedError):
        list(values)


@pytest.mark.rule("R30")
def test_generator_that_begins_while_the_pool_is_left_does_not_keep_it() -> None:
    """A callback calls it when nobody can read it any more, and other calls go on."""
    kept: list[object] = []
    with sky.Compute(nodes=1) as pool:
        first, _ = naps(0.2, 1) > pool, naps(0.4, 2) > pool
        first.add_done_callback(lambda _: kept.append(count(10**9) > pool))
    assert len(kept) == 1


@pytest.mark.rule("R7")
def test_cancel_while_the_pool_ends_is_no_error() -> None:
    """Whatever its end finds is cancelled anyway."""
    with sky.Compute(nodes=1) as pool:
        future = naps(100, 1) > pool
        assert pool._engine is not None
        pool._engine.stopping.refuse()
        assert not future.cancel()
        pool.close(cancel=True)
        assert future.cancel()


@pytest.mark.rule("R30")
def test_every_pool_is_closed_at_exit(tmp_path: Path) -> None:
    """Though the warning about one is an error, and the end of another fails."""
    source = """
import warnings
import skyward as sky
from skyward.pool import exits
from tests.rules.work import naps

warnings.simplefilter("error", RuntimeWarning)

class Failing(sky.Local):
    def close(self):
        super().close()
        raise sky.ProvisionError("cannot end it")

pools = [sky.Compute(Failing(), nodes=1).open(), sky.Compute(nodes=1).open(), sky.Compute(Failing(), nodes=1).open()]
futures = [naps(100, 1) > pool for pool in pools]
try:
    exits._close_all()
except (sky.ProvisionError, RuntimeWarning):
    print(*[pool.is_active for pool in pools])
"""
    with script(source, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "False False False\n"


@pytest.mark.rule("R30")
@pytest.mark.parametrize("way", ["interrupt", "cancel"])
def test_end_of_a_coroutine_that_leaves_a_pool_waits_for_no_call(way: str) -> None:
    """Ctrl-C, a cancel and a time limit cancel what leaving the block would have waited for."""
    kept: list[sky.Future[int]] = []

    async def leave() -> None:
        async with sky.Compute(nodes=1) as pool:
            kept.append(naps(100, 1) > pool)
            me = asyncio.current_task()
            assert me is not None
            end = me.cancel if way == "cancel" else partial(signal.raise_signal, signal.SIGINT)
            asyncio.get_running_loop().call_later(0.2, end)

    with pytest.raises(KeyboardInterrupt if way == "interrupt" else asyncio.CancelledError):
        asyncio.run(leave())
    assert kept[0].cancelled()
