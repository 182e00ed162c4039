"""Futures: `call > pool`, `group > pool`, and what cancels them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.work import LONG, add, echo, fail, hold, let_go, meet, naps, place, runs, spin_in_c, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R7")
def test_future_is_one_of_concurrent_futures(pool: sky.Compute) -> None:
    """It works with `wait` and `as_completed`, and with two nodes at once."""
    futures = [place(i) > pool for i in range(8)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, rest = concurrent.futures.wait(futures, timeout=60)
    assert (len(done), len(rest)) == (8, 0)
    results = [future.result() for future in futures]
    assert [value for value, _, _ in results] == list(range(8))
    assert len({pid for _, pid, _ in results}) == 2
    again = [place(i) > pool for i in range(8)]
    assert sorted(future.result()[0] for future in concurrent.futures.as_completed(again, timeout=60)) == list(range(8))


@pytest.mark.rule("R7")
def test_wait_returns_with_the_first_failure(pool: sky.Compute, tmp_path: Path) -> None:
    """That of a call or of a group, though others run on; values do not end it."""
    held = hold(str(tmp_path), "a") > pool
    condition = concurrent.futures.FIRST_EXCEPTION
    with concurrent.futures.ThreadPoolExecutor() as threads:
        try:
            for failing in (fail(1) > pool, (add(1, 2) & fail(2)) > pool):
                futures: list[concurrent.futures.Future[Any]] = [held, add(1, 2) > pool, failing]
                done, rest = threads.submit(concurrent.futures.wait, futures, return_when=condition).result(LONG)
                assert failing in done
                assert held in rest
        finally:
            let_go(tmp_path, "a")
    assert held.result() == "a"


@pytest.mark.rule("R7")
def test_future_keeps_the_failure(pool: sky.Compute) -> None:
    """`exception` gives it, `result` raises it."""
    future = fail(1) > pool
    error = future.exception(timeout=60)
    assert isinstance(error, ValueError)
    with pytest.raises(ValueError, match="bad 1"):
        future.result()
    assert (future.done(), future.cancelled(), future.running()) == (True, False, False)


@pytest.mark.rule("R7")
def test_future_is_awaitable(pool: sky.Compute) -> None:
    """`await` gives the value or raises; several overlap."""

    async def main() -> tuple[int, list[int]]:
        with pytest.raises(ValueError, match="bad 2"):
            await (fail(2) > pool)
        return await (add(1, 2) > pool), await asyncio.gather(*[add(i, i) > pool for i in range(5)])

    assert asyncio.run(main()) == (3, [0, 2, 4, 6, 8])


@pytest.mark.rule("R7")
def test_asyncio_waits_for_futures(pool: sky.Compute, tmp_path: Path) -> None:
    """`asyncio.wait` takes them as they are, and says which have ended."""

    async def main() -> tuple[list[int], int]:
        held = hold(str(tmp_path), "a") > pool
        futures: Any = [add(1, 2) > pool, held]
        done, rest = await asyncio.wait(futures, timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
        let_go(tmp_path, "a")
        late, none = await asyncio.wait(rest, timeout=LONG)
        assert late == {held}
        return [future.result() for future in done], len(none)

    assert asyncio.run(main()) == ([3], 0)


@pytest.mark.rule("R7")
def test_result_waits_no_longer_than_asked(pool: sky.Compute, tmp_path: Path) -> None:
    """`result(timeout)` raises `TimeoutError`, and the call goes on."""
    future = hold(str(tmp_path), "a") > pool
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    let_go(tmp_path, "a")
    assert future.result(timeout=60) == "a"


@pytest.mark.rule("R7")
@pytest.mark.timeout(300)  # it takes five seconds, on a machine that is idle
def test_submitting_many_returns_at_once(pool: sky.Compute, tmp_path: Path) -> None:
    """100,000 small calls fit the window while nothing runs."""
    holders = [hold(str(tmp_path), str(i)).on(i) > pool for i in range(2)]
    futures = [add(i) > pool for i in range(100_000)]
    assert not any(future.done() for future in holders)
    for i in range(2):
        let_go(tmp_path, str(i))
    assert [future.result() for future in futures] == list(range(100_000))


@pytest.mark.rule("R7")
def test_full_window_blocks_until_there_is_room(tmp_path: Path) -> None:
    """A submission over the window waits for a result; with a running event loop it never does."""
    with sky.Compute(nodes=1, window=100_000) as pool:
        first = hold(str(tmp_path), "a") > pool
        big = echo(bytes(80_000)) > pool
        submitted = threading.Event()
        late: list[Any] = []

        def submit() -> None:
            late.append(echo(bytes(80_000)) > pool)
            submitted.set()

        thread = threading.Thread(target=submit)
        thread.start()

        async def in_event_loop() -> Any:
            return echo(bytes(80_000)) > pool

        another = asyncio.run(in_event_loop())
        assert not submitted.wait(0.05)  # it cannot be, but a defect gets its chance
        let_go(tmp_path, "a")
        assert submitted.wait(60)
        thread.join()
        assert first.result() == "a"
        assert [len(future.result()) for future in (big, another, late[0])] == [80_000] * 3


@pytest.mark.rule("R7")
def test_group_has_a_future_of_the_tuple(pool: sky.Compute, tmp_path: Path) -> None:
    """Members run at once; the first failure is the future's."""
    values = ((meet(str(tmp_path), "a", 2) & meet(str(tmp_path), "b", 2)) > pool).result()
    assert [name for name, _ in values] == ["a", "b"]
    with pytest.raises(ValueError, match="bad 4"):
        ((add(1, 2) & fail(4)) > pool).result()
    with pytest.raises(TypeError, match="stream"):
        pool.run_async(sky.gather(add(1, 2), stream=True))


@pytest.mark.rule("R7")
def test_cancel_drops_a_queued_call(pool: sky.Compute, tmp_path: Path) -> None:
    """It never runs, and `cancel` says true."""
    holders = [hold(str(tmp_path), str(i)) > pool for i in range(2)]
    for i in range(2):
        runs(tmp_path, str(i))
    queued = hold(str(tmp_path), "q") > pool
    assert queued.cancel()
    assert queued.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        queued.result()
    for i in range(2):
        let_go(tmp_path, str(i))
    assert [future.result() for future in holders] == ["0", "1"]
    assert not (tmp_path / "q-runs").exists()


@pytest.mark.rule("R7")
def test_cancel_interrupts_a_running_call(pool: sky.Compute, tmp_path: Path) -> None:
    """The task sees `KeyboardInterrupt`, its `finally` runs, and its worker lives on."""

    @sky.function
    def work(directory: str) -> None:
        from pathlib import Path

        try:
            hold.local(directory, "a")
        finally:
            Path(directory, "finally").touch()

    pid = (place().on(0) >> pool)[1]
    future = work(str(tmp_path)).on(0) > pool
    runs(tmp_path, "a")
    assert future.cancel()
    until((tmp_path / "finally").exists)
    assert (place().on(0) >> pool)[1] == pid


@pytest.mark.rule("R7")
def test_cancel_kills_what_does_not_hear(tmp_path: Path) -> None:
    """C code that holds the GIL is ended after `cancel_grace`, its worker replaced."""
    with sky.Compute(nodes=1, cancel_grace=0.2) as pool:
        pid = (place() >> pool)[1]
        future = spin_in_c(str(tmp_path)) > pool
        runs(tmp_path, "spin")
        assert future.cancel()
        assert (place() >> pool)[1] != pid


@pytest.mark.rule("R7")
def test_cancel_of_a_group_says_true_when_all_have_stopped(pool: sky.Compute, tmp_path: Path) -> None:
    """Those that run as well as those that are queued, which are dropped first."""
    future = sky.gather(*[hold(str(tmp_path), name) for name in "abc"]) > pool
    runs(tmp_path, "a")
    runs(tmp_path, "b")
    assert future.cancel()
    assert future.cancelled()
    assert (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0)
    assert not (tmp_path / "c-runs").exists()


@pytest.mark.rule("R7")
def test_cancel_of_a_group_says_false_when_some_run_on(threads: sky.Compute, tmp_path: Path) -> None:
    """Threads cannot be stopped; the future is cancelled with the last of them, for there is no tuple any more."""
    future = sky.gather(*[hold(str(tmp_path), name) for name in "abc"]) > threads
    runs(tmp_path, "a")
    runs(tmp_path, "b")
    assert not future.cancel()
    assert not future.done()
    assert (threads.snapshot().in_flight, threads.snapshot().queued) == (2, 0)
    let_go(tmp_path, "a")
    let_go(tmp_path, "b")
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(LONG)
    assert future.cancelled()
    assert not (tmp_path / "c-runs").exists()


@pytest.mark.rule("R7")
def test_cancel_says_false_when_the_call_has_ended(pool: sky.Compute) -> None:
    """What is over cannot be cancelled."""
    future = add(1, 2) > pool
    assert future.result() == 3
    assert not future.cancel()


@pytest.mark.rule("R7")
def test_cancel_never_waits_in_a_callback_or_event_loop(pool: sky.Compute, tmp_path: Path) -> None:
    """There it returns at once, with the task still running; the cancel arrives all the same."""
    stubborn = spin_in_c(str(tmp_path), "a").on(0) > pool
    other = spin_in_c(str(tmp_path), "b").on(1) > pool
    runs(tmp_path, "a")
    runs(tmp_path, "b")
    answers: list[bool] = []

    async def main() -> None:
        assert not other.cancel()

    asyncio.run(main())
    ended = threading.Event()

    def cancel_the_next(_: Any) -> None:
        answers.append(stubborn.cancel())
        ended.set()

    other.add_done_callback(cancel_the_next)
    assert ended.wait(60)
    assert other.cancelled()
    assert answers == [False]
    until(stubborn.done)
    assert stubborn.cancelled()


@pytest.mark.rule("R7")
def test_asyncio_cancel_stops_the_call(pool: sky.Compute, tmp_path: Path) -> None:
    """Cancelling the awaiting task cancels the call."""

    async def main() -> None:
        waiting = asyncio.ensure_future(_await(hold(str(tmp_path), "a") > pool))
        await asyncio.to_thread(runs, tmp_path, "a")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    until(lambda: pool.snapshot().in_flight == 0)
    assert not (tmp_path / "a-done").exists()


async def _await(future: Any) -> Any:
    return await future


@pytest.mark.rule("R7")
def test_callbacks_may_block_and_submit(pool: sky.Compute, tmp_path: Path) -> None:
    """They run in a thread of their own, so that results arrive meanwhile."""
    seen: list[Any] = []
    finished = threading.Event()

    def callback(future: Any) -> None:
        seen.append((threading.current_thread(), future.result(), add(1, 10) >> pool))
        finished.set()

    future = hold(str(tmp_path), "a") > pool
    future.add_done_callback(callback)
    let_go(tmp_path, "a")
    assert finished.wait(60)
    thread, name, eleven = seen[0]
    assert (name, eleven) == ("a", 11)
    assert thread is not threading.current_thread()


@pytest.mark.rule("R30")
def test_callbacks_may_submit_while_the_pool_is_left() -> None:
    """Leaving waits for what they start, and for what the callbacks of that start."""
    futures: list[sky.Future[int]] = []

    def go_on(done: concurrent.futures.Future[int]) -> None:
        if done.result() > 0:
            futures.append(naps(0.02, done.result() - 1) > pool)
            futures[-1].add_done_callback(go_on)

    with sky.Compute(nodes=1) as pool:
        (naps(0.02, 3) > pool).add_done_callback(go_on)
    assert [future.result() for future in futures] == [2, 1, 0]
