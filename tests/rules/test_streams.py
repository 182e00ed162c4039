"""Streams and failures in groups."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import pid_of
from tests.rules.work import LONG, add, die_by, echo, fail, hold, let_go, naps, note, place, runs, until
from tests.rules.yielding import count_slowly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.rule("R12")
def test_stream_yields_in_submission_order(pool: sky.Compute, tmp_path: Path) -> None:
    """A result that is early waits for its turn."""
    stream = sky.gather(hold(str(tmp_path), "a"), place(1), place(2), place(3), stream=True) >> pool
    assert iter(stream) is stream
    assert len(stream) == 4
    runs(tmp_path, "a")
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (1, 0))
    let_go(tmp_path, "a")
    first, *rest = stream
    assert first == "a"
    assert [value for value, _, _ in rest] == [1, 2, 3]


@pytest.mark.rule("R12")
def test_unordered_stream_yields_in_completion_order(pool: sky.Compute, tmp_path: Path) -> None:
    """What is done first comes first; indexes tell which it was."""
    stream = sky.gather(hold(str(tmp_path), "a"), echo("b"), stream=True, ordered=False) >> pool
    pairs = stream.indexed()
    assert next(pairs) == (1, "b")
    let_go(tmp_path, "a")
    assert list(pairs) == [(0, "a")]


@pytest.mark.rule("R12")
def test_dispatch_goes_on_without_a_consumer(pool: sky.Compute, tmp_path: Path) -> None:
    """A stream that nobody reads runs to its end, on both nodes."""
    stream = sky.gather(*[note(str(tmp_path), str(i)) for i in range(20)], stream=True) >> pool
    until(lambda: len(list(tmp_path.iterdir())) == 20)
    assert list(stream) == [str(i) for i in range(20)]


@pytest.mark.rule("R12")
def test_close_cancels_what_is_left(pool: sky.Compute, tmp_path: Path) -> None:
    """By `close`, by `with`, by `break` out of an unnamed stream, and when it is dropped."""

    def calls(name: str) -> list[sky.PendingFunction[str]]:
        return [echo(name), *[hold(str(tmp_path), f"{name}{i}") for i in range(4)]]

    stream = sky.gather(*calls("a"), stream=True) >> pool
    assert next(stream) == "a"
    stream.close()
    assert list(stream) == []
    with sky.gather(*calls("b"), stream=True) >> pool as stream:
        assert next(stream) == "b"
    taken: list[str] = []
    for value in sky.gather(*calls("c"), stream=True) >> pool:
        taken.append(value)
        break
    assert taken == ["c"]
    stream = sky.gather(*calls("d"), stream=True) >> pool
    assert next(stream) == "d"
    del stream
    gc.collect()
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0))
    assert not list(tmp_path.glob("*-done"))
    assert add(1, 2) >> pool == 3


@pytest.mark.rule("R12")
def test_stream_works_under_async_for(pool: sky.Compute, tmp_path: Path) -> None:
    """It lets the event loop run while it waits."""

    async def main() -> list[Any]:
        stream = sky.gather(hold(str(tmp_path), "a"), add(1, 2), stream=True) >> pool
        asyncio.get_running_loop().call_later(0.01, let_go, tmp_path, "a")
        return [value async for value in stream]

    assert asyncio.run(main()) == ["a", 3]


@pytest.mark.rule("R12")
@pytest.mark.parametrize("kind", ["ordered", "unordered", "values"])
def test_several_threads_share_a_stream(pool: sky.Compute, kind: str) -> None:
    """Each result goes to one of them, and all of them learn that it was the last."""
    stream: Iterator[int] = count_slowly(30) >> pool
    if kind != "values":
        calls = [naps(0.005, i) for i in range(30)]
        stream = sky.gather(*calls, stream=True, ordered=kind == "ordered") >> pool
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(stream)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(taken) == list(range(30))


@pytest.mark.rule("R12")
def test_several_coroutines_share_a_stream_and_its_indexes(pool: sky.Compute) -> None:
    """`indexed` works under ``async for`` as well, and has the stream's length."""
    pairs = (sky.gather(*[naps(0.005, i) for i in range(30)], stream=True, ordered=False) >> pool).indexed()

    async def take() -> list[tuple[int, int]]:
        return [pair async for pair in pairs]

    async def main() -> tuple[list[tuple[int, int]], ...]:
        return await asyncio.wait_for(asyncio.gather(take(), take(), take()), LONG)

    assert len(pairs) == 30
    assert sorted(pair for some in asyncio.run(main()) for pair in some) == [(i, i) for i in range(30)]


@pytest.mark.rule("R12")
def test_progress_bars_see_the_length(pool: sky.Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar shows the total."""
    from tqdm import tqdm

    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # or it leaves a thread
    with tqdm(sky.gather(*[add(i) for i in range(5)], stream=True) >> pool, disable=None) as bar:
        assert bar.total == 5
        assert list(bar) == [0, 1, 2, 3, 4]


@pytest.mark.rule("R13")
def test_first_failure_is_raised_and_the_rest_cancelled(pool: sky.Compute, tmp_path: Path) -> None:
    """A group does not wait for members that are left; they are stopped."""
    with pytest.raises(ValueError, match="bad 1"):
        sky.gather(hold(str(tmp_path), "a"), fail(1), hold(str(tmp_path), "b")) >> pool
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0))
    assert not list(tmp_path.glob("*-done"))


@pytest.mark.rule("R13")
def test_ordered_stream_raises_when_the_failure_has_its_turn(pool: sky.Compute, tmp_path: Path) -> None:
    """Members before it are yielded first, members behind it are cancelled."""
    stream = sky.gather(hold(str(tmp_path), "a"), fail(1), hold(str(tmp_path), "b"), stream=True) >> pool
    runs(tmp_path, "a")
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (1, 0))
    let_go(tmp_path, "a")
    assert next(stream) == "a"
    with pytest.raises(ValueError, match="bad 1"):
        next(stream)
    assert list(stream) == []
    assert not (tmp_path / "b-done").exists()


@pytest.mark.rule("R13")
def test_failures_stand_in_place_when_asked_for(tmp_path: Path) -> None:
    """Exceptions, timeouts, crashes and lost nodes are results of their members, in tuples and in streams."""
    import os
    import signal

    with sky.Compute(nodes=2) as pool:
        victim = pool.snapshot().nodes[1]
        calls = [
            add(1, 2),
            fail(1),
            hold(str(tmp_path), "t").with_timeout(0.2),
            die_by(signal.SIGKILL).with_retries(0),
            hold(str(tmp_path), "n").on(1),
        ]
        future = sky.gather(*calls, return_exceptions=True) > pool
        runs(tmp_path, "n")
        until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (1, 0))
        os.kill(pid_of(victim), signal.SIGKILL)
        value, error, timeout, crash, lost = future.result()
        assert value == 3
        kinds = [ValueError, sky.TaskTimeoutError, sky.WorkerCrashedError, sky.NodeLostError]
        assert [type(e) for e in (error, timeout, crash, lost)] == kinds
        stream = sky.gather(add(1, 2), fail(1), add(3, 4), stream=True, return_exceptions=True) >> pool
        three, bad, seven = stream
        assert (three, type(bad), seven) == (3, ValueError, 7)


@pytest.mark.rule("R12")
@pytest.mark.rule("R30")
def test_leaving_the_pool_waits_for_calls_that_are_handed_in_little_by_little() -> None:
    """They are all there at `>>`, however many fit at once; here it is one."""
    with sky.Compute(nodes=1, window=1) as pool:
        stream = sky.gather(*[add(i) for i in range(2000)], stream=True) >> pool
    assert list(stream) == list(range(2000))


@pytest.mark.rule("R10")
@pytest.mark.rule("R30")
def test_leaving_the_pool_ends_a_lazy_stream_after_what_was_pulled() -> None:
    """More may come for ever: what was handed in is waited for and can be read; then the stream says why it ends."""
    with sky.Compute(nodes=1) as pool:
        stream = sky.gather((add(i) for i in itertools.count()), stream=True) >> pool
        assert next(stream) == 0
    values: list[int] = []
    with pytest.raises(sky.PoolClosedError):
        values.extend(stream)
    assert values == list(range(1, len(values) + 1))
